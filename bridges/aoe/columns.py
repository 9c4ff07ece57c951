# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that differ in nothing but their tags and LBAs, compared and answered column by column.

A memoryview with a step is one word of many slots, and a comparison or an assignment of it costs
little more for 32 slots than for one. What is done here to a batch, ``Burst.render`` does to each
frame by itself.
"""

from __future__ import annotations

import struct
from typing import Final

from bridges.aoe.burst import LBA_WORD, TAG_WORD, render
from bridges.aoe.flow import Flow, Plan
from bridges.aoe.outbox import Outbox
from bridges.aoe.ring import RX_FRAME_OFFSET, RxRing

# What may not differ, as it lies in a slot: captured length and where the frame begins; the first
# 20 bytes, flags and command, and LBA 47:32. The rest of the last four bytes means nothing.
IDENTITY = struct.Struct(f"<8x8s{RX_FRAME_OFFSET - 16}x20s4x4s4xH")
Identity = tuple[bytes, bytes, bytes, int]

# Places in a slot, in words of 32 and of 64 bits.
_PLACE_QUAD: Final = 1
_KEY_QUAD: Final = RX_FRAME_OFFSET // 8
_KEY_END_WORD: Final = RX_FRAME_OFFSET // 4 + 4
_CODE_WORD: Final = RX_FRAME_OFFSET // 4 + 6
_LBA_END_WORD: Final = RX_FRAME_OFFSET // 4 + 8
_TAG_WORD: Final = RX_FRAME_OFFSET // 4 + TAG_WORD
_LBA_WORD: Final = RX_FRAME_OFFSET // 4 + LBA_WORD
_NO_TAG = bytes(4)
_RESERVED = bytes(2)


def identity(rx: RxRing, slot: int) -> Identity:
    """What tells the frame in a slot from others: place and length, key, code, upper LBA."""
    found: Identity = IDENTITY.unpack_from(rx.memory, slot * rx.size_bytes)
    return found


def count_alike(rx: RxRing, first: int, limit: int, first_identity: Identity) -> int:
    """How many frames in a row, ``first`` among them, are identical in that sense."""
    if limit == 1 or _are_alike(rx, first, limit, first_identity):
        return limit
    for number in range(1, limit):
        if identity(rx, first + number) != first_identity:
            return number
    # Only reserved bytes differ.
    return limit


def _are_alike(rx: RxRing, first: int, count: int, first_identity: Identity) -> bool:
    place, key, code, high = first_identity
    quads, size = rx.quads, rx.size_quads
    start = first * size
    end = start + (count - 1) * size + 1
    at = _KEY_QUAD
    if (
        quads[start + at : end + at : size].tobytes() != key[:8] * count
        or quads[start + at + 1 : end + at + 1 : size].tobytes() != key[8:16] * count
        or quads[start + _PLACE_QUAD : end + _PLACE_QUAD : size].tobytes() != place * count
    ):
        return False
    words, size = rx.words, rx.size_words
    start = first * size
    end = start + (count - 1) * size + 1
    last = high.to_bytes(2, "little") + _RESERVED
    return (
        words[start + _CODE_WORD : end + _CODE_WORD : size].tobytes() == code * count
        and words[start + _KEY_END_WORD : end + _KEY_END_WORD : size].tobytes() == key[16:] * count
        and words[start + _LBA_END_WORD : end + _LBA_END_WORD : size].tobytes() == last * count
    )


def runs_of(rx: RxRing, first: int, count: int, sectors: int) -> list[tuple[int, int, int]]:
    """Divide frames of ``sectors`` each into (index, count, LBA 31:0) of runs without a gap."""
    start = rx.words[first * rx.size_words + _LBA_WORD]
    if count == 1:
        return [(0, 1, start)]
    lows = rx.word_column(first, count, _LBA_WORD * 4).tolist()
    if lows == list(range(start, start + count * sectors, sectors)):
        return [(0, count, start)]
    runs = []
    begin = 0
    expected = start
    for index, low in enumerate(lows):
        if low != expected:
            runs.append((begin, index - begin, lows[begin]))
            begin = index
        expected = low + sectors
    runs.append((begin, count - begin, lows[begin]))
    return runs


def render_alike(
    rx: RxRing, first: int, count: int, known: Identity, flow: Flow, plan: Plan, outbox: Outbox
) -> None:
    """Fill the outbox's next slots with replies to these frames; data, if any, are there."""
    high, slot = known[3], outbox.used
    if count == 1:
        word = first * rx.size_words
        start = (word + _TAG_WORD) * 4
        tag = rx.memory[start : start + 4].tobytes()
        lba = high << 32 | rx.words[word + _LBA_WORD]
        render(outbox, outbox.begin_slot(), flow, plan, tag, lba)
        return
    if not outbox.has_pattern((flow, plan, high), count):
        for index in range(slot, slot + count):
            render(outbox, index, flow, plan, _NO_TAG, high << 32)
    words, size = outbox.words, outbox.size_words
    start = slot * size
    end = start + (count - 1) * size + 1
    sources, source_size = rx.words, rx.size_words
    source = first * source_size
    source_end = source + (count - 1) * source_size + 1
    words[start + TAG_WORD : end + TAG_WORD : size] = sources[
        source + _TAG_WORD : source_end + _TAG_WORD : source_size
    ]
    words[start + LBA_WORD : end + LBA_WORD : size] = sources[
        source + _LBA_WORD : source_end + _LBA_WORD : source_size
    ]
    outbox.used = slot + count
