# SPDX-License-Identifier: GPL-2.0-or-later
"""Operation codes, CDB lengths and their texts against SPC-5 annex F and SAM-5 5.2.1."""

from __future__ import annotations

from enum import IntEnum

import pytest

from scsi_backend.t10.opcodes import (
    ExtendedCopy,
    MaintenanceIn,
    MaintenanceOut,
    Opcode,
    ReceiveCopyResults,
    Sanitize,
    ServiceActionIn16,
    VariableLength,
    cdb_length,
    opcode_text,
    service_action,
)

GOLDEN_OPCODES = {
    "TEST_UNIT_READY": 0x00,
    "REQUEST_SENSE": 0x03,
    "FORMAT_UNIT": 0x04,
    "READ_6": 0x08,
    "WRITE_6": 0x0A,
    "INQUIRY": 0x12,
    "MODE_SELECT_6": 0x15,
    "RESERVE_6": 0x16,
    "RELEASE_6": 0x17,
    "MODE_SENSE_6": 0x1A,
    "START_STOP_UNIT": 0x1B,
    "RECEIVE_DIAGNOSTIC_RESULTS": 0x1C,
    "SEND_DIAGNOSTIC": 0x1D,
    "PREVENT_ALLOW_MEDIUM_REMOVAL": 0x1E,
    "READ_CAPACITY_10": 0x25,
    "READ_10": 0x28,
    "WRITE_10": 0x2A,
    "WRITE_AND_VERIFY_10": 0x2E,
    "VERIFY_10": 0x2F,
    "PRE_FETCH_10": 0x34,
    "SYNCHRONIZE_CACHE_10": 0x35,
    "READ_DEFECT_DATA_10": 0x37,
    "WRITE_BUFFER": 0x3B,
    "READ_BUFFER": 0x3C,
    "WRITE_SAME_10": 0x41,
    "UNMAP": 0x42,
    "SANITIZE": 0x48,
    "LOG_SELECT": 0x4C,
    "LOG_SENSE": 0x4D,
    "MODE_SELECT_10": 0x55,
    "RESERVE_10": 0x56,
    "RELEASE_10": 0x57,
    "MODE_SENSE_10": 0x5A,
    "PERSISTENT_RESERVE_IN": 0x5E,
    "PERSISTENT_RESERVE_OUT": 0x5F,
    "VARIABLE_LENGTH": 0x7F,
    "EXTENDED_COPY": 0x83,
    "RECEIVE_COPY_RESULTS": 0x84,
    "READ_16": 0x88,
    "COMPARE_AND_WRITE": 0x89,
    "WRITE_16": 0x8A,
    "ORWRITE_16": 0x8B,
    "WRITE_AND_VERIFY_16": 0x8E,
    "VERIFY_16": 0x8F,
    "PRE_FETCH_16": 0x90,
    "SYNCHRONIZE_CACHE_16": 0x91,
    "WRITE_SAME_16": 0x93,
    "WRITE_ATOMIC_16": 0x9C,
    "SERVICE_ACTION_IN_16": 0x9E,
    "REPORT_LUNS": 0xA0,
    "MAINTENANCE_IN": 0xA3,
    "MAINTENANCE_OUT": 0xA4,
    "READ_12": 0xA8,
    "WRITE_12": 0xAA,
    "WRITE_AND_VERIFY_12": 0xAE,
    "VERIFY_12": 0xAF,
    "READ_DEFECT_DATA_12": 0xB7,
}


def test_opcodes_equal_the_golden_list() -> None:
    assert {opcode.name: opcode.value for opcode in Opcode} == GOLDEN_OPCODES


GOLDEN_SERVICE_ACTIONS: dict[type[IntEnum], dict[str, int]] = {
    ServiceActionIn16: {"READ_CAPACITY_16": 0x10, "GET_LBA_STATUS": 0x12},
    Sanitize: {
        "OVERWRITE": 1,
        "BLOCK_ERASE": 2,
        "EXIT_FAILURE_MODE": 0x1F,
    },
    VariableLength: {
        "READ_32": 9,
        "VERIFY_32": 10,
        "WRITE_32": 11,
        "WRITE_AND_VERIFY_32": 12,
        "WRITE_SAME_32": 13,
        "ORWRITE_32": 14,
        "WRITE_ATOMIC_32": 15,
    },
    ExtendedCopy: {"LID1": 0},
    ReceiveCopyResults: {
        "COPY_STATUS_LID1": 0,
        "OPERATING_PARAMETERS": 3,
        "FAILED_SEGMENT_DETAILS_LID1": 4,
    },
    MaintenanceIn: {
        "REPORT_TARGET_PORT_GROUPS": 0x0A,
        "REPORT_SUPPORTED_OPERATION_CODES": 0x0C,
        "REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS": 0x0D,
        "REPORT_TIMESTAMP": 0x0F,
    },
    MaintenanceOut: {"SET_TARGET_PORT_GROUPS": 0x0A},
}


@pytest.mark.parametrize("actions", GOLDEN_SERVICE_ACTIONS)
def test_service_actions_equal_the_golden_list(actions: type[IntEnum]) -> None:
    found = {action.name: action.value for action in actions}
    assert found == GOLDEN_SERVICE_ACTIONS[actions]


@pytest.mark.parametrize(
    ("cdb", "action"), [("9e12", 0x12), ("a3ec", 0x0C), ("7f000000000000180009", 9)]
)
def test_service_action_is_read_where_the_opcode_keeps_it(cdb: str, action: int) -> None:
    assert service_action(bytes.fromhex(cdb)) == action


@pytest.mark.parametrize(
    ("first", "last", "length"),
    [
        (0x00, 0x1F, 6),
        (0x20, 0x5F, 10),
        (0x60, 0x7E, 16),
        (0x80, 0x9F, 16),
        (0xA0, 0xBF, 12),
        (0xC0, 0xFF, 16),
    ],
)
def test_group_code_gives_the_length_of_a_cdb(first: int, last: int, length: int) -> None:
    found = {cdb_length(bytes([opcode, *range(1, 16)])) for opcode in range(first, last + 1)}
    assert found == {length}


def test_variable_length_cdb_counts_what_follows_its_eighth_byte() -> None:
    assert cdb_length(bytes.fromhex("7f000000000000180009") + bytes(22)) == 32


def test_variable_length_cdb_cut_before_its_length_is_16_bytes() -> None:
    assert cdb_length(bytes.fromhex("7f000000000000")) == 16
    assert cdb_length(bytes.fromhex("7f00000000000018")) == 32


@pytest.mark.parametrize(
    ("cdb", "text"),
    [
        ("00", "TEST UNIT READY"),
        ("28", "READ(10)"),
        ("15", "MODE SELECT(6)"),
        ("1b", "START STOP UNIT"),
        ("42", "UNMAP"),
        ("89", "COMPARE AND WRITE"),
        ("9e10", "READ CAPACITY(16)"),
        ("9e12", "GET LBA STATUS"),
        ("9e1f", "opcode 9Eh"),
        ("4801", "SANITIZE OVERWRITE"),
        ("8404", "RECEIVE COPY RESULTS FAILED SEGMENT DETAILS LID1"),
        ("a30a", "REPORT TARGET PORT GROUPS"),
        ("7f00000000000018000b", "WRITE(32)"),
        ("7f", "opcode 7Fh"),
        ("c7", "opcode C7h"),
    ],
)
def test_text_names_the_command_or_its_opcode(cdb: str, text: str) -> None:
    assert opcode_text(bytes.fromhex(cdb)) == text
