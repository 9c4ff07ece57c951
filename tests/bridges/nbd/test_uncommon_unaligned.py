# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that are not in whole blocks, from clients that were not told about blocks.

What several of them write to one block at the same time is ``test_uncommon_atomic``'s.
"""

from __future__ import annotations

import errno
import logging

import pytest

from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.fakes import BUSY, COMPARE_AND_WRITE, READ_16, WRITE_16, check_condition
from tests.bridges.nbd.link import DISTINCT_BLOCKS, Link
from tests.bridges.nbd.proto import CACHE, EINVAL, EIO, FUA, TRIM, WRITE_ZEROES
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
DISK = 1024 * BLOCK
LATER = -errno.EAGAIN
RANGES = [(0, 1), (1, 511), (511, 2), (100, 1024), (512, 513), (DISK - 1, 1), (3, 5 * BLOCK)]


@pytest.fixture
def loose(open_link: OpenLink) -> Link:
    """A link whose client was told nothing."""
    return open_link(knows_block_sizes=False)


@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_reads(loose: Link, offset: int, length: int) -> None:
    loose.send(loose.read(1, offset, length))
    assert loose.answers() == [(1, 0, DISTINCT_BLOCKS[offset : offset + length])]


@pytest.mark.parametrize(("offset", "length"), RANGES)
@pytest.mark.parametrize("flags", [0, FUA])
def test_writes(loose: Link, offset: int, length: int, flags: int) -> None:
    payload = bytes(range(1, 256)) * 11
    expected = bytearray(DISTINCT_BLOCKS)
    expected[offset : offset + length] = payload[:length]
    assert loose.ask(loose.write(1, offset, payload[:length], flags)) == [(1, 0)]
    assert loose.vdisk.data == expected


@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_zeros(loose: Link, offset: int, length: int) -> None:
    expected = bytearray(DISTINCT_BLOCKS)
    expected[offset : offset + length] = bytes(length)
    assert loose.ask(loose.request(WRITE_ZEROES, 1, offset, length)) == [(1, 0)]
    assert loose.vdisk.data == expected


def test_trim_takes_only_whole_blocks(open_link: OpenLink) -> None:
    vdisk = FaultyVdisk(is_thin=True)
    before = vdisk.fill()
    link = open_link(vdisk, knows_block_sizes=False)
    assert link.ask(link.request(TRIM, 1, 1, 2 * BLOCK)) == [(1, 0)]
    assert vdisk.data == before[:BLOCK] + bytes(BLOCK) + before[2 * BLOCK :]
    assert link.ask(link.request(CACHE, 2, 1, 2 * BLOCK)) == [(2, 0)]


@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_who_was_told_gets_an_error_and_nothing_changes(
    link: Link, offset: int, length: int
) -> None:
    assert link.ask(
        link.read(1, offset, length),
        link.write(2, offset, bytes(length)),
        link.request(WRITE_ZEROES, 3, offset, length),
    ) == [(1, EINVAL), (2, EINVAL), (3, EINVAL)]
    assert link.cdbs == []


@pytest.mark.parametrize("length", [5, 3 * BLOCK + 5, 200 * BLOCK + 5])
@pytest.mark.parametrize("is_split", [True, False])
def test_payload_of_a_slow_unaligned_write_outlives_further_requests(
    loose: Link, length: int, is_split: bool
) -> None:
    loose.vdisk.immediate_bytes = LATER
    loose.vdisk.is_held = True
    payload = pattern(70, 201 * BLOCK)[:length]
    message = loose.write(1, 7, payload)
    cut = 40 if is_split else len(message)
    loose.send(message[:cut])
    loose.send(message[cut:])
    assert loose.connection.held_bytes >= length
    loose.send(*(loose.read(cookie, 600 * BLOCK + 1, BLOCK) for cookie in range(2, 20)))
    loose.vdisk.release_all()
    others = [(cookie, 0, DISTINCT_BLOCKS[600 * BLOCK + 1 :][:BLOCK]) for cookie in range(2, 20)]
    assert sorted(loose.answers()) == [(1, 0, b""), *others]
    assert bytes(loose.vdisk.data[7 : 7 + length]) == payload
    assert loose.connection.held_bytes == 0


@pytest.mark.parametrize("opcode", [READ_16, COMPARE_AND_WRITE, WRITE_16])
@pytest.mark.parametrize("is_busy", [True, False])
def test_failures_on_the_way_give_everything_back(loose: Link, opcode: int, is_busy: bool) -> None:
    ending = BUSY if is_busy else check_condition("03/0C/00")
    loose.lun.unit.fail(opcode, ending)
    loose.send(loose.write(1, 7, bytes(3 * BLOCK)))
    loose.clock.advance(5.0)
    assert loose.errors() == [(1, 0 if is_busy else EIO)]
    assert loose.connection.held_bytes == 0


def test_a_read_that_fails_gives_its_memory_back(loose: Link) -> None:
    loose.vdisk.faults.errno_at[3] = errno.EIO
    assert loose.ask(loose.read(1, 1, 8 * BLOCK), loose.read(2, 1, BLOCK)) == [(1, EIO), (2, 0)]


def test_the_first_such_request_is_told_to_the_operator(
    loose: Link, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loose.ask(loose.read(1, 0, BLOCK))
    assert caplog.records == []
    loose.ask(loose.read(1, 1, BLOCK), loose.read(2, 1, BLOCK), loose.write(3, 1, b"x"))
    (record,) = caplog.records
    assert "whole blocks of 512 bytes" in record.getMessage()
