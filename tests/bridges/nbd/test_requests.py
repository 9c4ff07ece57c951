# SPDX-License-Identifier: GPL-2.0-or-later
"""Which requests are refused, and how: each command with each flag in each state of things.

The tables were written from proto.md ("Request types", "Command flags", "Error values"), and not
from the table that they test.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridges.lun import LunInfo
from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.nbd.requests import Refusal, StatusFilter, check, status_filter
from tests.bridges.nbd.proto import (
    BLOCK_STATUS,
    CACHE,
    DF,
    EINVAL,
    ENOSPC,
    EPERM,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    REQ_ONE,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)
from tests.bridges.nbd.test_translate import DISK

EOVERFLOW = 75
SIZE = 1 << 30
MAX = 32 << 20
INFO = replace(DISK, block_count=SIZE // 512)
READ_ONLY = replace(INFO, is_read_only=True)
SIMPLE = Negotiated()
STRUCTURED = Negotiated(ReplyForm.STRUCTURED)
EXTENDED = Negotiated(ReplyForm.EXTENDED)
ALLOCATION = ((7, "base:allocation"),)
STATUS = replace(STRUCTURED, contexts=ALLOCATION)
EXTENDED_STATUS = replace(EXTENDED, contexts=ALLOCATION)
OBEDIENT = replace(STATUS, knows_block_sizes=True)

# Commands by their numbers, with the flags that each may have when everything was negotiated.
FLAGS = {
    READ: FUA | DF,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    CACHE: FUA,
    WRITE_ZEROES: FUA | NO_HOLE | FAST_ZERO,
    BLOCK_STATUS: FUA | REQ_ONE,
}
RANGED = (READ, WRITE, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS)


def _error(
    negotiated: Negotiated,
    kind: int,
    *,
    flags: int = 0,
    offset: int = 0,
    length: int = 512,
    info: LunInfo = INFO,
) -> int:
    refusal = check(info, negotiated, flags, kind, offset, length)
    return 0 if refusal is None else refusal.error


@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize("bit", range(16))
@pytest.mark.parametrize("negotiated", [STATUS, EXTENDED_STATUS])
def test_each_flag_of_each_command(negotiated: Negotiated, kind: int, bit: int) -> None:
    expected = 0 if FLAGS[kind] & 1 << bit else EINVAL
    assert _error(negotiated, kind, flags=1 << bit) == expected


@pytest.mark.parametrize("kind", FLAGS)
def test_flags_may_be_combined(kind: int) -> None:
    assert _error(STATUS, kind, flags=FLAGS[kind]) == 0
    assert _error(STATUS, kind, flags=FLAGS[kind] | 0x8000) == EINVAL


def test_df_is_not_offered_with_simple_replies() -> None:
    assert _error(SIMPLE, READ, flags=DF) == EINVAL
    assert _error(SIMPLE, READ, flags=FUA) == 0


@pytest.mark.parametrize("kind", [8, 9, 64, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("negotiated", [SIMPLE, STATUS, EXTENDED_STATUS])
def test_unknown_commands(negotiated: Negotiated, kind: int) -> None:
    assert _error(negotiated, kind) == EINVAL


@pytest.mark.parametrize(
    ("negotiated", "expected"),
    [(SIMPLE, EINVAL), (STRUCTURED, EINVAL), (EXTENDED, EINVAL), (STATUS, 0), (EXTENDED_STATUS, 0)],
)
def test_block_status_needs_a_context(negotiated: Negotiated, expected: int) -> None:
    assert _error(negotiated, BLOCK_STATUS) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (READ, 0),
        (WRITE, EPERM),
        (FLUSH, 0),
        (TRIM, EPERM),
        (CACHE, 0),
        (WRITE_ZEROES, EPERM),
        (BLOCK_STATUS, 0),
    ],
)
def test_read_only_export(kind: int, expected: int) -> None:
    assert _error(STATUS, kind, info=READ_ONLY) == expected
    # Policy comes before limits: a smaller request would not do either.
    if expected:
        assert _error(STATUS, kind, info=READ_ONLY, offset=SIZE) == expected


@pytest.mark.parametrize("kind", RANGED)
@pytest.mark.parametrize(
    ("offset", "length", "is_inside"),
    [
        (0, 512, True),
        (SIZE - 512, 512, True),
        (SIZE - 512, 513, False),
        (SIZE - 1, 1, True),
        (SIZE - 1, 2, False),
        (SIZE, 1, False),
        (SIZE + 1, 0, False),
        ((1 << 64) - 1, 1, False),
        ((1 << 64) - 512, 512, False),
        ((1 << 63), (1 << 63), False),
    ],
)
def test_ends_of_the_export(kind: int, offset: int, length: int, is_inside: bool) -> None:
    beyond = ENOSPC if kind in (WRITE, WRITE_ZEROES) else EINVAL
    expected = 0 if is_inside else beyond
    assert _error(STATUS, kind, offset=offset, length=length) == expected


def test_flush_has_no_range() -> None:
    assert _error(OBEDIENT, FLUSH, offset=SIZE + 1, length=77) == 0


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        (READ, 0, EINVAL),
        (READ, DF, EOVERFLOW),
        (WRITE, 0, EINVAL),
        (TRIM, 0, 0),
        (CACHE, 0, 0),
        (WRITE_ZEROES, FAST_ZERO, 0),
        (BLOCK_STATUS, 0, 0),
    ],
)
def test_only_transfers_have_a_longest_payload(kind: int, flags: int, expected: int) -> None:
    assert _error(STATUS, kind, flags=flags, length=MAX) == 0
    assert _error(STATUS, kind, flags=flags, length=MAX + 512) == expected


@pytest.mark.parametrize("kind", RANGED)
@pytest.mark.parametrize(("offset", "length"), [(1, 512), (512, 511), (256, 256), (511, 1)])
def test_parts_of_blocks_are_for_those_who_were_not_told(
    kind: int, offset: int, length: int
) -> None:
    assert _error(STATUS, kind, offset=offset, length=length) == 0
    assert _error(OBEDIENT, kind, offset=offset, length=length) == EINVAL
    assert _error(OBEDIENT, kind, offset=512, length=1024) == 0


@pytest.mark.parametrize("kind", RANGED)
def test_nothing_at_all(kind: int) -> None:
    # A status without an extent cannot be told.
    expected = EINVAL if kind == BLOCK_STATUS else 0
    assert _error(OBEDIENT, kind, offset=512, length=0) == expected
    assert _error(OBEDIENT, kind, offset=SIZE, length=0) == expected


def test_refusals_say_what_was_wrong_and_what_was_expected() -> None:
    refusal = check(INFO, OBEDIENT, 0, READ, 256, 512)
    assert refusal is not None
    assert refusal.text == "READ of 512 bytes at 256: expected whole blocks of 512 bytes"
    refusal = check(INFO, OBEDIENT, 0x40, TRIM, 0, 512)
    assert refusal is not None
    assert refusal.text == "TRIM: flags 0x40: expected 0x1"


def _filter(payload: str, *, negotiated: Negotiated = EXTENDED_STATUS, **where: int) -> object:
    flags, offset = where.get("flags", 0), where.get("offset", 0)
    found = status_filter(INFO, negotiated, flags, offset, memoryview(bytes.fromhex(payload)))
    return int(found.error) if isinstance(found, Refusal) else found


def test_filter_of_one_context() -> None:
    assert _filter("0000000000001000 00000007") == StatusFilter(4096, (7,))


def test_filter_of_no_context() -> None:
    assert _filter("0000000000001000") == StatusFilter(4096, ())


def test_filter_takes_the_flags_of_the_command() -> None:
    assert _filter("0000000000001000 00000007", flags=REQ_ONE | FUA) == StatusFilter(4096, (7,))
    for flags in (NO_HOLE, DF, FAST_ZERO, 64, 0x8000):
        assert _filter("0000000000001000 00000007", flags=flags) == EINVAL


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "00000007",
        "00000000001000",
        "0000000000001000 07",
        "0000000000001000 0000000700",
        # Unknown, twice, and one of both.
        "0000000000001000 00000008",
        "0000000000001000 00000007 00000007",
        "0000000000001000 00000007 00000008",
        # Of nothing, past the end, far beyond it.
        "0000000000000000 00000007",
        "0000000040000001 00000007",
        "ffffffffffffffff 00000007",
    ],
)
def test_filters_that_are_wrong(payload: str) -> None:
    assert _filter(payload) == EINVAL


def test_filter_obeys_block_sizes_and_offsets() -> None:
    negotiated = replace(EXTENDED_STATUS, knows_block_sizes=True)
    assert _filter("0000000000000001 00000007") == StatusFilter(1, (7,))
    assert _filter("0000000000000001 00000007", negotiated=negotiated) == EINVAL
    assert _filter("0000000000000200 00000007", offset=SIZE - 511) == EINVAL
    assert _filter("0000000000000200 00000007", offset=SIZE - 512) == StatusFilter(512, (7,))


def test_filter_without_contexts_to_choose_from() -> None:
    assert _filter("0000000000001000", negotiated=EXTENDED) == EINVAL
