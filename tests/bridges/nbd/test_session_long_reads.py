# SPDX-License-Identifier: GPL-2.0-or-later
"""Long READs that wait for an atomic write, or that are tried again before data were located."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from scsi_backend.io.located import Located
from scsi_backend.t10.status import Status
from tests.bridges.nbd.fakes import BUSY, COMPARE_AND_WRITE, READ_16, Ending, check_condition
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.fuzz import ThinVdisk
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import EINVAL, EIO

BLOCK = 512
LONG = 128 * BLOCK
# What the disk does not locate, what it does, and a hole.
COPIED, SENT, HOLE = 3 * BLOCK, 4 * BLOCK, 600 * BLOCK
PLACES = [COPIED, SENT, HOLE]
LATER = -errno.EAGAIN


class BrokenVdisk(ThinVdisk):
    """A disk with a defect of its own."""

    def locate_now(self, offset_bytes: int, length_bytes: int) -> Located | None:
        """See ``Vdisk.locate_now``."""
        raise ZeroDivisionError("told to")


def thin(kind: type[ThinVdisk]) -> ThinVdisk:
    """A disk whose second half is a hole."""
    vdisk = kind(1024, BLOCK, is_thin=True)
    vdisk.reset(vdisk.fill()[: 512 * BLOCK] + bytes(512 * BLOCK), range(512, 1024), None)
    return vdisk


@pytest.fixture
def vdisk() -> Iterator[ThinVdisk]:
    vdisk = thin(ThinVdisk)
    yield vdisk
    os.close(vdisk.fd)


@pytest.fixture
def link(vdisk: ThinVdisk, form: Form) -> Iterator[Link]:
    """A link that can send files; in the end all memory must be back and nothing be held."""
    link = Link.open(vdisk, form=form, can_send_files=True, knows_block_sizes=False)
    yield link
    link.close()


def begin_atomic_write(link: Link, cookie: int, offset: int, payload: bytes) -> None:
    """Write into the middle of a block, and stop where the block has been compared."""
    link.vdisk.immediate_bytes = LATER
    link.vdisk.is_held = True
    link.send(link.write(cookie, offset, payload))
    while not any(cdb.startswith(f"{COMPARE_AND_WRITE:02x}") for cdb in link.cdbs):
        link.vdisk.release()
    assert link.vdisk.held, "the lock is held"


@pytest.mark.parametrize("place", PLACES)
def test_a_read_of_what_is_being_written_waits_and_finds_it_whole(link: Link, place: int) -> None:
    begin_atomic_write(link, 1, place + 700, b"spdx" * 10)
    link.send(link.read(2, place, LONG))
    assert (link.answers(), link.session.open_requests) == ([], 2)
    link.vdisk.release_all()
    expected = bytearray(link.vdisk.data[place : place + LONG])
    assert expected[700:740] == b"spdx" * 10
    assert sorted(link.answers()) == [(1, 0, b""), (2, 0, bytes(expected))]


@pytest.mark.parametrize("place", PLACES)
def test_a_read_beside_it_does_not_wait(link: Link, place: int) -> None:
    begin_atomic_write(link, 1, 300 * BLOCK + 1, b"spdx")
    link.vdisk.immediate_bytes = None
    link.send(link.read(2, place, LONG))
    assert link.answers() == [(2, 0, bytes(link.vdisk.data[place : place + LONG]))]
    link.vdisk.release_all()
    assert link.errors() == [(1, 0)]


@pytest.mark.parametrize("place", PLACES)
def test_reads_that_wait_count_as_if_they_had_memory(link: Link, place: int) -> None:
    # Once they begin, each may want as much as it has asked for.
    begin_atomic_write(link, 1, place + 1, b"spdx")
    before = link.connection.held_bytes
    for cookie in range(2, 12):
        link.send(link.read(cookie, place, LONG))
    assert link.connection.held_bytes - before == 10 * LONG
    assert link.connection.out.used_bytes == 0
    link.vdisk.release_all()
    assert link.connection.held_bytes == 0
    assert sorted(link.errors()) == [(cookie, 0) for cookie in range(1, 12)]


def test_a_read_that_waited_and_is_then_busy_counts_once(link: Link) -> None:
    begin_atomic_write(link, 1, SENT + 1, b"spdx")
    link.send(link.read(2, SENT, LONG))
    link.lun.unit.fail(READ_16, BUSY)
    link.vdisk.release_all()
    assert link.errors() == [(1, 0)]
    assert link.connection.held_bytes == 0
    assert link.connection.out.used_bytes >= LONG
    link.clock.advance(1.0)
    link.vdisk.release_all()
    assert link.errors() == [(2, 0)]


@pytest.mark.parametrize("place", PLACES)
def test_a_read_that_waited_while_the_disk_shrank_is_an_error(link: Link, place: int) -> None:
    begin_atomic_write(link, 1, place + 1, b"spdx")
    link.send(link.read(2, place, LONG))
    # It is the first to be begun, and past the end.
    link.vdisk.new_block_count = place // BLOCK + 2
    assert link.lun.unit.resync_size()
    link.vdisk.release_all()
    assert (2, EINVAL) in link.errors()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "ending",
    [
        Ending(Status.TASK_SET_FULL),
        Ending(Status.TASK_ABORTED),
        check_condition("06/29/00"),
        check_condition("06/2A/09"),
        check_condition("0B/4B/00"),
        check_condition("02/04/01"),
    ],
)
def test_what_passes_is_not_seen(link: Link, place: int, ending: Ending) -> None:
    link.lun.unit.fail(READ_16, ending)
    link.send(link.read(1, place, LONG))
    link.clock.advance(1.0)
    assert link.answers() == [(1, 0, bytes(link.vdisk.data[place : place + LONG]))]


@pytest.mark.parametrize("place", PLACES)
def test_a_unit_attention_of_the_nexus_comes_before_anything_is_located(
    link: Link, place: int
) -> None:
    link.vdisk.new_block_count = 1000
    assert link.lun.unit.resync_size()
    link.send(link.read(1, place, LONG), link.read(2, place, LONG))
    data = bytes(link.vdisk.data[place : place + LONG])
    assert link.answers() == [(1, 0, data), (2, 0, data)]


@pytest.mark.parametrize("place", PLACES)
def test_what_does_not_pass_is_an_error(link: Link, place: int) -> None:
    link.lun.unit.fail(READ_16, *[check_condition("06/29/00")] * 20)
    assert link.ask(link.read(1, place, LONG)) == [(1, EIO)]
    assert link.connection.out.used_bytes == link.connection.out.queued_bytes == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_read_that_recovered_without_data_is_an_error(link: Link, place: int) -> None:
    # The memory holds what somebody else left there.
    link.lun.unit.fail(READ_16, check_condition("01/17/01"))
    assert link.ask(link.read(1, place, LONG)) == [(1, EIO)]


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_bad_block_met_at_the_second_try_is_told_with_what_lies_before_it(
    vdisk: ThinVdisk, link: Link, is_slow: bool
) -> None:
    vdisk.bad_block = 20
    vdisk.is_held = is_slow
    link.lun.unit.fail(READ_16, BUSY)
    link.send(link.read(1, SENT, LONG))
    link.clock.advance(1.0)
    vdisk.release_all()
    (answer,) = link.results()
    assert answer.error == EIO
    if link.form is not Form.SIMPLE:
        assert answer.data == vdisk.data[SENT : 20 * BLOCK]
        assert answer.error_offset == 20 * BLOCK


def test_memory_wanted_late_holds_nobody_elses_data(link: Link) -> None:
    link.vdisk.immediate_bytes = LATER
    link.vdisk.is_held = True
    link.send(*(link.read(cookie, COPIED, LONG) for cookie in range(20)))
    link.send(*(link.read(cookie, SENT, LONG) for cookie in range(20, 40)))
    copied, sent = (bytes(link.vdisk.data[at : at + LONG]) for at in (COPIED, SENT))
    assert link.answers() == [(cookie, 0, sent) for cookie in range(20, 40)]
    for index in (7, 3, 11, 0):
        link.vdisk.release(index)
    link.vdisk.release_all()
    assert sorted(link.answers()) == [(cookie, 0, copied) for cookie in range(20)]


def test_a_defect_of_the_disk_costs_the_command_only(
    form: Form, caplog: pytest.LogCaptureFixture
) -> None:
    vdisk = thin(BrokenVdisk)
    link = Link.open(vdisk, form=form, can_send_files=True)
    answers = link.ask(link.read(1, SENT, LONG), link.read(2, SENT, BLOCK))
    assert answers == [(1, EIO), (2, 0)]
    assert "ZeroDivisionError: told to" in caplog.text
    link.close()
    os.close(vdisk.fd)


def test_a_stream_that_cannot_send_files_has_nothing_located(form: Form) -> None:
    vdisk = thin(BrokenVdisk)
    link = Link.open(vdisk, form=form, can_send_files=False)
    link.send(link.read(1, HOLE, LONG), link.read(2, SENT, LONG))
    assert link.answers() == [(1, 0, bytes(LONG)), (2, 0, bytes(vdisk.data[SENT : SENT + LONG]))]
    link.close()
    os.close(vdisk.fd)


@pytest.mark.parametrize("form", [Form.SIMPLE], indirect=True)
@pytest.mark.parametrize("blocks", [64, 65, 127, 129, 424])
def test_zeros_without_a_word_for_them_fill_all_of_the_reply(link: Link, blocks: int) -> None:
    # The memory before was somebody's.
    link.send(link.read(1, COPIED, 424 * BLOCK))
    assert len(link.answers()) == 1
    link.send(link.read(2, HOLE, blocks * BLOCK), link.read(3, SENT, BLOCK))
    assert link.answers()[0] == (2, 0, bytes(blocks * BLOCK))
