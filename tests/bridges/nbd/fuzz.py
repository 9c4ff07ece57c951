# SPDX-License-Identifier: GPL-2.0-or-later
"""Spoilt conversations without sockets, as many as one likes.

    python -m tests.bridges.nbd.fuzz --streams 1000000 --seed 1 --seconds 600
    python -m tests.bridges.nbd.fuzz --only 1000000007

Each stream is made from one number. What is not spoilt beyond sense has one right answer, which
``model`` knows; handshakes have to end in well-formed replies.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from bridges.stream_session import PeerError
from scsi_backend.handlers.vdisk import Extent
from scsi_backend.io.engine import Done
from scsi_backend.io.located import ZEROS, FileRange, Located
from scsi_backend.io.scatter import Buffer
from tests.bridges.nbd import mutation, proto
from tests.bridges.nbd.fakes import OpenLun, open_lun
from tests.bridges.nbd.forms import Form, without_texts
from tests.bridges.nbd.link import Link, negotiated
from tests.bridges.nbd.model import Model, World
from tests.bridges.nbd.peer import FakeExport, FakeExports, Peer
from tests.bridges.nbd.test_translate import DISK
from tests.scsi_backend.fakes import FaultyVdisk

# Streams of different seeds are different ones.
SEED_STEP = 1_000_000_000
_HANDSHAKES = 0.2
_EXPORT_NAME_REPLIES = (0, 10, 134)
_SHAPES = ((32, 512), (32, 512), (32, 512), (8, 4096), (512, 512))
_BATCH = 500
_MAX_SHOWN = 20


class ThinVdisk(FaultyVdisk):
    """A disk in memory that knows which of its blocks hold data, and perhaps has a bad one."""

    def __init__(self, blocks: int, block: int, *, is_thin: bool) -> None:
        super().__init__(blocks, block, is_thin=is_thin)
        self.bad_block: int | None = None
        self.is_mapped = [True] * blocks
        # Holds what a READ by reference is told to lie there.
        self.fd = os.memfd_create("fuzz")

    def reset(self, content: bytes, hole: range, bad_block: int | None) -> None:
        """Begin anew."""
        self.data[:] = content
        self.bad_block = bad_block
        self.is_mapped = [number not in hole for number in range(len(self.is_mapped))]
        self.log.clear()

    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.unmap``."""
        self._map(offset_bytes, length_bytes, False)
        super().unmap(offset_bytes, length_bytes, done)

    def write_zeros(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_zeros``."""
        self._map(offset_bytes, length_bytes, True)
        super().write_zeros(offset_bytes, length_bytes, done)

    def extents(self, offset_bytes: int, limit: int, runs: list[Extent], done: Done) -> None:
        """See ``Vdisk.extents``."""
        size = self.block_size_bytes
        self.runs = [
            Extent(size * len(list(run)), is_mapped) for is_mapped, run in groupby(self.is_mapped)
        ]
        super().extents(offset_bytes, limit, runs, done)

    def locate_now(self, offset_bytes: int, length_bytes: int) -> Located | None:
        """See ``Vdisk.locate_now``: now and then the data are not where they could be sent from."""
        size, end = self.block_size_bytes, offset_bytes + length_bytes
        first, last = offset_bytes // size, end // size - 1
        if not any(self.is_mapped[first : last + 1]):
            return ZEROS
        if first % 3 == 0 or (self.bad_block is not None and first <= self.bad_block <= last):
            return None
        os.pwrite(self.fd, self.data[offset_bytes:end], offset_bytes)
        return FileRange(self.fd, offset_bytes)

    def _map(self, offset: int, length: int, is_mapped: bool) -> None:
        size = self.block_size_bytes
        first, end = offset // size, -(-(offset + length) // size)
        self.is_mapped[first:end] = [is_mapped] * (end - first)

    def _load(self, view: Buffer, offset_bytes: int) -> int:
        if self.bad_block is not None:
            bad = self.bad_block * self.block_size_bytes
            if offset_bytes <= bad < offset_bytes + len(view):
                good = bad - offset_bytes
                return super()._load(view[:good], offset_bytes) if good else -5
        return super()._load(view, offset_bytes)

    def _store(self, view: Buffer, offset_bytes: int) -> int:
        self._map(offset_bytes, len(view), True)
        return super()._store(view, offset_bytes)


@cache
def _lun(is_read_only: bool, is_thin: bool, blocks: int, block: int) -> tuple[OpenLun, ThinVdisk]:
    """A LUN and its disk, which are used again and again."""
    vdisk = ThinVdisk(blocks, block, is_thin=is_thin)
    return open_lun(vdisk, is_read_only=is_read_only), vdisk


def check(number: int) -> None:
    """Have one conversation; raises AssertionError, or whatever else the server should not."""
    chooser = random.Random(number)
    if chooser.random() < _HANDSHAKES:
        stream = mutation.spoil(chooser, mutation.handshake(chooser))
        check_handshake(chooser, stream)
    else:
        world = _world(chooser)
        stream = mutation.spoil(chooser, mutation.requests(chooser, world))
        check_requests(world, stream, mutation.pieces(chooser, stream))


def _world(chooser: random.Random) -> World:
    blocks, block = chooser.choice(_SHAPES)
    return World(
        form=chooser.choice((Form.SIMPLE, Form.STRUCTURED, Form.EXTENDED, Form.EXTENDED)),
        knows_block_sizes=chooser.random() < 0.3,
        has_contexts=chooser.random() < 0.9,
        is_read_only=chooser.random() < 0.15,
        is_thin=chooser.random() < 0.6,
        blocks=blocks,
        block=block,
        bad_block=chooser.randrange(blocks) if chooser.random() < 0.3 else None,
        can_send_files=chooser.random() < 0.5,
    )


def check_requests(world: World, stream: bytes, pieces: list[bytes]) -> None:
    """Send requests in pieces; replies and disk must be what the model says."""
    lun, vdisk = _lun(world.is_read_only, world.is_thin, world.blocks, world.block)
    content = _content(len(vdisk.data), world.block, world.hole)
    vdisk.reset(content, world.hole, world.bad_block)
    agreed = negotiated(
        world.form,
        knows_block_sizes=world.knows_block_sizes,
        has_contexts=world.has_contexts,
    )
    link = Link.on(lun, vdisk, world.form, agreed, can_send_files=world.can_send_files)
    model = Model(world, bytearray(content))
    expected = model.answer(stream)
    has_peer_error = False
    try:
        for piece in pieces:
            link.send(piece)
    except PeerError:
        has_peer_error = True
    replies = link.connection.replies()
    if world.form is not Form.SIMPLE:
        replies = without_texts(replies, world.form)
    assert replies == expected, _difference(world, replies, expected)
    assert has_peer_error == model.has_peer_error
    assert vdisk.data == model.image
    assert vdisk.is_mapped == model.is_mapped
    link.close()


def _difference(world: World, found: bytes, expected: bytes) -> str:
    """Where two series of replies part."""
    pairs = zip(found, expected, strict=False)
    at = next((at for at, (one, other) in enumerate(pairs) if one != other), 0)
    shown = slice(max(0, at - 40), at + 40)
    return (
        f"{world}\nfrom byte {shown.start} of {len(found)}: {found[shown].hex()}"
        f"\nexpected, {len(expected)} bytes: {expected[shown].hex()}"
    )


@cache
def _content(size: int, block: int, hole: range) -> bytes:
    content = bytearray(random.Random(size).randbytes(size))
    content[hole.start * block : hole.stop * block] = bytes(len(hole) * block)
    return bytes(content)


def check_handshake(chooser: random.Random, stream: bytes) -> None:
    """Send options in pieces; there must be well-formed replies and no export left open."""
    export = FakeExport(DISK)
    exports = FakeExports({"disk": export}, is_slow=chooser.random() < 0.3)
    peer = Peer(exports)
    try:
        for piece in mutation.pieces(chooser, stream):
            peer.send(piece)
            while exports.waiting and chooser.random() < 0.8:
                exports.finish()
    except PeerError:
        pass
    peer.handshake.closed()
    while exports.waiting:
        exports.finish()
    _well_formed(peer.take(), may_end_in_export_name=bool(peer.chosen))
    assert len(peer.chosen) <= 1
    assert export.opened == export.closed + len(peer.chosen)


def _well_formed(replies: bytes, *, may_end_in_export_name: bool) -> None:
    """The bytes are option replies, and then perhaps the one answer that has no header."""
    while replies.startswith(bytes.fromhex("0003e889045565a9")):
        length = proto.OPTION_REPLY_BYTES + int.from_bytes(replies[16:20], "big")
        (reply,) = proto.parse_option_replies(replies[:length])
        assert reply.kind in (1, 2, 3, 4) or reply.kind & 0x80000000
        replies = replies[length:]
    assert len(replies) in (_EXPORT_NAME_REPLIES if may_end_in_export_name else (0,))


@dataclass(frozen=True, slots=True)
class Finding:
    """A stream that went wrong, and how."""

    number: int
    text: str


def run(numbers: range) -> tuple[int, list[Finding]]:
    """Check the streams of some numbers; return how many, and what was found."""
    found = []
    for number in numbers:
        try:
            check(number)
        except Exception:
            # Anything at all is a finding, and the others are checked all the same.
            found.append(Finding(number, traceback.format_exc()))
    return len(numbers), found


def _batches(seed: int, streams: int) -> Iterator[range]:
    first = seed * SEED_STEP
    for start in range(first, first + streams, _BATCH):
        yield range(start, min(start + _BATCH, first + streams))


def _run_all(seed: int, streams: int, seconds: float, processes: int) -> int:
    """Check so many streams, or those that there is time for; return the exit status."""
    began_s = time.monotonic()
    checked, findings = 0, 0
    with multiprocessing.Pool(processes, initializer=logging.disable) as pool:
        for count, found in pool.imap_unordered(run, _batches(seed, streams)):
            checked += count
            for finding in found:
                findings += 1
                if findings <= _MAX_SHOWN:
                    print(f"stream {finding.number}:\n{finding.text}")
            if time.monotonic() - began_s > seconds:
                break
    rate = checked / (time.monotonic() - began_s)
    print(f"{checked} streams, {rate:.0f} per second, {findings} findings")
    return 1 if findings else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bridges.nbd.fuzz")
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", type=int, help="one stream, by the number of a finding")
    arguments = parser.parse_args()
    if arguments.only is not None:
        check(arguments.only)
        return 0
    return _run_all(arguments.seed, arguments.streams, arguments.seconds, arguments.processes)


if __name__ == "__main__":
    sys.exit(main())
