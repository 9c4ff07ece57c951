# SPDX-License-Identifier: GPL-2.0-or-later
"""READs that fail on the way: the data before the bad block, and where it is (ERROR_OFFSET)."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from tests.bridges.nbd.fakes import READ_16, Ending
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import DISTINCT_BLOCKS, Link
from tests.bridges.nbd.proto import DF, EIO
from tests.scsi_backend.fakes import pattern

BLOCK = 512
MEDIUM_ERROR = Sense(0x03, 0x1100)
HARDWARE_ERROR = Sense(0x04, 0x4400)
NEW_FORMS = [Form.STRUCTURED, Form.EXTENDED]


def _fail_at(link: Link, lba: int | None, sense: Sense = MEDIUM_ERROR, times: int = 1) -> None:
    ending = Ending(Status.CHECK_CONDITION, replace(sense, information=lba))
    link.lun.unit.fail(READ_16, *[ending] * times)


@pytest.mark.parametrize("form", NEW_FORMS, indirect=True)
@pytest.mark.parametrize("bad", [11, 12, 17])
def test_data_before_the_bad_block_come_first(link: Link, bad: int) -> None:
    _fail_at(link, bad)
    answer = link.result(link.read(1, 10 * BLOCK, 8 * BLOCK))
    assert (answer.error, answer.error_offset) == (EIO, bad * BLOCK)
    assert answer.pieces == {10 * BLOCK: DISTINCT_BLOCKS[10 * BLOCK : bad * BLOCK]}
    # Read again: what the failed command left is not to be relied on.
    assert [cdb[18:28] for cdb in link.cdbs] == ["0a00000008", f"0a{bad - 10:08x}"]


@pytest.mark.parametrize("form", NEW_FORMS, indirect=True)
def test_the_chunks_of_a_partial_read_are_these(link: Link) -> None:
    _fail_at(link, 1)
    link.send(link.read(0x0102030405060708, 0, 2 * BLOCK))
    replies = link.connection.replies()
    data, rest = pattern(0, BLOCK).hex(), f"{'00' * 6}0200"
    if link.form is Form.STRUCTURED:
        assert replies.hex().startswith(
            f"668e33ef000000010102030405060708{0x208:08x}{'00' * 8}{data}"
        )
        tail = replies[20 + 8 + BLOCK :]
        assert tail.hex().startswith("668e33ef000180020102030405060708")
        assert tail[20:24].hex() == "00000005"
    else:
        head = f"6e8a278c000000010102030405060708{'00' * 8}{0x208:016x}{'00' * 8}{data}"
        assert replies.hex().startswith(head)
        tail = replies[32 + 8 + BLOCK :]
        assert tail.hex().startswith(f"6e8a278c000180020102030405060708{'00' * 8}")
    assert tail.hex().endswith(rest)


@pytest.mark.parametrize("form", [Form.SIMPLE], indirect=True)
def test_simple_replies_have_no_place_for_parts(link: Link) -> None:
    _fail_at(link, 12)
    answer = link.result(link.read(1, 10 * BLOCK, 8 * BLOCK))
    assert (answer.error, answer.pieces, answer.error_offset) == (EIO, {}, None)
    assert len(link.cdbs) == 1


@pytest.mark.parametrize("form", NEW_FORMS, indirect=True)
def test_a_bad_first_block_leaves_only_its_offset(link: Link) -> None:
    _fail_at(link, 10)
    answer = link.result(link.read(1, 10 * BLOCK, 8 * BLOCK))
    assert (answer.error, answer.pieces, answer.error_offset) == (EIO, {}, 10 * BLOCK)
    assert len(link.cdbs) == 1


@pytest.mark.parametrize(
    ("lba", "sense"),
    [
        (None, MEDIUM_ERROR),
        # Not in this request: before it, behind it, and far away.
        (9, MEDIUM_ERROR),
        (18, MEDIUM_ERROR),
        ((1 << 64) - 1, MEDIUM_ERROR),
        # INFORMATION of other sense keys is no block's address for sure.
        (12, HARDWARE_ERROR),
        # That of another command.
        (12, replace(MEDIUM_ERROR, deferred=True)),
    ],
)
def test_what_is_not_known_for_sure_is_not_told(link: Link, lba: int | None, sense: Sense) -> None:
    _fail_at(link, lba, sense)
    answer = link.result(link.read(1, 10 * BLOCK, 8 * BLOCK))
    assert (answer.error, answer.pieces, answer.error_offset) == (EIO, {}, None)


@pytest.mark.parametrize("form", NEW_FORMS, indirect=True)
def test_data_that_cannot_be_read_again_are_left_out(link: Link) -> None:
    _fail_at(link, 12, times=2)
    answer = link.result(link.read(1, 10 * BLOCK, 8 * BLOCK))
    assert (answer.error, answer.pieces, answer.error_offset) == (EIO, {}, 12 * BLOCK)


@pytest.mark.parametrize("form", NEW_FORMS, indirect=True)
def test_df_allows_one_chunk_before_an_error(link: Link) -> None:
    _fail_at(link, 12)
    answer = link.result(link.read(1, 10 * BLOCK, 8 * BLOCK, DF))
    assert answer.error == EIO
    assert len(answer.pieces) <= 1


def test_memory_of_slow_partial_reads_is_their_own(link: Link) -> None:
    """Failed reads are read again slowly, while others go through the same memory."""
    link.vdisk.immediate_bytes = -errno.EAGAIN
    link.vdisk.is_held = True
    for cookie in range(20):
        _fail_at(link, 8 * cookie + 5)
        link.send(link.read(cookie, 8 * cookie * BLOCK, 8 * BLOCK))
    link.send(*(link.read(cookie, cookie * BLOCK, BLOCK) for cookie in range(100, 120)))
    answers = []
    while link.vdisk.held:
        link.vdisk.release(len(link.vdisk.held) // 2)
        answers += link.results()
    answers += link.results()
    by_cookie = {answer.cookie: answer for answer in answers}
    assert len(by_cookie) == 40
    for cookie in range(100, 120):
        assert by_cookie[cookie].data == pattern(cookie, BLOCK)
    for cookie in range(20):
        start = 8 * cookie * BLOCK
        answer = by_cookie[cookie]
        assert answer.error == EIO
        expected = {} if link.form is Form.SIMPLE else {start: DISTINCT_BLOCKS[start:][: 5 * BLOCK]}
        assert answer.pieces == expected


@pytest.mark.parametrize("bad", [0, 3, 7])
def test_a_disk_with_a_bad_block_gives_what_it_has(link: Link, bad: int) -> None:
    link.vdisk.immediate_bytes = bad * BLOCK or -errno.EAGAIN
    link.vdisk.faults.errno_at[bad] = errno.EIO
    answer = link.result(link.read(1, 0, 8 * BLOCK))
    assert answer.error == EIO
    if link.form is not Form.SIMPLE:
        assert answer.data == DISTINCT_BLOCKS[: bad * BLOCK]
        assert answer.error_offset == bad * BLOCK
