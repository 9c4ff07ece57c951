# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's verbs: one for each that there is, and what they send."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridges import cli
from bridges.cli_verbs import USAGES
from bridges.config_edit import VERBS
from bridges.control import ControlServer
from scsi_backend.io.sgv import SgvCache


def run(*words: str) -> Result:
    """Run a command in this process."""
    environment = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}
    return CliRunner().invoke(cli.app, list(words), env=environment)


def sent(folder: Path, *words: str) -> tuple[Result, list[dict[str, Any]]]:
    """Run a command against a control socket that takes down what it is asked."""
    path, asked = folder / "c", list[dict[str, Any]]()

    async def edit(arguments: Mapping[str, Any]) -> object:
        asked.append(dict(arguments))
        return {"lines": ["+ a line"], "warnings": ["a word of warning"]}

    async def serve() -> Result:
        server = ControlServer(
            asyncio.get_running_loop(), SgvCache(), str(path), {"config_edit": edit}
        )
        server.start()
        try:
            return await asyncio.to_thread(run, *words, "--control", str(path))
        finally:
            await server.stop()

    return asyncio.run(serve()), asked


def test_every_verb_has_a_command() -> None:
    assert list(USAGES) == list(VERBS)
    for name, usage in USAGES.items():
        assert set(usage.positional) <= set(VERBS[name].arguments.model_fields)


@pytest.mark.parametrize("name", VERBS)
def test_every_command_has_help_with_an_example_that_can_be_sent(tmp_path: Path, name: str) -> None:
    shown = run(name, "--help")
    assert (shown.exit_code, shown.stderr) == (0, "")
    text = " ".join(shown.stdout.split())
    assert VERBS[name].help in text
    assert "The running daemon is changed, not the file that it was started with" in text
    example = f"Example: scst-bridge {USAGES[name].example}"
    assert example in text
    result, asked = sent(tmp_path, *shlex.split(USAGES[name].example))
    assert (result.exit_code, result.stdout) == (0, "+ a line\n")
    assert result.stderr == "warning: a word of warning\n"
    (request,) = asked
    assert request["verb"] == name
    # What is not given keeps the default of the verb.
    VERBS[name].arguments.model_validate(request["arguments"])


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (
            "add-lun t 7 d --group g --read-only --driver nbd",
            {
                "target": "t",
                "lun": 7,
                "device": "d",
                "group": "g",
                "read_only": True,
                "driver": "nbd",
            },
        ),
        ("rem-lun t 7", {"target": "t", "lun": 7}),
        (
            "open-dev vdisk_nullio d size_mb=16 prod_id=a=b",
            {
                "handler": "vdisk_nullio",
                "device": "d",
                "attributes": {"size_mb": "16", "prod_id": "a=b"},
            },
        ),
        ("open-dev vdisk_nullio d", {"handler": "vdisk_nullio", "device": "d"}),
        (
            "move-initiator t 10.0.0.0/8 from to",
            {"target": "t", "initiator": "10.0.0.0/8", "group": "from", "to": "to"},
        ),
        (
            "set-target-group-preferred g one 1",
            {"device_group": "g", "target_group": "one", "preferred": True},
        ),
    ],
)
def test_words_become_arguments(tmp_path: Path, words: str, arguments: dict[str, object]) -> None:
    _, asked = sent(tmp_path, *words.split())
    assert asked == [{"verb": words.split()[0], "arguments": arguments}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("open-dev vdisk_nullio d size_mb", "'size_mb': expected ATTRIBUTE=VALUE"),
        ("open-dev vdisk_nullio d a=1 a=2", "'a=2': a is given already"),
        ("add-lun t x d", "Invalid value for 'LUN'"),
        ("add-lun t 1", "Missing argument 'DEVICE'"),
    ],
)
def test_words_that_are_wrong_are_not_sent(tmp_path: Path, words: str, message: str) -> None:
    result, asked = sent(tmp_path, *words.split())
    assert (result.exit_code, asked) == (2, [])
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_no_daemon_is_told_with_exit_status_1(tmp_path: Path) -> None:
    path = tmp_path / "none"
    result = run("close-dev", "d", "--control", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{path}: no daemon answers: No such file or directory\n"
