# SPDX-License-Identifier: GPL-2.0-or-later
"""The same frames to vblade and to our target: the same answers wherever vblade is right.

vblade is by the protocol's co-author, so that it shows what the text leaves open. Where it is wrong
by the text, or where clients suffer, ours answers differently; those frames are listed with the
reason, and the test fails if the answers should be the same after all.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.bridges.aoe.bench import Bench, CollectingPort
from tests.interop.netns import Host, Network, veth_network, wait_until
from tests.interop.vblade_steps import DIFFERENCES, STEPS
from tests.scsi_backend.fakes import FaultyVdisk

_ETHERTYPE: Final = 0x88A2
_TIMEOUT_S: Final = 5.0
_BUFFER_COUNT: Final = 64
_SENTINEL_TAG: Final = bytes.fromhex("5e571e11")


class _Vblade:
    """A vblade process, and a raw socket on the client's host."""

    def __init__(self, client: Host, header: bytes) -> None:
        self._sentinel = header + b"\1" + _SENTINEL_TAG + bytes(8)
        with client.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.bind((client.interface, _ETHERTYPE))

    def is_up(self) -> bool:
        """Whether it answers, within a moment."""
        self._socket.settimeout(0.1)
        try:
            self.exchange(b"")
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(_TIMEOUT_S)
        return True

    def exchange(self, frame: bytes) -> list[bytes]:
        """Send a frame and return all replies to it.

        vblade handles one frame after another, so that the reply to the next one ends the wait.
        """
        if frame:
            self._socket.send(frame)
        self._socket.send(self._sentinel)
        replies: list[bytes] = []
        while True:
            reply = self._socket.recv(65536)
            # A packet socket hears what its own host sends; announcements have the tag zero.
            if not reply[14] & 0x08 or reply[20:24] == bytes(4):
                continue
            if reply[20:24] == _SENTINEL_TAG:
                return replies
            replies.append(reply)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both targets with the same disk, under the same address."""

    vblade: _Vblade
    bench: Bench
    port: CollectingPort
    target: str
    client: str

    def both(self, frame: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return vblade's replies and ours, each in the form that is compared."""
        theirs = self.vblade.exchange(frame)
        self.bench.target.receive(memoryview(bytearray(frame)), self.port)
        return [_normal(reply) for reply in theirs], [_normal(reply) for reply in self.port.take()]


def _normal(reply: bytes) -> bytes:
    """A reply without what is each target's own."""
    if reply[19] == 0 and len(reply) <= 60:
        # vblade pads with what the frame before it held, or leaves that to the network card.
        return reply[:36]
    frame = bytearray(reply.ljust(60, b"\0"))
    if frame[19] == 1:
        # Firmware version.
        frame[26:28] = bytes(2)
    return bytes(frame)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if shutil.which("vblade") is None:
        pytest.skip("needs vblade (Debian package vblade)")
    with veth_network() as network:
        yield network


@pytest.fixture
def pair(network: Network, tmp_path: Path) -> Iterator[_Pair]:
    vdisk = FaultyVdisk()
    image = tmp_path / "image"
    image.write_bytes(vdisk.fill())
    target, client = network.target, network.client
    macs = target.mac.hex(), client.mac.hex()
    header = bytes.fromhex(f"{macs[0]} {macs[1]} 88a2 10 00 0001 01")
    words = ("vblade", "-b", str(_BUFFER_COUNT), "1", "1", target.interface, str(image))
    process = subprocess.Popen(
        target.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    vblade = _Vblade(client, header)
    try:
        wait_until(lambda: process.poll() is not None or vblade.is_up())
        assert process.poll() is None
        bench = Bench(vdisk)
        port = CollectingPort(macs[0])
        bench.target.attach(port)
        port.take()
        yield _Pair(vblade, bench, port, *macs)
    finally:
        vblade.close()
        process.kill()
        process.wait(10)


def test_answers_are_the_same_but_where_vblade_is_wrong(pair: _Pair) -> None:
    answers = {
        step.name: pair.both(step.frame(pair.target, pair.client, tag))
        for tag, step in enumerate(STEPS, 1)
    }
    assert len(answers) == len(STEPS)
    differing = {name for name, (theirs, ours) in answers.items() if theirs != ours}
    assert differing == set(DIFFERENCES)
    # Both answered something, and both were silent where that was right.
    assert sum(bool(ours) for _, ours in answers.values()) > 60
    assert sum(not ours for _, ours in answers.values()) > 5


def test_both_describe_the_same_disk(pair: _Pair) -> None:
    identify = f"{pair.target} {pair.client} 88a2 10 00 0001 01 00 00000001"
    frame = bytes.fromhex(f"{identify} 00 00 01 ec 000000a00000 0000") + bytes(24)
    ((theirs,), (ours,)) = pair.both(frame)
    assert theirs[:36] == ours[:36]
    # Words 60-61 and 100-103 (capacity), 93; vblade claims no DMA in word 49 and serves none.
    for first, last in ((60, 61), (93, 93), (100, 103)):
        where = slice(36 + 2 * first, 36 + 2 * last + 2)
        assert theirs[where] == ours[where], first
