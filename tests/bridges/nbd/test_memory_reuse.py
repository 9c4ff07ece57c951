# SPDX-License-Identifier: GPL-2.0-or-later
"""Random traffic over a socket to a slow, sometimes busy disk: no byte may end up elsewhere.

Requests end in random order while further ones arrive in pieces of random size. Memory that the
server gives back is overwritten at once, so a buffer used a moment too long shows in the data.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.conftest import Serve
from tests.bridges.nbd.fakes import BUSY, READ_16, WRITE_16, RecordingUnit, check_condition
from tests.bridges.nbd.proto import ENOSPC, READ, WRITE_ZEROES
from tests.bridges.nbd.serving import DEADLINE_S, Serving
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
MIB = 1 << 20
# Reads are of the first part, each write has a place of its own in the second.
READ_BLOCKS = 2 * MIB // BLOCK
DISK_BLOCKS = 40 * MIB // BLOCK
REQUESTS = 600
LENGTHS = (1, 1, 2, 8, 8, 8, 64, 128, 129, 200, 513)
UNIT_ATTENTION = check_condition("06/29/00")


@dataclass(frozen=True, slots=True)
class Expected:
    """The right answer to a request."""

    error: int
    data: bytes = b""


class Traffic:
    """Requests, their right answers, and what the disk holds when all have ended."""

    def __init__(self, chooser: random.Random, content: bytes) -> None:
        self._chooser = chooser
        self._next_block = READ_BLOCKS
        self.image = bytearray(content)
        self.messages: list[bytes] = []
        self.expected: dict[int, Expected] = {}
        for cookie in range(REQUESTS):
            make = chooser.choice((self._read, self._read, self._write, self._refused, self._zeros))
            self.messages.append(make(cookie, chooser.choice(LENGTHS) * BLOCK))

    def _read(self, cookie: int, length: int) -> bytes:
        offset = self._chooser.randrange(0, READ_BLOCKS * BLOCK - length, BLOCK)
        self.expected[cookie] = Expected(0, bytes(self.image[offset : offset + length]))
        return proto.request(READ, cookie, offset, length)

    def _write(self, cookie: int, length: int) -> bytes:
        offset, payload = self._place(length), self._chooser.randbytes(length)
        self.image[offset : offset + length] = payload
        self.expected[cookie] = Expected(0)
        return proto.write(cookie, offset, payload)

    def _refused(self, cookie: int, length: int) -> bytes:
        self.expected[cookie] = Expected(ENOSPC)
        return proto.write(cookie, DISK_BLOCKS * BLOCK, self._chooser.randbytes(length))

    def _zeros(self, cookie: int, length: int) -> bytes:
        offset = self._place(length)
        self.image[offset : offset + length] = bytes(length)
        self.expected[cookie] = Expected(0)
        return proto.request(WRITE_ZEROES, cookie, offset, length)

    def _place(self, length: int) -> int:
        offset = self._next_block * BLOCK
        self._next_block += length // BLOCK
        return offset

    def send(self, client: Client) -> None:
        """Send everything in pieces that begin and end anywhere."""
        stream = b"".join(self.messages)
        position = 0
        while position < len(stream):
            piece = self._chooser.choice((1, 27, 28, 1000, 40_000, 300_000))
            client.send(stream[position : position + piece])
            position += piece

    def receive(self, client: Client, answers: dict[int, Expected]) -> None:
        """Take every reply."""
        while len(answers) < len(self.messages):
            head = client.receive(proto.REPLY_BYTES)
            ((cookie, error, _),) = proto.parse_replies(head, {})
            assert cookie not in answers
            length = 0 if error else len(self.expected[cookie].data)
            answers[cookie] = Expected(error, client.receive(length))


def _in_thread(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


def _release_until_done(
    serving: Serving, unit: RecordingUnit, thread: threading.Thread, chooser: random.Random
) -> None:
    """End held operations, a few at a time and not the oldest first, until all are answered.

    Now and then the disk is busy, or has something else to say first.
    """
    vdisk = unit.vdisk
    assert isinstance(vdisk, FaultyVdisk)

    def release_some() -> None:
        opcode = chooser.choice((READ_16, WRITE_16))
        # One at a time: eight unit attentions in a row are an error.
        if chooser.random() < 0.2 and not unit.endings.get(opcode):
            unit.fail(opcode, chooser.choice((BUSY, UNIT_ATTENTION)))
        for _ in range(chooser.randrange(6)):
            if vdisk.held:
                vdisk.release(chooser.randrange(len(vdisk.held)))

    end_s = time.monotonic() + DEADLINE_S
    while thread.is_alive():
        assert time.monotonic() < end_s
        serving.call(release_some)


@pytest.mark.parametrize("seed", range(6))
def test_random_traffic_to_a_slow_disk_keeps_every_byte_in_its_place(
    serve: Serve, seed: int
) -> None:
    chooser = random.Random(seed)
    vdisk = FaultyVdisk(DISK_BLOCKS)
    vdisk.data[: READ_BLOCKS * BLOCK] = chooser.randbytes(READ_BLOCKS * BLOCK)
    # Nothing at once, some bytes at once, or all.
    vdisk.immediate_bytes = (-11, 1536, None)[seed % 3]
    vdisk.is_held = True
    unit = RecordingUnit(vdisk)
    serving = serve(disk=lambda backend: unit)
    traffic = Traffic(chooser, bytes(vdisk.data))
    answers: dict[int, Expected] = {}
    with Client(serving.unix()).begin("disk") as client:
        sender = _in_thread(traffic.send, client)
        receiver = _in_thread(traffic.receive, client, answers)
        _release_until_done(serving, unit, receiver, random.Random(seed))
        sender.join(DEADLINE_S)
    assert answers == traffic.expected
    assert vdisk.data == traffic.image
