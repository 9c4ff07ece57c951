# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile AoE frames, and what AoEr11 lets a target answer to each of them.

Every frame is one that must change nothing: neither data nor config string nor a list. Frames are
put together as bytes: scapy takes a millisecond for each. A frame's number is its tag, by which a
reply is told from others.

Source: AoEr11 2 and 3, by the reading of the reference targets, not by that of bridges/aoe.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

SECTOR_BYTES: Final = 512
# What an MTU of 1500 has room for after Ethernet's, AoE's and ATA's headers.
SECTOR_COUNT: Final = 2
ATA, CONFIG, MASK, RESERVE = range(4)
BROADCAST: Final = b"\xff" * 6
EVERY_SHELF, EVERY_SLOT = 0xFFFF, 0xFF
RESPONSE: Final = 0x8

_MTU: Final = 1500
_ETHERTYPE: Final = 0x88A2
# destination, source, ethertype, version and flags, error, shelf, slot, command, tag
_HEADER = struct.Struct("!6s6sHBBHBBI")
# aflags, feature, sector count, command; the LBA and two reserved bytes follow
_ATA = struct.Struct("!BBBB")
# buffer count, firmware, sector count, version and ccmd, string length
_CONFIG = struct.Struct("!HHBBH")
_HEADER_BYTES: Final = _HEADER.size
_ARGUMENT_END: Final = {ATA: 36, CONFIG: 32, MASK: 28, RESERVE: 26}

_WILD_COUNTS: Final[tuple[int, ...]] = (0, *range(SECTOR_COUNT + 1, 256))
_READ_EXT, _WRITE_EXT, _CHECK_POWER = 0x24, 0x34, 0xE5


@dataclass(frozen=True, slots=True)
class Hostile:
    """A frame, and how many replies it may cause: ``least`` to ``most``."""

    kind: str
    frame: bytes
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Who attacks whom. ``targets`` are served at ``target_mac``, e1.1 and others."""

    rng: random.Random
    target_mac: bytes
    attacker_mac: bytes
    targets: int
    blocks: int

    def head(
        self,
        command: int,
        tag: int,
        *,
        destination: bytes | None = None,
        source: bytes | None = None,
        flags: int = 0x10,
        address: tuple[int, int] = (1, 1),
    ) -> bytes:
        """Ethernet's and AoE's headers."""
        return _HEADER.pack(
            destination or self.target_mac,
            source or self.attacker_mac,
            *(_ETHERTYPE, flags, 0, *address, command, tag),
        )

    def write(self) -> bytes:
        """The argument and data of a write that is perfectly good."""
        return self.ata(_WRITE_EXT, self.rng.randint(1, SECTOR_COUNT)) + self.rng.randbytes(1024)

    def ata(self, opcode: int, count: int) -> bytes:
        """The argument of an ATA command to blocks that there are."""
        lba = self.rng.randrange(self.blocks - SECTOR_COUNT).to_bytes(6, "little")
        return _ATA.pack(0x40 | (opcode == _WRITE_EXT), 0, count, opcode) + lba + bytes(2)

    def config(self, ccmd: int, length: int, string: bytes = b"") -> bytes:
        """The argument of Query Config."""
        return _CONFIG.pack(0, 0, 0, 0x10 | ccmd, length) + string

    def macs(self, number: int) -> bytes:
        """MAC addresses."""
        return self.rng.randbytes(6 * number)

    def wild_count(self) -> int:
        """A sector count that no frame has room for."""
        return self.rng.choice(_WILD_COUNTS)


Make = Callable[[Scene, int], Hostile]


def _truncated(scene: Scene, tag: int) -> Hostile:
    """Cut off where the argument is not complete: dropped."""
    command = scene.rng.choice(tuple(_ARGUMENT_END))
    frame = scene.head(command, tag) + bytes(12)
    length = scene.rng.randrange(14, _ARGUMENT_END[command])
    return Hostile("truncated", frame[:length], 0, 0)


def _short_write(scene: Scene, tag: int) -> Hostile:
    """A write with fewer data than it says: ABRT."""
    data = scene.rng.randbytes(scene.rng.randrange(SECTOR_COUNT * SECTOR_BYTES))
    frame = scene.head(ATA, tag) + scene.ata(_WRITE_EXT, SECTOR_COUNT) + data
    return Hostile("short write", frame, 1, 1)


def _oversized(scene: Scene, tag: int) -> Hostile:
    """As long as the MTU allows, with more sectors than that: ABRT."""
    opcode = scene.rng.choice((_READ_EXT, _WRITE_EXT, 0x20, 0x30, 0x25, 0x35, 0xC8, 0xCA))
    frame = scene.head(ATA, tag) + scene.ata(opcode, scene.wild_count())
    return Hostile("oversized", _filled(scene, frame), 1, 1)


def _oversized_query(scene: Scene, tag: int) -> Hostile:
    """A config read with rubbish behind it: aoeping sends that, and is answered."""
    frame = scene.head(CONFIG, tag) + scene.config(0, scene.rng.randrange(1 << 16))
    return Hostile("oversized query", _filled(scene, frame), 1, 1)


def _version(scene: Scene, tag: int) -> Hostile:
    """A good write of another version of AoE: error 5."""
    flags = scene.rng.choice((0, *range(2, 16))) << 4
    return Hostile("version", scene.head(ATA, tag, flags=flags) + scene.write(), 1, 1)


def _wild_ata(scene: Scene, tag: int) -> Hostile:
    """Any opcode, with a sector count that is none; some commands do not look at it."""
    argument = scene.ata(scene.rng.randrange(256), scene.wild_count())
    return Hostile("wild ATA", scene.head(ATA, tag) + argument, 1, 1)


def _spoofed_reply(scene: Scene, tag: int) -> Hostile:
    """Good writes and forced config strings with R set: who hears replies feeds on its own."""
    flags = 0x10 | RESPONSE | scene.rng.choice((0, 4))
    command = scene.rng.choice((ATA, CONFIG))
    argument = scene.write() if command == ATA else scene.config(4, 4, b"evil")
    return Hostile("spoofed reply", scene.head(command, tag, flags=flags) + argument, 0, 0)


def _random_bytes(scene: Scene, tag: int) -> Hostile:
    """An unknown command and anything behind it: error 1."""
    frame = scene.head(scene.rng.randrange(4, 256), tag)
    rest = scene.rng.randbytes(scene.rng.randrange(_MTU + 14 - _HEADER_BYTES))
    return Hostile("random bytes", frame + rest, 1, 1)


def _random_frame(scene: Scene, tag: int) -> Hostile:
    """Nothing but the addresses and the tag is meant: all but certainly for nobody."""
    noise = scene.rng.randbytes(scene.rng.randrange(_HEADER_BYTES, _MTU + 14))
    head = scene.head(0, tag)
    # The shelf is neither ours nor everybody's.
    frame = head[:14] + noise[14:16] + b"\x7f" + noise[17:20] + head[20:24] + noise[24:]
    return Hostile("random frame", frame, 0, 0)


def _broadcast_write(scene: Scene, tag: int) -> Hostile:
    """One frame must not overwrite every disk, nor name every target."""
    address = scene.rng.choice(((EVERY_SHELF, EVERY_SLOT), (1, EVERY_SLOT), (EVERY_SHELF, 1)))
    destination = scene.rng.choice((BROADCAST, scene.target_mac))
    command = scene.rng.choice((ATA, CONFIG))
    argument = scene.write() if command == ATA else scene.config(4, 4, b"evil")
    head = scene.head(command, tag, destination=destination, address=address)
    return Hostile("broadcast write", head + argument, 0, 0)


def _wildcard_query(scene: Scene, tag: int) -> Hostile:
    """The one frame that several replies are due to: one by each target."""
    address = (EVERY_SHELF, EVERY_SLOT)
    head = scene.head(CONFIG, tag, destination=BROADCAST, address=address)
    return Hostile("wildcard query", head + scene.config(0, 0), scene.targets, scene.targets)


def _wild_config(scene: Scene, tag: int) -> Hostile:
    """Commands that there are not, and strings longer than their frame: error 2."""
    string = scene.rng.randbytes(scene.rng.randrange(1024))
    if scene.rng.random() < 0.5:
        argument = scene.config(scene.rng.randrange(5, 16), len(string), string)
    else:
        beyond = scene.rng.randrange(1025, 1 << 16)
        argument = scene.config(scene.rng.randrange(1, 5), beyond, string)
    return Hostile("wild config", scene.head(CONFIG, tag) + argument, 1, 1)


def _wild_mask(scene: Scene, tag: int) -> Hostile:
    """More directives than the frame holds, or an MCmd that there is not: error 2."""
    present = scene.rng.randrange(100)
    directives = b"".join(b"\0\1" + scene.macs(1) for _ in range(present))
    if scene.rng.random() < 0.5:
        argument = bytes((0, scene.rng.randrange(2, 256), 0, present))
    else:
        argument = bytes((0, 1, 0, scene.rng.randrange(present + 1, 256)))
    return Hostile("wild mask list", scene.head(MASK, tag) + argument + directives, 1, 1)


def _wild_reserve(scene: Scene, tag: int) -> Hostile:
    """More MACs than the frame holds, or an RCmd that there is not: error 2."""
    present = scene.rng.randrange(100)
    if scene.rng.random() < 0.5:
        argument = bytes((scene.rng.randrange(3, 256), present))
    else:
        argument = bytes((scene.rng.choice((1, 2)), scene.rng.randrange(present + 1, 256)))
    frame = scene.head(RESERVE, tag) + argument + scene.macs(present)
    return Hostile("wild reserve", frame, 1, 1)


def _impossible_source(scene: Scene, tag: int) -> Hostile:
    """Good writes by the target itself, or by a group of hosts: nobody to answer."""
    source = scene.rng.choice((scene.target_mac, BROADCAST, b"\1" + scene.macs(1)[1:]))
    head = scene.head(ATA, tag, source=source)
    return Hostile("impossible source", head + scene.write(), 0, 0)


def _forged_source(scene: Scene, tag: int) -> Hostile:
    """A harmless command by a host that has never been heard of: state for each of them?"""
    head = scene.head(ATA, tag, source=b"\2" + scene.macs(1)[1:])
    return Hostile("forged source", head + scene.ata(_CHECK_POWER, 0), 1, 1)


def _other_target(scene: Scene, tag: int) -> Hostile:
    """A good write to a target that is not here."""
    address = scene.rng.choice(((2, 1), (1, scene.targets + 1), (0xFFFE, 0xFE)))
    return Hostile("other target", scene.head(ATA, tag, address=address) + scene.write(), 0, 0)


MAKERS: Final[tuple[Make, ...]] = (
    *(_truncated, _short_write, _oversized, _oversized_query, _version, _wild_ata),
    *(_spoofed_reply, _random_bytes, _random_frame, _broadcast_write, _wildcard_query),
    *(_wild_config, _wild_mask, _wild_reserve, _impossible_source, _forged_source, _other_target),
)


def hostile_frames(scene: Scene, count: int) -> Iterator[Hostile]:
    """Yield frames of all kinds in random order, whose tags are 0, 1, ... ``count`` - 1."""
    for tag in range(count):
        yield scene.rng.choice(MAKERS)(scene, tag)


def _filled(scene: Scene, frame: bytes) -> bytes:
    return frame + scene.rng.randbytes(_MTU + 14 - len(frame))
