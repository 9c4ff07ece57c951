# SPDX-License-Identifier: GPL-2.0-or-later
"""CDB fields about the medium against bytes written out from the SBC-4 tables."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import cdb_medium
from scsi_backend.t10.cdb import Field

# Each field with the bytes of a CDB in which only that field's bits are ones.
GOLDEN_MASKS = [
    ("START", cdb_medium.START, "0000000001"),
    ("PREVENT", cdb_medium.PREVENT, "0000000003"),
]


def test_every_field_is_in_the_golden_list() -> None:
    found = {name for name, value in vars(cdb_medium).items() if isinstance(value, Field)}
    assert found == {name for name, _, _ in GOLDEN_MASKS}


@pytest.mark.parametrize(("name", "field", "mask"), GOLDEN_MASKS)
def test_field_lies_where_the_standard_has_it(name: str, field: Field, mask: str) -> None:
    cdb = bytearray(16)
    field.write(cdb, (1 << field.width) - 1)
    assert cdb.hex() == mask.ljust(32, "0")
