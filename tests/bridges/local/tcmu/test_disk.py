# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks on a double of the kernel: what they are made from, and how they follow their LUNs."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from bridges.local.tcmu import disk as disk_module
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from tests.bridges.local.tcmu.serving import T0, T1, House, run

READS = (0, "")
HAS_NO_LUN = (2, "05/25/00")


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


def test_lun_that_is_added_becomes_a_disk_and_the_others_notice_nothing() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.log.clear()
        made.target.add_lun(1, made.entry("b"))
        await server.settled()
        assert made.kernel.log == [
            *("create target t0: LUN 1", "map target t0: LUN 1", "depth 64"),
        ]
        assert [disk.device_name for disk in server.disks] == ["a", "b"]
        assert await made.outcome(T0) == await made.outcome(T1) == READS
        await server.stop()

    run(visit)


def test_disk_of_a_lun_that_is_removed_goes(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = await made.started()
        made.kernel.log.clear()
        made.target.configure(luns={1: made.entry("b")})
        await server.settled()
        # There is no logical unit any more, as the kernel is told at once.
        assert made.kernel.log == [
            *("unmap target t0: LUN 0", "flush: status 2", "remove target t0: LUN 0"),
        ]
        assert await made.outcome(T1) == READS
        await server.stop()

    run(visit)
    assert "target t0: LUN 0: /dev/sd00 and /dev/sg00 is removed" in caplog.messages


def test_target_without_luns_has_no_port() -> None:
    async def visit(made: House) -> None:
        server = await made.started()
        made.target.configure(luns={})
        await server.settled()
        assert (made.kernel.devices, made.kernel.ports) == ({}, {})
        await server.stop()

    run(visit)


def test_disk_in_use_fails_until_it_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.in_use.add("sd00")
        made.target.configure(luns={})
        await server.settled()
        assert await made.outcome(T0) == HAS_NO_LUN
        assert [disk.device_name for disk in server.disks] == [""]
        made.kernel.in_use.clear()
        while made.kernel.devices:
            await asyncio.sleep(0.001)
        await server.settled()
        assert (server.disks, made.kernel.ports) == ((), {})
        await server.stop()

    run(visit)
    text = "/dev/sd00 and /dev/sg00 is in use, and stays: its commands fail until it is let go"
    assert caplog.messages.count(f"target t0: LUN 0: {text}") == 1


def test_disk_in_use_goes_on_when_its_lun_is_back() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.in_use.add("sd00")
        for _ in range(2):
            made.target.is_enabled = False
            await server.settled()
            assert await made.outcome(T0) == HAS_NO_LUN
            made.target.is_enabled = True
            assert await made.outcome(T0) == READS
            await server.settled()
        made.kernel.in_use.clear()
        await server.stop()

    assert run(visit) == [
        *("create target t0: LUN 0", "map target t0: LUN 0", "depth 64"),
        *("unmap target t0: LUN 0", "flush: status 0", "remove target t0: LUN 0"),
        "remove port t0",
    ]


@pytest.mark.parametrize(("device", "is_read_only"), [("b", False), ("a", True)])
def test_disk_is_made_anew_for_another_device_or_access(device: str, is_read_only: bool) -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.backend.devices["b"].block_count = 100
        old = made.kernel.devices[T0]
        entry = made.entry(device, is_read_only=is_read_only)
        made.target.configure(luns={0: entry})
        await server.settled()
        new = made.kernel.devices[T0]
        assert new is not old
        assert new.settings.size_bytes == entry.unit.block_count * 512
        assert new.settings.serial == entry.unit.vdisk.identity.usn
        assert await made.outcome(T0) == READS
        await server.stop()

    run(visit)


def test_disk_in_use_does_not_reach_the_device_in_its_place_before_it_is_made_anew() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.in_use.add("sd00")
        old = made.kernel.devices[T0]
        made.target.configure(luns={0: made.entry("b")})
        await server.settled()
        assert made.kernel.devices[T0] is old
        assert await made.outcome(T0) == HAS_NO_LUN
        made.kernel.in_use.clear()
        while made.kernel.devices.get(T0) in (old, None):
            await asyncio.sleep(0.001)
        await server.settled()
        assert [disk.device_name for disk in server.disks] == ["b"]
        assert await made.outcome(T0) == READS
        await server.stop()

    run(visit)


def test_last_of_several_changes_is_in_force() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        a, b = made.entry("a"), made.entry("b")
        for luns in ({}, {0: b}, {1: a}, {0: a}, {0: b, 1: a}):
            made.target.configure(luns=luns)
            await asyncio.sleep(0)
        await server.settled()
        assert [(disk.name, disk.device_name) for disk in server.disks] == [(T0, "b"), (T1, "a")]
        assert await made.outcome(T0) == await made.outcome(T1) == READS
        for luns in ({}, {0: a, 1: b}, {1: b}):
            made.target.configure(luns=luns)
        await server.settled()
        assert [(disk.name, disk.device_name) for disk in server.disks] == [(T1, "b")]
        await server.stop()

    run(visit)


@pytest.mark.parametrize("is_back", [False, True])
def test_lun_that_goes_while_the_kernel_looks_for_its_disk_leaves_none(
    monkeypatch: pytest.MonkeyPatch, is_back: bool
) -> None:
    monkeypatch.setattr(disk_module, "_PROBE_TIMEOUT_S", math.inf)

    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.is_probing = True
        made.target.add_lun(1, made.entry("b"))
        while made.kernel.log[-1] != "map target t0: LUN 1":
            await asyncio.sleep(0.001)
        old = made.kernel.devices[T1]
        made.target.configure(luns={0: made.entry("a")})
        if is_back:
            made.target.add_lun(1, made.entry("b"))
        # What the kernel found may be that there is nothing.
        while made.kernel.devices.get(T1) is old:
            await asyncio.sleep(0.001)
        made.kernel.is_probing = False
        await server.settled()
        assert (T1 in made.kernel.devices) == is_back
        await server.stop()

    run(visit)


def test_group_decides_on_the_disks() -> None:
    async def visit(made: House) -> None:
        server = await made.started()
        patterns = (InitiatorPattern.parse("session"),)
        made.target.configure(groups=[InitiatorGroup("g", patterns, {1: made.entry("b")})])
        await server.settled()
        assert [disk.name for disk in server.disks] == [T1]
        made.target.configure(groups=[])
        await server.settled()
        assert [disk.name for disk in server.disks] == [T0, T1]
        await server.stop()

    run(visit)


def test_disk_that_failed_and_is_in_use_stays_at_a_stop() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.in_use.add("sd00")
        made.target.configure(luns={})
        await server.settled()
        await server.stop()
        assert list(made.kernel.devices) == [T0]
        assert not made.kernel.devices[T0].is_open

    run(visit)


def test_disk_that_the_kernel_does_not_remove_is_told_once_and_goes_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.failing["unmap"] = "Device or resource busy"
        made.target.configure(luns={})
        while made.kernel.log.count("unmap target t0: LUN 0") < 3:
            await asyncio.sleep(0.001)
        made.kernel.failing.clear()
        while made.kernel.devices:
            await asyncio.sleep(0.001)
        await server.stop()

    run(visit)
    text = "target t0: LUN 0: /dev/sd00 and /dev/sg00 stays: Device or resource busy"
    assert caplog.messages.count(text) == 1
