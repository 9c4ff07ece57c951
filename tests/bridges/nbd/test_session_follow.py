# SPDX-License-Identifier: GPL-2.0-or-later
"""A session whose LUN is mapped anew: the new device's data and bounds, errors while it is lost,
and the end where the blocks have become others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import pairwise

import pytest

from scsi_backend.handlers.vdisk import Extent
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.fakes import READ_16, WRITE_16, RecordingUnit
from tests.bridges.nbd.forms import BASE_ALLOCATION, Form
from tests.bridges.nbd.fuzz import ThinVdisk
from tests.bridges.nbd.link import DISTINCT_BLOCKS, Link
from tests.bridges.nbd.proto import (
    BLOCK_STATUS,
    CACHE,
    EINVAL,
    EIO,
    ENOSPC,
    EPERM,
    FLUSH,
    FUA,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
ESHUTDOWN = 108
LONG = 200 * BLOCK
KINDS = [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES]
HOLE, ZERO = 1, 2
NEW_FORMS = [Form.STRUCTURED, Form.EXTENDED]
with_contexts = pytest.mark.parametrize("form", NEW_FORMS, indirect=True)


def other_disk(blocks: int = 1024, *, is_thin: bool = False) -> FaultyVdisk:
    """A disk whose blocks differ from those of the usual one."""
    vdisk = FaultyVdisk(blocks, is_thin=is_thin)
    vdisk.data[:] = b"".join(pattern(5000 + lba, BLOCK) for lba in range(blocks))
    return vdisk


def remap(link: Link, vdisk: FaultyVdisk | None, *, is_read_only: bool = False) -> RecordingUnit:
    """Let the LUN lead to a disk, or nowhere; without one, return the usual one."""
    unit = link.lun.unit if vdisk in (None, link.vdisk) else RecordingUnit(vdisk or link.vdisk)
    luns = {} if vdisk is None else {0: LunEntry(unit, is_read_only)}
    link.lun.target.configure(luns=luns)
    return unit


def message(link: Link, kind: int, cookie: int, offset: int = 0, flags: int = 0) -> bytes:
    """A request about one block."""
    length = 0 if kind == FLUSH else BLOCK
    payload = pattern(77, BLOCK) if kind == WRITE else b""
    return link.request(kind, cookie, offset, length, flags, payload)


def test_data_are_the_new_devices_from_the_next_request_on(link: Link) -> None:
    other = other_disk()
    link.send(link.read(1, 0, BLOCK))
    remap(link, other)
    link.send(link.read(2, BLOCK, BLOCK), link.write(3, 0, pattern(9, BLOCK)))
    link.send(link.read(4, 0, 2 * BLOCK), link.request(FLUSH, 5))
    assert link.answers() == [
        (1, 0, pattern(0, BLOCK)),
        (2, 0, pattern(5001, BLOCK)),
        (3, 0, b""),
        (4, 0, pattern(9, BLOCK) + pattern(5001, BLOCK)),
        (5, 0, b""),
    ]
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS


@pytest.mark.parametrize("kind", KINDS)
def test_any_request_may_be_the_first_to_meet_the_change(link: Link, kind: int) -> None:
    remap(link, other_disk(is_thin=True))
    assert link.ask(message(link, kind, 1)) == [(1, 0)]
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS
    assert link.lun.client.is_current


@pytest.mark.parametrize("length", [BLOCK, LONG])
@pytest.mark.parametrize("is_split", [False, True])
def test_a_write_that_meets_the_change_reaches_the_new_device_whole(
    link: Link, length: int, is_split: bool
) -> None:
    other = other_disk()
    remap(link, other)
    whole = link.write(1, 0, pattern(7, length), FUA)
    pieces = [whole[:40], whole[40:]] if is_split else [whole]
    for piece in pieces:
        link.send(piece)
    assert link.errors() == [(1, 0)]
    assert other.blocks(0, length // BLOCK) == pattern(7, length)
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS


def test_requests_under_way_end_at_the_device_where_they_began(link: Link) -> None:
    link.vdisk.immediate_bytes = -11
    link.vdisk.is_held = True
    link.send(link.read(1, BLOCK, BLOCK), link.write(2, 0, pattern(9, BLOCK)))
    other = other_disk()
    remap(link, other)
    link.send(link.read(3, 0, BLOCK))
    assert link.answers() == [(3, 0, pattern(5000, BLOCK))]
    link.vdisk.release_all()
    assert link.answers() == [(1, 0, pattern(1, BLOCK)), (2, 0, b"")]
    assert link.vdisk.blocks(0, 1) == pattern(9, BLOCK)
    assert other.blocks(0, 1) == pattern(5000, BLOCK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_lun_is_eio_at_once_and_the_connection_stays(link: Link, kind: int) -> None:
    remap(link, None)
    link.send(message(link, kind, 1), message(link, kind, 2))
    assert link.errors() == [(1, EIO), (2, EIO)]
    assert not link.connection.has_ended
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS
    remap(link, link.vdisk)
    assert link.ask(message(link, kind, 3)) == [(3, 0)]


def test_a_flush_of_a_lost_lun_without_a_cache_fails_too(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(write_through=True))
    assert link.ask(link.request(FLUSH, 1)) == [(1, 0)]
    remap(link, None)
    assert link.ask(link.request(FLUSH, 2)) == [(2, EIO)]


def test_a_lost_lun_is_told_in_the_log(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    remap(link, None)
    link.ask(link.read(1, 0, BLOCK))
    assert "test: faulty: READ(16): ILLEGAL REQUEST 25/00" in caplog.text
    assert caplog.text.count("\n") == 1


def test_what_is_wrong_with_a_request_is_told_of_a_lost_lun_too(link: Link) -> None:
    remap(link, None)
    past_the_end = link.vdisk.block_count * BLOCK
    assert link.ask(
        link.request(99, 1), link.request(TRIM, 2, past_the_end, BLOCK), link.request(FLUSH, 3)
    ) == [(1, EINVAL), (2, EINVAL), (3, EIO)]


def test_bounds_are_the_new_devices(open_link: OpenLink) -> None:
    link = open_link()
    beyond = 1500 * BLOCK
    remap(link, other_disk(2048))
    assert link.ask(link.request(FLUSH, 1)) == [(1, 0)]
    assert link.ask(link.read(2, beyond, BLOCK), link.write(3, beyond, bytes(BLOCK))) == [
        (2, 0),
        (3, 0),
    ]
    remap(link, other_disk(512))
    last = 1023 * BLOCK
    # The LUN itself refuses the first two, the session the others.
    assert link.ask(link.write(4, last, bytes(BLOCK)), link.read(5, last, BLOCK)) == [
        (4, ENOSPC),
        (5, EINVAL),
    ]
    assert link.ask(link.write(6, last, bytes(BLOCK)), link.read(7, last, BLOCK)) == [
        (6, ENOSPC),
        (7, EINVAL),
    ]


@pytest.mark.parametrize("kind", [READ, WRITE, TRIM, WRITE_ZEROES])
def test_a_request_past_the_old_end_finds_the_larger_device(link: Link, kind: int) -> None:
    remap(link, other_disk(2048, is_thin=True))
    assert link.ask(message(link, kind, 1, 1500 * BLOCK)) == [(1, 0)]


@pytest.mark.parametrize("kind", [WRITE, TRIM, WRITE_ZEROES])
def test_write_protection_that_comes_is_eperm(link: Link, kind: int) -> None:
    remap(link, link.vdisk, is_read_only=True)
    assert link.ask(message(link, kind, 1)) == [(1, EPERM)]
    assert link.ask(message(link, kind, 2), message(link, READ, 3), link.request(FLUSH, 4)) == [
        (2, EPERM),
        (3, 0),
        (4, 0),
    ]
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS


@pytest.mark.parametrize("kind", [WRITE, TRIM, WRITE_ZEROES])
def test_without_write_protection_writers_go_on_that_do_nothing_else(
    open_link: OpenLink, kind: int
) -> None:
    link = open_link(other_disk(is_thin=True), is_read_only=True)
    assert link.ask(message(link, kind, 1)) == [(1, EPERM)]
    remap(link, link.vdisk)
    assert link.ask(message(link, kind, 2)) == [(2, 0)]
    remap(link, link.vdisk, is_read_only=True)
    assert link.ask(message(link, kind, 3)) == [(3, EPERM)]


@pytest.mark.parametrize("kind", KINDS)
def test_other_blocks_end_the_connection(
    link: Link, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    big = FaultyVdisk(1024, 4096)
    unit = remap(link, big)
    assert link.ask(message(link, kind, 1), link.read(2, 0, BLOCK)) == [
        (1, ESHUTDOWN),
        (2, ESHUTDOWN),
    ]
    assert link.connection.has_ended
    assert not any(big.data)
    assert not {READ_16, WRITE_16} & {cdb[0] for cdb in unit.seen}
    text = "test: closing: the LUN leads to a device with blocks of another size"
    found = [each for each in caplog.records if each.getMessage() == text]
    assert [each.levelno for each in found] == [logging.WARNING]


@with_contexts
def test_extents_are_the_new_devices(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    link.vdisk.runs = [Extent(1024 * BLOCK, False)]
    whole = link.result(link.request(BLOCK_STATUS, 1, 0, 1024 * BLOCK))
    assert whole.extents == [(1024 * BLOCK, HOLE | ZERO)]
    remap(link, other_disk(512))
    # It is not thin, and half as large.
    answer = link.result(link.request(BLOCK_STATUS, 2, 0, 512 * BLOCK))
    assert answer.extents == [(512 * BLOCK, 0)]
    assert link.ask(link.request(BLOCK_STATUS, 3, 0, 1024 * BLOCK)) == [(3, EINVAL)]
    remap(link, link.vdisk)
    assert link.result(link.request(BLOCK_STATUS, 4, 0, BLOCK)).extents == [(BLOCK, HOLE | ZERO)]


@with_contexts
def test_extents_of_a_lost_lun_are_eio_even_where_none_are_asked_for(link: Link) -> None:
    remap(link, None)
    assert not link.lun.client.info.is_thin_provisioned
    assert link.ask(link.request(BLOCK_STATUS, 1, 0, BLOCK)) == [(1, EIO)]


@with_contexts
def test_extents_are_asked_for_anew_where_the_device_changes_on_the_way(
    open_link: OpenLink,
) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    link.vdisk.is_held = True
    link.vdisk.runs = [Extent(1024 * BLOCK, False)]
    link.send(link.request(BLOCK_STATUS, 1, 0, 1024 * BLOCK))
    assert link.vdisk.held, "GET LBA STATUS is under way"
    remap(link, other_disk())
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]
    link.vdisk.release_all()
    (answer,) = link.results()
    assert answer.extents == [(1024 * BLOCK, 0)]


@with_contexts
def test_extents_of_a_lun_that_never_stays_are_eio(open_link: OpenLink) -> None:
    disks = [FaultyVdisk(is_thin=True) for _ in range(6)]
    for disk in disks:
        disk.is_held = True
    link = open_link(disks[0])
    link.send(link.request(BLOCK_STATUS, 1, 0, BLOCK))
    for before, after in pairwise(disks):
        assert link.errors() == []
        remap(link, after)
        assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]
        before.release_all()
    assert link.errors() == [(1, EIO)]
    assert link.lun.client.is_current


@pytest.mark.parametrize("form", [Form.EXTENDED], indirect=True)
def test_filtered_extents_are_the_new_devices(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    link.vdisk.runs = [Extent(1024 * BLOCK, False)]
    remap(link, other_disk())
    answer = link.result(link.filtered_status(1, 0, 8 * BLOCK, BASE_ALLOCATION))
    assert answer.extents == [(8 * BLOCK, 0)]
    remap(link, None)
    assert link.result(link.filtered_status(2, 0, 8 * BLOCK, BASE_ALLOCATION)).error == EIO


@pytest.fixture
def file_disk() -> Iterator[ThinVdisk]:
    """A disk of which long reads are sent from a file, or told as holes."""
    vdisk = ThinVdisk(1024, BLOCK, is_thin=True)
    vdisk.reset(vdisk.fill()[: 512 * BLOCK] + bytes(512 * BLOCK), range(512, 1024), None)
    yield vdisk
    os.close(vdisk.fd)


@pytest.mark.parametrize("offset", [0, 4 * BLOCK, 600 * BLOCK])
def test_a_long_read_that_meets_the_change_brings_the_new_devices_data(
    open_link: OpenLink, file_disk: ThinVdisk, offset: int
) -> None:
    link = open_link(other_disk(), can_send_files=True)
    for old, new in ((link.vdisk, file_disk), (file_disk, link.vdisk)):
        link.send(link.read(1, offset, LONG))
        remap(link, new)
        link.send(link.read(2, offset, LONG), link.read(3, offset, LONG))
        link.send(link.read(4, offset, LONG))
        data = [bytes(disk.data[offset : offset + LONG]) for disk in (old, new, new, new)]
        assert link.answers() == [(n + 1, 0, each) for n, each in enumerate(data)]


@pytest.mark.parametrize("form", [Form.SIMPLE], indirect=True)
def test_later_requests_go_straight_to_the_new_device(
    open_link: OpenLink, file_disk: ThinVdisk
) -> None:
    link = open_link(other_disk(), can_send_files=True)
    remap(link, file_disk)
    assert link.ask(link.read(1, 0, BLOCK)) == [(1, 0)]
    file_disk.log.clear()
    # One that failed before would be read, not sent from the file.
    assert link.ask(link.read(2, 4 * BLOCK, LONG)) == [(2, 0)]
    assert file_disk.names == []


def test_parts_of_blocks_are_changed_on_the_device_that_is_there(open_link: OpenLink) -> None:
    link = open_link(knows_block_sizes=False)
    other = other_disk()
    remap(link, other)
    assert link.ask(link.write(1, 10, b"x" * 1000)) == [(1, 0)]
    data = pattern(5000, BLOCK) + pattern(5001, BLOCK)
    assert other.blocks(0, 2) == data[:10] + b"x" * 1000 + data[1010:]
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS
