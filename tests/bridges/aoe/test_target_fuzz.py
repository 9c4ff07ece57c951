# SPDX-License-Identifier: GPL-2.0-or-later
"""Random frames: a target answers each at most once, and never with more than asked for."""

from __future__ import annotations

import random

from tests.bridges.aoe.bench import (
    BROADCAST_MAC,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    TARGET_MAC,
    Bench,
    unhex,
)


def _random_frame(chance: random.Random) -> bytes:
    """A frame that is right in most places."""
    address = chance.choice(["0001 01"] * 6 + ["ffff ff", "0001 ff", "ffff 01", "0001 02"])
    destination = chance.choice([TARGET_MAC] * 4 + [BROADCAST_MAC, "02000000000f"])
    source = chance.choice([CLIENT_MAC] * 4 + [OTHER_CLIENT_MAC, TARGET_MAC, BROADCAST_MAC])
    flags = chance.choice([0x10] * 9 + [0x18, 0x1C, 0x11, 0x20, 0x00, chance.randrange(256)])
    command = chance.choice([0] * 6 + [1] * 3 + [chance.randrange(256)])
    head = unhex(f"{destination} {source} 88a2 {flags:02x} 00 {address} {command:02x}")
    opcode = chance.choice([0x20, 0x24, 0x30, 0x34, 0x40, 0xE7, 0xEC, chance.randrange(256)])
    count = chance.choice([1, 1, 2, 2, 0, 3, chance.randrange(256)])
    lba = chance.choice([chance.randrange(1030), chance.randrange(1 << 48)])
    registers = bytes((chance.choice([0x00, 0x01, 0x40, 0x41, chance.randrange(256)]), 0, count))
    argument = registers + bytes((opcode,)) + lba.to_bytes(6, "little") + bytes(2)
    if command == 1:
        argument = chance.randbytes(5) + bytes((chance.randrange(8), 0, chance.randrange(9)))
    frame = head + chance.randbytes(4) + argument + chance.randbytes(chance.choice([0, 24, 1024]))
    if chance.random() < 0.2:
        frame = frame[: chance.randrange(len(frame) + 1)]
    if chance.random() < 0.1:
        frame = chance.randbytes(len(frame))
    return frame


def test_10000_random_frames_get_at_most_one_reply_each() -> None:
    chance = random.Random(20040610)
    bench = Bench()
    answered = 0
    for _ in range(10_000):
        frame = _random_frame(chance)
        replies = bench.exchange(frame)
        assert len(replies) <= 1
        for reply in replies:
            answered += 1
            assert not frame[14] & 0x08
            assert len(frame) >= 24
            _check_reply(frame, reply)
    assert bench.port.allocated == 0
    assert answered > 3000


def _check_reply(frame: bytes, reply: bytes) -> None:
    assert reply[:14] == frame[6:12] + bytes.fromhex(f"{TARGET_MAC} 88a2")
    assert reply[14] in (0x18, 0x1C)
    assert bool(reply[15]) == (reply[14] == 0x1C)
    assert reply[16:24] == bytes.fromhex("0001 01") + frame[19:24]
    # Never more than the sectors asked for, or the config string, which has eight bytes here.
    room = 36 + 512 * sum(frame[26:27]) if frame[19] == 0 else 60
    assert 60 <= len(reply) <= max(60, room)
