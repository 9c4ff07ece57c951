# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of the clients, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.packet import Packet

from bridges.aoe.address import Address
from bridges.aoe.wire import Command
from bridges.aoe_tools.layers import (
    ANY_TARGET,
    Directive,
    IssueAta,
    MacMaskList,
    QueryConfig,
    ReserveRelease,
    command_of,
    mac_bytes,
    parse_reply,
    request_frame,
)

CLIENT = bytes.fromhex("0200000000c1")
TARGET = bytes.fromhex("020000000011")
BROADCAST = b"\xff" * 6
E11 = Address(1, 1)
ETHERNET = "020000000011 0200000000c1 88a2"
ONE, TWO = "02:00:00:00:00:01", "02:00:00:00:00:02"

# Written from AoEr11: destination, source, type; version and flags, error, major, minor, command,
# tag; argument.
REQUESTS = {
    "discover": (
        BROADCAST,
        ANY_TARGET,
        QueryConfig(),
        "ffffffffffff 0200000000c1 88a2 10 00 ffff ff 01 80000001  0000 0000 00 10 0000",
    ),
    "config set": (
        TARGET,
        Address(0x1234, 0x56),
        QueryConfig(ccmd=3, string=b"hello"),
        ETHERNET + "10 00 1234 56 01 80000001  0000 0000 00 13 0005 68656c6c6f",
    ),
    "identify": (
        TARGET,
        E11,
        IssueAta(opcode=0xEC, sector_count=1, lba3=0xA0),
        ETHERNET + "10 00 0001 01 00 80000001  00 00 01 ec 000000 a0 0000 0000",
    ),
    "mask read": (
        TARGET,
        E11,
        MacMaskList(),
        ETHERNET + "10 00 0001 01 02 80000001  00 00 00 00",
    ),
    "mask edit": (
        TARGET,
        E11,
        MacMaskList(mcmd=1, directives=[Directive(dcmd=1, mac=ONE), Directive(dcmd=2, mac=TWO)]),
        ETHERNET + "10 00 0001 01 02 80000001  00 01 00 02 00 01 020000000001 00 02 020000000002",
    ),
    "reserve read": (
        TARGET,
        E11,
        ReserveRelease(),
        ETHERNET + "10 00 0001 01 03 80000001  00 00",
    ),
    "reserve set": (
        TARGET,
        E11,
        ReserveRelease(rcmd=1, macs=[ONE, TWO]),
        ETHERNET + "10 00 0001 01 03 80000001  01 02 020000000001 020000000002",
    ),
    "reserve force": (
        TARGET,
        E11,
        ReserveRelease(rcmd=2, macs=[TWO]),
        ETHERNET + "10 00 0001 01 03 80000001  02 01 020000000002",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_specification_s_bytes(name: str) -> None:
    destination, address, argument, expected = REQUESTS[name]
    frame = request_frame(CLIENT, destination, address, argument, 0x80000001)
    assert frame.hex() == bytes.fromhex(expected).ljust(60, b"\0").hex()


def test_long_requests_are_not_padded() -> None:
    argument = QueryConfig(ccmd=4, string=b"x" * 1024)
    frame = request_frame(CLIENT, TARGET, E11, argument, 1)
    assert len(frame) == 32 + 1024
    assert frame[30:32] == b"\x04\x00"


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        (IssueAta(), Command.ISSUE_ATA_COMMAND),
        (QueryConfig(), Command.QUERY_CONFIG_INFORMATION),
        (MacMaskList(), Command.MAC_MASK_LIST),
        (ReserveRelease(), Command.RESERVE_RELEASE),
    ],
)
def test_an_argument_decides_the_command(argument: Packet, command: Command) -> None:
    assert command_of(argument) is command


def received(text: str, pad_bytes: int = 60) -> bytes:
    return bytes.fromhex("0200000000c1 020000000011 88a2" + text).ljust(pad_bytes, b"\0")


def test_a_config_reply_is_read() -> None:
    frame = received("18 00 0001 01 01 80000001  0040 4019 02 10 0005 68656c6c6f")
    reply = parse_reply(frame)
    assert reply is not None
    assert reply[:6] == (CLIENT, TARGET, Address(1, 1), 0, 1, 0x80000001)
    config = reply.argument
    assert isinstance(config, QueryConfig)
    assert (config.buffer_count, config.firmware_version, config.sector_count) == (64, 0x4019, 2)
    assert (config.version, config.ccmd, config.string) == (1, 0, b"hello")


def test_an_error_is_read_where_its_flag_is_set() -> None:
    refused = parse_reply(received("1c 06 0001 01 03 80000001  01 01 020000000007"))
    assert refused is not None
    assert refused.error == 6
    assert isinstance(refused.argument, ReserveRelease)
    assert list(refused.argument.macs) == ["02:00:00:00:00:07"]
    stray = parse_reply(received("18 06 0001 01 03 80000001  01 00"))
    assert stray is not None
    assert stray.error == 0


def test_reserved_flags_do_not_matter() -> None:
    reply = parse_reply(received("1b 00 0001 01 02 80000001  00 00 00 00"))
    assert reply is not None
    assert reply.error == 0


def test_an_ata_reply_has_its_data_behind_the_registers() -> None:
    data = bytes(range(256)) * 2
    text = "18 00 0001 01 00 80000001  00 04 00 41 000000 a0 0000 0000" + data.hex()
    reply = parse_reply(received(text))
    assert reply is not None
    assert isinstance(reply.argument, IssueAta)
    assert (reply.argument.feature, reply.argument.opcode) == (0x04, 0x41)
    assert bytes(reply.argument.payload) == data


def test_a_mask_reply_is_read() -> None:
    text = "18 00 0001 01 02 80000001  00 00 00 02 0000 020000000001 0000 020000000002"
    reply = parse_reply(received(text))
    assert reply is not None
    assert isinstance(reply.argument, MacMaskList)
    macs = [mac_bytes(entry.mac).hex() for entry in reply.argument.directives]
    assert macs == ["020000000001", "020000000002"]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(60),
        bytes.fromhex(ETHERNET + "18 00 0001 01 01 800000"),
        # A request, and another protocol.
        received("10 00 0001 01 01 80000001  0000 0000 00 10 0000"),
        bytes.fromhex("0200000000c1 020000000011 0800") + received("18 00 0001 01 01")[14:],
    ],
)
def test_what_is_no_reply_is_none(frame: bytes) -> None:
    assert parse_reply(frame) is None


@pytest.mark.parametrize("command", ["00", "01", "02", "03", "04", "ff"])
def test_a_reply_without_an_argument_that_is_known_has_none(command: str) -> None:
    reply = parse_reply(received(f"18 00 0001 01 {command} 80000001", pad_bytes=0))
    assert reply is not None
    assert reply.argument is None


@pytest.mark.parametrize(("command", "end"), [("00", 36), ("01", 32), ("02", 28), ("03", 26)])
def test_an_argument_is_there_from_its_last_byte_on(command: str, end: int) -> None:
    whole = received(f"18 00 0001 01 {command} 80000001")[:end]
    for frame, has_argument in ((whole, True), (whole[:-1], False)):
        reply = parse_reply(frame)
        assert reply is not None
        assert (reply.argument is not None) is has_argument


@given(st.binary(max_size=120))
def test_no_bytes_are_too_much_for_the_parser(rest: bytes) -> None:
    reply = parse_reply(received("18 00 0001 01")[:19] + rest)
    assert reply is None or reply.destination == CLIENT
