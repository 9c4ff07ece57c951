# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY for tests, written from the T10 tables: parameter lists, and disks to copy between.

A disk is named by its LUN: the last byte of its NAA designator.
"""

from __future__ import annotations

import struct

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.disk import disk
from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.sense import FieldPointer, Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, Pending

HEADER_BYTES, CSCD_BYTES, SEGMENT_BYTES = 16, 32, 28
DC = 0x02
MIB = 1 << 20
MIB_BLOCKS = MIB // 512


def extended_copy(list_length_bytes: int) -> bytes:
    """The CDB of EXTENDED COPY(LID1)."""
    return struct.pack(">B9xIxB", 0x83, list_length_bytes, 0)


def receive(action: int, list_identifier: int, allocation_length_bytes: int) -> bytes:
    """The CDB of RECEIVE COPY RESULTS."""
    return struct.pack(">BBB7xIxB", 0x84, action, list_identifier, allocation_length_bytes, 0)


def naa(number: int) -> bytes:
    """The NAA designator of a disk."""
    return bytes.fromhex("50000000000000") + bytes((number,))


def cscd(
    number: int,
    block_bytes: int = 512,
    *,
    flags: int = 0,
    kind: int = 3,
    code_set: int = 1,
    value: bytes | None = None,
    length: int | None = None,
    type_code: int = 0xE4,
) -> bytes:
    """An identification descriptor; ``flags`` is byte 1."""
    value = naa(number) if value is None else value
    length = len(value) if length is None else length
    return struct.pack(
        ">BBHBBxB20sI", type_code, flags, 0, code_set, kind, length, value, block_bytes
    )


def segment(
    source: int,
    destination: int,
    blocks: int,
    source_lba: int,
    destination_lba: int,
    *,
    flags: int = 0,
    length: int = 0x18,
    type_code: int = 0x02,
) -> bytes:
    """A block device to block device segment descriptor; ``flags`` is byte 1."""
    return struct.pack(
        ">BBHHH2xHQQ",
        type_code,
        flags,
        length,
        source,
        destination,
        blocks,
        source_lba,
        destination_lba,
    )


def parameter_list(
    cscds: list[bytes], segments: list[bytes], *, list_identifier: int = 1, usage: int = 0
) -> bytes:
    """A parameter list whose lengths are right."""
    names, moves = b"".join(cscds), b"".join(segments)
    header = struct.pack(">BBH4xII", list_identifier, usage << 3, len(names), len(moves), 0)
    return header + names + moves


def named_disk(number: int, blocks: int = 64, block_bytes: int = 512) -> FaultyVdisk:
    """A disk with an NAA designator."""
    return FaultyVdisk(blocks, block_bytes, naa_id=naa(number))


def log_in(*vdisks: Vdisk, read_only: tuple[int, ...] = ()) -> Session:
    """A session with each disk as the LUN of its position, unit attentions taken."""
    target = Target("scst_local", "target", 1)
    for lun, vdisk in enumerate(vdisks):
        target.add_lun(lun, LunEntry(disk(vdisk), lun in read_only))
    target.is_enabled = True
    session = target.open_session("initiator")
    for lun in session.nexuses:
        Initiator(session, lun).send(cdbs.TEST_UNIT_READY)
    return session


def start(session: Session, data: bytes, lun: int = 0) -> Pending:
    """Send an EXTENDED COPY to a LUN."""
    return Initiator(session, lun).start(extended_copy(len(data)), data)


def copy(session: Session, data: bytes, lun: int = 0) -> Outcome:
    """Send an EXTENDED COPY that must end at once."""
    return start(session, data, lun).outcome


def assert_good(outcome: Outcome) -> None:
    """The command ended with GOOD."""
    assert (outcome.status, outcome.sense) == (Status.GOOD, None)


def assert_aborted(
    outcome: Outcome,
    code: int,
    at_byte: int,
    failure: CopyFailure | None = None,
    *,
    in_segment: bool = False,
    residual: int | None = None,
) -> None:
    """COPY ABORTED with exactly this sense; by default it is segment 0, and no device's fault."""
    pointer = FieldPointer(at_byte, in_cdb=False, in_segment=in_segment)
    expected = Sense(0x0A, code, residual, pointer, copy_failure=failure or CopyFailure(0))
    assert outcome == Outcome(Status.CHECK_CONDITION, expected, b"")


def two(blocks: int = 64) -> tuple[FaultyVdisk, FaultyVdisk, Session]:
    """A disk full of patterns, an empty one, and a session with both."""
    source, destination = named_disk(0, blocks), named_disk(1, blocks)
    source.fill()
    return source, destination, log_in(source, destination)


def once(*segments: bytes) -> bytes:
    """A parameter list with the two disks."""
    return parameter_list([cscd(0), cscd(1)], list(segments))
