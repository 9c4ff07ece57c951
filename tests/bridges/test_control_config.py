# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket's commands about the configuration, in front of a daemon's parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridges.control import ControlError
from bridges.control_config import config_commands
from tests.bridges.site import Led, Site, lead, target


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def ask(led: Led, name: str, arguments: Mapping[str, Any]) -> Any:
    """Have a command carried out."""
    return await config_commands(led.running)[name](arguments)


def test_a_configuration_is_applied_shown_and_written(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))
    after = before.replace("LUN 0 d", "LUN 3 d")
    lines = ["- TARGET_DRIVER nbd TARGET t LUN 0 d", "+ TARGET_DRIVER nbd TARGET t LUN 3 d"]

    async def visit(led: Led) -> None:
        arguments = {"text": after, "path": "x.conf", "dry_run": True}
        assert await ask(led, "config_apply", arguments) == {"lines": lines, "warnings": []}
        text = await ask(led, "config_write", {})
        assert "LUN 0 d" in text
        arguments["dry_run"] = False
        assert await ask(led, "config_apply", arguments) == {"lines": lines, "warnings": []}
        assert await ask(led, "config_write", {}) == text.replace("LUN 0 d", "LUN 3 d")

    lead(before, visit)


def test_a_verb_is_carried_out(site: Site) -> None:
    async def visit(led: Led) -> None:
        arguments = {"target": "t", "lun": 1, "device": "d", "read_only": True}
        answer = await ask(led, "config_edit", {"verb": "add-lun", "arguments": arguments})
        assert answer == {
            "lines": ["+ TARGET_DRIVER nbd TARGET t LUN 1 d read_only 1"],
            "warnings": [],
        }

    lead(site.disks("d") + site.driver(target("t", "LUN 0 d")), visit)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("config_apply", {"path": "x"}, "text: Field required"),
        ("config_apply", {"text": "x {", "path": "x.conf"}, "x.conf:1: end of file in section 'x'"),
        (
            "config_apply",
            {"text": "HANDLER vdisk_fileio {\nDEVICE d\n}", "path": "x.conf"},
            "x.conf:2: device d: filename is required",
        ),
        (
            "config_apply",
            {
                "text": "HANDLER vdisk_fileio {\nDEVICE e {\nfilename /none\n}\n}\n",
                "path": "x.conf",
            },
            "x.conf:2: device e: /none: No such file or directory",
        ),
        ("config_write", {"x": 1}, "x: Extra inputs are not permitted"),
        ("config_edit", {"verb": "dance"}, "unknown verb 'dance': expected add-group, "),
        ("config_edit", {"verb": "add-lun"}, "target is required"),
        (
            "config_edit",
            {"verb": "add-lun", "arguments": {"target": "t", "lun": 1, "device": "x"}},
            "LUN 1: unknown device 'x': expected d",
        ),
        (
            "config_edit",
            {
                "verb": "open-dev",
                "arguments": {
                    "device": "e",
                    "handler": "vdisk_fileio",
                    "attributes": {"filename": "/none"},
                },
            },
            "device e: /none: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    site: Site, name: str, arguments: dict[str, Any], message: str
) -> None:
    async def visit(led: Led) -> None:
        text = led.text
        with pytest.raises(ControlError) as caught:
            await ask(led, name, arguments)
        assert str(caught.value).startswith(message)
        assert led.text == text

    lead(site.disks("d") + site.driver(target("t", "LUN 0 d")), visit)


def test_refusals_have_a_line_each_and_a_door_tells_its_address(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))
    (site.folder / "plain").write_text("no socket")
    local = f"TARGET_DRIVER scst_local {{\nsocket {site.folder}/plain\n}}\n"

    async def visit(led: Led) -> None:
        wanted = before.replace("nbd.sock", "x.sock").replace(
            "DEVICE d {", "DEVICE d {\nrotational 0"
        )
        with pytest.raises(ControlError) as caught:
            await ask(led, "config_apply", {"text": wanted, "path": "x.conf"})
        assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [
            "x.conf:3",
            "x.conf:8",
        ]
        with pytest.raises(ControlError) as caught:
            await ask(led, "config_apply", {"text": before + local, "path": "x.conf"})
        where = f"unix:{site.folder}/plain"
        assert str(caught.value) == f"cannot listen on {where}: the file exists and is no socket"

    lead(before, visit)


def test_commands_of_several_clients_take_turns(site: Site) -> None:
    async def visit(led: Led) -> None:
        await asyncio.gather(
            *(
                ask(
                    led,
                    "config_edit",
                    {
                        "verb": "add-lun",
                        "arguments": {"target": "t", "lun": lun, "device": "d"},
                    },
                )
                for lun in range(1, 9)
            )
        )
        assert list(led.backend.target("nbd", "t").luns) == list(range(9))

    lead(site.disks("d") + site.driver(target("t", "LUN 0 d")), visit)
