# SPDX-License-Identifier: GPL-2.0-or-later
"""One reply to each counted request, in one form; what is said, and logged, of failures."""

from __future__ import annotations

import logging

import pytest

from tests.bridges.nbd.fakes import (
    READ_16,
    RESERVATION_CONFLICT,
    SYNCHRONIZE_CACHE_16,
    UNMAP,
    WRITE_16,
    WRITE_SAME_16,
    Ending,
    check_condition,
)
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import (
    CACHE,
    EINVAL,
    EIO,
    ENOSPC,
    EPERM,
    FLUSH,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
DISK = 1024 * BLOCK
COMMANDS = (READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES)
OPCODES = {
    READ: READ_16,
    WRITE: WRITE_16,
    FLUSH: SYNCHRONIZE_CACHE_16,
    TRIM: UNMAP,
    WRITE_ZEROES: WRITE_SAME_16,
}
MEDIUM_ERROR = check_condition("03/11/00")
SPACE_GONE = check_condition("07/27/07")


@pytest.fixture
def thin_link(form: Form) -> Link:
    """A link to a disk that can do everything; its tests end with no reply outstanding."""
    return Link.open(FaultyVdisk(is_thin=True), form=form)


def _message(link: Link, kind: int, cookie: int, offset: int = 0) -> bytes:
    payload = bytes(BLOCK) if kind == WRITE else b""
    return link.request(kind, cookie, offset, BLOCK, 0, payload)


@pytest.mark.parametrize("kind", COMMANDS)
def test_each_command_is_answered_once(thin_link: Link, kind: int) -> None:
    assert thin_link.ask(_message(thin_link, kind, 5)) == [(5, 0)]
    assert thin_link.session.open_requests == 0
    thin_link.close()


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != FLUSH])
def test_each_refusal_is_an_answer(thin_link: Link, kind: int) -> None:
    expected = ENOSPC if kind in (WRITE, WRITE_ZEROES) else EINVAL
    answer = thin_link.result(_message(thin_link, kind, 5, DISK))
    assert (answer.cookie, answer.error, answer.error_offset) == (5, expected, None)
    assert thin_link.session.open_requests == 0
    thin_link.close()


@pytest.mark.parametrize("kind", OPCODES)
@pytest.mark.parametrize(
    ("ending", "expected"),
    [(MEDIUM_ERROR, EIO), (RESERVATION_CONFLICT, EPERM), (SPACE_GONE, ENOSPC)],
)
def test_each_failure_is_an_answer(
    thin_link: Link, kind: int, ending: Ending, expected: int
) -> None:
    thin_link.lun.unit.fail(OPCODES[kind], ending)
    assert thin_link.ask(_message(thin_link, kind, 5)) == [(5, expected)]
    assert thin_link.session.open_requests == 0
    thin_link.close()


@pytest.mark.parametrize("cookie", [0, 1, 1 << 63, (1 << 64) - 1])
def test_cookies_come_back_as_they_were(link: Link, cookie: int) -> None:
    assert link.ask(link.read(cookie, 0, BLOCK)) == [(cookie, 0)]
    assert link.ask(link.read(cookie, DISK, BLOCK)) == [(cookie, EINVAL)]


def test_text_of_a_refusal_says_what_was_expected(link: Link) -> None:
    answer = link.result(link.read(1, 256, BLOCK))
    text = "READ of 512 bytes at 256: expected whole blocks of 512 bytes"
    assert answer.text == ("" if link.form is Form.SIMPLE else text)


def test_text_of_a_failure_names_the_sense_data(link: Link) -> None:
    link.lun.unit.fail(WRITE_16, check_condition("03/0C/00"))
    answer = link.result(link.write(1, 0, bytes(BLOCK)))
    assert answer.error == EIO
    if link.form is Form.SIMPLE:
        assert answer.text == ""
    else:
        assert "WRITE" in answer.text
        assert "MEDIUM ERROR" in answer.text


def test_a_success_with_too_little_data_is_an_error(link: Link) -> None:
    link.lun.unit.fail(READ_16, check_condition("01/17/01"))
    assert link.ask(link.read(1, 0, BLOCK)) == [(1, EIO)]


def test_failures_are_logged_and_refusals_are_not(
    link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    # A client that asks for nonsense shall not fill the log; a disk that fails is the operator's.
    caplog.set_level(logging.INFO)
    link.ask(link.read(1, DISK, BLOCK))
    assert caplog.records == []
    link.lun.unit.fail(READ_16, MEDIUM_ERROR)
    link.ask(link.read(2, 0, BLOCK))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("test: faulty: ")
    assert record.getMessage().endswith(": EIO")
