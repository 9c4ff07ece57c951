# SPDX-License-Identifier: GPL-2.0-or-later
"""For tests of the range lock: ways to send commands to blocks that hold OLD or NEW."""

from __future__ import annotations

from collections.abc import Callable

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.nexus import ItlNexus
from tests.scsi_backend import cdbs
from tests.scsi_backend.initiator import Initiator, Pending, connect_unit

OLD, NEW, ZEROS = b"\xaa" * 512, b"\xbb" * 512, bytes(512)


def join(unit: LogicalUnit, *, is_read_only: bool = False) -> Initiator:
    """A new initiator, its power-on unit attention taken."""
    initiator = connect_unit(unit, is_read_only=is_read_only)
    initiator.send(cdbs.TEST_UNIT_READY)
    return initiator


def nexus_of(initiator: Initiator) -> ItlNexus:
    """The nexus to LUN 0."""
    return initiator.session.nexuses[0]


def begin(initiator: Initiator, lba: int, blocks: int = 1, expected: bytes = OLD) -> Pending:
    """Send a COMPARE AND WRITE of NEW over blocks that all hold ``expected``."""
    data_out = expected * blocks + NEW * blocks
    return initiator.start(cdbs.compare_and_write(lba, blocks), data_out)


def read(initiator: Initiator, lba: int, blocks: int = 1) -> Pending:
    """Send a READ."""
    return initiator.start(cdbs.block(cdbs.READ, 16, lba, blocks), None, blocks * 512)


def write(initiator: Initiator, lba: int, data: bytes) -> Pending:
    """Send a WRITE."""
    return initiator.start(cdbs.block(cdbs.WRITE, 16, lba, len(data) // 512), data)


def submit(initiator: Initiator, cdb: bytes, on_done: Callable[[Command], None]) -> Command:
    """Send a command with a completion callback of its own."""
    command = Command(cdb, memoryview(bytearray(512)), memoryview(OLD + NEW), on_done)
    nexus_of(initiator).submit(command)
    return command
