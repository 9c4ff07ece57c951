# SPDX-License-Identifier: GPL-2.0-or-later
"""100 000 hostile frames by one host at the daemon, and another host that must not notice them."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from tests.interop.aoe_hostile import (
    ATA,
    CONFIG,
    MASK,
    RESERVE,
    RESPONSE,
    SECTOR_BYTES,
    SECTOR_COUNT,
    Hostile,
    Scene,
    hostile_frames,
)
from tests.interop.netns import Host, Network, veth_network, wait_until

FRAMES: Final = 100_000
# So many that they are in the daemon's hands at once, and none gets lost on the way there.
WINDOW: Final = 200
SEED: Final = 4
IMAGE_BYTES: Final = 1 << 20
BLOCKS: Final = IMAGE_BYTES // SECTOR_BYTES
# The other host writes the last quarter; nobody writes the rest.
OWN_LBA: Final = BLOCKS * 3 // 4
MIN_FRAME_BYTES: Final = 60
# Sessions, buffers that are kept, and an allocator that gives nothing back.
GROWTH_KIB: Final = 32 << 10
# What a client can cause at will is logged now and then, not each time.
LOG_LINES: Final = FRAMES // 100

_ETHERTYPE: Final = 0x88A2
_SOL_PACKET, _PACKET_IGNORE_OUTGOING, _SO_RCVBUFFORCE = 263, 23, 33
_BUFFER_BYTES: Final = 64 << 20
_TIMEOUT_S: Final = 20.0
_READ_EXT, _WRITE_EXT = 0x24, 0x34
# Tags of the other host's commands, and of the attacker's own questions.
_OTHER_TAG, _ASKED_TAG = 0x80000000, 0xC0000000
_CONF = """\
HANDLER vdisk_fileio {{
    DEVICE disk0 {{
        filename {folder}/disk0.img
    }}
    DEVICE disk1 {{
        filename {folder}/disk1.img
    }}
}}
TARGET_DRIVER aoe {{
    interface {interface}
    TARGET e1.1 {{
        LUN 0 disk0
        enabled 1
    }}
    TARGET e1.2 {{
        LUN 0 disk1
        enabled 1
    }}
}}
"""


class Wire:
    """A packet socket on the clients' host, which sends by any MAC and hears all replies."""

    def __init__(self, host: Host) -> None:
        with host.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.bind((host.interface, _ETHERTYPE))
        self.send = self._socket.send

    def receive(self) -> bytes:
        """Return the next frame; TimeoutError fails the test."""
        return self._socket.recv(2048)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Attack:
    """Sends hostile frames, and keeps what they caused apart from the other host's replies."""

    def __init__(self, wire: Wire, scene: Scene, other_mac: bytes) -> None:
        self._wire = wire
        self._scene = scene
        self._other_mac = other_mac
        self._asked = _ASKED_TAG
        self.sent: dict[int, Hostile] = {}
        self.replies: Counter[int] = Counter()
        self.amplified: list[Hostile] = []
        self._other_replies: list[bytes] = []

    def send(self, number: int, frames: Iterator[Hostile]) -> None:
        """Send some of the frames."""
        for hostile in islice(frames, number):
            self.sent[len(self.sent)] = hostile
            self._wire.send(hostile.frame)

    def exchange(self, frame: bytes) -> bytes:
        """Return the reply to a frame of the other host."""
        self._wire.send(frame)
        while not self._other_replies:
            self._take(self._wire.receive())
        return self._other_replies.pop()

    def ask(self, command: int, argument: bytes) -> bytes:
        """Return the reply to a good question by the attacker, and what follows its header.

        The target handles frames in turn, so that all before this one have been handled.
        """
        self._asked += 1
        tag = self._asked
        self._wire.send(self._scene.head(command, tag) + argument)
        while tag_of(reply := self._wire.receive()) != tag:
            self._take(reply)
        return reply[24:]

    def settle(self) -> None:
        """Wait for replies that are due."""
        due = sum(hostile.least for hostile in self.sent.values())
        while sum(self.replies.values()) < due:
            self._take(self._wire.receive())

    def _take(self, reply: bytes) -> None:
        assert reply[14] & RESPONSE, reply.hex()
        if reply[:6] == self._other_mac:
            self._other_replies.append(reply)
            return
        hostile = self.sent[tag_of(reply)]
        self.replies[tag_of(reply)] += 1
        if len(reply) > max(MIN_FRAME_BYTES, len(hostile.frame)):
            self.amplified.append(hostile)


def tag_of(frame: bytes) -> int:
    """AoE's tag."""
    return int.from_bytes(frame[20:24], "big")


class OtherHost:
    """Reads and writes, and knows what must come of it."""

    def __init__(self, scene: Scene, mac: bytes, image: bytes) -> None:
        self._scene = scene
        self._mac = mac
        self._rng = random.Random(SEED)
        self._tag = _OTHER_TAG
        self.expected = bytearray(image)

    def write(self, attack: Attack) -> None:
        """Write two sectors."""
        lba = self._rng.randrange(OWN_LBA, BLOCKS - SECTOR_COUNT)
        data = self._rng.randbytes(SECTOR_COUNT * SECTOR_BYTES)
        reply = self._exchange(attack, _WRITE_EXT, lba, data)
        assert len(reply) == MIN_FRAME_BYTES
        begin = lba * SECTOR_BYTES
        self.expected[begin : begin + len(data)] = data

    def read(self, attack: Attack) -> None:
        """Read two sectors anywhere."""
        lba = self._rng.randrange(BLOCKS - SECTOR_COUNT)
        reply = self._exchange(attack, _READ_EXT, lba, b"")
        begin = lba * SECTOR_BYTES
        assert reply[36:] == self.expected[begin : begin + SECTOR_COUNT * SECTOR_BYTES]

    def _exchange(self, attack: Attack, opcode: int, lba: int, data: bytes) -> bytes:
        self._tag += 1
        head = self._scene.head(ATA, self._tag, source=self._mac)
        argument = bytes((0x41 if data else 0x40, 0, SECTOR_COUNT, opcode))
        frame = head + argument + lba.to_bytes(6, "little") + bytes(2) + data
        reply = attack.exchange(frame)
        # R alone, no error; the command's tag; DRDY.
        assert (reply[14:16], tag_of(reply), reply[27]) == (b"\x18\0", self._tag, 0x40)
        return reply


@dataclass(frozen=True, slots=True)
class Site:
    """A daemon on one host, and the other host."""

    network: Network
    folder: Path
    pid: int

    def memory_kib(self) -> int:
        """What the daemon has in RAM."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (words,) = (line.split() for line in lines if line.startswith("VmRSS:"))
        return int(words[1])

    def descriptors(self) -> int:
        """How many files the daemon has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def log(self) -> str:
        """What the daemon has written."""
        return (self.folder / "log").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    program = Path(sys.executable).with_name("scst-bridge")
    if not program.exists():
        pytest.skip(f"needs the installed program {program}")
    for name in ("disk0", "disk1"):
        contents = hashlib.shake_128(name.encode()).digest(IMAGE_BYTES)
        (tmp_path / f"{name}.img").write_bytes(contents)
    with (
        veth_network() as network,
        tempfile.TemporaryDirectory(prefix="scst-bridge-") as sockets,
        (tmp_path / "log").open("w") as log,
    ):
        conf = tmp_path / "scst.conf"
        conf.write_text(_CONF.format(folder=tmp_path, interface=network.target.interface))
        words = (str(program), "serve", str(conf), "--control", f"{sockets}/control")
        with subprocess.Popen(network.target.command(*words), stderr=log) as daemon:
            site = Site(network, tmp_path, daemon.pid)
            try:
                wait_until(lambda: daemon.poll() is not None or "ready" in site.log(), 30)
                assert daemon.poll() is None, site.log()
                yield site
            finally:
                daemon.terminate()
        assert daemon.returncode == 0, site.log()


@contextmanager
def attacking(site: Site, scene: Scene, other_mac: bytes) -> Iterator[Attack]:
    wire = Wire(site.network.client)
    try:
        yield Attack(wire, scene, other_mac)
    finally:
        wire.close()


@pytest.mark.timeout(180)
def test_hostile_frames_change_nothing_and_disturb_nobody(site: Site) -> None:
    attacker_mac = site.network.client.mac
    other_mac = b"\2other"
    scene = Scene(random.Random(SEED), site.network.target.mac, attacker_mac, 2, BLOCKS)
    images = [(site.folder / name).read_bytes() for name in ("disk0.img", "disk1.img")]
    other = OtherHost(scene, other_mac, images[0])
    frames = hostile_frames(scene, FRAMES)
    with attacking(site, scene, other_mac) as attack:
        # Whatever the daemon does once is behind it after a few of each kind.
        attack_window(attack, frames, other, FRAMES // 10)
        memory_kib, descriptors = site.memory_kib(), site.descriptors()
        attack_window(attack, frames, other, FRAMES - FRAMES // 10)
        attack.settle()
        assert attack.ask(CONFIG, scene.config(0, 0))[6:8] == b"\0\0", "the string is empty"
        assert attack.ask(MASK, bytes(4))[2:4] == b"\0\0", "the list is empty"
        assert attack.ask(RESERVE, bytes(2))[1] == 0, "the list is empty"
    verify_replies(attack)
    assert bytes(other.expected) != images[0]
    assert (site.folder / "disk0.img").read_bytes() == bytes(other.expected)
    assert (site.folder / "disk1.img").read_bytes() == images[1]
    assert site.memory_kib() - memory_kib < GROWTH_KIB
    assert site.descriptors() == descriptors
    assert "Traceback" not in site.log(), site.log()
    assert len(site.log().splitlines()) < LOG_LINES


def attack_window(attack: Attack, frames: Iterator[Hostile], other: OtherHost, number: int) -> None:
    """Send so many of the frames, with the other host's commands among them."""
    for _ in range(number // WINDOW):
        attack.send(WINDOW // 2, frames)
        other.write(attack)
        attack.send(WINDOW // 2, frames)
        other.read(attack)


def verify_replies(attack: Attack) -> None:
    """Each frame has been answered as often as its kind is, with no more bytes than it had."""
    wrong: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for tag, hostile in attack.sent.items():
        seen[hostile.kind] += 1
        if not hostile.least <= attack.replies[tag] <= hostile.most:
            wrong[hostile.kind] += 1
    assert sum(seen.values()) == FRAMES
    assert not wrong, f"answered too often or not at all: {wrong}"
    assert not Counter(hostile.kind for hostile in attack.amplified)
