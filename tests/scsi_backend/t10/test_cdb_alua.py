# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of the ALUA commands against CDBs and a parameter list written out by hand."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import cdb_alua as fields
from scsi_backend.t10.cdb import Field

REPORT = bytes.fromhex("a32a00000000010203040000")
SET = bytes.fromhex("a40a00000000050607080000")
DESCRIPTOR = bytes.fromhex("f3ff0a0b")


@pytest.mark.parametrize(
    ("field", "data", "value"),
    [
        (fields.PARAMETER_DATA_FORMAT, REPORT, 1),
        (fields.REPORT_ALLOCATION_LENGTH, REPORT, 0x01020304),
        (fields.SET_PARAMETER_LIST_LENGTH, SET, 0x05060708),
        (fields.SET_STATE, DESCRIPTOR, 3),
        (fields.SET_GROUP_ID, DESCRIPTOR, 0x0A0B),
    ],
)
def test_fields_lie_where_the_standard_has_them(field: Field, data: bytes, value: int) -> None:
    assert field.read(data) == value


def test_values_and_lengths_are_the_standard_s() -> None:
    assert (fields.FORMAT_LENGTH_ONLY, fields.FORMAT_EXTENDED) == (0, 1)
    assert (fields.SET_HEADER_BYTES, fields.SET_DESCRIPTOR_BYTES) == (4, 4)
