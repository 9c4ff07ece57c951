# SPDX-License-Identifier: GPL-2.0-or-later
"""Each request, well formed or not: reply bytes, CDBs, and where the session goes on reading."""

from __future__ import annotations

import pytest

from bridges.nbd.session import TransmissionSession
from bridges.stream import PeerError
from tests.bridges.nbd import proto
from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import (
    CACHE,
    DISC,
    EINVAL,
    ENOSPC,
    ENOTSUP,
    EPERM,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    request,
    write,
)
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
DISK = 1024 * BLOCK
MIB = 1 << 20
RANGED = (READ, WRITE, TRIM, CACHE, WRITE_ZEROES)
# Which flags a command takes; FUA goes with every command once it is offered.
ALLOWED = {
    READ: FUA,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    CACHE: FUA,
    WRITE_ZEROES: FUA | NO_HOLE | FAST_ZERO,
}


def _message(kind: int, cookie: int, offset: int, length: int, flags: int = 0) -> bytes:
    payload = b"\xaa" * length if kind == WRITE else b""
    return request(kind, cookie, offset, length, flags, payload)


def test_read_is_one_cdb_and_data_behind_the_reply_header(link: Link) -> None:
    link.send(bytes.fromhex("25609513 0000 0000 0102030405060708 0000000000000400 00000200"))
    assert link.connection.replies() == (
        bytes.fromhex("67446698 00000000 0102030405060708") + pattern(2, BLOCK)
    )
    assert link.cdbs == ["88000000000000000002000000010000"]


def test_write_is_one_cdb_with_the_payload(link: Link) -> None:
    payload = bytes(range(256)) * 4
    header = "25609513 0000 0001 fffffffffffffffe 0000000000000600 00000400"
    link.send(bytes.fromhex(header) + payload)
    assert link.connection.replies() == bytes.fromhex("67446698 00000000 fffffffffffffffe")
    assert link.cdbs == ["8a000000000000000003000000020000"]
    assert link.vdisk.blocks(2, 4) == pattern(2, BLOCK) + payload + pattern(5, BLOCK)


def test_write_with_fua_sets_the_bit_and_waits_for_the_sync(link: Link) -> None:
    link.vdisk.is_held = True
    link.send(write(1, 0, bytes(BLOCK), FUA))
    assert link.cdbs == ["8a080000000000000000000000010000"]
    assert link.answers() == []
    assert link.vdisk.names[-2:] == ["write_now", "sync"]
    link.vdisk.release_all()
    assert link.errors() == [(1, 0)]


def test_flush_synchronizes_the_whole_cache(link: Link) -> None:
    link.vdisk.is_held = True
    link.send(bytes.fromhex("25609513 0000 0003 0000000000000007 0000000000000000 00000000"))
    assert link.cdbs == ["91000000000000000000000000000000"]
    assert link.answers() == []
    link.vdisk.release_all()
    assert link.errors() == [(7, 0)]


def test_flush_ignores_offset_and_length(link: Link) -> None:
    assert link.ask(request(FLUSH, 1, 1 << 40, 77)) == [(1, 0)]


@pytest.mark.parametrize("is_write_through", [True, False])
def test_flush_without_a_volatile_cache_sends_no_cdb(
    open_link: OpenLink, is_write_through: bool
) -> None:
    link = open_link(FaultyVdisk(write_through=is_write_through, nv_cache=not is_write_through))
    assert link.ask(request(FLUSH, 1)) == [(1, 0)]
    assert link.cdbs == []


def test_trim_unmaps(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    assert link.ask(request(TRIM, 1, 8 * BLOCK, 16 * BLOCK)) == [(1, 0)]
    assert link.cdbs == ["42000000000000001800"]
    assert link.vdisk.log[-1] == ("unmap", 8 * BLOCK, 16 * BLOCK)


def test_trim_of_a_disk_that_cannot_is_a_hint_not_taken(link: Link) -> None:
    assert link.ask(request(TRIM, 1, 0, BLOCK)) == [(1, 0)]
    assert link.cdbs == []


def test_cache_prefetches(link: Link) -> None:
    assert link.ask(request(CACHE, 1, 4 * BLOCK, 8 * BLOCK)) == [(1, 0)]
    assert link.cdbs == ["90020000000000000004000000080000"]


def test_write_zeroes_is_write_same(link: Link) -> None:
    assert link.ask(request(WRITE_ZEROES, 1, 4 * BLOCK, 8 * BLOCK)) == [(1, 0)]
    assert link.cdbs == ["93010000000000000004000000080000"]
    assert link.vdisk.blocks(4, 8) == bytes(8 * BLOCK)


@pytest.mark.parametrize(("flags", "byte_1"), [(0, "09"), (NO_HOLE, "01")])
def test_no_hole_forbids_unmapping(open_link: OpenLink, flags: int, byte_1: str) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    assert link.ask(request(WRITE_ZEROES, 1, 0, 8 * BLOCK, flags)) == [(1, 0)]
    assert link.cdbs == [f"93{byte_1}0000000000000000000000080000"]


@pytest.mark.parametrize(("kind", "opcode"), [(TRIM, "42"), (WRITE_ZEROES, "93")])
def test_fua_without_a_bit_for_it_synchronizes_the_range(
    open_link: OpenLink, kind: int, opcode: str
) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    assert link.ask(request(kind, 1, 4 * BLOCK, 8 * BLOCK, FUA)) == [(1, 0)]
    assert [cdb[:2] for cdb in link.cdbs] == [opcode, "91"]
    assert link.cdbs[1] == "91000000000000000004000000080000"


@pytest.mark.parametrize("kind", ALLOWED)
@pytest.mark.parametrize("bit", range(16))
def test_flags_that_a_command_does_not_have_are_einval(link: Link, kind: int, bit: int) -> None:
    link.read_lengths[1] = BLOCK if kind == READ else 0
    # A thick disk cannot deallocate, which is what is fast.
    accepted = ENOTSUP if 1 << bit == FAST_ZERO else 0
    expected = accepted if ALLOWED[kind] & 1 << bit else EINVAL
    assert link.ask(_message(kind, 1, 0, BLOCK, 1 << bit)) == [(1, expected)]
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]


@pytest.mark.parametrize("kind", [7, 8, 9, 255, 0xFFFF])
def test_unknown_commands_are_einval(link: Link, kind: int) -> None:
    assert link.ask(request(kind, 1, 0, BLOCK)) == [(1, EINVAL)]
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]


@pytest.mark.parametrize("is_lun_read_only", [True, False])
def test_read_only_refuses_what_writes(open_link: OpenLink, is_lun_read_only: bool) -> None:
    vdisk = FaultyVdisk(read_only=not is_lun_read_only)
    link = open_link(vdisk, is_read_only=is_lun_read_only)
    assert link.ask(*(_message(kind, kind, 0, 2 * BLOCK) for kind in (WRITE, TRIM, 6, CACHE))) == [
        (WRITE, EPERM),
        (TRIM, EPERM),
        (WRITE_ZEROES, EPERM),
        (CACHE, 0),
    ]
    assert link.ask(link.read(9, 0, BLOCK), request(FLUSH, 10)) == [(9, 0), (10, 0)]
    assert [cdb[:2] for cdb in link.cdbs if cdb[:2] not in ("90", "88", "91")] == []


OUT_OF_RANGE = {READ: EINVAL, WRITE: ENOSPC, TRIM: EINVAL, CACHE: EINVAL, WRITE_ZEROES: ENOSPC}


@pytest.mark.parametrize(("kind", "expected"), OUT_OF_RANGE.items())
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (DISK - BLOCK, 2 * BLOCK),
        (DISK, BLOCK),
        (0, DISK + BLOCK),
        ((1 << 64) - BLOCK, BLOCK),
        ((1 << 63), BLOCK),
    ],
)
def test_past_the_end(link: Link, kind: int, expected: int, offset: int, length: int) -> None:
    assert link.ask(_message(kind, 1, offset, length)) == [(1, expected)]
    assert link.cdbs == []
    assert link.ask(link.read(2, DISK - BLOCK, BLOCK)) == [(2, 0)]


@pytest.mark.parametrize("kind", RANGED)
@pytest.mark.parametrize(("offset", "length"), [(1, BLOCK), (BLOCK, 511), (256, 256)])
def test_what_is_no_whole_block_is_einval(link: Link, kind: int, offset: int, length: int) -> None:
    # The minimum block size is among the answers to GO.
    assert link.ask(_message(kind, 1, offset, length)) == [(1, EINVAL)]
    assert link.cdbs == []


@pytest.mark.parametrize("kind", RANGED)
def test_nothing_at_all_succeeds(link: Link, kind: int) -> None:
    assert link.ask(_message(kind, 1, BLOCK, 0)) == [(1, 0)]
    assert link.cdbs == []


def test_payloads_up_to_32_mib_are_served(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(65 * MIB // BLOCK))
    payload = pattern(99, 32 * MIB)
    assert link.ask(write(1, MIB, payload)) == [(1, 0)]
    link.send(link.read(2, MIB, 32 * MIB))
    assert link.answers() == [(2, 0, payload)]
    assert link.cdbs == [
        "8a000000000000000800000100000000",
        "88000000000000000800000100000000",
    ]


def test_longer_payloads_are_einval_and_their_bytes_consumed(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(33 * MIB // BLOCK))
    too_long = 32 * MIB + BLOCK
    assert link.ask(link.read(1, 0, too_long)) == [(1, EINVAL)]
    assert link.ask(_message(WRITE, 2, 0, too_long), link.read(3, 0, BLOCK)) == [
        (2, EINVAL),
        (3, 0),
    ]
    assert link.cdbs == ["88000000000000000000000000010000"]


def test_commands_without_payload_may_be_longer(open_link: OpenLink) -> None:
    length = 33 * MIB
    link = open_link(FaultyVdisk(length // BLOCK, is_thin=True))
    kinds = (TRIM, CACHE, WRITE_ZEROES)
    assert link.ask(*(request(kind, kind, 0, length) for kind in kinds)) == [
        (kind, 0) for kind in kinds
    ]


def test_a_write_that_only_costs_memory_ends_the_connection(link: Link) -> None:
    with pytest.raises(PeerError, match="payload of 134217729 bytes"):
        link.send(request(WRITE, 1, 0, 128 * MIB + 1))


def test_bad_magic_ends_the_connection_after_what_came_before(link: Link) -> None:
    good = link.read(1, 0, BLOCK)
    with pytest.raises(PeerError, match="request magic 0x12345678"):
        link.send(good, bytes.fromhex("12345678") + bytes(24), link.read(2, 0, BLOCK))
    assert link.errors() == [(1, 0)]


def test_requests_with_the_same_cookie_are_both_answered(link: Link) -> None:
    assert link.ask(link.read(7, 0, BLOCK), link.read(7, BLOCK, BLOCK)) == [(7, 0), (7, 0)]


def test_disconnect_lets_what_is_under_way_end_and_takes_no_more(link: Link) -> None:
    link.vdisk.is_held = True
    link.send(request(FLUSH, 1), request(DISC, 2), request(FLUSH, 3))
    assert (link.session.wants_close, link.session.open_requests) == (True, 1)
    link.vdisk.release_all()
    assert link.errors() == [(1, 0)]
    assert link.session.open_requests == 0


def test_replies_leave_in_the_order_in_which_requests_end(link: Link) -> None:
    link.vdisk.immediate_bytes = -11
    link.vdisk.is_held = True
    link.send(link.read(1, 0, BLOCK), link.read(2, BLOCK, BLOCK), write(3, 0, bytes(BLOCK)))
    link.vdisk.release(2)
    link.vdisk.release(1)
    link.vdisk.release(0)
    assert link.answers() == [
        (3, 0, b""),
        (2, 0, pattern(1, BLOCK)),
        (1, 0, bytes(BLOCK)),
    ]


MIXED = (
    proto.request(READ, 1, BLOCK, 2 * BLOCK),
    proto.write(2, 4 * BLOCK, pattern(77, BLOCK)),
    # Refused, with a payload to skip.
    proto.write(3, DISK, pattern(66, BLOCK)),
    proto.request(FLUSH, 4),
    proto.write(5, 5 * BLOCK, b""),
    proto.request(WRITE_ZEROES, 6, 7 * BLOCK, BLOCK),
    proto.request(READ, 7, 4 * BLOCK, BLOCK),
)
MIXED_LENGTHS = {1: 2 * BLOCK, 7: BLOCK}
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
    stream = b"".join(MIXED)
    link.read_lengths.update(MIXED_LENGTHS)
    for position in range(1, len(stream)):
        link.send(stream[:position])
        link.send(stream[position:])
        assert link.answers() == MIXED_ANSWERS


def test_requests_may_come_byte_by_byte(link: Link) -> None:
    link.read_lengths.update(MIXED_LENGTHS)
    for value in b"".join(MIXED):
        link.send(bytes((value,)))
    assert link.answers() == MIXED_ANSWERS


@pytest.mark.parametrize("piece_bytes", [1 << 16, 9999, 28 + 65536, 1 << 20])
def test_long_payloads_may_come_in_pieces(open_link: OpenLink, piece_bytes: int) -> None:
    link = open_link()
    payload = pattern(5, 96 << 10)
    stream = write(1, 0, payload) + write(2, 256 << 10, payload) + link.read(3, 0, 96 << 10)
    for position in range(0, len(stream), piece_bytes):
        link.send(stream[position : position + piece_bytes])
    assert link.answers() == [(1, 0, b""), (2, 0, b""), (3, 0, payload)]
    assert link.vdisk.blocks(512, 192) == payload


def test_no_request_is_handled_while_the_connection_is_full(link: Link) -> None:
    link.connection.is_full = True
    assert link.ask(link.read(1, 0, BLOCK), write(2, 0, bytes(BLOCK))) == []
    link.connection.is_full = False
    link.connection.handle_again(link.session)
    assert link.errors() == [(1, 0), (2, 0)]


def test_headers_are_received_alone_only_while_long_writes_follow_one_another(link: Link) -> None:
    session: TransmissionSession = link.session
    for _ in range(2):
        link.send(request(WRITE, 1, 0, 128 * BLOCK + BLOCK))
        assert link.ask(bytes(128 * BLOCK + BLOCK)) == [(1, 0)]
        assert session.receive_limit_bytes == proto.REQUEST_BYTES
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]
    assert session.receive_limit_bytes == 0
