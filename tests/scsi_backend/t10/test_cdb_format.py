# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of FORMAT UNIT and SANITIZE against bytes written out from the T10 tables."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import cdb_format as fields
from scsi_backend.t10.cdb import Field

# Each field with the bytes in which only that field's bits are ones.
GOLDEN_MASKS = {
    "FMTPINFO": "00c0",
    "LONGLIST": "0020",
    "FMTDATA": "0010",
    "CMPLST": "0008",
    "DEFECT_LIST_FORMAT": "0007",
    "FFMT": "0000000003",
    "PROTECTION_FIELDS_USAGE": "07",
    "FOV": "0080",
    "DPRY": "0040",
    "DCRT": "0020",
    "STPF": "0010",
    "IP": "0008",
    "FORMAT_IMMED": "0002",
    "DEFECT_LIST_LENGTH": "0000ffff",
    "P_I_INFORMATION": "000000f0",
    "PROTECTION_INTERVAL_EXPONENT": "0000000f",
    "LONG_DEFECT_LIST_LENGTH": "00000000ffffffff",
    "IP_MODIFIER": "c0",
    "SECURITY_INITIALIZE": "20",
    "INITIALIZATION_PATTERN_TYPE": "00ff",
    "INITIALIZATION_PATTERN_LENGTH": "0000ffff",
    "SANITIZE_IMMED": "0080",
    "ZNR": "0040",
    "AUSE": "0020",
    "SANITIZE_RESERVED": "0000ffffffffff",
    "SANITIZE_PARAMETER_LIST_LENGTH": "00000000000000ffff",
    "INVERT": "80",
    "TEST": "60",
    "OVERWRITE_COUNT": "1f",
    "OVERWRITE_PATTERN_LENGTH": "0000ffff",
}


def test_every_field_constant_is_in_the_golden_list() -> None:
    constants = {name for name, value in vars(fields).items() if isinstance(value, Field)}
    assert constants == set(GOLDEN_MASKS)


@pytest.mark.parametrize("name", GOLDEN_MASKS)
def test_field_covers_exactly_its_bits(name: str) -> None:
    field = getattr(fields, name)
    mask = bytes.fromhex(GOLDEN_MASKS[name]).ljust(10, b"\0")
    inverse = bytes(byte ^ 0xFF for byte in mask)
    all_ones = (1 << int.from_bytes(mask, "big").bit_count()) - 1
    assert (field.read(mask), field.read(inverse)) == (all_ones, 0)


def test_lengths_and_pattern_types_are_those_of_the_tables() -> None:
    assert (fields.SHORT_HEADER_BYTES, fields.LONG_HEADER_BYTES) == (4, 8)
    assert fields.INITIALIZATION_PATTERN_DESCRIPTOR_BYTES == fields.OVERWRITE_HEADER_BYTES == 4
    assert (fields.DEFAULT_PATTERN, fields.REPEAT_PATTERN) == (0, 1)
