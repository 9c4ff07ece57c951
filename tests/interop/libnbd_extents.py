# SPDX-License-Identifier: GPL-2.0-or-later
"""libnbd as the client: holes, sparse reads, fast zeros and parts of blocks.

See ``libnbd_scenarios``; the URIs are those of a thin disk, where a scenario does not say else.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import nbd

from tests.interop.libnbd_scenarios import BLOCK, MIB, SIZE, connect, fails, wait_for

DATA = 0
HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO
# What holes are made of, on whatever file system.
UNIT = 65536
LONG = 256 << 10


def connect_for_extents(uri: str) -> Any:
    """Return a handle that may ask for the extents, and may do so wrongly."""
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(uri)
    assert handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    return handle


def connect_unaware(uri: str) -> Any:
    """Return a handle that has not asked for block sizes, and does not look at them."""
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_request_block_size(False)
    handle.connect_uri(uri)
    return handle


def extents_of(h: Any, offset: int, length: int, flags: int = 0) -> list[tuple[int, int]]:
    """Lengths and flags of what BLOCK_STATUS tells."""
    found: list[tuple[int, int]] = []

    def note(context: str, at: int, entries: list[int], error: object) -> int:
        assert (context, at, found) == (nbd.CONTEXT_BASE_ALLOCATION, offset, [])
        found.extend(zip(entries[::2], entries[1::2], strict=True))
        return 0

    h.block_status(length, offset, note, flags)
    return found


def extents_are_told(uri: str) -> None:
    h = connect_for_extents(uri)
    h.trim(SIZE, 0)
    assert extents_of(h, 0, SIZE) == [(SIZE, HOLE)]
    h.pwrite(b"x" * UNIT, MIB)
    h.pwrite(b"x" * MIB, 8 * MIB)
    h.zero(2 * UNIT, 8 * MIB + UNIT)
    h.pwrite(bytes(UNIT), SIZE - UNIT)
    expected = [
        (MIB, HOLE),
        (UNIT, DATA),
        (7 * MIB - UNIT, HOLE),
        (UNIT, DATA),
        (2 * UNIT, HOLE),
        (MIB - 3 * UNIT, DATA),
        (SIZE - 9 * MIB - UNIT, HOLE),
        # Zeros that were written are data.
        (UNIT, DATA),
    ]
    assert extents_of(h, 0, SIZE) == expected
    assert extents_of(h, 0, SIZE, nbd.CMD_FLAG_REQ_ONE) == [(MIB, HOLE)]
    assert extents_of(h, 4096, 8192, nbd.CMD_FLAG_REQ_ONE | nbd.CMD_FLAG_FUA) == [(8192, HOLE)]
    assert extents_of(h, MIB - BLOCK, 2 * BLOCK) == [(BLOCK, HOLE), (BLOCK, DATA)]
    assert extents_of(h, SIZE - BLOCK, BLOCK) == [(BLOCK, DATA)]
    h.shutdown()


def extents_of_a_disk_that_is_not_thin(uri: str) -> None:
    h = connect_for_extents(uri)
    h.zero(SIZE, 0)
    assert extents_of(h, 0, SIZE) == [(SIZE, DATA)]
    assert extents_of(h, 4096, 4096, nbd.CMD_FLAG_REQ_ONE) == [(4096, DATA)]
    h.shutdown()


def wrong_questions_for_extents(uri: str) -> None:
    h = connect_for_extents(uri)
    for offset, length in ((SIZE, BLOCK), (SIZE - BLOCK, 2 * BLOCK), (1 << 62, BLOCK)):
        fails("EINVAL", extents_of, h, offset, length)
    for flags in (nbd.CMD_FLAG_DF, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO, 1 << 9):
        fails("EINVAL", extents_of, h, 0, BLOCK, flags)
    assert extents_of(h, 0, BLOCK)[0][0] == BLOCK
    h.shutdown()


def chunks_of(h: Any, offset: int, length: int, flags: int = 0) -> list[tuple[int, int, int]]:
    """Kind, offset and length of each chunk of a READ."""
    found: list[tuple[int, int, int]] = []

    def note(data: bytes, at: int, kind: int, error: object) -> int:
        found.append((kind, at, len(data)))
        return 0

    h.pread_structured(length, offset, note, flags)
    return sorted(found, key=lambda chunk: chunk[1])


def sparse_reads(uri: str) -> None:
    # The image is in memory, and only long reads are looked at for holes.
    h = connect(uri)
    h.trim(SIZE, 0)
    h.pwrite(b"x" * LONG, MIB)
    assert chunks_of(h, 0, LONG) == [(nbd.READ_HOLE, 0, LONG)]
    assert chunks_of(h, 32 * MIB, 32 * MIB) == [(nbd.READ_HOLE, 32 * MIB, 32 * MIB)]
    assert chunks_of(h, MIB, LONG) == [(nbd.READ_DATA, MIB, LONG)]
    # In one piece, as asked for.
    assert chunks_of(h, 0, LONG, nbd.CMD_FLAG_DF) == [(nbd.READ_DATA, 0, LONG)]
    for offset, length in ((0, BLOCK), (MIB - LONG, 3 * LONG), (MIB, 4 * MIB)):
        end = offset
        for _, at, count in chunks_of(h, offset, length):
            assert at == end
            end += count
        assert end == offset + length
    assert h.pread(2 * MIB, 0) == bytes(MIB) + b"x" * LONG + bytes(MIB - LONG)
    h.shutdown()


def reads_in_chunks(uri: str) -> None:
    h = connect(uri)
    data = random.Random(5).randbytes(4 * MIB)
    h.pwrite(data, 0)
    for flags in (0, nbd.CMD_FLAG_DF):
        # DF: "at most one"; there is no need for more with data.
        assert chunks_of(h, BLOCK, MIB, flags) == [(nbd.READ_DATA, BLOCK, MIB)]
    parts: dict[int, bytes] = {}
    h.pread_structured(4 * MIB, 0, lambda part, at, *_: parts.update({at: bytes(part)}) or 0)
    assert b"".join(part for _, part in sorted(parts.items())) == data
    h.shutdown()


def fast_zeros_of_a_thin_disk(uri: str) -> None:
    h = connect(uri)
    h.pwrite(b"x" * MIB, 0)
    # Space that is to stay reserved has to be written.
    fails("ENOTSUP", h.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
    assert h.pread(MIB, 0) == b"x" * MIB
    h.zero(MIB, 0, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(MIB, 0) == bytes(MIB)
    h.zero(SIZE, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
    h.shutdown()


def fast_zeros_of_a_disk_that_is_not_thin(uri: str) -> None:
    h = connect(uri)
    h.pwrite(b"x" * MIB, 0)
    for flags in (0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA):
        fails("ENOTSUP", h.zero, MIB, 0, nbd.CMD_FLAG_FAST_ZERO | flags)
    assert h.pread(MIB, 0) == b"x" * MIB
    h.zero(MIB, 0)
    assert h.pread(MIB, 0) == bytes(MIB)
    h.shutdown()


def parts_of_blocks_from_who_knows_better(uri: str) -> None:
    h = connect_for_extents(uri)
    size = h.get_block_size(nbd.SIZE_MINIMUM)
    h.pwrite(b"a" * 4 * size, 0)
    for offset, length in ((1, size), (size, 100), (100, 412), (size, size + 1)):
        fails("EINVAL", h.pread, length, offset)
        fails("EINVAL", h.pwrite, b"x" * length, offset)
        fails("EINVAL", h.zero, length, offset)
        fails("EINVAL", h.trim, length, offset)
        fails("EINVAL", h.cache, length, offset)
        fails("EINVAL", extents_of, h, offset, length)
    assert h.pread(4 * size, 0) == b"a" * 4 * size
    h.shutdown()


def parts_of_blocks(uri: str) -> None:
    chooser = random.Random(6)
    h = connect_unaware(uri)
    size = h.get_block_size(nbd.SIZE_MINIMUM)
    area = 16 * size
    expected = bytearray(chooser.randbytes(area))
    h.pwrite(bytes(expected), 0)
    for _ in range(300):
        offset = chooser.randrange(area)
        length = min(chooser.choice((1, 3, 512, 513, size, 3 * size)), area - offset)
        flags = chooser.choice((0, nbd.CMD_FLAG_FUA))
        choice = chooser.randrange(4)
        if choice == 0:
            assert h.pread(length, offset) == expected[offset : offset + length]
        elif choice == 1:
            data = chooser.randbytes(length)
            h.pwrite(data, offset, flags)
            expected[offset : offset + length] = data
        elif choice == 2:
            h.zero(length, offset, flags)
            expected[offset : offset + length] = bytes(length)
        else:
            h.cache(length, offset)
    assert h.pread(area, 0) == expected
    assert h.pread(area - 2, 1) == expected[1:-1]
    # The last byte, and those behind it.
    h.pwrite(b"z", SIZE - 1)
    assert h.pread(1, SIZE - 1) == b"z"
    fails("EINVAL", h.pread, 2, SIZE - 1)
    fails("ENOSPC", h.pwrite, b"xx", SIZE - 1)
    fails("ENOSPC", h.zero, 2, SIZE - 1)
    # Which is no whole block, so that nothing is deallocated.
    h.trim(size - 1, 0)
    h.trim(1, size - 1)
    assert h.pread(area, 0) == expected
    h.shutdown()


def parts_of_one_block_by_many_at_once(uri: str) -> None:
    handles = [connect_unaware(uri) for _ in range(4)]
    stripe = 100
    area = 64 * stripe * len(handles)
    handles[0].pwrite(bytes(area), 0)
    under_way: list[list[int]] = [[] for _ in handles]
    for row in range(64):
        for number, handle in enumerate(handles):
            data = nbd.Buffer.from_bytearray(bytearray([row + 1, number] * (stripe // 2)))
            offset = (row * len(handles) + number) * stripe
            under_way[number].append(handle.aio_pwrite(data, offset))
    for handle, cookies in zip(handles, under_way, strict=True):
        wait_for(handle, cookies)
    found = handles[0].pread(area, 0)
    expected = b"".join(
        bytes([row + 1, number] * (stripe // 2))
        for row in range(64)
        for number in range(len(handles))
    )
    assert found == expected
    for handle in handles:
        handle.shutdown()


def blocks_of_512_bytes_on_one_of_4096(uri: str) -> None:
    # As Linux does by default; it has no way to ask.
    h = connect_unaware(uri)
    assert h.get_block_size(nbd.SIZE_MINIMUM) == 4096
    h.pwrite(b"a" * 16384, 0)
    for number in range(1, 31, 2):
        h.pwrite(bytes((number,)) * 512, number * 512)
    expected = b"".join(
        bytes((number,)) * 512 if number % 2 and number < 31 else b"a" * 512 for number in range(32)
    )
    assert h.pread(16384, 0) == expected
    for number in range(32):
        assert h.pread(512, number * 512) == expected[number * 512 :][:512]
    h.shutdown()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
