# SPDX-License-Identifier: GPL-2.0-or-later
"""Random traffic in each form to a slow, busy and partly unreadable disk: no byte may be elsewhere.

Operations end in random order while further requests come in pieces. Writes begin and end inside
blocks that others write to as well. Memory that a session gives back is overwritten at once.
"""

from __future__ import annotations

import errno
import random

import pytest

from tests.bridges.nbd.fakes import BUSY, COMPARE_AND_WRITE, READ_16, WRITE_16, check_condition
from tests.bridges.nbd.forms import BASE_ALLOCATION, Answer, Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import BLOCK_STATUS, CACHE, EIO, ENOSPC, FLUSH, FUA, WRITE_ZEROES
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
# Reads are of the first part, each write has a place of its own in the second.
READ_BLOCKS = 512
BAD_BLOCK = 300
BLOCKS = 8192
REQUESTS = 250
LENGTHS = (1, 3, 511, 512, 512, 700, 1024, 4096, 4096, 5000, 70_000, 100_352)
UNIT_ATTENTION = check_condition("06/29/00")
LATER = -errno.EAGAIN


class Traffic:
    """Makes requests, knows their answers, and lets the disk go about them."""

    def __init__(self, link: Link, chooser: random.Random) -> None:
        self.link = link
        self.chooser = chooser
        self.image = bytearray(link.vdisk.data)
        self.place = READ_BLOCKS * BLOCK
        # What READs ask for, and the errors of the others.
        self.reads: dict[int, tuple[int, int]] = {}
        self.errors: dict[int, int] = {}
        self.answers: dict[int, Answer] = {}

    def message(self, cookie: int) -> bytes:
        """The next request."""
        makers = (self._read, self._read, self._read, self._write, self._write, self._other)
        return self.chooser.choice(makers)(cookie, self.chooser.choice(LENGTHS))

    def _read(self, cookie: int, length: int) -> bytes:
        offset = self.chooser.randrange(READ_BLOCKS * BLOCK - length)
        if self.chooser.random() < 0.6:
            offset, length = offset // BLOCK * BLOCK, -(-length // BLOCK) * BLOCK
        self.reads[cookie] = (offset, length)
        return self.link.read(cookie, offset, length)

    def _write(self, cookie: int, length: int) -> bytes:
        offset = self._take(length)
        payload = self.chooser.randbytes(length)
        self.image[offset : offset + length] = payload
        self.errors[cookie] = 0
        return self.link.write(cookie, offset, payload, self.chooser.choice((0, 0, FUA)))

    def _take(self, length: int) -> int:
        if self.chooser.random() < 0.3:
            self.place = -(-self.place // BLOCK) * BLOCK
        offset, self.place = self.place, self.place + length
        return offset

    def _other(self, cookie: int, length: int) -> bytes:
        link = self.link
        kind = self.chooser.choice(("zeros", "refused", FLUSH, CACHE, "status"))
        self.errors[cookie] = 0
        if kind == "zeros":
            offset = self._take(length)
            self.image[offset : offset + length] = bytes(length)
            return link.request(WRITE_ZEROES, cookie, offset, length)
        if kind == "refused":
            self.errors[cookie] = ENOSPC
            return link.write(cookie, BLOCKS * BLOCK, self.chooser.randbytes(length))
        if kind == "status" and link.form is Form.EXTENDED:
            return link.filtered_status(cookie, 0, length, BASE_ALLOCATION)
        if kind == "status" and link.form is Form.STRUCTURED:
            return link.request(BLOCK_STATUS, cookie, 0, length)
        return link.request(CACHE if kind == CACHE else FLUSH, cookie, 0, length)

    def run(self) -> None:
        """Send everything, and let it end in any order."""
        stream = b"".join(self.message(cookie) for cookie in range(REQUESTS))
        position = 0
        while position < len(stream):
            size = self.chooser.choice((1, 27, 32, 1000, 20_000, 90_000))
            self.link.send(stream[position : position + size])
            position += size
            self._go_on()
        while self.link.session.open_requests:
            self._go_on()
        self._take_answers()

    def _go_on(self) -> None:
        """Let some operations end; now and then the disk is busy, or has something to say first."""
        unit, vdisk = self.link.lun.unit, self.link.vdisk
        opcode = self.chooser.choice((READ_16, WRITE_16, COMPARE_AND_WRITE))
        # One at a time: eight unit attentions in a row are an error.
        if self.chooser.random() < 0.1 and not unit.endings.get(opcode):
            unit.fail(opcode, self.chooser.choice((BUSY, UNIT_ATTENTION)))
        for _ in range(self.chooser.randrange(1, 8)):
            if vdisk.held:
                vdisk.release(self.chooser.randrange(len(vdisk.held)))
        self.link.clock.advance(0.01)
        if self.chooser.random() < 0.5:
            self._take_answers()

    def _take_answers(self) -> None:
        for answer in self.link.results():
            assert answer.cookie not in self.answers
            self.answers[answer.cookie] = answer

    def check(self, content: bytes) -> None:
        """Every request had its answer, and the disk has every byte where it belongs."""
        assert len(self.answers) == REQUESTS
        bad_end = (BAD_BLOCK + 1) * BLOCK
        for cookie, (offset, length) in self.reads.items():
            answer = self.answers[cookie]
            touches_bad = offset < bad_end and offset + length > BAD_BLOCK * BLOCK
            assert answer.error == (EIO if touches_bad else 0)
            for at, data in answer.pieces.items():
                assert data == content[at : at + len(data)]
                assert not touches_bad or at + len(data) <= BAD_BLOCK * BLOCK
        for cookie, error in self.errors.items():
            assert self.answers[cookie].error == error
        assert self.link.vdisk.data == self.image


@pytest.mark.parametrize("seed", range(6))
def test_random_traffic_keeps_every_byte_in_its_place(form: Form, seed: int) -> None:
    chooser = random.Random(seed)
    vdisk = FaultyVdisk(BLOCKS)
    vdisk.data[: READ_BLOCKS * BLOCK] = chooser.randbytes(READ_BLOCKS * BLOCK)
    content = bytes(vdisk.data)
    link = Link.open(vdisk, form=form, knows_block_sizes=False)
    vdisk.faults.errno_at[BAD_BLOCK] = errno.EIO
    # Nothing at once, some bytes at once, or all.
    vdisk.immediate_bytes = (LATER, 1536, None)[seed % 3]
    vdisk.is_held = True
    traffic = Traffic(link, chooser)
    traffic.run()
    traffic.check(content)
    link.close()
