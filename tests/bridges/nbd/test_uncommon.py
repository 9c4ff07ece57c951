# SPDX-License-Identifier: GPL-2.0-or-later
"""What is neither a plain READ nor a plain WRITE: payloads to drop, lengths of zero, fast zeros."""

from __future__ import annotations

import pytest

from bridges.stream_session import PeerError
from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.fakes import WRITE_SAME_16, check_condition
from tests.bridges.nbd.forms import PAYLOAD_LEN, Asked, Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import (
    BLOCK_STATUS,
    CACHE,
    DF,
    DISC,
    EINVAL,
    EIO,
    ENOSPC,
    ENOTSUP,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
DISK = 1024 * BLOCK
MIB = 1 << 20
EOVERFLOW = 75


@pytest.fixture
def extended() -> Link:
    """A link with extended headers."""
    return Link.open(form=Form.EXTENDED)


def _with_payload(link: Link, kind: int, cookie: int, length: int, flags: int = 0) -> bytes:
    link.transcript.ask(cookie, Asked(kind, 0, length))
    return Form.EXTENDED.request(kind, cookie, 0, length, PAYLOAD_LEN | flags)


@pytest.mark.parametrize("kind", [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, 8, 0xFFFF])
@pytest.mark.parametrize("length", [0, 1, BLOCK, 300_000])
def test_payload_of_a_command_that_takes_none_is_dropped(
    extended: Link, kind: int, length: int
) -> None:
    extended.send(_with_payload(extended, kind, 1, length))
    for _ in range(length // 1000):
        assert extended.results() == []
        extended.send(bytes(1000))
    extended.send(bytes(length % 1000))
    assert extended.errors() == [(1, EINVAL)]
    assert extended.ask(extended.read(2, 0, BLOCK)) == [(2, 0)]
    assert extended.cdbs[:-1] == []
    extended.close()


def test_payload_of_a_command_that_takes_none_may_come_with_the_next_request(
    extended: Link,
) -> None:
    head = _with_payload(extended, TRIM, 1, 100)
    assert extended.ask(head + b"\xff" * 100 + extended.read(2, 0, BLOCK)) == [(1, EINVAL), (2, 0)]
    extended.close()


def test_a_payload_that_only_costs_patience_ends_the_connection(extended: Link) -> None:
    with pytest.raises(PeerError, match="payload of 134217729 bytes"):
        extended.send(_with_payload(extended, FLUSH, 1, 128 * MIB + 1))


def test_payload_len_does_not_hide_other_flags(extended: Link) -> None:
    message = Form.EXTENDED.request(WRITE, 1, 0, BLOCK, 0x40, bytes(BLOCK))
    extended.transcript.ask(1, Asked(WRITE, 0, BLOCK))
    assert extended.ask(message) == [(1, EINVAL)]
    extended.close()


def test_disconnect_with_a_payload_flag_is_a_disconnect(extended: Link) -> None:
    extended.send(Form.EXTENDED.request(DISC, 1, 0, 5000, PAYLOAD_LEN))
    assert extended.session.wants_close
    extended.close()


@pytest.mark.parametrize("flags", [0, FUA])
def test_a_write_that_forgot_its_flag_is_served(extended: Link, flags: int) -> None:
    # proto.md wants PAYLOAD_LEN on it; a WRITE without a payload would make no sense.
    message = bytearray(Form.EXTENDED.request(WRITE, 1, BLOCK, BLOCK, flags, pattern(9, BLOCK)))
    message[5] &= ~PAYLOAD_LEN
    extended.transcript.ask(1, Asked(WRITE, BLOCK, BLOCK))
    assert extended.ask(bytes(message)) == [(1, 0)]
    assert extended.vdisk.blocks(1, 1) == pattern(9, BLOCK)
    extended.close()


@pytest.mark.parametrize("kind", [READ, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS])
@pytest.mark.parametrize("length", [1 << 32, (1 << 32) + BLOCK, 1 << 63, (1 << 64) - BLOCK])
def test_lengths_of_64_bits_are_not_cut(extended: Link, kind: int, length: int) -> None:
    expected = ENOSPC if kind == WRITE_ZEROES else EINVAL
    assert extended.ask(extended.request(kind, 1, BLOCK, length)) == [(1, expected)]
    assert extended.cdbs == []
    extended.close()


@pytest.mark.parametrize("kind", [READ, WRITE, TRIM, CACHE, WRITE_ZEROES])
@pytest.mark.parametrize("offset", [0, BLOCK, DISK])
def test_nothing_to_do_is_done(open_link: OpenLink, kind: int, offset: int) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    answer = link.result(link.request(kind, 1, offset, 0, FUA))
    assert (answer.error, answer.data, link.cdbs) == (0, b"", [])


@pytest.mark.parametrize("kind", [READ, WRITE, TRIM, CACHE, WRITE_ZEROES])
def test_nothing_to_do_past_the_end_is_refused(link: Link, kind: int) -> None:
    expected = ENOSPC if kind in (WRITE, WRITE_ZEROES) else EINVAL
    assert link.ask(link.request(kind, 1, DISK + BLOCK, 0)) == [(1, expected)]


@pytest.mark.parametrize(
    ("is_thin", "flags", "expected", "cdbs"),
    [
        (True, FAST_ZERO, 0, ["93090000000000000001000000020000"]),
        (True, FAST_ZERO | NO_HOLE, ENOTSUP, []),
        (False, FAST_ZERO, ENOTSUP, []),
        (False, NO_HOLE, 0, ["93010000000000000001000000020000"]),
    ],
)
def test_fast_zeros_are_those_that_deallocate(
    open_link: OpenLink, is_thin: bool, flags: int, expected: int, cdbs: list[str]
) -> None:
    link = open_link(FaultyVdisk(is_thin=is_thin))
    before = link.vdisk.fill()
    assert link.ask(link.request(WRITE_ZEROES, 1, BLOCK, 2 * BLOCK, flags)) == [(1, expected)]
    assert link.cdbs == cdbs
    if expected:
        assert bytes(link.vdisk.data) == before, "a refusal leaves the data alone"


def test_fast_zeros_of_parts_of_blocks_are_refused(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(is_thin=True), knows_block_sizes=False)
    for offset, length in ((1, BLOCK), (0, 100), (BLOCK, BLOCK + 1)):
        message = link.request(WRITE_ZEROES, 1, offset, length, FAST_ZERO)
        assert link.ask(message) == [(1, ENOTSUP)]
    assert link.cdbs == []


def test_zeros_that_fail_are_an_error(link: Link) -> None:
    link.lun.unit.fail(WRITE_SAME_16, check_condition("03/0C/00"))
    assert link.ask(link.request(WRITE_ZEROES, 1, 0, BLOCK)) == [(1, EIO)]


@pytest.mark.parametrize("form", [Form.STRUCTURED, Form.EXTENDED], indirect=True)
def test_df_gets_all_data_in_one_chunk(link: Link) -> None:
    answer = link.result(link.read(1, BLOCK, 3 * BLOCK, DF))
    assert list(answer.pieces) == [BLOCK]
    assert answer.data == link.vdisk.blocks(1, 3)


@pytest.mark.parametrize("form", [Form.STRUCTURED, Form.EXTENDED], indirect=True)
def test_df_beyond_the_longest_payload_is_eoverflow(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(33 * MIB // BLOCK))
    assert link.ask(link.read(1, 0, 32 * MIB + BLOCK, DF)) == [(1, EOVERFLOW)]
    answer = link.result(link.read(2, BLOCK, 32 * MIB, DF))
    assert (answer.error, len(answer.pieces)) == (0, 1)


def test_fua_on_what_does_not_write_changes_nothing(link: Link) -> None:
    assert link.ask(
        link.read(1, 0, BLOCK, FUA),
        link.request(FLUSH, 2, 0, 0, FUA),
        link.request(CACHE, 3, 0, BLOCK, FUA),
    ) == [(1, 0), (2, 0), (3, 0)]
    assert [cdb[:4] for cdb in link.cdbs] == ["8800", "9100", "9002"]
