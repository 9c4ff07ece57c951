# SPDX-License-Identifier: GPL-2.0-or-later
"""BLOCK_STATUS with a payload that says how far and in which contexts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scsi_backend.handlers.vdisk import Extent
from tests.bridges.nbd.forms import BASE_ALLOCATION, PAYLOAD_LEN, Asked, Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import BLOCK_STATUS, EINVAL, NO_HOLE, REQ_ONE
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
DISK = 1024 * BLOCK
ALLOCATED, HOLE = 0, 3
# Data, a hole, data: 8, 16 and 1000 blocks.
RUNS = [Extent(8 * BLOCK, True), Extent(16 * BLOCK, False), Extent(1000 * BLOCK, True)]


@pytest.fixture
def extended() -> Iterator[Link]:
    """A link with extended headers to a disk with a hole."""
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.runs = RUNS
    link = Link.open(vdisk, form=Form.EXTENDED)
    yield link
    link.close()


def test_filter_chooses_length_and_contexts(extended: Link) -> None:
    answer = extended.result(extended.filtered_status(1, 0, 10 * BLOCK, BASE_ALLOCATION))
    assert answer.extents == [(8 * BLOCK, ALLOCATED), (2 * BLOCK, HOLE)]


def test_filter_with_req_one(extended: Link) -> None:
    message = extended.filtered_status(1, 0, 10 * BLOCK, BASE_ALLOCATION, flags=REQ_ONE)
    assert extended.result(message).extents == [(8 * BLOCK, ALLOCATED)]


def test_filter_that_chooses_nothing_ends_with_nothing(extended: Link) -> None:
    answer = extended.result(extended.filtered_status(1, 0, BLOCK))
    assert (answer.error, answer.extents) == (0, None)


@pytest.mark.parametrize(
    ("offset", "length", "ids", "flags"),
    [
        (0, BLOCK, (BASE_ALLOCATION + 1,), 0),
        (0, BLOCK, (BASE_ALLOCATION, BASE_ALLOCATION), 0),
        (0, 0, (BASE_ALLOCATION,), 0),
        (DISK, BLOCK, (BASE_ALLOCATION,), 0),
        (0, (1 << 64) - BLOCK, (BASE_ALLOCATION,), 0),
        (0, BLOCK, (BASE_ALLOCATION,), NO_HOLE),
        (0, BLOCK, (BASE_ALLOCATION,), 0x40),
        (0, BLOCK, range(1024), 0),
        # Longer than what is kept to be looked at.
        (0, BLOCK, range(1025), 0),
        (0, BLOCK, range(20_000), 0),
    ],
)
def test_filters_that_are_wrong_are_refused_and_their_payload_is_gone(
    extended: Link, offset: int, length: int, ids: tuple[int, ...], flags: int
) -> None:
    message = extended.filtered_status(1, offset, length, *ids, flags=flags)
    assert extended.ask(message, extended.read(2, 0, BLOCK)) == [(1, EINVAL), (2, 0)]


@pytest.mark.parametrize("length", [0, 1, 7, 9, 11, 13])
def test_payloads_of_an_impossible_length_are_refused(extended: Link, length: int) -> None:
    extended.transcript.ask(1, Asked(BLOCK_STATUS, 0, length))
    message = Form.EXTENDED.request(BLOCK_STATUS, 1, 0, length, PAYLOAD_LEN, bytes(length))
    assert extended.ask(message, extended.read(2, 0, BLOCK)) == [(1, EINVAL), (2, 0)]


def test_filter_may_be_split_anywhere(extended: Link) -> None:
    for position in range(1, 44):
        message = extended.filtered_status(1, 0, 10 * BLOCK, BASE_ALLOCATION)
        assert len(message) == 44
        extended.send(message[:position])
        assert extended.results() == []
        extended.send(message[position:])
        (answer,) = extended.results()
        assert answer.extents == [(8 * BLOCK, ALLOCATED), (2 * BLOCK, HOLE)]
