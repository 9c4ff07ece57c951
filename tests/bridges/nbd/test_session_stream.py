# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests as a stream: cut anywhere, one after the other, until the end or an error."""

from __future__ import annotations

import pytest

from bridges.nbd.session import TransmissionSession
from bridges.stream_session import PeerError
from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import DISC, ENOSPC, FLUSH, WRITE, WRITE_ZEROES
from tests.scsi_backend.fakes import pattern

BLOCK = 512
DISK = 1024 * BLOCK
MIB = 1 << 20


def test_a_write_that_only_costs_memory_ends_the_connection(link: Link) -> None:
    with pytest.raises(PeerError, match="payload of 134217729 bytes"):
        link.send(link.request(WRITE, 1, 0, 128 * MIB + 1))


def test_bad_magic_ends_the_connection_after_what_came_before(link: Link) -> None:
    good = link.read(1, 0, BLOCK)
    with pytest.raises(PeerError, match="request magic 0x12345678"):
        link.send(good, bytes.fromhex("12345678") + bytes(24), link.read(2, 0, BLOCK))
    assert link.errors() == [(1, 0)]


def test_requests_with_the_same_cookie_are_both_answered(link: Link) -> None:
    assert link.ask(link.read(7, 0, BLOCK), link.read(7, BLOCK, BLOCK)) == [(7, 0), (7, 0)]


def test_disconnect_lets_what_is_under_way_end_and_takes_no_more(link: Link) -> None:
    link.vdisk.is_held = True
    link.send(link.request(FLUSH, 1), link.request(DISC, 2), link.request(FLUSH, 3))
    assert (link.session.wants_close, link.session.open_requests) == (True, 1)
    link.vdisk.release_all()
    assert link.errors() == [(1, 0)]
    assert link.session.open_requests == 0


def test_replies_leave_in_the_order_in_which_requests_end(link: Link) -> None:
    link.vdisk.immediate_bytes = -11
    link.vdisk.is_held = True
    link.send(link.read(1, 0, BLOCK), link.read(2, BLOCK, BLOCK), link.write(3, 0, bytes(BLOCK)))
    link.vdisk.release(2)
    link.vdisk.release(1)
    link.vdisk.release(0)
    assert link.answers() == [
        (3, 0, b""),
        (2, 0, pattern(1, BLOCK)),
        (1, 0, bytes(BLOCK)),
    ]


def _mixed(link: Link) -> bytes:
    return b"".join(
        (
            link.read(1, BLOCK, 2 * BLOCK),
            link.write(2, 4 * BLOCK, pattern(77, BLOCK)),
            # Refused, with a payload to skip.
            link.write(3, DISK, pattern(66, BLOCK)),
            link.request(FLUSH, 4),
            link.write(5, 5 * BLOCK, b""),
            link.request(WRITE_ZEROES, 6, 7 * BLOCK, BLOCK),
            link.read(7, 4 * BLOCK, BLOCK),
        )
    )


MIXED_ANSWERS = [
    (1, 0, pattern(1, BLOCK) + pattern(2, BLOCK)),
    (2, 0, b""),
    (3, ENOSPC, b""),
    (4, 0, b""),
    (5, 0, b""),
    (6, 0, b""),
    (7, 0, pattern(77, BLOCK)),
]


def test_requests_may_be_split_at_every_byte(link: Link) -> None:
    for position in range(1, len(_mixed(Link.open()))):
        stream = _mixed(link)
        link.send(stream[:position])
        link.send(stream[position:])
        assert link.answers() == MIXED_ANSWERS


def test_requests_may_come_byte_by_byte(link: Link) -> None:
    for value in _mixed(link):
        link.send(bytes((value,)))
    assert link.answers() == MIXED_ANSWERS


@pytest.mark.parametrize("piece_bytes", [1 << 16, 9999, 32 + 65536, 1 << 20])
def test_long_payloads_may_come_in_pieces(open_link: OpenLink, piece_bytes: int) -> None:
    link = open_link()
    payload = pattern(5, 96 << 10)
    stream = (
        link.write(1, 0, payload) + link.write(2, 256 << 10, payload) + link.read(3, 0, 96 << 10)
    )
    for position in range(0, len(stream), piece_bytes):
        link.send(stream[position : position + piece_bytes])
    assert link.answers() == [(1, 0, b""), (2, 0, b""), (3, 0, payload)]
    assert link.vdisk.blocks(512, 192) == payload


def test_no_request_is_handled_while_the_connection_is_full(link: Link) -> None:
    link.connection.is_full = True
    assert link.ask(link.read(1, 0, BLOCK), link.write(2, 0, bytes(BLOCK))) == []
    link.connection.is_full = False
    link.connection.handle_again(link.session)
    assert link.errors() == [(1, 0), (2, 0)]


def test_headers_are_received_alone_only_while_long_writes_follow_one_another(link: Link) -> None:
    session: TransmissionSession = link.session
    for _ in range(2):
        link.send(link.request(WRITE, 1, 0, 128 * BLOCK + BLOCK))
        assert link.ask(bytes(128 * BLOCK + BLOCK)) == [(1, 0)]
        assert session.receive_limit_bytes == link.form.header_bytes
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]
    assert session.receive_limit_bytes == 0
