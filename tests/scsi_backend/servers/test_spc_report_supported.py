# SPDX-License-Identifier: GPL-2.0-or-later
"""REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-5 6.35, 6.36)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from scsi_backend.servers.disk import DISK_COMMANDS
from scsi_backend.servers.spc_report_supported import TASK_MANAGEMENT_FUNCTIONS
from scsi_backend.t10.task_management import TaskManagementSupport
from scsi_backend.target.task_management import TaskManagementFunction
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

ROOM = 0x10000


class Descriptor(NamedTuple):
    """A command descriptor as the all_commands format has it."""

    opcode: int
    service_action: int
    has_service_action: bool
    cdb_length: int
    timeouts: tuple[int, int] | None


@pytest.fixture
def initiator() -> Initiator:
    return connect(FaultyVdisk(is_thin=True))


def rsoc(
    options: int, opcode: int = 0, action: int = 0, allocation_length: int = ROOM, *, rctd: int = 0
) -> bytes:
    return struct.pack(
        ">BBBBHIBB", 0xA3, 0x0C, rctd << 7 | options, opcode, action, allocation_length, 0, 0
    ).ljust(16, b"\0")


def descriptors(data: bytes) -> list[Descriptor]:
    """Take all_commands parameter data apart, to their last byte."""
    (length,) = struct.unpack_from(">I", data)
    assert length == len(data) - 4
    found, position = [], 4
    while position < len(data):
        opcode, action, flags, cdb_length = struct.unpack_from(">BxHxBH", data, position)
        position += 8
        timeouts = None
        if flags & 0x02:
            size, specific, nominal_s, recommended_s = struct.unpack_from(">HxBII", data, position)
            assert (size, specific) == (10, 0)
            timeouts = nominal_s, recommended_s
            position += 12
        found.append(Descriptor(opcode, action, bool(flags & 0x01), cdb_length, timeouts))
    assert position == len(data)
    return found


@pytest.mark.parametrize("is_thin", [False, True])
def test_all_commands_are_those_that_the_disk_has(is_thin: bool) -> None:
    vdisk = FaultyVdisk(is_thin=is_thin)
    found = descriptors(connect(vdisk).good(rsoc(0), None, ROOM))
    reported = [(each.opcode, each.service_action, each.has_service_action) for each in found]
    rows = {
        (int(row.opcode), row.service_action or 0, row.service_action is not None)
        for row in DISK_COMMANDS
        if row.is_supported(vdisk)
    }
    assert set(reported) >= {(0x28, 0, False), (0x9E, 0x10, True)}
    assert ((0x42, 0, False) in reported) == is_thin
    assert reported == sorted(rows)
    assert {each.timeouts for each in found} == {None}


def test_what_a_thick_disk_refuses_is_not_reported() -> None:
    thick = connect(FaultyVdisk())
    assert 0x42 not in {each.opcode for each in descriptors(thick.good(rsoc(0), None, ROOM))}
    assert thick.good(rsoc(1, 0x42), None, ROOM).hex() == "00010000"
    assert_check_condition(thick.send(cdbs.unmap(0)), "05/20/00", at=(0, None))


def test_every_command_has_timeouts_if_they_are_asked_for(initiator: Initiator) -> None:
    found = descriptors(initiator.good(rsoc(0, rctd=1), None, ROOM))
    plain = descriptors(initiator.good(rsoc(0), None, ROOM))
    assert [each._replace(timeouts=None) for each in found] == plain
    assert all(each.timeouts is not None for each in found)


def test_each_reported_command_is_there_by_its_own_option_and_by_no_other(
    initiator: Initiator,
) -> None:
    for each in descriptors(initiator.good(rsoc(0), None, ROOM)):
        right, wrong = (2, 1) if each.has_service_action else (1, 2)
        data = initiator.good(rsoc(right, each.opcode, each.service_action), None, ROOM)
        assert (data[:2], data[2:4]) == (b"\x00\x03", each.cdb_length.to_bytes(2, "big"))
        assert (len(data), data[4]) == (4 + each.cdb_length, each.opcode)
        refused = initiator.send(rsoc(wrong, each.opcode, each.service_action), None, ROOM)
        assert_check_condition(refused, "05/24/00", at=(3, 7))
        assert initiator.good(rsoc(3, each.opcode, each.service_action), None, ROOM) == data


@pytest.mark.parametrize(
    ("cdb", "golden"),
    [
        (rsoc(1, 0x12), "00030006" + "1201ffffff00"),
        (rsoc(1, 0x28), "0003000a" + "2818ffffffff00ffff00"),
        # The service action is not looked at.
        (rsoc(1, 0x28, 0x1234), "0003000a" + "2818ffffffff00ffff00"),
        (rsoc(2, 0x9E, 0x12), "00030010" + "9e12ffffffffffffffffffffffff0000"),
        (rsoc(3, 0xA3, 0x0C), "0003000c" + "a30c87ffffffffffffff0000"),
        (rsoc(1, 0x03, rctd=1), "00830006" + "03010000ff00" + "000a0000" + "000000010000000a"),
        (rsoc(1, 0x93), "00030010" + "9309ffffffffffffffffffffffff0000"),
        # Not supported: an opcode, a service action, and one that the opcode does not have.
        (rsoc(1, 0xC0), "00010000"),
        (rsoc(2, 0xC0, 1), "00010000"),
        (rsoc(3, 0xC0, 1), "00010000"),
        (rsoc(2, 0x9E, 0x1F), "00010000"),
        (rsoc(3, 0x9E, 0x1F), "00010000"),
        (rsoc(3, 0x28, 1), "00010000"),
        (rsoc(1, 0xC0, rctd=1), "00010000"),
    ],
)
def test_one_command_is_told_byte_for_byte(initiator: Initiator, cdb: bytes, golden: str) -> None:
    assert initiator.good(cdb, None, ROOM).hex() == golden


def test_usage_data_of_a_thick_disk_have_no_unmap_bit() -> None:
    data = connect(FaultyVdisk()).good(rsoc(1, 0x93), None, ROOM)
    assert data.hex() == "00030010" + "9301ffffffffffffffffffffffff0000"


@pytest.mark.parametrize("options", [4, 5, 6, 7])
def test_reserved_options_are_refused(initiator: Initiator, options: int) -> None:
    assert_check_condition(initiator.send(rsoc(options, 0x28), None, ROOM), "05/24/00", at=(2, 2))


@pytest.mark.parametrize("allocation_length", [0, 1, 4, 11, 1 << 31])
def test_operation_codes_are_cut_to_the_allocation_length(
    initiator: Initiator, allocation_length: int
) -> None:
    whole = initiator.good(rsoc(0), None, ROOM)
    cut = initiator.good(rsoc(0, allocation_length=allocation_length), None, ROOM)
    assert cut == whole[:allocation_length]


def rstmf(allocation_length: int, *, repd: int = 0) -> bytes:
    return struct.pack(">BBB3xIBB", 0xA3, 0x0D, repd << 7, allocation_length, 0, 0).ljust(16, b"\0")


# ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET; I_T NEXUS RESET.
BASIC = "d8010000"
EXTENDED = "d801000c" + "01000000" + "0000012c" + "00000000"


@pytest.mark.parametrize(
    ("cdb", "golden"),
    [
        (rstmf(4), BASIC),
        (rstmf(16), BASIC),
        (rstmf(16, repd=1), EXTENDED),
        (rstmf(0xFFFFFFFF, repd=1), EXTENDED),
        (rstmf(5, repd=1), EXTENDED[:10]),
    ],
)
def test_task_management_functions_are_told(initiator: Initiator, cdb: bytes, golden: str) -> None:
    assert initiator.good(cdb, None, ROOM).hex() == golden


def test_the_functions_told_are_those_that_are_served() -> None:
    told = {each.name for each in TaskManagementSupport if each in TASK_MANAGEMENT_FUNCTIONS}
    assert told == {each.name for each in TaskManagementFunction} - {"TARGET_RESET"}


@pytest.mark.parametrize("allocation_length", [0, 3])
def test_functions_want_room_for_four_bytes(initiator: Initiator, allocation_length: int) -> None:
    outcome = initiator.send(rstmf(allocation_length), None, ROOM)
    assert_check_condition(outcome, "05/24/00", at=(6, 7))
