# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that differ in nothing but their tags and LBAs, compared and answered column by column.

What is done here to a batch, ``Burst.render`` does to each frame by itself.
"""

from __future__ import annotations

import struct

from bridges.aoe.burst import render
from bridges.aoe.flow import Flow, Plan
from bridges.aoe.outbox import Outbox
from bridges.aoe.ring import RX_FRAME_OFFSET, RxRing

# What may not differ, as it lies in a slot: captured length and where the frame begins; the first
# 20 bytes, flags and command, and LBA 47:32. The rest of the last four bytes means nothing.
IDENTITY = struct.Struct(f"<8x8s{RX_FRAME_OFFSET - 16}x20s4x4s4xH")
Identity = tuple[bytes, bytes, bytes, int]

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
    end = first + count
    early, late, last = rx.key_columns
    return (
        early[first:end].tobytes() == key[:8] * count
        and late[first:end].tobytes() == key[8:16] * count
        and last[first:end].tobytes() == key[16:] * count
        and rx.codes[first:end].tobytes() == code * count
        and rx.places[first:end].tobytes() == place * count
        and rx.upper_lbas[first:end].tobytes() == (high.to_bytes(2, "little") + _RESERVED) * count
    )


def runs_of(rx: RxRing, first: int, count: int, sectors: int) -> list[tuple[int, int, int]]:
    """Divide frames of ``sectors`` each into (index, count, LBA 31:0) of runs without a gap."""
    start = rx.lbas[first]
    if count == 1:
        return [(0, 1, start)]
    lows = rx.lbas[first : first + count].tolist()
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
    if not outbox.has_pattern((flow, plan, high), count):
        for index in range(slot, slot + count):
            render(outbox, index, flow, plan, _NO_TAG, high << 32)
    outbox.tags[slot : slot + count] = rx.tags[first : first + count]
    outbox.lbas[slot : slot + count] = rx.lbas[first : first + count]
    outbox.used = slot + count
