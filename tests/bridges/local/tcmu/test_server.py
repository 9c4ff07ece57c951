# SPDX-License-Identifier: GPL-2.0-or-later
"""The server as a whole on a double of the kernel: start, taking over, and stop."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from bridges.local.tcmu import server as server_module
from bridges.local.tcmu.configfs import KernelError
from bridges.local.tcmu.port import KernelExport
from bridges.local.tcmu.server import KernelServer
from bridges.local.tcmu.sysfs import Sysfs
from scsi_backend.target.target import Target
from tests.bridges.local.tcmu.serving import READ, T0, T1, House, run


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_disks_are_made_served_and_removed(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = await made.started()
        assert [(str(disk.name), disk.device_name, disk.disk.block) for disk in server.disks] == [
            ("target t0: LUN 0", "a", "sd00"),
            ("target t0: LUN 1", "b", "sd01"),
        ]
        kernel = made.kernel.devices[T1]
        # The unit attention of a new session, then data.
        response, _ = await asyncio.to_thread(kernel.execute, READ, 512)
        assert response.status == 2
        response, data = await asyncio.to_thread(kernel.execute, READ, 512)
        assert (response.status, data) == (0, bytes(512))
        await server.stop()
        assert (made.kernel.devices, made.kernel.mapped, made.kernel.ports) == ({}, {}, {})

    assert run(visit) == [
        *("create target t0: LUN 0", "map target t0: LUN 0", "depth 64"),
        *("create target t0: LUN 1", "map target t0: LUN 1", "depth 64"),
        *("unmap target t0: LUN 1", "flush: status 0", "remove target t0: LUN 1"),
        *("unmap target t0: LUN 0", "flush: status 2", "remove target t0: LUN 0"),
        "remove port t0",
    ]
    assert "target t0: LUN 1: device b is /dev/sd01 and /dev/sg01 (made)" in caplog.messages
    assert "target t0: LUN 1: /dev/sd01 and /dev/sg01 is removed" in caplog.messages


def test_kernel_without_what_is_needed_is_told_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def check(sysfs: Sysfs) -> None:
        raise KernelError("kernel module tcm_loop is not loaded: not found")

    async def visit(made: House) -> None:
        server = made.server(check=check)
        server.start()
        await server.settled()
        assert server.disks == ()
        await server.stop()

    assert run(visit) == []
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    reason = "kernel module tcm_loop is not loaded: not found"
    assert errors == [f"no kernel disks for target t0: {reason}"]


def test_missing_rights_are_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        made.kernel.failing["claim"] = "core/user_7077: Permission denied: root is needed"
        server = await made.started()
        assert server.disks == ()
        await server.stop()

    assert run(visit) == []
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    reason = "core/user_7077: Permission denied: root is needed"
    assert errors == [f"no kernel disks for target t0: {reason}"]


@pytest.mark.parametrize("step", ["create", "map"])
def test_disk_that_cannot_be_made_leaves_nothing_and_the_others_come(
    caplog: pytest.LogCaptureFixture, step: str
) -> None:
    async def visit(made: House) -> None:
        made.kernel.failing[step] = "no memory"
        server = made.server()
        server.start()
        await server.settled()
        assert server.disks == ()
        assert made.kernel.devices.keys() <= made.kernel.mapped.keys()
        made.kernel.failing.clear()
        await server.stop()
        assert not [each for each in caplog.messages if "is removed" in each]
        assert made.kernel.ports == {}

    run(visit)
    assert "target t0: LUN 0: no kernel disk: no memory" in caplog.messages
    assert "target t0: LUN 1: no kernel disk: no memory" in caplog.messages


def test_what_a_killed_daemon_left_is_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        first = await made.started()
        made.kill(first)
        kernel = made.kernel.devices[T0]
        # A command that nobody answered.
        kernel.queue(READ, 512)
        made.kernel.log.clear()
        second = await made.started()
        assert made.kernel.devices[T0] is kernel
        assert made.kernel.log == [
            *("reset target t0: LUN 0", "depth 64", "reset target t0: LUN 1", "depth 64")
        ]
        response, _ = await asyncio.to_thread(kernel.execute, READ, 512)
        assert response.status == 2
        await second.stop()
        assert made.kernel.devices == {}

    run(visit)
    assert "target t0: LUN 0: device a is /dev/sd00 and /dev/sg00 (taken over)" in caplog.messages


def test_disk_in_use_stays_for_the_next_daemon(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = await made.started()
        made.kernel.in_use.add("sd00")
        await server.stop()
        assert list(made.kernel.devices) == [T0]
        assert made.kernel.ports == {"t0": "session"}
        kernel = made.kernel.devices[T0]
        assert not kernel.is_open
        made.kernel.in_use.clear()
        server = await made.started()
        assert made.kernel.devices[T0] is kernel
        await server.stop()
        assert (made.kernel.devices, made.kernel.ports) == ({}, {})

    run(visit)
    assert any(
        "/dev/sd00 and /dev/sg00 is in use, and stays" in message for message in caplog.messages
    )


def test_stop_ends_in_time_though_the_kernel_does_not(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = made.server(0, timeout_s=0.05)
        server.start()
        while not server.disks or not made.kernel.mapped:
            await asyncio.sleep(0.001)
        device = made.kernel.devices[T0]
        # A kernel that is busy with something else.
        with device.turn:
            await server.stop()
        assert server.disks == ()

    run(visit)
    assert "the kernel does not let go of its disks: left to the next start" in caplog.messages


def test_kernel_that_is_stuck_keeps_neither_start_nor_stop_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck = threading.Event()

    async def visit(made: House) -> None:
        server = made.server(timeout_s=0.05, check=lambda sysfs: assert_ended(stuck))
        server.start()
        await server.settled()
        await server.stop()
        stuck.set()
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert made.kernel.devices == {}

    def assert_ended(event: threading.Event) -> None:
        assert event.wait(20)

    assert run(visit) == []
    assert "the kernel takes long to make or remove its disks: not waited for" in caplog.messages


def test_process_says_what_it_is_before_it_has_threads_for_storage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[bool] = []
    monkeypatch.setattr(server_module, "become_io_flusher", lambda: said.append(True))

    async def visit(made: House) -> None:
        server = made.server()
        server.start()
        assert said == [True]
        await server.settled()
        await server.stop()

    run(visit)
    assert said == [True]


def test_stop_before_a_start_does_nothing() -> None:
    async def visit(made: House) -> None:
        await made.server().stop()

    assert run(visit) == []


def test_stop_in_the_middle_of_a_start_removes_all() -> None:
    async def visit(made: House) -> None:
        server = made.server()
        server.start()
        await asyncio.sleep(0)
        await server.stop()
        assert (made.kernel.devices, made.kernel.ports) == ({}, {})

    run(visit)


def test_error_that_nobody_thought_of_is_told_and_stop_still_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def check(sysfs: Sysfs) -> None:
        raise ZeroDivisionError

    async def visit(made: House) -> None:
        server = made.server(check=check)
        server.start()
        await server.settled()
        await server.stop()

    run(visit)
    assert "kernel disks: an error of this program's own" in caplog.messages


def test_server_without_targets_asks_nothing_of_the_kernel_until_there_is_one() -> None:
    checks: list[Sysfs] = []

    async def visit(made: House) -> None:
        server = made.server_of(check=checks.append)
        server.start()
        assert await server.settled()
        assert not checks
        server.add_export(made.export())
        assert await server.settled()
        assert [disk.name for disk in server.disks] == [T0, T1]
        await server.stop()
        assert made.kernel.devices == {}

    run(visit)
    assert len(checks) == 1


def test_process_says_what_it_is_though_disks_may_come_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[bool] = []
    monkeypatch.setattr(server_module, "become_io_flusher", lambda: said.append(True))

    async def visit(made: House) -> None:
        server = made.server_of()
        server.start()
        await server.stop()

    run(visit)
    assert said == [True]


def test_what_was_left_is_told_of_if_the_kernel_cannot_be_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def check(sysfs: Sysfs) -> None:
        raise KernelError("kernel module tcm_loop is not loaded")

    async def visit(made: House) -> None:
        made.kill(await made.started(0))
        server = made.server_of(check=check)
        server.start()
        await server.settled()
        await server.stop()
        assert list(made.kernel.devices) == [T0]

    run(visit)
    assert "kernel disks that were left: kernel module tcm_loop is not loaded" in caplog.messages


def test_kernel_that_was_not_ready_is_asked_again_at_the_next_change() -> None:
    problems = ["kernel module tcm_loop is not loaded"]

    def check(sysfs: Sysfs) -> None:
        if problems:
            raise KernelError(problems.pop())

    async def visit(made: House) -> None:
        server = made.server(0, check=check)
        server.start()
        await server.settled()
        assert [disk.name for disk in server.disks] == []
        made.target.add_lun(1, made.entry("b"))
        await server.settled()
        assert [disk.name for disk in server.disks] == [T0, T1]
        await server.stop()

    run(visit)


def test_target_that_is_enabled_later_has_its_disks_then() -> None:
    async def visit(made: House) -> None:
        export = made.export(0)
        export.target.is_enabled = False
        server = made.server_of(export)
        server.start()
        await server.settled()
        assert [disk.name for disk in server.disks] == []
        export.target.is_enabled = True
        await server.settled()
        assert [disk.name for disk in server.disks] == [T0]
        await server.stop()

    run(visit)


def test_target_that_is_removed_loses_its_disks_and_its_session() -> None:
    async def visit(made: House) -> None:
        server = await made.started()
        server.remove_export(made.target)
        assert made.target.sessions == ()
        await server.settled()
        assert (server.disks, made.kernel.devices, made.kernel.ports) == ((), {}, {})
        await server.stop()

    run(visit)


def test_target_is_exported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        export = made.export(0)
        server = made.server_of(export)
        with pytest.raises(ValueError, match="target t0 is exported already"):
            server.add_export(export)
        assert server.targets == (export.target,)
        server.remove_export(export.target)
        assert list(server.targets) == []
        with pytest.raises(KeyError):
            server.remove_export(export.target)

    run(visit)


def test_target_that_is_added_again_at_once_keeps_its_disks() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.in_use.add("sd00")
        _export_again(server, made.target, 30, "other")
        assert await made.outcome(T0) == (0, "")
        await server.settled()
        assert [each.initiator_name for each in made.target.sessions] == ["other"]
        assert made.kernel.log.count("create target t0: LUN 0") == 1
        made.kernel.in_use.clear()
        await server.stop()

    run(visit)


def test_disk_is_made_anew_for_another_time_limit() -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        _export_again(server, made.target, 7)
        await server.settled()
        assert made.kernel.devices[T0].settings.cmd_time_out_s == 7
        await server.stop()

    run(visit)


def test_disk_in_use_keeps_its_time_limit(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        server = await made.started(0)
        made.kernel.in_use.add("sd00")
        _export_again(server, made.target, 7)
        await server.settled()
        assert await made.outcome(T0) == (0, "")
        made.kernel.in_use.clear()
        await server.stop()

    run(visit)
    message = "target t0: LUN 0: cmd_time_out stays at 30 s until the disk is made anew"
    assert message in caplog.messages


def _export_again(
    server: KernelServer,
    target: Target,
    cmd_time_out_s: int,
    session_name: str = "session",
) -> None:
    server.remove_export(target)
    server.add_export(KernelExport(target, session_name, cmd_time_out_s))
