# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is edited, a running daemon is what one would be that is started with the result."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.config_edit_tree import EditError
from bridges.daemon_populate import populate
from bridges.daemon_running import ChangeRefusedError
from bridges.scst_conf import ConfigError
from scsi_backend.io.engine import SyncEngine
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.edit_example import TEXT
from tests.bridges.edit_strategies import edits
from tests.bridges.site import Led, lead, read


def luns(entries: dict[int, LunEntry]) -> dict[int, tuple[str, bool]]:
    """A LUN map by names."""
    return {lun: (each.unit.name, each.is_read_only) for lun, each in sorted(entries.items())}


def shape(backend: Backend) -> dict[str, Any]:
    """What initiators can tell of a backend, but for what has happened so far."""
    return {
        "devices": {
            name: (unit.block_count, unit.ports) for name, unit in sorted(backend.devices.items())
        },
        "targets": {
            (target.driver, target.name): (
                target.relative_target_port,
                target.is_enabled,
                luns(dict(target.luns)),
                [
                    (group.name, [each.text for each in group.patterns], luns(dict(group.luns)))
                    for group in target.groups.values()
                ],
            )
            for target in backend.targets
        },
        "device groups": {
            name: (
                [unit.name for unit in group.devices],
                {
                    part.name: (part.group_id, part.state, part.is_preferred, part.port_numbers)
                    for part in group.target_groups.values()
                },
            )
            for name, group in backend.device_groups.items()
        },
    }


def text_in(folder: Path) -> str:
    """The example, with doors that can be opened."""
    text = TEXT.replace("listen h", f"listen unix:{folder}/nbd.sock")
    text = text.replace("interface eth0", "interface no-such-*")
    return text.replace("socket /s", f"socket {folder}/local.sock")


@settings(deadline=None, max_examples=40)
@given(st.lists(edits(), max_size=15))
def test_a_daemon_that_was_edited_is_as_one_that_is_started_so(
    wishes: list[tuple[str, dict[str, Any]]],
) -> None:
    async def visit(led: Led) -> None:
        for verb, arguments in wishes:
            before = led.text, shape(led.backend)
            try:
                await led.running.edit(verb, arguments)
            except (EditError, ConfigError, ChangeRefusedError):
                assert (led.text, shape(led.backend)) == before
            fresh = Backend(SyncEngine(), None)
            populate(fresh, read(led.text))
            assert shape(led.backend) == shape(fresh)
            fresh.close()

    # Nothing is to be loaded into the kernel of whoever runs this.
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"PATH": folder}):
        lead(text_in(Path(folder)), visit)


@settings(deadline=None, max_examples=20)
@given(st.lists(edits(), max_size=15), st.lists(edits(), max_size=15))
def test_a_configuration_applied_as_a_whole_is_as_one_that_is_started_so(
    there: list[tuple[str, dict[str, Any]]], back: list[tuple[str, dict[str, Any]]]
) -> None:
    async def visit(led: Led) -> None:
        texts = [led.text]
        for wishes in (there, back):
            for verb, arguments in wishes:
                with suppress(EditError, ConfigError, ChangeRefusedError):
                    await led.running.edit(verb, arguments)
            texts.append(led.text)
        for text in (*texts, *reversed(texts)):
            before = led.text, shape(led.backend)
            try:
                await led.apply(text)
            except (ConfigError, ChangeRefusedError):
                assert (led.text, shape(led.backend)) == before
                continue
            fresh = Backend(SyncEngine(), None)
            populate(fresh, read(led.text))
            assert shape(led.backend) == shape(fresh)
            fresh.close()
            assert (await led.apply(text)).lines == ()

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"PATH": folder}):
        lead(text_in(Path(folder)), visit)
