# SPDX-License-Identifier: GPL-2.0-or-later
"""Random frames: a target answers each at most once, and never with more than asked for."""

from __future__ import annotations

import random

import pytest

from bridges.aoe.policy import Policy
from bridges.aoe.state import KeptState, TargetState
from tests.bridges.aoe.bench import (
    BROADCAST_MAC,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    TARGET_MAC,
    Bench,
    unhex,
)
from tests.scsi_backend.fakes import FaultyVdisk

_SERVED = [
    *(0x06, 0x10, 0x20, 0x24, 0x25, 0x27, 0x30, 0x34, 0x3D, 0x40, 0x42, 0x70, 0x90, 0x91, 0x94),
    *(0x95, 0x96, 0x97, 0x98, 0xA0, 0xA1, 0xB0, 0xE0, 0xE1, 0xE2, 0xE3, 0xE5, 0xE7, 0xEA, 0xEC),
    *(0xEF, 0xF8),
]
_FEATURES = [0x00, 0x01, 0x02, 0x03, 0x82, 0xAA, 0xD0, 0xD8, 0xD9, 0xDA]
_MACS = [CLIENT_MAC, OTHER_CLIENT_MAC, "020000000004"]
# The longest replies that the lists can have at an MTU of 1500.
_MOST_BYTES = {1: 32 + 1024, 2: 28 + 184 * 8, 3: 26 + 245 * 6}
_FRAMES_PER_TARGET = 500


def _ata_argument(chance: random.Random) -> bytes:
    flags = chance.choice([0x00, 0x01, 0x40, 0x41, chance.randrange(256)])
    feature = chance.choice([0, *_FEATURES, chance.randrange(256)])
    count = chance.choice([1, 1, 2, 2, 0, 3, chance.randrange(256)])
    opcode = chance.choice([*_SERVED, chance.randrange(256)])
    lba = chance.choice([chance.randrange(1030), 0xC24F00, chance.randrange(1 << 48)])
    return bytes((flags, feature, count, opcode)) + lba.to_bytes(6, "little") + bytes(2)


def _config_argument(chance: random.Random) -> bytes:
    length = chance.choice([0, chance.randrange(9), chance.randrange(1 << 16)])
    return chance.randbytes(5) + bytes((chance.randrange(8),)) + length.to_bytes(2, "big")


def _mask_argument(chance: random.Random) -> bytes:
    count = chance.choice([0, 1, 2, chance.randrange(256)])
    codes = chance.choices([0, 1, 1, 2, 2, chance.randrange(256)], k=min(count, 3))
    directives = [bytes((0, code)) + unhex(chance.choice(_MACS)) for code in codes]
    command = chance.choice([0, 1, 1, chance.randrange(256)])
    return bytes((0, command, 0, count)) + b"".join(directives)


def _reserve_argument(chance: random.Random) -> bytes:
    count = chance.choice([0, 1, 2, chance.randrange(256)])
    macs = [unhex(chance.choice(_MACS)) for _ in range(min(count, 3))]
    return bytes((chance.choice([0, 1, 2, chance.randrange(256)]), count)) + b"".join(macs)


_ARGUMENTS = {0: _ata_argument, 1: _config_argument, 2: _mask_argument, 3: _reserve_argument}


def _random_frame(chance: random.Random) -> bytes:
    """A frame that is right in most places."""
    address = chance.choice(["0001 01"] * 6 + ["ffff ff", "0001 ff", "ffff 01", "0001 02"])
    destination = chance.choice([TARGET_MAC] * 4 + [BROADCAST_MAC, "02000000000f"])
    source = chance.choice([CLIENT_MAC] * 4 + [OTHER_CLIENT_MAC, TARGET_MAC, BROADCAST_MAC])
    flags = chance.choice([0x10] * 9 + [0x18, 0x1C, 0x11, 0x20, 0x00, chance.randrange(256)])
    command = chance.choice([0] * 6 + [1, 1, 2, 2, 3, 3, chance.randrange(256)])
    head = unhex(f"{destination} {source} 88a2 {flags:02x} 00 {address} {command:02x}")
    argument = _ARGUMENTS.get(command, _ata_argument)(chance)
    tail = chance.choice([b"", bytes(24), bytes(512), chance.randbytes(24), chance.randbytes(1024)])
    frame = head + chance.randbytes(4) + argument + tail
    if chance.random() < 0.2:
        frame = frame[: chance.randrange(len(frame) + 1)]
    if chance.random() < 0.1:
        frame = chance.randbytes(len(frame))
    return frame


@pytest.mark.parametrize("seed", range(4))
def test_random_frames_get_at_most_one_reply_each(seed: int) -> None:
    chance = random.Random(20040610 + seed)
    answered = 0
    for _ in range(10):
        state = KeptState(TargetState(reserve_list=(bytes.fromhex(CLIENT_MAC),)))
        policy = Policy(write_cache_control=True, in_band_editing=bool(chance.randrange(4)))
        bench = Bench(FaultyVdisk(is_thin=True), policy, state)
        for _ in range(_FRAMES_PER_TARGET):
            answered += _hand_over(bench, state, _random_frame(chance))
        assert bench.port.allocated == 0
        assert bench.lun.held == []
    assert answered > 1000


def _hand_over(bench: Bench, state: KeptState, frame: bytes) -> int:
    before = state.value, bytes(bench.vdisk.data), bench.vdisk.has_volatile_cache
    replies = bench.exchange(frame)
    assert len(replies) <= 1
    is_wildcard = len(frame) >= 19 and (frame[16:18] == b"\xff\xff" or frame[18] == 0xFF)
    if is_wildcard or not replies or frame[14] & 0x08:
        after = state.value, bytes(bench.vdisk.data), bench.vdisk.has_volatile_cache
        assert after == before, frame.hex()
    for reply in replies:
        assert not frame[14] & 0x08
        assert len(frame) >= 24
        _check_reply(frame, reply)
    return len(replies)


def _check_reply(frame: bytes, reply: bytes) -> None:
    assert reply[:14] == frame[6:12] + bytes.fromhex(f"{TARGET_MAC} 88a2")
    assert reply[14] in (0x18, 0x1C)
    assert bool(reply[15]) == (reply[14] == 0x1C)
    assert reply[16:24] == bytes.fromhex("0001 01") + frame[19:24]
    # Never more than the sectors asked for, or what a list has.
    command = frame[19]
    room = 36 + 512 * sum(frame[26:27]) if command == 0 else _MOST_BYTES.get(command, 60)
    assert 60 <= len(reply) <= max(60, room)
