# SPDX-License-Identifier: GPL-2.0-or-later
"""Valid handshakes and requests, and ways to spoil them; every choice comes from one generator."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from tests.bridges.nbd import proto
from tests.bridges.nbd.forms import BASE_ALLOCATION, PAYLOAD_LEN, Form, status_request
from tests.bridges.nbd.model import World

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 64) - 1)
_FLAGS = (proto.FIXED_NEWSTYLE, proto.FIXED_NEWSTYLE_NO_ZEROES, bytes(4))
_NAMES = ("disk", "", "disk1", "disk/1", "ø" * 100)
_QUERIES = ("base:", "base:allocation", "qemu:", "base", "x:y")


def _nothing(chooser: random.Random) -> bytes:
    return b""


def _junk(chooser: random.Random) -> bytes:
    return chooser.randbytes(chooser.randrange(40))


def _name(chooser: random.Random) -> bytes:
    return chooser.choice(_NAMES).encode()


def _information(chooser: random.Random) -> bytes:
    kinds = [chooser.randrange(5) for _ in range(chooser.randrange(4))]
    return proto.information(chooser.choice(_NAMES), *kinds)


def _meta(chooser: random.Random) -> bytes:
    queries = [chooser.choice(_QUERIES) for _ in range(chooser.randrange(3))]
    return proto.meta_query(chooser.choice(_NAMES), *queries)


# Options and what their data may be; a server need not know them all.
_OPTIONS: tuple[tuple[int, Callable[[random.Random], bytes]], ...] = (
    (proto.EXPORT_NAME, _name),
    (proto.ABORT, _nothing),
    (proto.LIST, _nothing),
    (proto.LIST, _junk),
    (proto.STARTTLS, _nothing),
    (proto.INFO, _information),
    (proto.GO, _information),
    (proto.STRUCTURED_REPLY, _nothing),
    (proto.LIST_META_CONTEXT, _meta),
    (proto.SET_META_CONTEXT, _meta),
    (proto.EXTENDED_HEADERS, _nothing),
)


def handshake(chooser: random.Random) -> bytes:
    """Client flags and some options, as a client might send them."""
    return chooser.choice(_FLAGS) + b"".join(
        _option(chooser) for _ in range(chooser.randrange(1, 7))
    )


def _option(chooser: random.Random) -> bytes:
    if chooser.random() < 0.1:
        return proto.option(chooser.randrange(14), _junk(chooser))
    number, data = chooser.choice(_OPTIONS)
    return proto.option(number, data(chooser))


def requests(chooser: random.Random, world: World) -> bytes:
    """Requests for such a disk, most of them right."""
    return b"".join(_request(chooser, world) for _ in range(chooser.randrange(1, 8)))


def _request(chooser: random.Random, world: World) -> bytes:
    kind = chooser.choice((0, 0, 0, 1, 1, 1, 1, 3, 4, 5, 6, 6, 7, 7, 2, 8))
    flags = chooser.choice((0, 0, 0, 0, 1, 2, 3, 4, 8, 16, 64))
    cookie = chooser.randrange(1 << 64)
    first = chooser.randrange(world.blocks)
    if world.bad_block is not None and chooser.random() < 0.4:
        first = max(0, world.bad_block - chooser.randrange(4))
    offset = first * world.block
    blocks = chooser.choice((0, 1, 1, 2, 5, world.blocks // 5, world.blocks // 2))
    length = blocks * world.block
    if chooser.random() < 0.3:
        offset += chooser.randrange(world.block)
        length += chooser.randrange(world.block)
    if world.form is Form.EXTENDED and chooser.random() < 0.2:
        return _with_payload(chooser, kind, cookie, offset, length, flags)
    if kind == proto.WRITE:
        return world.form.write(cookie, offset, chooser.randbytes(length), flags)
    if world.form is Form.EXTENDED and chooser.random() < 0.05:
        length += chooser.choice((1 << 32, 1 << 40, 1 << 63))
    return world.form.request(kind, cookie, offset, length, flags)


def _with_payload(
    chooser: random.Random, kind: int, cookie: int, offset: int, length: int, flags: int
) -> bytes:
    """A payload where there may be none, or a filter of contexts."""
    if chooser.random() < 0.5:
        ids = chooser.choice(((), (BASE_ALLOCATION,), (BASE_ALLOCATION,), (1,), (7, 7)))
        return status_request(cookie, offset, length, *ids, flags=flags)
    payload = chooser.randbytes(chooser.choice((0, 1, 8, 12, 40, 5000)))
    return Form.EXTENDED.request(kind, cookie, offset, len(payload), flags | PAYLOAD_LEN, payload)


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
