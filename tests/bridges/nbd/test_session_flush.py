# SPDX-License-Identifier: GPL-2.0-or-later
"""FLUSH behind a change of the LUN: its reply is about every WRITE answered, wherever that went."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.target.lun_map import LunEntry
from tests.bridges.nbd.fakes import RecordingUnit
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import EIO, FLUSH, FUA, WRITE_ZEROES
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern

BLOCK = 512
DATA = pattern(9, BLOCK)


def remap(link: Link, vdisk: FaultyVdisk | None) -> None:
    """Let the LUN lead to a new device, or nowhere."""
    luns = {} if vdisk is None else {0: LunEntry(RecordingUnit(vdisk))}
    link.lun.target.configure(luns=luns)


def flush(link: Link, cookie: int) -> bytes:
    """A FLUSH."""
    return link.request(FLUSH, cookie)


def test_a_flush_is_answered_when_the_old_device_has_been_flushed_too(link: Link) -> None:
    other = FaultyVdisk()
    assert link.ask(link.write(1, 0, DATA)) == [(1, 0)]
    link.vdisk.is_held = True
    remap(link, other)
    assert link.ask(flush(link, 2), link.write(3, 0, DATA)) == [(3, 0)]
    assert other.names.count("sync") == 1
    link.vdisk.release()
    assert link.errors() == [(2, 0)]
    assert link.ask(flush(link, 4)) == [(4, 0)]
    assert link.vdisk.names.count("sync") == 1


def test_a_write_that_was_under_way_is_flushed_where_it_ended(link: Link) -> None:
    link.vdisk.immediate_bytes, link.vdisk.is_held = NOT_NOW, True
    link.send(link.write(1, 0, DATA))
    remap(link, FaultyVdisk())
    link.vdisk.release()
    assert link.errors() == [(1, 0)]
    assert link.ask(flush(link, 2)) == []
    link.vdisk.release()
    assert link.errors() == [(2, 0)]
    assert link.vdisk.names[-2:] == ["write", "sync"]


@pytest.mark.parametrize("is_away", [False, True])
def test_no_flush_succeeds_once_that_of_the_old_device_has_failed(
    link: Link, *, is_away: bool
) -> None:
    assert link.ask(link.write(1, 0, DATA)) == [(1, 0)]
    link.vdisk.faults.errno_of["sync"] = errno.EIO
    if is_away:
        remap(link, None)
        assert link.ask(flush(link, 2)) == [(2, EIO)]
    remap(link, FaultyVdisk())
    assert link.ask(flush(link, 3), flush(link, 4)) == [(3, EIO), (4, EIO)]
    assert link.ask(link.write(5, 0, DATA, FUA), link.read(6, 0, BLOCK)) == [(5, 0), (6, 0)]
    zero = link.request(WRITE_ZEROES, 7, 0, BLOCK, FUA)
    assert link.ask(zero) == [(7, EIO)]
