# SPDX-License-Identifier: GPL-2.0-or-later
"""Each request, well formed or not: reply bytes, CDBs, and where the session goes on reading."""

from __future__ import annotations

import pytest

from tests.bridges.nbd.conftest import OpenLink
from tests.bridges.nbd.forms import PAYLOAD_LEN, Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import (
    CACHE,
    DF,
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
)
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk, pattern
from tests.scsi_backend.initiator import assert_check_condition, connect_unit

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


def _message(link: Link, kind: int, cookie: int, offset: int, length: int, flags: int = 0) -> bytes:
    payload = b"\xaa" * length if kind == WRITE else b""
    return link.request(kind, cookie, offset, length, flags, payload)


# A READ and a WRITE with their replies, as bytes.
READ_REQUESTS = {
    Form.SIMPLE: "25609513 0000 0000 0102030405060708 0000000000000400 00000200",
    Form.STRUCTURED: "25609513 0000 0000 0102030405060708 0000000000000400 00000200",
    Form.EXTENDED: "21e41c71 0000 0000 0102030405060708 0000000000000400 0000000000000200",
}
READ_REPLIES = {
    Form.SIMPLE: "67446698 00000000 0102030405060708",
    Form.STRUCTURED: "668e33ef 0001 0001 0102030405060708 00000208 0000000000000400",
    Form.EXTENDED: "6e8a278c 0001 0001 0102030405060708 0000000000000400 0000000000000208"
    "0000000000000400",
}
WRITE_REQUESTS = {
    Form.SIMPLE: "25609513 0000 0001 fffffffffffffffe 0000000000000600 00000400",
    Form.STRUCTURED: "25609513 0000 0001 fffffffffffffffe 0000000000000600 00000400",
    Form.EXTENDED: "21e41c71 0020 0001 fffffffffffffffe 0000000000000600 0000000000000400",
}
WRITE_REPLIES = {
    Form.SIMPLE: "67446698 00000000 fffffffffffffffe",
    Form.STRUCTURED: "67446698 00000000 fffffffffffffffe",
    Form.EXTENDED: "6e8a278c 0001 0000 fffffffffffffffe 0000000000000600 0000000000000000",
}


def test_read_is_one_cdb_and_data_behind_the_reply_header(link: Link) -> None:
    link.send(bytes.fromhex(READ_REQUESTS[link.form]))
    replies = bytes.fromhex(READ_REPLIES[link.form]) + pattern(2, BLOCK)
    assert link.connection.replies() == replies
    assert link.cdbs == ["88000000000000000002000000010000"]


def test_write_is_one_cdb_with_the_payload(link: Link) -> None:
    payload = bytes(range(256)) * 4
    link.send(bytes.fromhex(WRITE_REQUESTS[link.form]) + payload)
    assert link.connection.replies() == bytes.fromhex(WRITE_REPLIES[link.form])
    assert link.cdbs == ["8a000000000000000003000000020000"]
    assert link.vdisk.blocks(2, 4) == pattern(2, BLOCK) + payload + pattern(5, BLOCK)


def test_write_with_fua_sets_the_bit_and_waits_for_the_sync(link: Link) -> None:
    link.vdisk.is_held = True
    link.send(link.write(1, 0, bytes(BLOCK), FUA))
    assert link.cdbs == ["8a080000000000000000000000010000"]
    assert link.answers() == []
    assert link.vdisk.names[-2:] == ["write_now", "sync"]
    link.vdisk.release_all()
    assert link.errors() == [(1, 0)]


def test_flush_synchronizes_the_whole_cache(link: Link) -> None:
    link.vdisk.is_held = True
    link.send(link.request(FLUSH, 7))
    assert link.cdbs == ["91000000000000000000000000000000"]
    assert link.answers() == []
    link.vdisk.release_all()
    assert link.errors() == [(7, 0)]


def test_flush_ignores_offset_and_length(link: Link) -> None:
    assert link.ask(link.request(FLUSH, 1, 1 << 40, 77)) == [(1, 0)]


@pytest.mark.parametrize("is_write_through", [True, False])
def test_flush_is_sent_though_there_was_no_volatile_cache(
    open_link: OpenLink, is_write_through: bool
) -> None:
    link = open_link(FaultyVdisk(write_through=is_write_through, nv_cache=not is_write_through))
    assert link.ask(link.request(FLUSH, 1)) == [(1, 0)]
    assert link.cdbs == ["91000000000000000000000000000000"]


def test_flush_reaches_a_cache_that_was_turned_on_meanwhile(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(write_through=True))
    other = connect_unit(link.lun.unit)
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/29/00")
    wce_on = bytes(4) + bytes.fromhex("081204") + bytes(17)
    other.good(cdbs.raw("151000001800"), wce_on)
    other.good(cdbs.block(cdbs.WRITE, 16, 7, 1), bytes(512))
    assert link.vdisk.names == ["write_now"]
    assert link.ask(link.request(FLUSH, 1)) == [(1, 0)]
    assert link.vdisk.names == ["write_now", "sync"]


def test_trim_unmaps(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    assert link.ask(link.request(TRIM, 1, 8 * BLOCK, 16 * BLOCK)) == [(1, 0)]
    assert link.cdbs == ["42000000000000001800"]
    assert link.vdisk.log[-1] == ("unmap", 8 * BLOCK, 16 * BLOCK)


def test_trim_of_a_disk_that_cannot_is_a_hint_not_taken(link: Link) -> None:
    assert link.ask(link.request(TRIM, 1, 0, BLOCK)) == [(1, 0)]
    assert link.cdbs == []


def test_cache_prefetches(link: Link) -> None:
    assert link.ask(link.request(CACHE, 1, 4 * BLOCK, 8 * BLOCK)) == [(1, 0)]
    assert link.cdbs == ["90020000000000000004000000080000"]


def test_write_zeroes_is_write_same(link: Link) -> None:
    assert link.ask(link.request(WRITE_ZEROES, 1, 4 * BLOCK, 8 * BLOCK)) == [(1, 0)]
    assert link.cdbs == ["93010000000000000004000000080000"]
    assert link.vdisk.blocks(4, 8) == bytes(8 * BLOCK)


@pytest.mark.parametrize(("flags", "byte_1"), [(0, "09"), (NO_HOLE, "01")])
def test_no_hole_forbids_unmapping(open_link: OpenLink, flags: int, byte_1: str) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    assert link.ask(link.request(WRITE_ZEROES, 1, 0, 8 * BLOCK, flags)) == [(1, 0)]
    assert link.cdbs == [f"93{byte_1}0000000000000000000000080000"]


@pytest.mark.parametrize(("kind", "opcode"), [(TRIM, "42"), (WRITE_ZEROES, "93")])
def test_fua_without_a_bit_for_it_synchronizes_the_range(
    open_link: OpenLink, kind: int, opcode: str
) -> None:
    link = open_link(FaultyVdisk(is_thin=True))
    assert link.ask(link.request(kind, 1, 4 * BLOCK, 8 * BLOCK, FUA)) == [(1, 0)]
    assert [cdb[:2] for cdb in link.cdbs] == [opcode, "91"]
    assert link.cdbs[1] == "91000000000000000004000000080000"


@pytest.mark.parametrize("kind", ALLOWED)
@pytest.mark.parametrize("bit", range(16))
def test_flags_that_a_command_does_not_have_are_einval(link: Link, kind: int, bit: int) -> None:
    allowed = ALLOWED[kind]
    if kind == READ and link.form is not Form.SIMPLE:
        allowed |= DF
    if kind == WRITE and link.form is Form.EXTENDED:
        allowed |= PAYLOAD_LEN
    # A thick disk cannot deallocate, which is what is fast.
    accepted = ENOTSUP if 1 << bit == FAST_ZERO else 0
    expected = accepted if allowed & 1 << bit else EINVAL
    link.send(_message(link, kind, 1, 0, BLOCK, 1 << bit))
    if link.form is Form.EXTENDED and 1 << bit == PAYLOAD_LEN and kind != WRITE:
        assert link.errors() == [], "the payload comes first"
        link.send(bytes(BLOCK))
    assert link.errors() == [(1, expected)]
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]


@pytest.mark.parametrize("kind", [8, 9, 255, 0xFFFF])
def test_unknown_commands_are_einval(link: Link, kind: int) -> None:
    assert link.ask(link.request(kind, 1, 0, BLOCK)) == [(1, EINVAL)]
    assert link.ask(link.read(2, 0, BLOCK)) == [(2, 0)]


@pytest.mark.parametrize("is_lun_read_only", [True, False])
def test_read_only_refuses_what_writes(open_link: OpenLink, is_lun_read_only: bool) -> None:
    vdisk = FaultyVdisk(read_only=not is_lun_read_only)
    link = open_link(vdisk, is_read_only=is_lun_read_only)
    assert link.ask(
        *(_message(link, kind, kind, 0, 2 * BLOCK) for kind in (WRITE, TRIM, 6, CACHE))
    ) == [
        (WRITE, EPERM),
        (TRIM, EPERM),
        (WRITE_ZEROES, EPERM),
        (CACHE, 0),
    ]
    assert link.ask(link.read(9, 0, BLOCK), link.request(FLUSH, 10)) == [(9, 0), (10, 0)]
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
    assert link.ask(_message(link, kind, 1, offset, length)) == [(1, expected)]
    assert link.cdbs == []
    assert link.ask(link.read(2, DISK - BLOCK, BLOCK)) == [(2, 0)]


@pytest.mark.parametrize("kind", RANGED)
@pytest.mark.parametrize(("offset", "length"), [(1, BLOCK), (BLOCK, 511), (256, 256)])
def test_what_is_no_whole_block_is_einval(link: Link, kind: int, offset: int, length: int) -> None:
    # The minimum block size is among the answers to GO.
    assert link.ask(_message(link, kind, 1, offset, length)) == [(1, EINVAL)]
    assert link.cdbs == []


@pytest.mark.parametrize("kind", RANGED)
def test_nothing_at_all_succeeds(link: Link, kind: int) -> None:
    assert link.ask(_message(link, kind, 1, BLOCK, 0)) == [(1, 0)]
    assert link.cdbs == []


def test_payloads_up_to_32_mib_are_served(open_link: OpenLink) -> None:
    link = open_link(FaultyVdisk(65 * MIB // BLOCK))
    payload = pattern(99, 32 * MIB)
    assert link.ask(link.write(1, MIB, payload)) == [(1, 0)]
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
    assert link.ask(_message(link, WRITE, 2, 0, too_long), link.read(3, 0, BLOCK)) == [
        (2, EINVAL),
        (3, 0),
    ]
    assert link.cdbs == ["88000000000000000000000000010000"]


def test_commands_without_payload_may_be_longer(open_link: OpenLink) -> None:
    length = 33 * MIB
    link = open_link(FaultyVdisk(length // BLOCK, is_thin=True))
    kinds = (TRIM, CACHE, WRITE_ZEROES)
    assert link.ask(*(link.request(kind, kind, 0, length) for kind in kinds)) == [
        (kind, 0) for kind in kinds
    ]
