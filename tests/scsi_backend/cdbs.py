# SPDX-License-Identifier: GPL-2.0-or-later
"""CDBs for tests, written from the T10 tables and not with the builders of the code under test.

Whatever reaches a nexus is padded to 16 bytes, as the front-ends pad it.
"""

from __future__ import annotations

import struct

# The opcode by CDB length in bytes; of the variable-length form of 32, the service action.
READ = {6: 0x08, 10: 0x28, 12: 0xA8, 16: 0x88, 32: 0x09}
WRITE = {6: 0x0A, 10: 0x2A, 12: 0xAA, 16: 0x8A, 32: 0x0B}
VERIFY = {10: 0x2F, 12: 0xAF, 16: 0x8F, 32: 0x0A}
WRITE_AND_VERIFY = {10: 0x2E, 12: 0xAE, 16: 0x8E, 32: 0x0C}
ORWRITE = {16: 0x8B}
SYNCHRONIZE_CACHE = {10: 0x35, 16: 0x91}
PRE_FETCH = {10: 0x34, 16: 0x90}
WRITE_SAME = {10: 0x41, 16: 0x93, 32: 0x0D}

# Where the LBA and the length begin (byte, most significant bit), by CDB length (SBC-4 5).
LBA_AT = {6: (1, 4), 10: (2, 7), 12: (2, 7), 16: (2, 7), 32: (12, 7)}
FLAGS_AT = {10: 1, 12: 1, 16: 1, 32: 10}
LENGTH_AT = {6: (4, 7), 10: (7, 7), 12: (6, 7), 16: (10, 7), 32: (28, 7)}

TEST_UNIT_READY = bytes(16)


def raw(text: str) -> bytes:
    """A CDB from hex digits, padded with zeros to 16 bytes."""
    return bytes.fromhex(text).ljust(16, b"\0")


def block(opcodes: dict[int, int], width: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    """A block command of one width; ``flags`` is byte 1, or 10 of 32; of 6 bytes, none has room."""
    opcode = opcodes[width]
    if width == 6:
        cdb = struct.pack(">IBB", opcode << 24 | lba, blocks, 0)
    elif width == 10:
        cdb = struct.pack(">BBIBHB", opcode, flags, lba, 0, blocks, 0)
    elif width == 32:
        cdb = struct.pack(">B6xBHBxQ8xI", 0x7F, 0x18, opcode, flags, lba, blocks)
    elif width == 12:
        cdb = struct.pack(">BBIIBB", opcode, flags, lba, blocks, 0, 0)
    else:
        cdb = struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)
    return cdb.ljust(16, b"\0")


def write_atomic_16(lba: int, blocks: int, flags: int = 0, boundary: int = 0) -> bytes:
    """WRITE ATOMIC(16): a boundary and a length of two bytes each."""
    return struct.pack(">BBQHHBB", 0x9C, flags, lba, boundary, blocks, 0, 0)


def write_atomic_32(lba: int, blocks: int, flags: int = 0, boundary: int = 0) -> bytes:
    """WRITE ATOMIC(32)."""
    return struct.pack(">B3xHxBHBxQ8xI", 0x7F, boundary, 0x18, 0x0F, flags, lba, blocks)


def compare_and_write(lba: int, blocks: int, flags: int = 0) -> bytes:
    """COMPARE AND WRITE: its length is the one byte 13."""
    return struct.pack(">BBQ3xBBB", 0x89, flags, lba, blocks, 0, 0)


def unmap(list_length_bytes: int, flags: int = 0) -> bytes:
    """UNMAP."""
    return struct.pack(">BB5xHB", 0x42, flags, list_length_bytes, 0).ljust(16, b"\0")


def unmap_list(*ranges: tuple[int, int], descriptor_bytes: int | None = None) -> bytes:
    """UNMAP's parameter list of (lba, blocks) descriptors; lengths are right unless given."""
    body = b"".join(struct.pack(">QI4x", lba, blocks) for lba, blocks in ranges)
    length = len(body) if descriptor_bytes is None else descriptor_bytes
    return struct.pack(">HH4x", len(body) + 6, length) + body


FORMAT_UNIT = raw("04")


def format_unit(flags: int) -> bytes:
    """FORMAT UNIT; ``flags`` is byte 1."""
    return raw(f"04{flags:02x}")


OVERWRITE, BLOCK_ERASE, EXIT_FAILURE_MODE = 0x01, 0x02, 0x1F


def sanitize(action: int, list_length_bytes: int = 0, flags: int = 0) -> bytes:
    """SANITIZE; ``flags`` are the bits of byte 1 beside the service action."""
    return struct.pack(">BB5xHB", 0x48, action | flags, list_length_bytes, 0).ljust(16, b"\0")


def get_lba_status(lba: int, allocation_length_bytes: int) -> bytes:
    """GET LBA STATUS(16)."""
    return struct.pack(">BBQIBB", 0x9E, 0x12, lba, allocation_length_bytes, 0, 0)
