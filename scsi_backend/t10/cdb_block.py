# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of block commands that are rare: the 32-byte forms, WRITE ATOMIC, READ DEFECT DATA.

The rest, and what a ``Field`` is, is in cdb.py.
"""

from __future__ import annotations

from typing import Final

from scsi_backend.t10.cdb import BlockRange, Field, struct_reader

# The variable-length CDB counts the bytes after its eighth (SPC-5 4.2.3); SBC-4's have 32 in all.
ADDITIONAL_CDB_LENGTH: Final = Field(7, 7, 8)
LENGTH_32: Final = 32
RANGE_32: Final = BlockRange(Field(12, 7, 64), Field(28, 7, 32), struct_reader(">12xQ8xI"))

# WRITE ATOMIC (SBC-4 5.44, 5.45).
RANGE_WRITE_ATOMIC_16: Final = BlockRange(
    Field(2, 7, 64), Field(12, 7, 16), struct_reader(">2xQ2xH")
)
ATOMIC_BOUNDARY_16: Final = Field(10, 7, 16)
ATOMIC_BOUNDARY_32: Final = Field(4, 7, 16)

# READ DEFECT DATA (SBC-4 5.22, 5.23): the (12) form has the flags a byte earlier.
DEFECT_FLAGS_10: Final = Field(2, 4, 5)
DEFECT_ALLOCATION_LENGTH_10: Final = Field(7, 7, 16)
DEFECT_FLAGS_12: Final = Field(1, 4, 5)
DEFECT_ALLOCATION_LENGTH_12: Final = Field(6, 7, 32)

_FLAGS_BYTE_32: Final = 10


def flag_of(where: BlockRange, flag: Field) -> Field:
    """Where a width has a flag that is in byte 1 of the others: the 32-byte form has it in 10."""
    return Field(_FLAGS_BYTE_32, flag.msb, flag.width) if where is RANGE_32 else flag


def blocks_32(cdb: bytes) -> tuple[int, int]:
    """The (lba, length_blocks) of a 32-byte CDB; one that is cut short is about no blocks."""
    return RANGE_32.unpack(cdb) if len(cdb) >= LENGTH_32 else (0, 0)
