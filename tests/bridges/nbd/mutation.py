# SPDX-License-Identifier: GPL-2.0-or-later
"""Valid handshakes and requests, and ways to spoil them; every choice comes from one generator."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from tests.bridges.nbd import proto

BLOCK = 512
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 64) - 1)
_FLAGS = (proto.FIXED_NEWSTYLE, proto.FIXED_NEWSTYLE_NO_ZEROES, bytes(4))
_NAMES = ("disk", "", "disk1", "disk/1", "ø" * 100)


def handshake(chooser: random.Random) -> bytes:
    """Client flags and some options, as a client might send them."""
    name = chooser.choice(_NAMES)
    kinds = [chooser.randrange(5) for _ in range(chooser.randrange(4))]
    options = (
        proto.option(proto.LIST),
        proto.option(proto.LIST, b"data"),
        proto.option(proto.INFO, proto.information(name, *kinds)),
        proto.option(proto.GO, proto.information(name, *kinds)),
        proto.option(proto.EXPORT_NAME, name.encode()),
        proto.option(proto.ABORT),
        proto.option(chooser.randrange(14), chooser.randbytes(chooser.randrange(40))),
    )
    count = chooser.randrange(1, 5)
    return chooser.choice(_FLAGS) + b"".join(chooser.choice(options) for _ in range(count))


def requests(chooser: random.Random, blocks: int) -> bytes:
    """Requests for a disk of so many blocks, most of them right."""
    return b"".join(_request(chooser, blocks) for _ in range(chooser.randrange(1, 6)))


def _request(chooser: random.Random, blocks: int) -> bytes:
    kind = chooser.choice((0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 2))
    flags = chooser.choice((0, 0, 0, 1, 2, 3, 4, 8, 16, 64))
    offset = chooser.randrange(blocks) * BLOCK
    length = chooser.choice((0, 1, 1, 2, 5)) * BLOCK
    if chooser.random() < 0.1:
        length += chooser.randrange(BLOCK)
    payload = chooser.randbytes(length) if kind == proto.WRITE else b""
    return proto.request(kind, chooser.randrange(1 << 64), offset, length, flags, payload)


def _flip(chooser: random.Random, data: bytearray) -> None:
    data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)


def _extreme(chooser: random.Random, data: bytearray) -> None:
    """Put a number of the kind that overflows somewhere."""
    width = chooser.choice((1, 2, 4, 8))
    at = chooser.randrange(len(data))
    value = chooser.choice(_EXTREMES) & (1 << 8 * width) - 1
    data[at : at + width] = value.to_bytes(width, "big")


def _cut(chooser: random.Random, data: bytearray) -> None:
    at = chooser.randrange(len(data))
    del data[at : at + chooser.randrange(1, 40)]


def _insert(chooser: random.Random, data: bytearray) -> None:
    at = chooser.randrange(len(data))
    data[at:at] = chooser.randbytes(chooser.randrange(1, 40))


def _repeat(chooser: random.Random, data: bytearray) -> None:
    at = chooser.randrange(len(data))
    data[at:at] = data[at : at + chooser.randrange(1, 100)]


def _truncate(chooser: random.Random, data: bytearray) -> None:
    del data[chooser.randrange(len(data)) + 1 :]


_SPOILERS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip,
    _flip,
    _extreme,
    _extreme,
    _cut,
    _insert,
    _repeat,
    _truncate,
)


def spoil(chooser: random.Random, data: bytes) -> bytes:
    """Return the bytes with up to three things wrong with them."""
    spoilt = bytearray(data)
    for _ in range(chooser.randrange(4)):
        if spoilt:
            chooser.choice(_SPOILERS)(chooser, spoilt)
    return bytes(spoilt)


def pieces(chooser: random.Random, data: bytes) -> list[bytes]:
    """Cut the bytes in up to three pieces."""
    cuts = sorted(chooser.randrange(len(data) + 1) for _ in range(chooser.randrange(3)))
    bounds = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]
