# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of a holder, another registrant and a stranger beside each type of reservation.

The expectations are SPC-4 tables 65 and 66 and SBC-4 table 13, and go through real sessions.
"""

from __future__ import annotations

import struct

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit, TargetPort
from scsi_backend.t10.status import Status
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend import cdbs, copies
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.reserving import (
    ABORT,
    CLEAR,
    IGNORE,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    pr_in,
    pr_out,
    register,
    reserve,
    sign_in,
)

# For types 1, 3, 5, 6, 7, 8: whether another registrant, then a stranger, gets a conflict.
ALWAYS = ("......", "......")
READS = (".C....", ".C.C.C")
WRITES = ("CC....", "CCCCCC")
TYPES = (1, 3, 5, 6, 7, 8)
KEY, OTHER_KEY = 0xA, 0xB

BLOCK = bytes(512)


def _long(action: int) -> bytes:
    """A 32-byte command for block 0."""
    return struct.pack(">B6xBH18xI", 0x7F, 24, action, 1)


# CDB, data-out, room for data-in, conflicts.
COMMANDS: dict[str, tuple[bytes, bytes | None, int | None, tuple[str, str]]] = {
    "TEST UNIT READY": (cdbs.TEST_UNIT_READY, None, None, ALWAYS),
    "REQUEST SENSE": (cdbs.raw("030000001200"), None, 18, ALWAYS),
    "INQUIRY": (cdbs.raw("120000002400"), None, 36, ALWAYS),
    "REPORT LUNS": (cdbs.raw("a000000000000000010000"), None, 256, ALWAYS),
    "READ CAPACITY(10)": (cdbs.raw("25"), None, 8, ALWAYS),
    "READ CAPACITY(16)": (cdbs.raw("9e10" + "00" * 11 + "20"), None, 32, ALWAYS),
    "LOG SENSE": (cdbs.raw("4d004000000000010000"), None, 256, ALWAYS),
    "REPORT TARGET PORT GROUPS": (cdbs.raw("a30a0000000000000100"), None, 256, ALWAYS),
    "PERSISTENT RESERVE IN": (pr_in(0), None, 1024, ALWAYS),
    "START STOP UNIT, START=1": (cdbs.raw("1b0000000100"), None, None, ALWAYS),
    "START STOP UNIT, START=1, LOEJ=1": (cdbs.raw("1b0000000300"), None, None, ALWAYS),
    "PREVENT ALLOW MEDIUM REMOVAL, PREVENT=0": (cdbs.raw("1e"), None, None, ALWAYS),
    "RECEIVE COPY OPERATING PARAMETERS": (copies.receive(3, 0, 64), None, 64, ALWAYS),
    "READ(6)": (cdbs.block(cdbs.READ, 6, 0, 1), None, 512, READS),
    "READ(10)": (cdbs.block(cdbs.READ, 10, 0, 1), None, 512, READS),
    "READ(12)": (cdbs.block(cdbs.READ, 12, 0, 1), None, 512, READS),
    "READ(16)": (cdbs.block(cdbs.READ, 16, 0, 1), None, 512, READS),
    "VERIFY(10)": (cdbs.block(cdbs.VERIFY, 10, 0, 1), None, None, READS),
    "VERIFY(16)": (cdbs.block(cdbs.VERIFY, 16, 0, 1), None, None, READS),
    "PRE-FETCH(10)": (cdbs.block(cdbs.PRE_FETCH, 10, 0, 1), None, None, READS),
    "PRE-FETCH(16)": (cdbs.block(cdbs.PRE_FETCH, 16, 0, 1), None, None, READS),
    "READ(32)": (_long(0x09), None, 512, READS),
    "VERIFY(32)": (_long(0x0A), None, None, READS),
    "READ DEFECT DATA(12)": (cdbs.raw("b70800000000000000080000"), None, 8, READS),
    "GET LBA STATUS": (cdbs.get_lba_status(0, 64), None, 64, READS),
    "MODE SENSE(6)": (cdbs.raw("1a083f00ff00"), None, 255, READS),
    "MODE SENSE(10)": (cdbs.raw("5a083f00000000010000"), None, 256, READS),
    "READ BUFFER": (cdbs.raw("3c030000000000000400"), None, 4, READS),
    "RECEIVE DIAGNOSTIC RESULTS": (cdbs.raw("1c0100010000"), None, 256, READS),
    "REPORT SUPPORTED OPERATION CODES": (cdbs.raw("a30c00000000000020000000"), None, 8192, READS),
    "REPORT SUPPORTED TMFS": (cdbs.raw("a30d00000000000000100000"), None, 16, READS),
    "WRITE(6)": (cdbs.block(cdbs.WRITE, 6, 0, 1), BLOCK, None, WRITES),
    "WRITE(10)": (cdbs.block(cdbs.WRITE, 10, 0, 1), BLOCK, None, WRITES),
    "WRITE(12)": (cdbs.block(cdbs.WRITE, 12, 0, 1), BLOCK, None, WRITES),
    "WRITE(16)": (cdbs.block(cdbs.WRITE, 16, 0, 1), BLOCK, None, WRITES),
    "WRITE AND VERIFY(10)": (cdbs.block({10: 0x2E}, 10, 0, 1), BLOCK, None, WRITES),
    "WRITE AND VERIFY(16)": (cdbs.block({16: 0x8E}, 16, 0, 1), BLOCK, None, WRITES),
    "ORWRITE(16)": (cdbs.block({16: 0x8B}, 16, 0, 1), BLOCK, None, WRITES),
    "WRITE(32)": (_long(0x0B), BLOCK, None, WRITES),
    "WRITE AND VERIFY(32)": (_long(0x0C), BLOCK, None, WRITES),
    "WRITE SAME(32)": (_long(0x0D), BLOCK, None, WRITES),
    "COMPARE AND WRITE": (cdbs.compare_and_write(0, 1), BLOCK * 2, None, WRITES),
    "WRITE SAME(10)": (cdbs.block(cdbs.WRITE_SAME, 10, 0, 1), BLOCK, None, WRITES),
    "WRITE SAME(16)": (cdbs.block(cdbs.WRITE_SAME, 16, 0, 1), BLOCK, None, WRITES),
    "UNMAP": (cdbs.unmap(24), cdbs.unmap_list((0, 1)), None, WRITES),
    "SYNCHRONIZE CACHE(10)": (cdbs.block(cdbs.SYNCHRONIZE_CACHE, 10, 0, 0), None, None, WRITES),
    "SYNCHRONIZE CACHE(16)": (cdbs.block(cdbs.SYNCHRONIZE_CACHE, 16, 0, 0), None, None, WRITES),
    "FORMAT UNIT": (cdbs.format_unit(0), None, None, WRITES),
    "SANITIZE": (cdbs.sanitize(2), None, None, WRITES),
    "START STOP UNIT, START=0": (cdbs.raw("1b"), None, None, WRITES),
    "START STOP UNIT, ACTIVE": (cdbs.raw("1b0000001100"), None, None, WRITES),
    "PREVENT ALLOW MEDIUM REMOVAL, PREVENT=1": (cdbs.raw("1e0000000100"), None, None, WRITES),
    "MODE SELECT(6)": (cdbs.raw("151000000000"), None, None, WRITES),
    "MODE SELECT(10)": (cdbs.raw("5510"), None, None, WRITES),
    "LOG SELECT": (cdbs.raw("4c"), None, None, WRITES),
    "SEND DIAGNOSTIC": (cdbs.raw("1d0400000000"), None, None, WRITES),
    "WRITE BUFFER": (cdbs.raw("3b020000000000000400"), bytes(4), None, WRITES),
    "EXTENDED COPY": (copies.extended_copy(0), None, None, WRITES),
}


def _out(key: int, action: int, kind: int, action_key: int = 0) -> tuple[bytes, bytes]:
    if action == MOVE:
        name = transport_id("heir")
        data = struct.pack(">QQxBHI", key, action_key, 0, 1, len(name)) + name
    else:
        data = struct.pack(">QQ8x", key, action_key)
    return pr_out(action, kind, len(data)), data


@pytest.fixture
def vdisk() -> FaultyVdisk:
    vdisk = FaultyVdisk(64, is_thin=True)
    vdisk.is_removable = True
    return vdisk


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    unit = disk(vdisk)
    unit.add_port(TargetPort(1, "target1"))
    return unit


def parties(unit: LogicalUnit, kind: int) -> tuple[Initiator, Initiator, Initiator]:
    holder, registrant, stranger = (sign_in(unit, name) for name in "abc")
    register(registrant, OTHER_KEY)
    reserve(holder, KEY, kind)
    return holder, registrant, stranger


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", COMMANDS)
def test_command_conflicts_as_the_tables_say(
    vdisk: FaultyVdisk, unit: LogicalUnit, name: str, kind: int
) -> None:
    cdb, data_out, room, conflicts = COMMANDS[name]
    holder, *others = parties(unit, kind)
    for initiator, expected in zip(others, conflicts, strict=True):
        del vdisk.log[:]
        before = bytes(vdisk.data)
        outcome = initiator.send(cdb, data_out, room)
        if expected[TYPES.index(kind)] == "C":
            assert outcome.status == Status.RESERVATION_CONFLICT
            assert (vdisk.log, bytes(vdisk.data)) == ([], before)
        else:
            assert outcome.status in (Status.GOOD, Status.CONDITION_MET)
    assert holder.send(cdb, data_out, room).status in (Status.GOOD, Status.CONDITION_MET)


# Service action, the key it is about, and for another registrant and a stranger what COMMANDS has.
SERVICE_ACTIONS = {
    REGISTER: (KEY, ("......", "......")),
    IGNORE: (0xC, ("......", "......")),
    # Those of all registrants hold it, and reserve what they have.
    RESERVE: (0, ("CCCC..", "CCCCCC")),
    RELEASE: (0, ("......", "CCCCCC")),
    CLEAR: (0, ("......", "CCCCCC")),
    PREEMPT: (KEY, ("......", "CCCCCC")),
    ABORT: (KEY, ("......", "CCCCCC")),
    MOVE: (0xC, ("CCCCCC", "CCCCCC")),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("action", SERVICE_ACTIONS)
@pytest.mark.parametrize(("who", "key"), [(0, OTHER_KEY), (1, 0)])
def test_service_action_conflicts_as_the_table_says(
    unit: LogicalUnit, action: int, kind: int, who: int, key: int
) -> None:
    action_key, conflicts = SERVICE_ACTIONS[action]
    _, *others = parties(unit, kind)
    before = unit.reservations.state
    outcome = others[who].send(*_out(key, action, kind, action_key))
    is_conflict = conflicts[who][TYPES.index(kind)] == "C"
    assert outcome.status == (Status.RESERVATION_CONFLICT if is_conflict else Status.GOOD)
    if is_conflict:
        assert unit.reservations.state is before
