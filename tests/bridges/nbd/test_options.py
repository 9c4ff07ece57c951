# SPDX-License-Identifier: GPL-2.0-or-later
"""Options and their data, byte for byte."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.nbd import options
from bridges.nbd.options import Frame, Framing, InfoRequest, MetaContextRequest, OptionError
from bridges.nbd.wire import Info, OptionReply
from bridges.stream_session import PeerError

# IHAVEOPT, option 7, 3 bytes.
FRAME = bytes.fromhex("49484156454f5054 00000007 00000003 616263")


@pytest.mark.parametrize("length", range(len(FRAME)))
def test_an_option_that_is_not_whole_is_not_there(length: int) -> None:
    assert Framing().take(memoryview(FRAME[:length])) is None


def test_a_whole_option_is_taken_and_what_follows_left() -> None:
    frame = Framing().take(memoryview(FRAME + b"more"))
    assert frame == Frame(7, b"abc", 19)


def test_a_wrong_magic_is_seen_before_the_data_is_there() -> None:
    with pytest.raises(PeerError, match="option magic 0x49484156454f5055"):
        Framing().take(memoryview(bytes.fromhex("49484156454f5055 00000007 00000003")))


def test_an_option_that_is_too_long_is_seen_before_the_data_is_there() -> None:
    framing = Framing()
    assert framing.take(memoryview(bytes.fromhex("49484156454f5054 00000007 00010000"))) is None
    with pytest.raises(PeerError, match="option 7 of 65537 bytes: expected 65536"):
        framing.take(memoryview(bytes.fromhex("49484156454f5054 00000007 00010001")))


def test_options_that_are_not_whole_do_not_count() -> None:
    framing = Framing()
    for _ in range(1024):
        framing.take(memoryview(FRAME[:-1]))
        assert framing.take(memoryview(FRAME)) is not None
    with pytest.raises(PeerError, match="more than 1024 options"):
        framing.take(memoryview(FRAME))


def test_an_information_request_is_a_name_and_numbers() -> None:
    data = bytes.fromhex("00000003 e282ac 0003 0003 0001 0003")
    assert InfoRequest.parse(data) == InfoRequest("€", frozenset({1, 3}))
    assert InfoRequest.parse(bytes(6)) == InfoRequest("", frozenset())


def test_a_meta_context_request_is_a_name_and_queries() -> None:
    data = bytes.fromhex("00000001 64 00000002 00000002 613a 00000003 e282ac")
    assert MetaContextRequest.parse(data) == MetaContextRequest("d", ("a:", "€"))
    assert MetaContextRequest.parse(bytes(8)) == MetaContextRequest("", ())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "shorter than the lengths"),
        ("00000000 00", "shorter than the lengths"),
        ("00000002 6161", "shorter than the lengths"),
        ("00000000 0001", "shorter than the lengths"),
        ("00000000 0000 ff", "1 bytes more than the counts"),
        ("00000001 00 0000", "export name contains NUL"),
        ("00000001 ff 0000", "export name is not UTF-8"),
        ("00001001" + "61" * 4097 + "0000", "export name of 4097 bytes: expected at most 4096"),
    ],
)
def test_an_information_request_that_is_wrong_is_invalid(data: str, text: str) -> None:
    with pytest.raises(OptionError, match=text) as caught:
        InfoRequest.parse(bytes.fromhex(data))
    assert caught.value.reply is OptionReply.ERR_INVALID


def test_more_queries_than_the_data_holds_are_invalid_and_not_too_big() -> None:
    with pytest.raises(OptionError, match="shorter") as caught:
        MetaContextRequest.parse(bytes.fromhex("00000000 ffffffff") + bytes(65528))
    assert caught.value.reply is OptionReply.ERR_INVALID


def test_too_many_queries_are_too_big() -> None:
    with pytest.raises(OptionError, match="1025 queries: expected at most 1024") as caught:
        MetaContextRequest.parse(bytes.fromhex("00000000 00000401") + bytes(4 * 1025))
    assert caught.value.reply is OptionReply.ERR_TOO_BIG
    whole = MetaContextRequest.parse(bytes.fromhex("00000000 00000400") + bytes(4 * 1024))
    assert len(whole.queries) == 1024


@given(st.binary(max_size=60))
def test_any_data_is_taken_apart_or_refused(data: bytes) -> None:
    for parse in (InfoRequest.parse, MetaContextRequest.parse):
        with suppress(OptionError):
            assert parse(data).export_name.encode() in data


@pytest.mark.parametrize("length", [0, 1, 4096])
def test_strings_may_have_4096_bytes(length: int) -> None:
    assert options.decode_string(b"n" * length, "name") == "n" * length


def test_replies_carry_their_data_as_the_protocol_lays_it_out() -> None:
    assert options.server("ø", "å") == bytes.fromhex("00000002 c3b8 c3a5")
    assert options.server("a", "") == bytes.fromhex("00000001 61")
    assert options.info_text(Info.NAME, "ø") == bytes.fromhex("0001 c3b8")
    assert options.info_text(Info.DESCRIPTION, "") == bytes.fromhex("0002")
    assert options.meta_context(1, "a:b") == bytes.fromhex("00000001 613a62")
