# SPDX-License-Identifier: GPL-2.0-or-later
"""CDB fields of the reporting commands against bytes written out from the T10 tables."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import cdb_reports as fields
from scsi_backend.t10.cdb import Field
from scsi_backend.t10.cdb_reports import BufferMode, ReportingOptions

# Each field with the bytes of a CDB in which only that field's bits are ones.
GOLDEN_MASKS = {
    "RCTD": "000080",
    "REPD": "000080",
    "REPORTING_OPTIONS": "000007",
    "REQUESTED_OPERATION_CODE": "000000ff",
    "REQUESTED_SERVICE_ACTION": "00000000ffff",
    "REPORT_SUPPORTED_ALLOCATION_LENGTH": "000000000000ffffffff",
    "LOG_PCR": "0002",
    "LOG_PPC": "0002",
    "LOG_SP": "0001",
    "LOG_PAGE_CONTROL": "0000c0",
    "LOG_PAGE_CODE": "00003f",
    "LOG_SUBPAGE_CODE": "000000ff",
    "LOG_PARAMETER_POINTER": "0000000000ffff",
    "LOG_SENSE_ALLOCATION_LENGTH": "00000000000000ffff",
    "LOG_SELECT_PARAMETER_LIST_LENGTH": "00000000000000ffff",
    "PCV": "0001",
    "RECEIVE_DIAGNOSTIC_PAGE_CODE": "0000ff",
    "RECEIVE_DIAGNOSTIC_ALLOCATION_LENGTH": "000000ffff",
    "SEND_DIAGNOSTIC_PF": "0010",
    "BUFFER_MODE": "001f",
    "BUFFER_ID": "0000ff",
    "BUFFER_OFFSET": "000000ffffff",
    "BUFFER_LENGTH": "000000000000ffffff",
}


def test_every_field_constant_is_in_the_golden_list() -> None:
    constants = {name for name, value in vars(fields).items() if isinstance(value, Field)}
    assert constants == set(GOLDEN_MASKS)


@pytest.mark.parametrize("name", GOLDEN_MASKS)
def test_field_covers_exactly_its_bits(name: str) -> None:
    field = getattr(fields, name)
    mask = bytes.fromhex(GOLDEN_MASKS[name]).ljust(16, b"\0")
    inverse = bytes(byte ^ 0xFF for byte in mask)
    all_ones = (1 << int.from_bytes(mask, "big").bit_count()) - 1
    written = bytearray(16)
    field.write(written, all_ones)
    assert (field.read(mask), field.read(inverse), bytes(written)) == (all_ones, 0, mask)


def test_codes_are_those_of_the_standard() -> None:
    assert {each.name: each.value for each in ReportingOptions} == {
        "ALL": 0,
        "OPERATION_CODE": 1,
        "SERVICE_ACTION": 2,
        "EITHER": 3,
    }
    assert {each.name: each.value for each in BufferMode} == {
        "DATA": 0x02,
        "DESCRIPTOR": 0x03,
        "ECHO": 0x0A,
        "ECHO_DESCRIPTOR": 0x0B,
    }
