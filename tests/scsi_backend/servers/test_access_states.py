# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command of a disk in every access state against a list from SCST and SPC-5 5.8."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import DISK_COMMANDS
from scsi_backend.servers.logical_unit import CommandRow
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.opcodes import opcode_text
from tests.scsi_backend import cdbs
from tests.scsi_backend.initiator import assert_check_condition
from tests.scsi_backend.ports import TwoPorts

# Opcode, service action, and the states that answer it: Standby, Unavailable and offline,
# Transitioning. What is not here is answered in none of them.
GOLDEN = """
03 -  SUT REQUEST SENSE
12 -  SUT INQUIRY
15 -  S-- MODE SELECT(6)
16 -  S-- RESERVE(6)
17 -  S-- RELEASE(6)
1A -  S-- MODE SENSE(6)
1C -  S-- RECEIVE DIAGNOSTIC RESULTS
1D -  S-- SEND DIAGNOSTIC
25 -  SUT READ CAPACITY(10)
3B -  SUT WRITE BUFFER
3C -  SUT READ BUFFER
4C -  S-- LOG SELECT
4D -  S-- LOG SENSE
55 -  S-- MODE SELECT(10)
56 -  S-- RESERVE(10)
57 -  S-- RELEASE(10)
5A -  S-- MODE SENSE(10)
5E -  S-- PERSISTENT RESERVE IN
5F -  S-- PERSISTENT RESERVE OUT
9E 10 SUT READ CAPACITY(16)
A0 -  SUT REPORT LUNS
A3 0A SUT REPORT TARGET PORT GROUPS
A4 0A SU- SET TARGET PORT GROUPS
"""
STATES = {
    AccessState.ACTIVE: (None, None),
    AccessState.NONOPTIMIZED: (None, None),
    AccessState.STANDBY: ("S", "02/04/0B"),
    AccessState.UNAVAILABLE: ("U", "02/04/0C"),
    AccessState.OFFLINE: ("U", "02/04/0C"),
    AccessState.TRANSITIONING: ("T", "02/04/0A"),
}
NOT_ACCESSIBLE = {0x040A, 0x040B, 0x040C}


def answering_states(row: CommandRow) -> str:
    """The letters of the states that answer a command."""
    for line in GOLDEN.strip().splitlines():
        opcode, action, letters, _ = line.split(maxsplit=3)
        is_meant = action == "-" or row.service_action == int(action, 16)
        if row.opcode == int(opcode, 16) and is_meant:
            return letters
    return "---"


def cdb_of(row: CommandRow) -> bytes:
    """The command with all other fields zero."""
    cdb = bytearray(32 if row.opcode == 0x7F else 16)
    cdb[0] = row.opcode
    if row.opcode == 0x7F:
        cdb[7] = 0x18
        cdb[8:10] = (row.service_action or 0).to_bytes(2, "big")
    else:
        cdb[1] = row.service_action or 0
    return bytes(cdb)


def name_of(row: CommandRow) -> str:
    return opcode_text(cdb_of(row))


def test_the_golden_list_has_every_state_and_the_names_fit() -> None:
    assert set(STATES) == set(AccessState)
    names = {line.split(maxsplit=3)[3] for line in GOLDEN.strip().splitlines()}
    answered = {name_of(row) for row in DISK_COMMANDS if answering_states(row) != "---"}
    assert {"INQUIRY", "MODE SELECT(6)", "READ CAPACITY(16)", "SET TARGET PORT GROUPS"} <= answered
    assert answered <= names


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("row", DISK_COMMANDS, ids=name_of)
def test_each_command_is_answered_in_the_states_of_the_golden_list(
    row: CommandRow, state: AccessState
) -> None:
    ports = TwoPorts()
    before = ports.vdisk.fill()
    ports.put(ports.one, state)
    pending = ports.first.start(cdb_of(row), bytes(128 << 10), 128 << 10)
    ports.vdisk.release_all()
    outcome = pending.outcome
    letter, sense = STATES[state]
    if letter is None or sense is None or letter in answering_states(row):
        assert outcome.sense is None or outcome.sense.code not in NOT_ACCESSIBLE
    else:
        assert_check_condition(outcome, sense)
        assert ports.vdisk.data == before


@pytest.mark.parametrize("state", STATES)
def test_the_other_port_answers_everything(state: AccessState) -> None:
    ports = TwoPorts()
    ports.put(ports.one, state)
    ports.second.good(cdbs.block(cdbs.WRITE, 16, 3, 1), b"\xaa" * 512)
    assert ports.second.good(cdbs.block(cdbs.READ, 16, 3, 1), None, 512) == b"\xaa" * 512


@pytest.mark.parametrize("state", STATES)
def test_what_the_device_server_does_not_have_is_unknown_in_every_state(
    state: AccessState,
) -> None:
    ports = TwoPorts()
    ports.put(ports.one, state)
    assert_check_condition(ports.first.send(cdbs.raw("c7")), "05/20/00", at=(0, None))
    assert_check_condition(ports.first.send(cdbs.raw("9e1f")), "05/24/00", at=(1, 4))


@pytest.mark.parametrize(
    ("state", "qualifier"),
    [
        (AccessState.ACTIVE, "00"),
        (AccessState.STANDBY, "00"),
        (AccessState.TRANSITIONING, "00"),
        (AccessState.UNAVAILABLE, "20"),
        (AccessState.OFFLINE, "20"),
    ],
)
def test_inquiry_says_where_a_port_leads_nowhere(state: AccessState, qualifier: str) -> None:
    ports = TwoPorts()
    ports.put(ports.one, state)
    for cdb in ("120000002400", "12018300ff00", "120100002400"):
        assert ports.first.good(cdbs.raw(cdb), None, 255).hex()[:2] == qualifier
        assert ports.second.good(cdbs.raw(cdb), None, 255).hex()[:2] == "00"


@pytest.mark.parametrize(("is_explicit", "byte"), [(False, 0x10), (True, 0x30)])
def test_standard_data_say_who_changes_states(is_explicit: bool, byte: int) -> None:
    ports = TwoPorts(is_explicit=is_explicit)
    assert ports.first.good(cdbs.raw("120000002400"), None, 36)[5] & 0x30 == byte


def test_identification_names_the_port_s_group() -> None:
    ports = TwoPorts()
    pages = [each.good(cdbs.raw("12018300ff00"), None, 255) for each in (ports.first, ports.second)]
    assert [
        bytes.fromhex(f"0115000400000{number:03x}") in page
        for number, page in zip((1, 2), pages, strict=True)
    ] == [True, True]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name.lower())
def test_request_sense_tells_what_test_unit_ready_would_end_with(state: AccessState) -> None:
    ports = TwoPorts()
    ports.put(ports.one, state)
    sense = (STATES[state][1] or "00/00/00").split("/")
    data = ports.first.good(cdbs.raw("030000001200"), None, 18)
    assert [f"{byte:02X}" for byte in (data[2], data[12], data[13])] == sense
    assert ports.second.good(cdbs.raw("030000001200"), None, 18)[2] == 0
