# SPDX-License-Identifier: GPL-2.0-or-later
"""Long READs whose data need not be copied: from a file, as a hole, and when that goes wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from scsi_backend.io.located import ZEROS
from scsi_backend.io.sgv import SgvBuffer
from tests.bridges.nbd.fakes import BUSY, READ_16, RESERVATION_CONFLICT
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.fuzz import ThinVdisk
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import DF, EIO, EPERM

BLOCK = 512
LONG = 128 * BLOCK
# Not located, as is every third block's beginning; located.
COPIED, SENT = 3 * BLOCK, 4 * BLOCK
MEMORY = 128 << 10


@pytest.fixture
def vdisk() -> Iterator[ThinVdisk]:
    """A disk whose second half is a hole."""
    vdisk = ThinVdisk(1024, BLOCK, is_thin=True)
    vdisk.reset(vdisk.fill()[: 512 * BLOCK] + bytes(512 * BLOCK), range(512, 1024), None)
    yield vdisk
    os.close(vdisk.fd)


@pytest.fixture
def link(vdisk: ThinVdisk, form: Form) -> Iterator[Link]:
    """A link to it that can send files."""
    link = Link.open(vdisk, form=form, can_send_files=True, knows_block_sizes=False)
    yield link
    link.close()


@pytest.mark.parametrize("offset", [COPIED, SENT])
@pytest.mark.parametrize("length", [LONG - BLOCK, LONG, LONG + BLOCK, 64 * BLOCK, 63 * BLOCK])
def test_data_are_the_same_wherever_they_come_from(link: Link, offset: int, length: int) -> None:
    link.send(link.read(1, offset, length), link.read(2, offset, BLOCK))
    data = bytes(link.vdisk.data[offset : offset + length])
    assert link.answers() == [(1, 0, data), (2, 0, data[:BLOCK])]


def test_what_is_sent_from_the_file_is_not_read(link: Link) -> None:
    link.vdisk.log.clear()
    link.send(link.read(1, SENT, LONG))
    assert link.vdisk.names == []
    assert len(link.answers()[0][2]) == LONG


def test_a_hole_is_told_where_there_are_words_for_it(link: Link) -> None:
    link.send(link.read(1, 600 * BLOCK, LONG))
    replies = link.connection.replies()
    (answer,) = link.transcript.take(replies)
    assert answer.data == bytes(LONG)
    assert (len(replies) > LONG) is (link.form is Form.SIMPLE)


@pytest.mark.parametrize("form", [Form.STRUCTURED, Form.EXTENDED], indirect=True)
def test_df_wants_data_and_no_hole(link: Link) -> None:
    link.send(link.read(1, 600 * BLOCK, LONG, DF))
    replies = link.connection.replies()
    assert len(replies) > LONG
    assert [answer.error for answer in link.transcript.take(replies)] == [0]


@pytest.mark.parametrize("offset", [COPIED, SENT, 600 * BLOCK])
def test_busy_is_tried_again_with_memory(link: Link, offset: int) -> None:
    link.lun.unit.fail(READ_16, BUSY, BUSY)
    link.send(link.read(1, offset, LONG))
    assert link.answers() == []
    link.clock.advance(1.0)
    assert link.answers() == [(1, 0, bytes(link.vdisk.data[offset : offset + LONG]))]


@pytest.mark.parametrize("offset", [COPIED, SENT, 600 * BLOCK])
def test_failure_for_good_gives_the_memory_back(link: Link, offset: int) -> None:
    link.lun.unit.fail(READ_16, RESERVATION_CONFLICT)
    assert link.ask(link.read(1, offset, LONG)) == [(1, EPERM)]


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_bad_block_is_met_by_reading(vdisk: ThinVdisk, link: Link, is_slow: bool) -> None:
    vdisk.bad_block = 20
    vdisk.is_held = is_slow
    link.send(link.read(1, SENT, LONG), link.read(2, 30 * BLOCK, LONG))
    vdisk.release_all()
    answers = {answer.cookie: answer for answer in link.results()}
    assert (answers[1].error, answers[2].error) == (EIO, 0)
    if link.form is not Form.SIMPLE:
        assert answers[1].data == vdisk.data[SENT : 20 * BLOCK]
        assert answers[1].error_offset == 20 * BLOCK


def test_slow_reads_end_behind_those_that_are_sent(vdisk: ThinVdisk, link: Link) -> None:
    vdisk.immediate_bytes = -errno.EAGAIN
    vdisk.is_held = True
    link.send(link.read(1, COPIED, LONG), link.read(2, SENT, LONG), link.read(3, 600 * BLOCK, LONG))
    assert link.errors() == [(2, 0), (3, 0)]
    vdisk.release_all()
    assert link.answers() == [(1, 0, bytes(vdisk.data[COPIED : COPIED + LONG]))]


def test_this_disk_locates_what_the_tests_say(vdisk: ThinVdisk) -> None:
    assert vdisk.locate_now(COPIED, LONG) is None
    assert vdisk.locate_now(600 * BLOCK, LONG) is ZEROS
    assert vdisk.locate_now(SENT, LONG) is not None


@pytest.mark.parametrize("offset", [COPIED, 512 * BLOCK], ids=["data", "hole"])
def test_a_read_without_memory_is_an_error_and_others_go_on(
    link: Link, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With its header longer than the chunk that there is.
    length = 512 * BLOCK
    get = link.connection.sgv.get

    def poor(size_bytes: int) -> SgvBuffer:
        if size_bytes > MEMORY:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return get(size_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(link.connection.sgv, "get", poor)
        link.send(link.read(1, offset, length))
        expected = 0 if offset > COPIED and link.form is not Form.SIMPLE else EIO
        assert [(cookie, error) for cookie, error, _ in link.answers()] == [(1, expected)]
    link.send(link.read(2, SENT, BLOCK))
    assert [(cookie, error) for cookie, error, _ in link.answers()] == [(2, 0)]
