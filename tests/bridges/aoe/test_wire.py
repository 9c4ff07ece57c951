# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the wire format against literal bytes, in both directions."""

from __future__ import annotations

from bridges.aoe import wire
from bridges.aoe.wire import AtaArgument, ConfigArgument, Header, MaskArgument, ReserveArgument

_HEADER = bytes.fromhex("020000000001 020000000002 88a2 1c 06 abcd 12 03 89abcdef")


def test_header_reads_and_writes_its_24_bytes() -> None:
    header = Header.parse(_HEADER + b"rest")
    assert header == Header(
        destination=b"\x02\0\0\0\0\x01",
        source=b"\x02\0\0\0\0\x02",
        ethertype=0x88A2,
        version_flags=0x1C,
        error=6,
        major=0xABCD,
        minor=0x12,
        command=3,
        tag=0x89ABCDEF,
    )
    assert header.version == 1
    assert header.serialize() == _HEADER


def test_either_field_makes_the_address_a_wildcard() -> None:
    header = Header.parse(_HEADER)
    assert not header.has_wildcard
    assert header._replace(major=0xFFFF).has_wildcard
    assert header._replace(minor=0xFF).has_wildcard
    assert wire.parse_destination(_HEADER) == (0xABCD, 0x12)


def test_reply_header_turns_the_request_around() -> None:
    reply = memoryview(bytearray(60))
    wire.write_reply_header(reply, Header.parse(_HEADER), b"\x02\0\0\0\0\x09", 0x0102, 0x03)
    # Version 1 and the response flag; neither the request's error nor its other flags.
    expected = "020000000002 020000000009 88a2 18 00 0102 03 03 89abcdef"
    assert reply[:24] == bytes.fromhex(expected)


def test_error_sets_the_flag_and_the_code() -> None:
    reply = memoryview(bytearray(60))
    wire.write_reply_header(reply, Header.parse(_HEADER), b"\x02\0\0\0\0\x09", 1, 1)
    wire.set_error(reply, 2)
    assert reply[14:16] == bytes.fromhex("1c 02")


_ATA = bytes.fromhex("53 11 02 24 78 56 34 12 cd ab 0000")


def test_ata_argument_reads_and_writes_its_12_bytes() -> None:
    argument = AtaArgument.parse(_HEADER + _ATA + bytes(512))
    assert argument == AtaArgument(
        flags=0x53,
        feature=0x11,
        sector_count=2,
        opcode=0x24,
        lba_low=0x12345678,
        lba_high=0xABCD,
    )
    assert argument.serialize() == _ATA


def test_echo_of_an_ata_argument_clears_what_is_reserved() -> None:
    request = memoryview(_HEADER + bytes.fromhex("ff 11 02 24 78 56 34 12 cd ab ffff"))
    reply = memoryview(bytearray(60))
    wire.echo_ata_argument(reply, request)
    assert reply[24:36] == _ATA


def test_registers_are_written_in_place() -> None:
    reply = memoryview(bytearray(60))
    wire.set_remaining(reply, 0x103)
    wire.set_ata_error(reply, 0x40, 0x41)
    assert reply[24:28] == bytes.fromhex("00 40 03 41")
    wire.set_ata_success(reply, 0x40, 0xFF)
    assert reply[24:28] == bytes.fromhex("00 00 ff 40")


_CONFIG = bytes.fromhex("0040 1234 02 14 0003") + b"abc"


def test_config_argument_reads_and_writes_its_bytes() -> None:
    argument = ConfigArgument.parse(_HEADER + _CONFIG + bytes(20))
    assert argument == ConfigArgument(
        buffer_count=64,
        firmware_version=0x1234,
        sector_count=2,
        version=1,
        command=4,
        length_bytes=3,
        string=b"abc",
    )
    assert argument.serialize() == _CONFIG


def test_config_string_beyond_the_frame_is_what_there_is_of_it() -> None:
    argument = ConfigArgument.parse(_HEADER + bytes.fromhex("0000 0000 00 01 0400") + b"ab")
    assert (argument.length_bytes, argument.string) == (0x400, b"ab")


_MASK = bytes.fromhex("00 01 02 02 00 01 020000000003 00 02 0200deadbeef")


def test_mask_argument_reads_and_writes_its_bytes() -> None:
    argument = MaskArgument.parse(_HEADER + _MASK + bytes(20))
    assert argument == MaskArgument(
        command=1,
        error=2,
        count=2,
        directives=((1, b"\2\0\0\0\0\3"), (2, bytes.fromhex("0200deadbeef"))),
    )
    assert argument.serialize() == _MASK


def test_reserved_bytes_of_a_mask_argument_mean_nothing() -> None:
    text = "ff 00 00 01 ff 01 020000000003"
    argument = MaskArgument.parse(_HEADER + bytes.fromhex(text))
    assert argument == MaskArgument(0, 0, 1, ((1, b"\2\0\0\0\0\3"),))
    assert argument.serialize() == bytes.fromhex(text.replace("ff", "00"))


def test_directives_beyond_the_frame_are_those_there_are() -> None:
    for end, there in ((28, 0), (35, 0), (36, 1), (43, 1), (44, 2), (52, 2)):
        frame = (_HEADER + _MASK + bytes(8))[:end]
        assert len(MaskArgument.parse(frame).directives) == there
    assert len(MaskArgument.parse(_HEADER + b"\0\1\0\xff" + bytes(255 * 8)).directives) == 255


_RESERVE = bytes.fromhex("01 02 020000000003 0200deadbeef")


def test_reserve_argument_reads_and_writes_its_bytes() -> None:
    argument = ReserveArgument.parse(_HEADER + _RESERVE + bytes(20))
    assert argument == ReserveArgument(
        command=1, count=2, macs=(b"\2\0\0\0\0\3", bytes.fromhex("0200deadbeef"))
    )
    assert argument.serialize() == _RESERVE


def test_macs_beyond_the_frame_are_those_there_are() -> None:
    for end, there in ((26, 0), (31, 0), (32, 1), (37, 1), (38, 2), (44, 2)):
        frame = (_HEADER + _RESERVE + bytes(6))[:end]
        assert len(ReserveArgument.parse(frame).macs) == there
