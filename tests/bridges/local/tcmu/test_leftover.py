# SPDX-License-Identifier: GPL-2.0-or-later
"""What a killed daemon has left and nobody wants, on a double of the kernel."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.bridges.local.tcmu.serving import READ, T0, T1, House, run


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_left_device_that_is_no_longer_configured_is_removed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started())
        made.kernel.log.clear()
        server = await made.started(1)
        assert list(made.kernel.devices) == [T1]
        # There is no logical unit any more, as the kernel is told at once.
        assert made.kernel.log[:4] == [
            *("reset target t0: LUN 0", "unmap target t0: LUN 0", "flush: status 2"),
            "remove target t0: LUN 0",
        ]
        await server.stop()

    run(visit)
    assert "target t0: LUN 0: removed what was left of it" in caplog.messages


def test_left_device_with_another_identity_is_made_anew() -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started(0))
        old = made.kernel.devices[T0]
        made.backend.devices["a"].vdisk.is_removable = True
        server = await made.started(0)
        assert made.kernel.devices[T0] is not old
        await server.stop()

    run(visit)


def test_left_device_that_no_lun_led_to_is_made_anew() -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started(0))
        old = made.kernel.devices[T0]
        # Killed when it was enabled, but the kernel still had the reservations.
        del made.kernel.mapped[T0]
        server = await made.started(0)
        assert made.kernel.devices[T0] is not old
        await server.stop()

    run(visit)


def test_left_device_that_was_never_enabled_is_made_anew() -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started(0))
        old = made.kernel.devices[T0]
        old.is_enabled = False
        del made.kernel.mapped[T0]
        server = await made.started(0)
        assert made.kernel.devices[T0] is not old
        await server.stop()

    run(visit)


def test_left_device_in_use_is_not_removed(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started())
        made.kernel.in_use.add("sd00")
        made.kernel.log.clear()
        server = await made.started(1)
        assert T0 in made.kernel.devices
        # Its commands wait, for a daemon that serves it.
        assert "reset target t0: LUN 0" not in made.kernel.log
        assert not made.kernel.devices[T0].is_open
        await server.stop()
        assert list(made.kernel.devices) == [T0]

    run(visit)
    assert any("was left, is in use, and not configured" in each for each in caplog.messages)


def test_device_of_another_process_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(made: House) -> None:
        other = await made.started(0)
        server = await made.started(1)
        kernel = made.kernel.devices[T0]
        response, _ = await asyncio.to_thread(kernel.execute, READ, 512)
        assert response.status == 2
        await server.stop()
        assert list(made.kernel.devices) == [T0]
        await other.stop()
        assert made.kernel.devices == {}

    run(visit)
    assert "target t0: LUN 0: served by another process" in caplog.messages


def test_left_device_in_use_with_another_identity_keeps_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started())
        made.kernel.in_use.add("sd00")
        old = made.kernel.devices[T0]
        made.backend.devices["a"].vdisk.is_removable = True
        made.kernel.log.clear()
        server = await made.started()
        assert made.kernel.devices[T0] is old
        assert [disk.name for disk in server.disks] == [T1]
        assert "create target t0: LUN 0" not in made.kernel.log
        await server.stop()

    run(visit)
    assert "target t0: LUN 0: no kernel disk: another one is in its place" in caplog.messages


@pytest.mark.parametrize("step", ["reset", "unmap", "remove"])
def test_left_device_that_cannot_be_removed_is_told(
    caplog: pytest.LogCaptureFixture, step: str
) -> None:
    async def visit(made: House) -> None:
        made.kill(await made.started(0))
        made.kernel.failing[step] = "Device or resource busy"
        server = await made.started(1)
        assert T0 in made.kernel.devices
        assert not made.kernel.devices[T0].is_open
        made.kernel.failing.clear()
        await server.stop()

    run(visit)
    message = "target t0: LUN 0: what was left of it stays: Device or resource busy"
    assert message in caplog.messages
