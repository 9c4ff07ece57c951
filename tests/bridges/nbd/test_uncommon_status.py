# SPDX-License-Identifier: GPL-2.0-or-later
"""BLOCK_STATUS of base:allocation, in both forms that have it."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.vdisk import Extent
from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.fakes import check_condition
from tests.bridges.nbd.forms import PAYLOAD_LEN, Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import (
    BLOCK_STATUS,
    DF,
    EINVAL,
    EIO,
    FUA,
    NO_HOLE,
    REQ_ONE,
)
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
DISK = 1024 * BLOCK
GET_LBA_STATUS = 0x9E
NEW_FORMS = [Form.STRUCTURED, Form.EXTENDED]
ALLOCATED, HOLE = 0, 3
# Data, a hole, data: 8, 16 and 1000 blocks.
RUNS = [Extent(8 * BLOCK, True), Extent(16 * BLOCK, False), Extent(1000 * BLOCK, True)]

pytestmark = pytest.mark.parametrize("form", NEW_FORMS, indirect=True)


def _thin() -> FaultyVdisk:
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.runs = RUNS
    return vdisk


@pytest.fixture
def thin(open_link: OpenLink) -> Link:
    """A link to a disk with a hole."""
    return open_link(_thin())


def _status(link: Link, offset: int, length: int, flags: int = 0) -> list[tuple[int, int]]:
    answer = link.result(link.request(BLOCK_STATUS, 1, offset, length, flags))
    assert answer.error == 0
    assert answer.extents is not None
    return answer.extents


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, DISK, [(8, ALLOCATED), (16, HOLE), (1000, ALLOCATED)]),
        (0, BLOCK, [(1, ALLOCATED)]),
        (7 * BLOCK, 2 * BLOCK, [(1, ALLOCATED), (1, HOLE)]),
        (8 * BLOCK, 16 * BLOCK, [(16, HOLE)]),
        (DISK - BLOCK, BLOCK, [(1, ALLOCATED)]),
    ],
)
def test_extents(thin: Link, offset: int, length: int, expected: list[tuple[int, int]]) -> None:
    assert _status(thin, offset, length) == [(blocks * BLOCK, flags) for blocks, flags in expected]


def test_req_one_is_one_extent_within_the_request(thin: Link) -> None:
    assert _status(thin, 0, DISK, REQ_ONE) == [(8 * BLOCK, ALLOCATED)]
    assert _status(thin, 9 * BLOCK, 2 * BLOCK, REQ_ONE | FUA) == [(2 * BLOCK, HOLE)]


def test_bytes_inside_blocks_can_be_asked_for(open_link: OpenLink) -> None:
    link = open_link(_thin(), knows_block_sizes=False)
    assert _status(link, 8 * BLOCK - 1, 2) == [(1, ALLOCATED), (1, HOLE)]
    assert _status(link, 8 * BLOCK + 5, 7) == [(7, HOLE)]


def test_thick_disk_is_allocated(link: Link) -> None:
    assert _status(link, 0, DISK) == [(DISK, ALLOCATED)]
    assert link.cdbs == []


@pytest.mark.parametrize(
    ("offset", "length", "flags"),
    [
        (0, 0, 0),
        (DISK, 0, 0),
        (DISK, BLOCK, 0),
        (0, DISK + BLOCK, 0),
        (1, BLOCK, 0),
        (0, BLOCK, NO_HOLE),
        (0, BLOCK, DF),
        (0, BLOCK, 0x40),
    ],
)
def test_what_is_wrong_is_refused(thin: Link, offset: int, length: int, flags: int) -> None:
    assert thin.ask(thin.request(BLOCK_STATUS, 1, offset, length, flags)) == [(1, EINVAL)]


def test_without_a_context_there_is_nothing_to_tell(open_link: OpenLink) -> None:
    link = open_link(_thin(), has_contexts=False)
    assert link.ask(link.request(BLOCK_STATUS, 1, 0, BLOCK)) == [(1, EINVAL)]


def test_a_device_that_fails_is_an_error(thin: Link) -> None:
    thin.lun.unit.fail(GET_LBA_STATUS, check_condition("03/11/00"))
    assert thin.ask(thin.request(BLOCK_STATUS, 1, 0, BLOCK)) == [(1, EIO)]


def test_thousands_of_extents_come_in_one_chunk_of_some(open_link: OpenLink) -> None:
    vdisk = FaultyVdisk(10_000, is_thin=True)
    vdisk.runs = [Extent(BLOCK, lba % 2 == 0) for lba in range(10_000)]
    found = _status(open_link(vdisk), 0, 10_000 * BLOCK)
    assert found == [(BLOCK, ALLOCATED if lba % 2 == 0 else HOLE) for lba in range(4096)]


def test_extents_that_are_being_collected_count_as_memory(thin: Link) -> None:
    thin.vdisk.is_held = True
    thin.send(*(thin.request(BLOCK_STATUS, cookie, 0, DISK) for cookie in range(32)))
    assert thin.connection.held_bytes >= 16 << 20, "with 32 of them the connection is full"
    thin.vdisk.release_all()
    assert len(thin.results()) == 32
    assert thin.connection.held_bytes == 0
    thin.vdisk.is_held = True
    thin.send(thin.request(BLOCK_STATUS, 1, 0, DISK, REQ_ONE))
    assert 0 < thin.connection.held_bytes < 1024
    thin.vdisk.release_all()
    assert len(thin.results()) == 1


def test_compact_requests_have_no_payload_flag(open_link: OpenLink, form: Form) -> None:
    link = open_link(_thin())
    message = link.request(BLOCK_STATUS, 1, 0, 12, PAYLOAD_LEN)
    payload = b"" if form is Form.STRUCTURED else bytes(12)
    assert link.ask(message + payload, link.read(2, 0, BLOCK)) == [(1, EINVAL), (2, 0)]
