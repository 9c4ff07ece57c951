# SPDX-License-Identifier: GPL-2.0-or-later
"""The reservation commands' CDBs: each field against a CDB with ones in it only; golden bytes."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import cdb_reservation as fields
from scsi_backend.t10.cdb import Field

GOLDEN_MASKS = {
    "PR_SERVICE_ACTION": "001f",
    "PR_IN_ALLOCATION_LENGTH": "00000000000000ffff",
    "PR_SCOPE": "0000f0",
    "PR_TYPE": "00000f",
    "PR_OUT_PARAMETER_LIST_LENGTH": "0000000000ffffffff",
    "THIRD_PARTY": "0010",
    "EXTENT": "0001",
    "RESERVE_10_LONG_ID": "0002",
}


def test_every_field_constant_is_in_the_golden_list() -> None:
    constants = {name for name, value in vars(fields).items() if isinstance(value, Field)}
    assert constants == GOLDEN_MASKS.keys()


@pytest.mark.parametrize("name", GOLDEN_MASKS)
def test_field_reads_its_bits_and_no_others(name: str) -> None:
    field = getattr(fields, name)
    mask = bytes.fromhex(GOLDEN_MASKS[name]).ljust(10, b"\0")
    assert field.read(mask) == (1 << field.width) - 1
    assert field.read(bytes(byte ^ 0xFF for byte in mask)) == 0


def test_builders_make_the_bytes_of_the_tables() -> None:
    assert fields.persistent_reserve_in(3, 0x1234).hex() == "5e030000000000123400"
    assert fields.persistent_reserve_out(1, 5, 24).hex() == "5f010500000000001800"
    assert fields.persistent_reserve_out(7, 0, 0x10203).hex() == "5f070000000001020300"
