# SPDX-License-Identifier: GPL-2.0-or-later
"""Operation codes, CDB lengths and their texts against SPC-5 annex F and SAM-5 5.2.1."""

from __future__ import annotations

import pytest

from scsi_backend.t10.opcodes import Opcode, ServiceActionIn16, cdb_length, opcode_text

GOLDEN_OPCODES = {
    "TEST_UNIT_READY": 0x00,
    "REQUEST_SENSE": 0x03,
    "READ_6": 0x08,
    "WRITE_6": 0x0A,
    "INQUIRY": 0x12,
    "MODE_SELECT_6": 0x15,
    "MODE_SENSE_6": 0x1A,
    "START_STOP_UNIT": 0x1B,
    "SEND_DIAGNOSTIC": 0x1D,
    "READ_CAPACITY_10": 0x25,
    "READ_10": 0x28,
    "WRITE_10": 0x2A,
    "VERIFY_10": 0x2F,
    "PRE_FETCH_10": 0x34,
    "SYNCHRONIZE_CACHE_10": 0x35,
    "WRITE_SAME_10": 0x41,
    "UNMAP": 0x42,
    "MODE_SELECT_10": 0x55,
    "MODE_SENSE_10": 0x5A,
    "READ_16": 0x88,
    "COMPARE_AND_WRITE": 0x89,
    "WRITE_16": 0x8A,
    "VERIFY_16": 0x8F,
    "PRE_FETCH_16": 0x90,
    "SYNCHRONIZE_CACHE_16": 0x91,
    "WRITE_SAME_16": 0x93,
    "SERVICE_ACTION_IN_16": 0x9E,
    "REPORT_LUNS": 0xA0,
    "READ_12": 0xA8,
    "WRITE_12": 0xAA,
    "VERIFY_12": 0xAF,
}


def test_opcodes_equal_the_golden_list() -> None:
    assert {opcode.name: opcode.value for opcode in Opcode} == GOLDEN_OPCODES


def test_service_actions_equal_the_golden_list() -> None:
    found = {action.name: action.value for action in ServiceActionIn16}
    assert found == {"READ_CAPACITY_16": 0x10, "GET_LBA_STATUS": 0x12}


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
        ("c7", "opcode C7h"),
    ],
)
def test_text_names_the_command_or_its_opcode(cdb: str, text: str) -> None:
    assert opcode_text(bytes.fromhex(cdb)) == text
