# SPDX-License-Identifier: GPL-2.0-or-later
"""Copy manager CDBs against bytes written out from the T10 tables."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import cdb_copy as fields
from scsi_backend.t10.cdb import Field
from scsi_backend.t10.opcodes import ReceiveCopyResults

# Each field with the bytes of a CDB in which only that field's bits are ones.
GOLDEN_MASKS = {
    "EXTENDED_COPY_PARAMETER_LIST_LENGTH": "00" * 10 + "ffffffff" + "0000",
    "LIST_IDENTIFIER": "0000ff" + "00" * 13,
    "RECEIVE_COPY_RESULTS_ALLOCATION_LENGTH": "00" * 10 + "ffffffff" + "0000",
}


def test_every_field_constant_is_in_the_golden_list() -> None:
    constants = {name for name, value in vars(fields).items() if isinstance(value, Field)}
    assert constants == set(GOLDEN_MASKS)


@pytest.mark.parametrize(("name", "mask_hex"), GOLDEN_MASKS.items())
def test_field_covers_exactly_its_bits(name: str, mask_hex: str) -> None:
    field: Field = getattr(fields, name)
    written = bytearray(16)
    field.write(written, (1 << field.width) - 1)
    assert written.hex() == mask_hex


@pytest.mark.parametrize(
    ("built", "golden"),
    [
        (fields.extended_copy(0x01020304), "8300" + "00" * 8 + "010203040000"),
        (
            fields.receive_copy_results(ReceiveCopyResults.COPY_STATUS_LID1, 0xAB, 12),
            "8400ab" + "00" * 7 + "0000000c0000",
        ),
        (
            fields.receive_copy_results(ReceiveCopyResults.OPERATING_PARAMETERS, 0, 0x0102),
            "840300" + "00" * 7 + "000001020000",
        ),
        (
            fields.receive_copy_results(ReceiveCopyResults.FAILED_SEGMENT_DETAILS_LID1, 1, 0),
            "840401" + "00" * 7 + "000000000000",
        ),
    ],
)
def test_builder_makes_the_bytes_of_the_t10_table(built: bytes, golden: str) -> None:
    assert built.hex() == golden
