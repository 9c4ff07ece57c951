# SPDX-License-Identifier: GPL-2.0-or-later
"""Many writes at once that change parts of one block of a slow disk."""

from __future__ import annotations

import pytest

from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import Link, negotiated
from tests.bridges.nbd.proto import WRITE_ZEROES
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk

BLOCK = 512
DISTINCT = bytes(1 + number % 255 for number in range(BLOCK))


@pytest.fixture
def slow(open_link: OpenLink) -> Link:
    """A disk of which every read and write waits."""
    vdisk = FaultyVdisk()
    vdisk.immediate_bytes = NOT_NOW
    vdisk.is_held = True
    return open_link(vdisk, knows_block_sizes=False)


def test_writes_to_one_block_take_two_commands_each(slow: Link) -> None:
    for offset in range(BLOCK):
        slow.send(slow.write(offset, offset, DISTINCT[offset : offset + 1]))
    slow.vdisk.release_all()
    assert slow.errors() == [(cookie, 0) for cookie in range(BLOCK)]
    assert slow.vdisk.blocks(0, 1) == DISTINCT
    # READ and COMPARE AND WRITE, and none of them in vain.
    assert len(slow.cdbs) == 2 * BLOCK


def test_more_writes_to_one_block_than_tries_all_succeed(slow: Link) -> None:
    count = 1200
    for number in range(count):
        payload = number.to_bytes(2, "big")
        slow.send(slow.write(number, 1, payload))
    slow.vdisk.release_all()
    assert slow.errors() == [(cookie, 0) for cookie in range(count)]
    assert slow.vdisk.blocks(0, 1)[1:3] == (count - 1).to_bytes(2, "big")


def test_connections_of_one_initiator_take_turns_too(slow: Link, form: Form) -> None:
    other = Link.on(slow.lun, slow.vdisk, form, negotiated(form))
    for offset in range(0, BLOCK, 2):
        slow.send(slow.write(offset, offset, DISTINCT[offset : offset + 1]))
        other.send(other.write(offset, offset + 1, DISTINCT[offset + 1 : offset + 2]))
    slow.vdisk.release_all()
    expected = [(cookie, 0) for cookie in range(0, BLOCK, 2)]
    assert slow.errors() == other.errors() == expected
    assert slow.vdisk.blocks(0, 1) == DISTINCT
    assert len(slow.cdbs) == 2 * BLOCK
    other.close()


def test_zeroes_take_their_turn_among_writes(slow: Link) -> None:
    slow.send(slow.write(1, 0, b"first"))
    slow.send(slow.request(WRITE_ZEROES, 2, 0, 3))
    slow.send(slow.write(3, 2, b"last"))
    slow.vdisk.release_all()
    assert slow.errors() == [(1, 0), (2, 0), (3, 0)]
    assert slow.vdisk.blocks(0, 1)[:6] == b"\0\0last"
    assert len(slow.cdbs) == 6


def test_slow_writes_to_many_blocks_do_not_all_run_at_once(slow: Link) -> None:
    count = 1000
    for number in range(count):
        slow.send(slow.write(number, number * BLOCK + 1, b"x"))
    assert len(slow.vdisk.held) == 64
    slow.vdisk.release_all()
    assert sorted(slow.errors()) == [(cookie, 0) for cookie in range(count)]


def test_write_whose_turn_ends_in_an_error_lets_the_next_begin(slow: Link) -> None:
    slow.vdisk.faults.errno_of["write"] = 5
    slow.send(slow.write(1, 1, b"a"), slow.write(2, 2, b"b"))
    slow.vdisk.release_all()
    assert slow.errors() == [(1, 5), (2, 5)]
