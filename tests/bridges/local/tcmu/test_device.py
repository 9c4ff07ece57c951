# SPDX-License-Identifier: GPL-2.0-or-later
"""A device's descriptor on a loop: events, notifications, and its end."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Awaitable, Callable, Iterator

import pytest

from bridges.local.tcmu.device import RingDevice
from bridges.local.tcmu.naming import DeviceConfig, LunName
from bridges.spin import Spinner
from scsi_backend.servers.command import Command
from tests.bridges.local.tcmu.kernel_double import Device
from tests.bridges.local.tcmu.test_configfs import SETTINGS
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect

NAME = "target t0: LUN 3"
assert SETTINGS.config == DeviceConfig(LunName("t0", 3), "0123456789abcdef")


@pytest.fixture
def kernel() -> Iterator[Device]:
    device = Device(SETTINGS)
    yield device
    device.close()


def served(
    kernel: Device,
    visit: Callable[[RingDevice], Awaitable[None]],
    submit: Callable[[Command], None] | None = None,
) -> None:
    """Serve a device while ``visit`` runs."""
    session = connect(FaultyVdisk(8)).session

    async def run() -> None:
        uio = kernel.open()
        device = RingDevice(
            asyncio.get_running_loop(),
            NAME,
            uio,
            submit or (lambda command: session.submit(0, command)),
            lambda function, commands: None,
            Spinner(),
        )
        await visit(device)
        device.close()
        uio.close()

    asyncio.run(run())


def test_commands_are_answered_as_they_come(kernel: Device) -> None:
    async def visit(device: RingDevice) -> None:
        for _ in range(50):
            response, _ = await asyncio.to_thread(kernel.execute, cdbs.TEST_UNIT_READY)
            assert response.status == 0

    served(kernel, visit)


def test_commands_from_before_are_answered(kernel: Device) -> None:
    kernel.queue(cdbs.TEST_UNIT_READY)

    async def visit(device: RingDevice) -> None:
        await asyncio.to_thread(kernel.wait)
        assert [response.command_id for response in kernel.kernel.responses()] == [1]

    served(kernel, visit)


def test_nothing_is_taken_after_reading_has_stopped(kernel: Device) -> None:
    async def visit(device: RingDevice) -> None:
        device.stop_reading()
        kernel.queue(cdbs.TEST_UNIT_READY)
        for _ in range(5):
            await asyncio.sleep(0)
        assert kernel.kernel.responses() == []
        assert device.outstanding == 0

    served(kernel, visit)


def test_spoilt_ring_is_told_and_left(kernel: Device, caplog: pytest.LogCaptureFixture) -> None:
    async def visit(device: RingDevice) -> None:
        struct.pack_into("<I", kernel.memory, 12, 3)
        kernel.tell()
        while not caplog.messages:
            await asyncio.sleep(0)
        kernel.tell()
        for _ in range(5):
            await asyncio.sleep(0)

    served(kernel, visit)
    assert caplog.messages == [f"{NAME}: no longer served: head 3 in a ring of 4096 bytes"]


def test_device_that_goes_is_told_once(
    kernel: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, length: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def visit(device: RingDevice) -> None:
        # No descriptor that one can wait on fails like that of a uio device.
        monkeypatch.setattr(os, "read", fail)
        for _ in range(5):
            kernel.tell()
            await asyncio.sleep(0)

    served(kernel, visit)
    assert caplog.messages == [f"{NAME}: no longer served: somebody has removed the device"]


def test_commands_under_way_at_the_end_are_told_and_keep_their_memory(
    kernel: Device, caplog: pytest.LogCaptureFixture
) -> None:
    commands: list[Command] = []

    async def visit(device: RingDevice) -> None:
        kernel.queue(cdbs.block(cdbs.READ, 10, 0, 1), 512)
        while not commands:
            await asyncio.sleep(0)
        assert device.outstanding == 1

    served(kernel, visit, commands.append)
    assert caplog.messages == [f"{NAME}: 1 commands are still under way"]
    # As storage does that has not been told.
    data = commands[0].data_in
    assert isinstance(data, memoryview)
    data[:] = b"\x5a" * 512
    assert bytes(kernel.kernel.data(0, 512)) == b"\x5a" * 512


def test_command_that_ends_after_the_end_writes_to_nobody_elses_descriptor(
    kernel: Device,
) -> None:
    commands: list[Command] = []

    async def visit(device: RingDevice) -> None:
        kernel.queue(cdbs.TEST_UNIT_READY)
        while not commands:
            await asyncio.sleep(0)
        device.close()
        assert kernel.events is not None
        commands[0].complete()
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            kernel.events.recv(4)

    served(kernel, visit, commands.append)


def test_response_of_the_last_moment_is_shown(kernel: Device) -> None:
    commands: list[Command] = []

    async def visit(device: RingDevice) -> None:
        kernel.queue(cdbs.TEST_UNIT_READY)
        while not commands:
            await asyncio.sleep(0)
        commands[0].complete()
        device.close()
        kernel.wait()
        assert [response.command_id for response in kernel.kernel.responses()] == [1]
        for _ in range(5):
            await asyncio.sleep(0)

    served(kernel, visit, commands.append)
