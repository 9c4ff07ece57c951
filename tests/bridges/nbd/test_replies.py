# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of every reply in each form, as proto.md draws them."""

from __future__ import annotations

import pytest

from bridges.nbd.negotiated import ReplyForm
from bridges.nbd.replies import REPLIES, ExtendedReplies, Replies, StructuredOnly, StructuredReplies
from bridges.nbd.wire import Error, ExtentFlag

COOKIE = 0x0102030405060708
OFFSET = 0x1000000000
COOKIE_HEX = "0102030405060708"
OFFSET_HEX = "0000001000000000"
SIMPLE, STRUCTURED, EXTENDED = (REPLIES[form] for form in ReplyForm)
# magic, flags (DONE or not), type, cookie; the extended one goes on with the request's offset.
CHUNK = "668e33ef {:04x} {:04x} " + COOKIE_HEX
EXTENDED_CHUNK = "6e8a278c {:04x} {:04x} " + COOKIE_HEX + OFFSET_HEX
NONE, DATA, HOLE, STATUS, STATUS_EXT, ERROR, ERROR_OFFSET = 0, 1, 2, 5, 6, 0x8001, 0x8002


def _chunk(flags: int, kind: int, payload: str) -> bytes:
    body = bytes.fromhex(payload)
    return bytes.fromhex(CHUNK.format(flags, kind)) + len(body).to_bytes(4, "big") + body


def _extended(flags: int, kind: int, payload: str) -> bytes:
    body = bytes.fromhex(payload)
    return bytes.fromhex(EXTENDED_CHUNK.format(flags, kind)) + len(body).to_bytes(8, "big") + body


def _put_success(form: Replies) -> bytes:
    memory = bytearray(b"\xee" * 64)
    form.put_success(memoryview(memory), 5, COOKIE, OFFSET)
    end = 5 + form.success_bytes
    assert memory[:5] + memory[end:] == b"\xee" * (64 - form.success_bytes)
    return bytes(memory[5:end])


def _put_read_header(form: Replies, length: int) -> bytes:
    memory = bytearray(b"\xee" * 64)
    form.put_read_header(memoryview(memory), 5, COOKIE, OFFSET, length)
    end = 5 + form.read_header_bytes
    assert memory[:5] + memory[end:] == b"\xee" * (64 - form.read_header_bytes)
    return bytes(memory[5:end])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (SIMPLE, f"67446698 00000000 {COOKIE_HEX}"),
        (STRUCTURED, f"67446698 00000000 {COOKIE_HEX}"),
        (EXTENDED, f"6e8a278c 0001 0000 {COOKIE_HEX} {OFFSET_HEX} 0000000000000000"),
    ],
)
def test_success_without_data(form: Replies, expected: str) -> None:
    assert _put_success(form) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (SIMPLE, f"67446698 00000000 {COOKIE_HEX}"),
        # The length counts the offset before the data.
        (STRUCTURED, f"668e33ef 0001 0001 {COOKIE_HEX} 00000208 {OFFSET_HEX}"),
        (
            EXTENDED,
            f"6e8a278c 0001 0001 {COOKIE_HEX} {OFFSET_HEX} 0000000000000208 {OFFSET_HEX}",
        ),
    ],
)
def test_header_of_a_whole_read(form: Replies, expected: str) -> None:
    assert _put_read_header(form, 0x200) == bytes.fromhex(expected)


def test_header_of_the_longest_read() -> None:
    assert _put_read_header(STRUCTURED, 32 << 20)[16:20] == bytes.fromhex("02000008")
    assert _put_read_header(EXTENDED, 32 << 20)[24:32] == bytes.fromhex("0000000002000008")


TEXT = "no"
ERROR_HEX = "00000005 0002 6e6f"


@pytest.mark.parametrize(
    ("form", "error_offset", "expected"),
    [
        (SIMPLE, None, bytes.fromhex(f"67446698 00000005 {COOKIE_HEX}")),
        (SIMPLE, OFFSET, bytes.fromhex(f"67446698 00000005 {COOKIE_HEX}")),
        (STRUCTURED, None, _chunk(1, ERROR, ERROR_HEX)),
        (STRUCTURED, OFFSET + 512, _chunk(1, ERROR_OFFSET, f"{ERROR_HEX} 0000001000000200")),
        # An offset of zero is one too.
        (STRUCTURED, 0, _chunk(1, ERROR_OFFSET, f"{ERROR_HEX} 0000000000000000")),
        (EXTENDED, None, _extended(1, ERROR, ERROR_HEX)),
        (EXTENDED, OFFSET + 512, _extended(1, ERROR_OFFSET, f"{ERROR_HEX} 0000001000000200")),
    ],
)
def test_failure(form: Replies, error_offset: int | None, expected: bytes) -> None:
    assert form.failure(COOKIE, OFFSET, Error.EIO, TEXT, error_offset) == expected


@pytest.mark.parametrize(
    ("error", "value"),
    [
        (Error.EPERM, 1),
        (Error.EINVAL, 22),
        (Error.ENOSPC, 28),
        (Error.EOVERFLOW, 75),
        (Error.ENOTSUP, 95),
        (Error.ESHUTDOWN, 108),
    ],
)
def test_error_values(error: Error, value: int) -> None:
    code = f"{value:08x}"
    assert SIMPLE.failure(COOKIE, 0, error, "")[4:8] == bytes.fromhex(code)
    assert STRUCTURED.failure(COOKIE, 0, error, "") == _chunk(1, ERROR, f"{code} 0000")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" * 1024, b"x" * 1024),
        ("x" * 1025, b"x" * 1024),
        # No character is cut: two, three and four bytes at the end.
        ("x" * 1023 + "ø", b"x" * 1023),
        ("x" * 1022 + "ø", b"x" * 1022 + "ø".encode()),
        ("x" * 1022 + "€", b"x" * 1022),
        ("x" * 1021 + "€", b"x" * 1021 + "€".encode()),
        ("x" * 1021 + "\N{GRINNING FACE}", b"x" * 1021),
        ("ø" * 600, "ø".encode() * 512),
        # What cannot be encoded (a name from a file system, say) does no harm.
        ("a\udc80b", b"a?b"),
    ],
)
@pytest.mark.parametrize("form", [STRUCTURED, EXTENDED])
def test_text_is_cut_to_whole_characters(form: Replies, text: str, expected: bytes) -> None:
    payload = f"00000016 {len(expected):04x} {expected.hex()}"
    frame = _chunk if form is STRUCTURED else _extended
    assert form.failure(COOKIE, OFFSET, Error.EINVAL, text) == frame(1, ERROR, payload)


@pytest.mark.parametrize(("is_last", "flags"), [(False, 0), (True, 1)])
def test_parts_of_a_read_name_their_own_offset(is_last: bool, flags: int) -> None:
    at = OFFSET + 0x400
    data = f"0000001000000400 {'ab' * 16}"
    header = StructuredReplies.read_part_header(COOKIE, OFFSET, 16, at, is_last=is_last)
    assert header + b"\xab" * 16 == _chunk(flags, DATA, data)
    header = ExtendedReplies.read_part_header(COOKIE, OFFSET, 16, at, is_last=is_last)
    assert header + b"\xab" * 16 == _extended(flags, DATA, data)


@pytest.mark.parametrize("form", [StructuredReplies(), ExtendedReplies()])
def test_header_of_a_part_is_as_long_as_that_of_the_whole(form: StructuredOnly) -> None:
    # It is put over the other one.
    header = form.read_part_header(COOKIE, OFFSET, 512, OFFSET, is_last=True)
    assert header == _put_read_header(form, 512)


@pytest.mark.parametrize(("is_last", "flags"), [(False, 0), (True, 1)])
def test_holes(is_last: bool, flags: int) -> None:
    payload = "0000001000000400 00010000"
    at = OFFSET + 0x400
    hole = StructuredReplies.hole(COOKIE, OFFSET, 65536, at, is_last=is_last)
    assert hole == _chunk(flags, HOLE, payload)
    hole = ExtendedReplies.hole(COOKIE, OFFSET, 65536, at, is_last=is_last)
    assert hole == _extended(flags, HOLE, payload)


def test_nothing_is_a_chunk_of_type_none() -> None:
    assert StructuredReplies.nothing(COOKIE, OFFSET) == _chunk(1, NONE, "")
    assert ExtendedReplies.nothing(COOKIE, OFFSET) == _extended(1, NONE, "")


EXTENTS = [(4096, ExtentFlag(0)), (0xFFFFF000, ExtentFlag.HOLE | ExtentFlag.ZERO)]


def test_block_status_with_32_bits() -> None:
    assert StructuredReplies.block_status(COOKIE, OFFSET, 7, EXTENTS) == _chunk(
        1, STATUS, "00000007 00001000 00000000 fffff000 00000003"
    )


def test_block_status_with_64_bits_counts_its_extents() -> None:
    extents = [*EXTENTS, (1 << 40, ExtentFlag.ZERO)]
    assert ExtendedReplies.block_status(COOKIE, OFFSET, 7, extents) == _extended(
        1,
        STATUS_EXT,
        "00000007 00000003"
        "0000000000001000 0000000000000000"
        "00000000fffff000 0000000000000003"
        "0000010000000000 0000000000000002",
    )


@pytest.mark.parametrize(
    ("form", "is_extended", "magic", "header_bytes"),
    [
        (SIMPLE, False, 0x25609513, 28),
        (STRUCTURED, False, 0x25609513, 28),
        (EXTENDED, True, 0x21E41C71, 32),
    ],
)
def test_requests_of_each_form(
    form: Replies, is_extended: bool, magic: int, header_bytes: int
) -> None:
    assert form.is_extended is is_extended
    assert (form.request_magic, form.request.size) == (magic, header_bytes)
