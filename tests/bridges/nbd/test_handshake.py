# SPDX-License-Identifier: GPL-2.0-or-later
"""The handshake byte for byte: every option, every error, and clients that do not behave."""

from __future__ import annotations

import pytest

from bridges.stream_session import PeerError
from tests.bridges.nbd.peer import FLAGS, ONE_MIB, FakeExport, FakeExports, Peer, described
from tests.bridges.nbd.proto import (
    ABORT,
    ACK,
    ERR_INVALID,
    ERR_UNKNOWN,
    ERR_UNSUP,
    EXPORT_NAME,
    FIXED_NEWSTYLE,
    FIXED_NEWSTYLE_NO_ZEROES,
    GO,
    INFO,
    LIST,
    PEEK_EXPORT,
    REP_INFO,
    go,
    information,
    option,
    option_reply,
    parse_option_replies,
)
from tests.bridges.nbd.test_translate import DISK

DESCRIBED = described(GO)


@pytest.fixture
def peer() -> Peer:
    """A client of a server with two exports, its flags already sent."""
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB), "blåbær/3": FakeExport(DISK)}))
    peer.send(FIXED_NEWSTYLE_NO_ZEROES)
    return peer


def test_greeting(peer: Peer) -> None:
    peer.handshake.greet()
    assert peer.take() == bytes.fromhex("4e42444d41474943 49484156454f5054 0003")


def test_go_describes_the_export_and_begins_transmission(peer: Peer) -> None:
    request = bytes.fromhex(
        "49484156454f5054 00000007 0000000b"  # IHAVEOPT, GO, length
        "00000005 6469736b30 0000"  # "disk0", no information asked for
    )
    assert peer.ask(request) == bytes.fromhex(
        f"0003e889045565a9 00000007 00000003 0000000c 0000 0000000000100000 {FLAGS:04x}"
        "0003e889045565a9 00000007 00000003 0000000e 0003 00000200 00001000 02000000"
        "0003e889045565a9 00000007 00000001 00000000"
    )
    assert peer.chosen == [peer.exports.exports["disk0"]]


def test_info_describes_and_lets_go_again(peer: Peer) -> None:
    for _ in range(2):
        assert peer.ask(option(INFO, information("disk0"))) == described(INFO)
    assert peer.chosen == []
    assert peer.exports.exports["disk0"].closed == 2
    assert peer.ask(go("disk0")) == DESCRIBED


@pytest.mark.parametrize("kinds", [(0,), (3,), (0, 3), (0xFFFF, 77), (3,) * 100])
def test_size_and_block_sizes_are_told_whether_asked_for_or_not(
    peer: Peer, kinds: tuple[int, ...]
) -> None:
    assert peer.ask(option(GO, information("disk0", *kinds))) == DESCRIBED


NAME = b"\0\x01disk0"
DESCRIPTION = b"\0\x02about disk0"


@pytest.mark.parametrize("number", [INFO, GO])
@pytest.mark.parametrize(
    ("kinds", "texts"),
    [
        ((1,), (NAME,)),
        ((2,), (DESCRIPTION,)),
        ((3, 2, 1, 0), (NAME, DESCRIPTION)),
        ((1, 1, 99, 1), (NAME,)),
    ],
)
def test_name_and_description_are_told_when_asked_for(
    peer: Peer, number: int, kinds: tuple[int, ...], texts: tuple[bytes, ...]
) -> None:
    assert peer.ask(option(number, information("disk0", *kinds))) == described(number, *texts)


@pytest.mark.parametrize("number", [INFO, GO])
def test_the_empty_name_opens_the_default_export_and_is_told_its_real_name(
    peer: Peer, number: int
) -> None:
    peer.exports.default = "disk0"
    assert peer.ask(option(number, information("", 1))) == described(number, NAME)


def test_the_description_is_the_one_that_list_shows(peer: Peer) -> None:
    (listed, *_) = parse_option_replies(peer.ask(option(LIST)))
    assert listed.data == b"\0\0\0\x05disk0" + DESCRIPTION[2:]


@pytest.mark.parametrize(
    ("message", "knows_block_sizes"),
    [
        (option(GO, information("disk0", 3)), True),
        (option(GO, information("disk0", 0, 3, 1)), True),
        (go("disk0"), False),
        (option(GO, information("disk0", 0, 1, 2)), False),
        (option(INFO, information("disk0", 3)) + go("disk0"), False),
        (option(EXPORT_NAME, b"disk0"), False),
    ],
)
def test_only_a_go_that_asks_for_block_sizes_binds_the_client_to_them(
    peer: Peer, message: bytes, knows_block_sizes: bool
) -> None:
    peer.send(message)
    assert [each.knows_block_sizes for each in peer.negotiated] == [knows_block_sizes]


def test_go_with_an_unknown_name_says_so_and_goes_on(peer: Peer) -> None:
    assert peer.ask(go("disk1")) == option_reply(GO, ERR_UNKNOWN, b"no such export")
    assert peer.ask(go("disk0")) == DESCRIBED


def test_list_names_each_export_with_its_description(peer: Peer) -> None:
    assert peer.ask(option(LIST)) == bytes.fromhex(
        "0003e889045565a9 00000003 00000002 00000014"
        "00000005 6469736b30 61626f7574206469736b30"  # disk0, about disk0
        "0003e889045565a9 00000003 00000002 0000001e"
    ) + "\0\0\0\x0ablåbær/3about blåbær/3".encode() + option_reply(LIST, ACK)
    assert parse_option_replies(peer.ask(go("blåbær/3")))[-1].kind == ACK


def test_list_without_exports_is_only_the_end(peer: Peer) -> None:
    peer.exports.exports.clear()
    assert peer.ask(option(LIST)) == option_reply(LIST, ACK)


def test_list_with_data_is_invalid(peer: Peer) -> None:
    assert peer.ask(option(LIST, b"x")) == option_reply(LIST, ERR_INVALID, b"LIST takes no data")


@pytest.mark.parametrize("data", [b"", b"whatever"])
def test_abort_is_acknowledged_before_the_end(peer: Peer, data: bytes) -> None:
    assert peer.ask(option(ABORT, data), go("disk0")) == option_reply(ABORT, ACK)
    assert peer.handshake.wants_close
    assert peer.chosen == []


@pytest.mark.parametrize("number", [0, PEEK_EXPORT, 12, 0x80000001, 0xFFFFFFFF])
def test_other_options_are_unsupported_and_their_data_consumed(peer: Peer, number: int) -> None:
    unsupported = option_reply(number, ERR_UNSUP, b"option %d is not supported" % number)
    assert peer.ask(option(number)) == unsupported
    assert peer.ask(option(number, bytes(65536)), go("disk0")) == unsupported + DESCRIBED


MALFORMED = [
    b"",
    bytes(5),
    # Name lengths beyond the data, one of them beyond 31 bits.
    bytes.fromhex("00000001 0000"),
    bytes.fromhex("00000006 6469736b30 0000"),
    bytes.fromhex("ffffffff 6469736b30 0000"),
    # Counts that are not those of what follows.
    bytes.fromhex("00000005 6469736b30 0001"),
    bytes.fromhex("00000005 6469736b30 0001 00"),
    bytes.fromhex("00000005 6469736b30 0000 0000"),
    bytes.fromhex("00000005 6469736b30 ffff 0000"),
    bytes.fromhex("00000005 6469736b30 00"),
    # Names that are no strings: NUL, not UTF-8, too long.
    bytes.fromhex("00000006 6469736b3000 0000"),
    bytes.fromhex("00000002 fffe 0000"),
    bytes.fromhex("00001001") + b"a" * 4097 + bytes(2),
]


@pytest.mark.parametrize("number", [GO, INFO])
@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: data.hex()[:30])
def test_lengths_that_do_not_fit_are_invalid(peer: Peer, number: int, data: bytes) -> None:
    replies = parse_option_replies(peer.ask(option(number, data), go("disk0")))
    assert (replies[0].option, replies[0].kind) == (number, ERR_INVALID)
    assert [reply.kind for reply in replies[1:]] == [REP_INFO, REP_INFO, ACK]


def test_the_longest_name_is_no_error(peer: Peer) -> None:
    peer.exports.exports["n" * 4096] = FakeExport(ONE_MIB)
    assert peer.ask(go("n" * 4096)) == DESCRIBED


def test_export_name_with_no_zeroes_has_no_padding(peer: Peer) -> None:
    assert peer.ask(option(EXPORT_NAME, b"disk0")) == bytes.fromhex(f"0000000000100000 {FLAGS:04x}")
    assert peer.chosen == [peer.exports.exports["disk0"]]


@pytest.mark.parametrize("flags", [FIXED_NEWSTYLE, bytes(4)])
def test_export_name_without_no_zeroes_has_124_zeros(flags: bytes) -> None:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}))
    answer = peer.ask(flags, option(EXPORT_NAME, b"disk0"))
    assert answer == bytes.fromhex(f"0000000000100000 {FLAGS:04x}") + bytes(124)
    assert len(peer.chosen) == 1


@pytest.mark.parametrize("name", [b"disk1", b""])
def test_export_name_that_cannot_be_served_ends_the_connection(peer: Peer, name: bytes) -> None:
    assert peer.ask(option(EXPORT_NAME, name), go("disk0")) == b""
    assert peer.handshake.wants_close
    assert peer.chosen == []


@pytest.mark.parametrize("name", [b"a\0b", b"\xff", b"a" * 4097])
def test_export_name_that_is_no_name_ends_the_connection(peer: Peer, name: bytes) -> None:
    with pytest.raises(PeerError, match="export name"):
        peer.send(option(EXPORT_NAME, name))


@pytest.mark.parametrize("flags", [0x4, 0x8, 0x80, 0x10001, 0x80000003, 0xFFFFFFFF])
def test_unknown_client_flags_end_the_connection(flags: int) -> None:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}))
    with pytest.raises(PeerError, match="client flags"):
        peer.send(flags.to_bytes(4, "big"))


@pytest.mark.parametrize("flags", [0, 2])
def test_a_client_without_fixed_newstyle_gets_no_option_replies(flags: int) -> None:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}))
    with pytest.raises(PeerError, match="without fixed newstyle"):
        peer.send(flags.to_bytes(4, "big"), go("disk0"))
    assert peer.take() == b""


def test_wrong_option_magic_ends_the_connection(peer: Peer) -> None:
    with pytest.raises(PeerError, match="option magic"):
        peer.send(b"IHAVEOPS" + bytes(8))


def test_options_may_come_byte_by_byte(peer: Peer) -> None:
    fresh = Peer(peer.exports)
    stream = FIXED_NEWSTYLE_NO_ZEROES + option(LIST, b"x") + option(99, b"abc") + go("disk0")
    for value in stream:
        fresh.send(bytes((value,)))
    assert [reply.kind for reply in parse_option_replies(fresh.take())] == [
        ERR_INVALID,
        ERR_UNSUP,
        REP_INFO,
        REP_INFO,
        ACK,
    ]


@pytest.mark.parametrize("choice", [go("disk0"), option(EXPORT_NAME, b"disk0")])
def test_what_follows_the_choice_is_left_for_transmission(peer: Peer, choice: bytes) -> None:
    peer.send(option(99), choice, b"first request")
    assert peer.rest == b"first request"
    assert len(peer.chosen) == 1
    assert peer.exports.exports["disk0"].closed == 0
