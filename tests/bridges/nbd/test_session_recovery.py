# SPDX-License-Identifier: GPL-2.0-or-later
"""A session whose LUN is slow, busy, changed or failing: what the client sees, and whose memory
is used meanwhile.

Whatever the session has let go of is overwritten at once (``SpoilingSgv``), so that data used too
late comes out wrong.
"""

from __future__ import annotations

import errno

import pytest

from scsi_backend.t10.status import Status
from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.fakes import (
    BUSY,
    READ_16,
    RESERVATION_CONFLICT,
    SYNCHRONIZE_CACHE_16,
    WRITE_16,
    WRITE_SAME_16,
    Ending,
    check_condition,
)
from tests.bridges.nbd.link import DISTINCT_BLOCKS, Link
from tests.bridges.nbd.proto import (
    EINVAL,
    EIO,
    ENOSPC,
    EPERM,
    FLUSH,
    WRITE_ZEROES,
)
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
IN_PLACE = 4 * BLOCK
DIRECT = 200 * BLOCK
# Received in one piece with its header a payload is used where it lies; split, it gets memory.
PAYLOADS = [(IN_PLACE, False), (IN_PLACE, True), (DIRECT, False), (DIRECT, True)]
LATER = -errno.EAGAIN


def _send_write(link: Link, cookie: int, payload: bytes, *, is_split: bool) -> None:
    message = link.write(cookie, 0, payload)
    if is_split:
        link.send(message[: link.form.header_bytes])
        link.send(message[link.form.header_bytes :])
    else:
        link.send(message)


@pytest.mark.parametrize(("length", "is_split"), PAYLOADS)
def test_payload_of_a_slow_write_outlives_further_requests(
    link: Link, length: int, is_split: bool
) -> None:
    link.vdisk.immediate_bytes = LATER
    link.vdisk.is_held = True
    _send_write(link, 1, pattern(70, length), is_split=is_split)
    for cookie in range(2, 30):
        link.send(link.write(cookie, 512 * BLOCK, pattern(71, length)), link.read(90, 0, BLOCK))
    link.vdisk.release()
    assert link.vdisk.blocks(0, length // BLOCK) == pattern(70, length)
    link.vdisk.release_all()
    assert [error for _, error in link.errors()] == [0] * 57


@pytest.mark.parametrize(("length", "is_split"), PAYLOADS)
def test_payload_of_a_write_that_is_tried_again_outlives_further_requests(
    link: Link, length: int, is_split: bool
) -> None:
    link.lun.unit.fail(WRITE_16, *[BUSY] * 5)
    _send_write(link, 1, pattern(70, length), is_split=is_split)
    assert link.connection.held_bytes == length
    link.send(link.read(2, 0, BLOCK), link.request(FLUSH, 3), link.read(4, BLOCK, BLOCK))
    assert link.errors() == [(2, 0), (3, 0), (4, 0)]
    link.clock.advance(1.0)
    assert link.errors() == [(1, 0)]
    assert link.vdisk.blocks(0, length // BLOCK) == pattern(70, length)
    assert link.connection.held_bytes == 0


@pytest.mark.parametrize(("length", "is_split"), PAYLOADS)
def test_payload_survives_being_busy_and_then_slow(link: Link, length: int, is_split: bool) -> None:
    link.lun.unit.fail(WRITE_16, BUSY)
    link.vdisk.immediate_bytes = LATER
    link.vdisk.is_held = True
    _send_write(link, 1, pattern(70, length), is_split=is_split)
    link.clock.advance(1.0)
    link.send(*(link.read(cookie, 0, BLOCK) for cookie in range(2, 20)))
    assert link.connection.held_bytes == length
    link.vdisk.release_all()
    assert sorted(link.errors()) == [(cookie, 0) for cookie in range(1, 20)]
    assert link.vdisk.blocks(0, length // BLOCK) == pattern(70, length)


@pytest.mark.parametrize(("length", "is_split"), PAYLOADS)
def test_payload_of_a_write_that_fails_is_given_back(
    link: Link, length: int, is_split: bool
) -> None:
    link.lun.unit.fail(WRITE_16, check_condition("03/0C/00"))
    _send_write(link, 1, pattern(70, length), is_split=is_split)
    assert link.errors() == [(1, EIO)]
    assert link.connection.held_bytes == 0
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS


def test_slow_reads_that_end_in_any_order_get_their_own_data(link: Link) -> None:
    link.vdisk.immediate_bytes = LATER
    link.vdisk.is_held = True
    link.send(*(link.read(lba, lba * BLOCK, 2 * BLOCK) for lba in range(600)))
    answers = []
    for index in (*range(0, 300, 3), *range(40)):
        link.vdisk.release(index)
        if index % 7 == 0:
            answers += link.answers()
    link.vdisk.release_all()
    answers += link.answers()
    assert sorted(answers) == [
        (cookie, 0, DISTINCT_BLOCKS[cookie * BLOCK :][: 2 * BLOCK]) for cookie in range(600)
    ]


def test_a_read_that_failed_disturbs_no_other(link: Link) -> None:
    link.vdisk.faults.errno_at[2] = errno.EIO
    link.send(link.read(1, 0, 8 * BLOCK), link.read(2, 4 * BLOCK, BLOCK))
    assert link.answers() == [(1, EIO, b""), (2, 0, pattern(4, BLOCK))]


def test_a_read_that_recovered_without_all_data_is_an_error(link: Link) -> None:
    # The rest of the buffer is what somebody else left there.
    link.lun.unit.fail(READ_16, check_condition("01/17/01"))
    assert link.ask(link.read(1, 0, BLOCK)) == [(1, EIO)]


@pytest.mark.parametrize("status", [Status.BUSY, Status.TASK_SET_FULL])
def test_busy_is_tried_again_unseen(link: Link, status: Status) -> None:
    opcodes = (READ_16, WRITE_16, SYNCHRONIZE_CACHE_16, WRITE_SAME_16)
    for opcode in opcodes:
        link.lun.unit.fail(opcode, Ending(status), Ending(status))
    link.send(
        link.read(1, 3 * BLOCK, BLOCK),
        link.write(2, 0, pattern(50, BLOCK)),
        link.request(FLUSH, 3),
        link.request(WRITE_ZEROES, 4, BLOCK, BLOCK),
    )
    assert link.answers() == []
    assert link.session.open_requests == 4
    link.clock.advance(1.0)
    assert sorted(link.answers()) == [
        (1, 0, pattern(3, BLOCK)),
        (2, 0, b""),
        (3, 0, b""),
        (4, 0, b""),
    ]
    assert link.vdisk.blocks(0, 2) == pattern(50, BLOCK) + bytes(BLOCK)


def test_busy_for_ever_is_eio_before_linux_gives_the_connection_up(link: Link) -> None:
    link.lun.unit.fail(WRITE_16, *[BUSY] * 1000)
    link.lun.unit.fail(READ_16, *[BUSY] * 1000)
    link.send(link.write(1, 0, bytes(BLOCK)), link.read(2, 0, BLOCK))
    link.clock.advance(20.0)
    assert link.answers() == []
    link.clock.advance(9.9)
    assert sorted(link.errors()) == [(1, EIO), (2, EIO)]
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS


def test_reservation_conflict_is_eperm_at_once(link: Link) -> None:
    link.lun.unit.fail(WRITE_16, RESERVATION_CONFLICT)
    assert link.ask(link.write(1, 0, bytes(BLOCK))) == [(1, EPERM)]
    assert len(link.cdbs) == 1


def test_no_space_reaches_the_client(link: Link) -> None:
    link.vdisk.immediate_bytes = LATER
    link.vdisk.faults.errno_of["write"] = errno.ENOSPC
    assert link.ask(link.write(1, 0, bytes(BLOCK))) == [(1, ENOSPC)]


def test_failed_flush_reaches_the_client(link: Link) -> None:
    link.vdisk.faults.errno_of["sync"] = errno.EIO
    assert link.ask(link.request(FLUSH, 1)) == [(1, EIO)]


@pytest.mark.parametrize("text", ["06/29/00", "06/2A/01", "06/2A/09", "06/3F/0E", "0B/4B/00"])
def test_unit_attention_and_aborted_command_are_invisible(link: Link, text: str) -> None:
    for opcode in (READ_16, WRITE_16, SYNCHRONIZE_CACHE_16):
        link.lun.unit.fail(opcode, check_condition(text))
    link.send(
        link.read(1, BLOCK, BLOCK), link.write(2, 0, pattern(50, BLOCK)), link.request(FLUSH, 3)
    )
    assert link.answers() == [(1, 0, pattern(1, BLOCK)), (2, 0, b""), (3, 0, b"")]


def test_a_medium_that_may_have_changed_is_not_written(link: Link) -> None:
    link.lun.unit.fail(WRITE_16, check_condition("06/28/00"))
    assert link.ask(link.write(1, 0, bytes(BLOCK))) == [(1, EIO)]
    assert bytes(link.vdisk.data) == DISTINCT_BLOCKS


def _resize(link: Link, blocks: int) -> None:
    link.vdisk.new_block_count = blocks
    assert link.lun.unit.resync_size()


def test_new_bounds_apply_after_a_shrink(link: Link) -> None:
    _resize(link, 512)
    first, beyond = link.read(1, 0, BLOCK), 600 * BLOCK
    assert link.ask(first) == [(1, 0)]
    assert link.ask(link.read(2, beyond, BLOCK), link.write(3, beyond, bytes(BLOCK))) == [
        (2, EINVAL),
        (3, ENOSPC),
    ]
    assert len(link.cdbs) == 1, "nothing past the new end reaches the LUN"


def test_a_request_that_meets_the_shrink_gets_the_error_of_its_command(link: Link) -> None:
    _resize(link, 512)
    beyond = 600 * BLOCK
    assert link.ask(link.write(1, beyond, bytes(BLOCK)), link.read(2, beyond, BLOCK)) == [
        (1, ENOSPC),
        (2, EINVAL),
    ]


def test_new_bounds_apply_after_a_growth(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(2048))
    _resize(link, 512)
    assert link.ask(link.read(1, 0, BLOCK)) == [(1, 0)]
    _resize(link, 2048)
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]
    assert link.ask(link.write(3, 1024 * BLOCK, pattern(9, BLOCK))) == [(3, 0)]
    assert link.vdisk.blocks(1024, 1) == pattern(9, BLOCK)


@pytest.mark.parametrize("length", [BLOCK, DIRECT])
def test_a_growth_noticed_within_a_batch_loses_no_write(open_link: OpenLink, length: int) -> None:
    # The first request meets the unit attention; the second is past the end known before.
    link = open_link(FaultyVdisk(2048))
    _resize(link, 512)
    assert link.ask(link.read(1, 0, BLOCK)) == [(1, 0)]
    _resize(link, 2048)
    payload = pattern(9, length)
    link.send(
        link.read(2, 0, BLOCK),
        link.write(3, 1024 * BLOCK, payload),
        link.read(4, 1024 * BLOCK, BLOCK),
        link.read(5, 0, BLOCK),
    )
    answers = {cookie: (error, data) for cookie, error, data in link.answers()}
    assert answers[2] == answers[5] == (0, bytes(BLOCK))
    was_written = link.vdisk.blocks(1024, length // BLOCK) == payload
    assert answers[3][0] == (0 if was_written else ENOSPC)
    assert answers[4] in ((0, link.vdisk.blocks(1024, 1)), (EINVAL, b""))


def test_a_payload_that_never_ends_leaves_nothing_outstanding(open_link: OpenLink) -> None:
    refused = open_link()
    refused.send(refused.write(1, 5000 * BLOCK, bytes(DIRECT))[:-1])
    assert refused.session.open_requests == 0
    received = open_link()
    received.send(received.request(1, 1, 0, DIRECT))
    received.send(bytes(DIRECT - 1))
    assert received.session.open_requests == 0


def test_a_connection_that_ends_keeps_its_memory_until_its_writes_have(link: Link) -> None:
    link.vdisk.immediate_bytes = LATER
    link.vdisk.is_held = True
    _send_write(link, 1, pattern(70, DIRECT), is_split=True)
    link.send(link.write(2, 300 * BLOCK, pattern(71, IN_PLACE)))
    assert link.session.open_requests == 2
    link.vdisk.release_all()
    assert link.vdisk.blocks(0, 200) == pattern(70, DIRECT)
    assert link.vdisk.blocks(300, 4) == pattern(71, IN_PLACE)
