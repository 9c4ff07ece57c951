# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol's numbers against a second list of them, and each record's bytes (proto.md)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import pytest

from bridges.nbd import wire
from bridges.nbd.wire import OptionReply, option_reply

ENUMERATIONS: list[tuple[type[IntEnum] | type[IntFlag], dict[str, int]]] = [
    (wire.HandshakeFlag, {"FIXED_NEWSTYLE": 0x0001, "NO_ZEROES": 0x0002}),
    (
        wire.Option,
        {
            "EXPORT_NAME": 1,
            "ABORT": 2,
            "LIST": 3,
            "STARTTLS": 5,
            "INFO": 6,
            "GO": 7,
            "STRUCTURED_REPLY": 8,
            "LIST_META_CONTEXT": 9,
            "SET_META_CONTEXT": 10,
            "EXTENDED_HEADERS": 11,
        },
    ),
    (
        wire.OptionReply,
        {
            "ACK": 1,
            "SERVER": 2,
            "INFO": 3,
            "META_CONTEXT": 4,
            "ERR_UNSUP": 0x80000001,
            "ERR_POLICY": 0x80000002,
            "ERR_INVALID": 0x80000003,
            "ERR_PLATFORM": 0x80000004,
            "ERR_TLS_REQD": 0x80000005,
            "ERR_UNKNOWN": 0x80000006,
            "ERR_SHUTDOWN": 0x80000007,
            "ERR_BLOCK_SIZE_REQD": 0x80000008,
            "ERR_TOO_BIG": 0x80000009,
            "ERR_EXT_HEADER_REQD": 0x8000000A,
        },
    ),
    (wire.Info, {"EXPORT": 0, "NAME": 1, "DESCRIPTION": 2, "BLOCK_SIZE": 3}),
    (
        wire.TransmissionFlag,
        {
            "HAS_FLAGS": 0x0001,
            "READ_ONLY": 0x0002,
            "SEND_FLUSH": 0x0004,
            "SEND_FUA": 0x0008,
            "ROTATIONAL": 0x0010,
            "SEND_TRIM": 0x0020,
            "SEND_WRITE_ZEROES": 0x0040,
            "SEND_DF": 0x0080,
            "CAN_MULTI_CONN": 0x0100,
            "SEND_RESIZE": 0x0200,
            "SEND_CACHE": 0x0400,
            "SEND_FAST_ZERO": 0x0800,
            "BLOCK_STATUS_PAYLOAD": 0x1000,
        },
    ),
    (
        wire.Command,
        {
            "READ": 0,
            "WRITE": 1,
            "DISC": 2,
            "FLUSH": 3,
            "TRIM": 4,
            "CACHE": 5,
            "WRITE_ZEROES": 6,
            "BLOCK_STATUS": 7,
        },
    ),
    (
        wire.CommandFlag,
        {"FUA": 1, "NO_HOLE": 2, "DF": 4, "REQ_ONE": 8, "FAST_ZERO": 16, "PAYLOAD_LEN": 32},
    ),
    (
        wire.Error,
        {
            "OK": 0,
            "EPERM": 1,
            "EIO": 5,
            "ENOMEM": 12,
            "EINVAL": 22,
            "ENOSPC": 28,
            "EOVERFLOW": 75,
            "ENOTSUP": 95,
            "ESHUTDOWN": 108,
        },
    ),
]


@pytest.mark.parametrize(("codes", "expected"), ENUMERATIONS, ids=lambda value: str(value)[:30])
def test_codes_are_those_of_the_specification(
    codes: type[IntEnum] | type[IntFlag], expected: dict[str, int]
) -> None:
    assert {code.name: int(code) for code in codes} == expected


def test_greeting_is_both_magics_and_the_flags() -> None:
    packed = wire.GREETING.pack(wire.NBDMAGIC, wire.IHAVEOPT, 3)
    assert packed == b"NBDMAGICIHAVEOPT\x00\x03"


def test_client_flags_are_32_bits() -> None:
    assert wire.CLIENT_FLAGS.unpack(b"\x00\x00\x00\x03") == (3,)


def test_option_header_has_magic_number_and_length() -> None:
    header = bytes.fromhex("49484156454f5054 00000007 0000000a")
    assert wire.OPTION.unpack(header) == (wire.IHAVEOPT, 7, 10)


def test_option_reply_carries_its_data() -> None:
    assert option_reply(7, OptionReply.ACK) == bytes.fromhex(
        "0003e889045565a9 00000007 00000001 00000000"
    )
    assert option_reply(0xABCDEF01, OptionReply.ERR_UNSUP, b"no") == bytes.fromhex(
        "0003e889045565a9 abcdef01 80000001 00000002 6e6f"
    )


def test_export_name_reply_is_size_and_flags_before_124_zeros() -> None:
    packed = wire.EXPORT_NAME_REPLY.pack(0x123456789A, 0x056D)
    assert packed == bytes.fromhex("000000123456789a 056d")
    assert wire.EXPORT_NAME_PADDING == b"\0" * 124


def test_information_records_begin_with_their_type() -> None:
    assert wire.INFO_EXPORT.pack(0, 1 << 20, 0x056D) == bytes.fromhex("0000 0000000000100000 056d")
    assert wire.INFO_BLOCK_SIZE.pack(3, 512, 4096, 32 << 20) == bytes.fromhex(
        "0003 00000200 00001000 02000000"
    )


def test_request_fields_are_in_the_order_of_the_specification() -> None:
    header = bytes.fromhex("25609513 0011 0006 0102030405060708 1112131415161718 21222324")
    assert wire.REQUEST.unpack(header) == (
        wire.REQUEST_MAGIC,
        0x0011,
        6,
        0x0102030405060708,
        0x1112131415161718,
        0x21222324,
    )


def test_simple_reply_is_magic_error_and_cookie() -> None:
    packed = wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 28, 0x0102030405060708)
    assert packed == bytes.fromhex("67446698 0000001c 0102030405060708")


def test_limits_are_those_of_the_specification() -> None:
    assert wire.DEFAULT_PORT == 10809
    assert wire.MAX_STRING_BYTES == 4096
    assert wire.MAX_PAYLOAD_BYTES == 32 * 1024 * 1024
