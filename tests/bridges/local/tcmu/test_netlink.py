# SPDX-License-Identifier: GPL-2.0-or-later
"""Generic netlink messages, byte by byte; the kernel of this machine answers some of them."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress

import pytest

from bridges.local.tcmu import netlink
from bridges.local.tcmu.netlink import NetlinkError, drain, family_request, parse_group

REQUEST = bytes.fromhex(
    "24000000 1000 0100 01000000 00000000"  # length, GENL_ID_CTRL, NLM_F_REQUEST, sequence, port
    "03 01 0000"  # CTRL_CMD_GETFAMILY, version
    "0d00 0200 54434d2d5553455200 000000"  # CTRL_ATTR_FAMILY_NAME "TCM-USER"
)
GROUP = bytes.fromhex(
    "0b00 0100 636f6e66696700 00"  # CTRL_ATTR_MCAST_GRP_NAME "config"
    "0800 0200 09000000"  # CTRL_ATTR_MCAST_GRP_ID 9
)
OTHER = bytes.fromhex("0900 0100 6f74686500 000000 0800 0200 04000000")


def nested(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value


def answer(attributes: bytes) -> bytes:
    header = struct.pack("=IHHIIBBxx", 20 + len(attributes), 0x1C, 0, 1, 0, 1, 2)
    return header + attributes


GROUPS = nested(0x8007, nested(1, OTHER) + nested(2, GROUP))
ANSWER = answer(bytes.fromhex("0600 0100 1c00 0000") + GROUPS)


def test_request_is_the_golden_one() -> None:
    assert family_request("TCM-USER") == REQUEST


def test_group_is_found_among_others() -> None:
    assert parse_group(ANSWER, "config") == 9


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "netlink answer of 0 bytes"),
        (ANSWER[:19], "netlink answer of 19 bytes"),
        (answer(b""), "has no group config"),
        (answer(nested(7, nested(1, OTHER))), "has no group config"),
        (answer(nested(7, nested(1, GROUP[:12]))), "has no group config"),
        (answer(bytes.fromhex("0300 0700")), "attribute of 3 bytes"),
        (answer(bytes.fromhex("0900 0700 00000000")), "attribute of 9 bytes"),
    ],
)
def test_answer_that_makes_no_sense_is_an_error(message: bytes, reason: str) -> None:
    with pytest.raises(NetlinkError, match=reason):
        parse_group(message, "config")


@pytest.mark.parametrize("end", range(20, len(ANSWER)))
def test_answer_that_is_cut_short_gives_only_errors_of_ours(end: int) -> None:
    with suppress(NetlinkError):
        assert parse_group(ANSWER[:end], "config") == 9


def test_refusal_is_the_kernels_error() -> None:
    refusal = struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOENT) + REQUEST[:16]
    with pytest.raises(FileNotFoundError, match="netlink family TCM-USER"):
        parse_group(refusal, "config")


def test_kernel_answers_about_a_family_that_is_always_there() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as sock:
        sock.bind((0, 0))
        sock.settimeout(5.0)
        sock.send(family_request("nlctrl"))
        assert parse_group(sock.recv(1 << 16), "notify") > 0


def test_missing_family_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "FAMILY", "NO-SUCH-FAMILY")
    with pytest.raises(FileNotFoundError):
        netlink.open_events()


def test_draining_reads_all_events() -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        for _ in range(3):
            theirs.send(b"event")
        drain(ours)
        with pytest.raises(BlockingIOError):
            ours.recv(1)
