# SPDX-License-Identifier: GPL-2.0-or-later
"""One disk on a double of the kernel: what it is made from, its size, and its time limit."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bridges.local.tcmu import disk as disk_module
from tests.bridges.local.tcmu.serving import T0, T1, House, run


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_devices_are_made_from_what_the_luns_are() -> None:
    async def visit(made: House) -> None:
        server = await made.started(1, cmd_time_out_s=7)
        settings = made.kernel.devices[T1].settings
        assert (settings.size_bytes, settings.block_size_bytes) == (1 << 20, 512)
        assert settings.max_transfer_bytes == 32 << 20
        assert settings.serial == made.backend.devices["b"].vdisk.identity.usn
        assert settings.cmd_time_out_s == 7
        assert made.kernel.ports == {"t0": "session"}
        await server.stop()

    run(visit)


def test_disk_that_the_kernel_found_late_is_not_removed_while_it_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk_module, "_PROBE_TIMEOUT_S", 0.0)

    async def visit(made: House) -> None:
        made.kernel.is_probing = True
        server = await made.started(0)
        assert [str(disk.disk) for disk in server.disks] == ["no device"]
        made.kernel.is_probing = False
        assert [disk.disk.block for disk in server.disks] == ["sd00"]
        made.kernel.in_use.add("sd00")
        await server.stop()
        assert T0 in made.kernel.mapped

    run(visit)


def test_size_that_changed_meanwhile_is_told_on_taking_over() -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started(0))
        made.kernel.devices[T0].size_bytes = 512
        server = await made.started(0)
        while made.kernel.devices[T0].size_bytes == 512:
            await asyncio.sleep(0.001)
        while made.kernel.log[-1] != "rescan 0:0:1:0":
            await asyncio.sleep(0.001)
        assert made.kernel.log[-2:] == [f"resize {1 << 20}", "rescan 0:0:1:0"]
        await server.stop()

    run(visit)


def test_other_time_limit_than_the_left_device_has_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started(0, cmd_time_out_s=7))
        server = await made.started(0, cmd_time_out_s=8)
        await server.stop()

    run(visit)
    message = "target t0: LUN 0: cmd_time_out stays at 7 s until the disk is made anew"
    assert message in caplog.messages


def test_new_size_is_told_to_the_kernel() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.log.clear()
        server.look_at_sizes()
        made.backend.devices["a"].block_count = 100
        server.look_at_sizes()
        while made.kernel.log[-1:] != ["rescan 0:0:1:0"]:
            await asyncio.sleep(0.001)
        assert made.kernel.log == ["resize 51200", "rescan 0:0:1:0"]
        await server.stop()

    run(visit)


def test_size_that_the_kernel_does_not_take_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.failing["resize"] = "No such process"
        made.backend.devices["a"].block_count = 100
        server.look_at_sizes()
        while "target t0: LUN 0: size: No such process" not in caplog.messages:
            await asyncio.sleep(0.001)
        await server.stop()

    run(visit)
