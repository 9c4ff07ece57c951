# SPDX-License-Identifier: GPL-2.0-or-later
"""Structured replies, extended headers and metadata contexts: what can be agreed on."""

from __future__ import annotations

import pytest

from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.stream_session import PeerError
from tests.bridges.nbd.peer import (
    BLOCK_STATUS_PAYLOAD,
    FLAGS,
    ONE_MIB,
    SEND_DF,
    FakeExport,
    FakeExports,
    Peer,
    described,
)
from tests.bridges.nbd.proto import (
    ACK,
    ERR_EXT_HEADER_REQD,
    ERR_INVALID,
    ERR_TOO_BIG,
    ERR_UNKNOWN,
    EXPORT_NAME,
    EXTENDED_HEADERS,
    FIXED_NEWSTYLE_NO_ZEROES,
    GO,
    INFO,
    LIST,
    LIST_META_CONTEXT,
    META_CONTEXT,
    SET_META_CONTEXT,
    STARTTLS,
    STRUCTURED_REPLY,
    go,
    information,
    meta_query,
    option,
    option_reply,
    parse_option_replies,
)

ALLOCATION = "base:allocation"
CONTEXTS = ((1, ALLOCATION),)
STRUCTURED = option(STRUCTURED_REPLY)
EXTENDED = option(EXTENDED_HEADERS)
SET = option(SET_META_CONTEXT, meta_query("disk0", ALLOCATION))
# u32 id, name.
SET_REPLY = option_reply(SET_META_CONTEXT, META_CONTEXT, b"\0\0\0\x01base:allocation")
LIST_REPLY = option_reply(LIST_META_CONTEXT, META_CONTEXT, b"\0\0\0\0base:allocation")


@pytest.fixture
def peer() -> Peer:
    """A client of a server with two exports, its flags already sent."""
    exports = {name: FakeExport(ONE_MIB) for name in ("disk0", "disk1")}
    peer = Peer(FakeExports(exports, default="disk0"))
    peer.send(FIXED_NEWSTYLE_NO_ZEROES)
    return peer


def _kinds(peer: Peer, *messages: bytes) -> list[int]:
    return [reply.kind for reply in parse_option_replies(peer.ask(*messages))]


@pytest.mark.parametrize("number", [STRUCTURED_REPLY, EXTENDED_HEADERS])
def test_a_form_of_replies_is_agreed_on_with_an_ack(peer: Peer, number: int) -> None:
    expected = bytes.fromhex(f"0003e889045565a9 {number:08x} 00000001 00000000")
    assert peer.ask(option(number)) == expected


@pytest.mark.parametrize(
    ("options", "form", "extra_flags"),
    [
        (b"", ReplyForm.SIMPLE, 0),
        (STRUCTURED, ReplyForm.STRUCTURED, SEND_DF),
        (STRUCTURED + STRUCTURED, ReplyForm.STRUCTURED, SEND_DF),
        (EXTENDED, ReplyForm.EXTENDED, SEND_DF),
        (EXTENDED + EXTENDED, ReplyForm.EXTENDED, SEND_DF),
        (STRUCTURED + EXTENDED, ReplyForm.EXTENDED, SEND_DF),
        (STRUCTURED + SET, ReplyForm.STRUCTURED, SEND_DF),
        (EXTENDED + SET, ReplyForm.EXTENDED, SEND_DF | BLOCK_STATUS_PAYLOAD),
        (STRUCTURED + SET + EXTENDED, ReplyForm.EXTENDED, SEND_DF | BLOCK_STATUS_PAYLOAD),
    ],
)
def test_the_form_is_negotiated_and_its_flags_are_told(
    peer: Peer, options: bytes, form: ReplyForm, extra_flags: int
) -> None:
    assert {reply.kind for reply in parse_option_replies(peer.ask(options))} <= {ACK, META_CONTEXT}
    # "the server MUST reply with the same set of information" to both.
    for number in (INFO, GO):
        answer = peer.ask(option(number, information("disk0")))
        assert answer == described(number, flags=FLAGS | extra_flags)
    contexts = CONTEXTS if SET in options else ()
    assert peer.negotiated == [Negotiated(form, contexts, knows_block_sizes=False)]


def test_export_name_goes_with_structured_replies_and_contexts(peer: Peer) -> None:
    peer.ask(STRUCTURED, SET)
    flags = f"{FLAGS | SEND_DF:04x}"
    answer = peer.ask(option(EXPORT_NAME, b"disk0"))
    assert answer == bytes.fromhex("0000000000100000" + flags)
    assert peer.negotiated == [Negotiated(ReplyForm.STRUCTURED, CONTEXTS)]


def test_export_name_after_extended_headers_ends_the_connection(peer: Peer) -> None:
    peer.ask(EXTENDED)
    with pytest.raises(PeerError, match="EXPORT_NAME: after EXTENDED_HEADERS"):
        peer.send(option(EXPORT_NAME, b"disk0"))
    assert (peer.take(), peer.chosen) == (b"", [])


def test_structured_reply_after_extended_headers_says_that_those_are_in_force(peer: Peer) -> None:
    peer.ask(EXTENDED)
    text = b"EXTENDED_HEADERS is agreed on already"
    assert peer.ask(STRUCTURED) == option_reply(STRUCTURED_REPLY, ERR_EXT_HEADER_REQD, text)
    peer.send(go("disk0"))
    assert peer.negotiated[0].form is ReplyForm.EXTENDED


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (LIST, b"LIST"),
        (STARTTLS, b"STARTTLS"),
        (STRUCTURED_REPLY, b"STRUCTURED_REPLY"),
        (EXTENDED_HEADERS, b"EXTENDED_HEADERS"),
    ],
)
def test_options_that_take_no_data_are_invalid_with_some(
    peer: Peer, number: int, name: bytes
) -> None:
    answer = peer.ask(option(number, b"x"))
    assert answer == option_reply(number, ERR_INVALID, name + b" takes no data")
    peer.send(go("disk0"))
    assert peer.negotiated == [Negotiated()]


@pytest.mark.parametrize("number", [LIST_META_CONTEXT, SET_META_CONTEXT])
def test_contexts_need_structured_replies_first(peer: Peer, number: int) -> None:
    (reply,) = parse_option_replies(peer.ask(option(number, meta_query("disk0", ALLOCATION))))
    assert (reply.option, reply.kind) == (number, ERR_INVALID)
    assert reply.data.endswith(b" needs STRUCTURED_REPLY or EXTENDED_HEADERS first")
    peer.send(STRUCTURED, go("disk0"))
    assert peer.negotiated[0].contexts == ()


@pytest.mark.parametrize(
    ("queries", "finds"),
    [
        ((), True),
        (("base:",), True),
        ((ALLOCATION,), True),
        (("base:nosuch", "x-unknown:", ALLOCATION, ALLOCATION, "base:"), True),
        (("base:nosuch",), False),
        (("base:allocatio", "base:allocation2", "BASE:allocation"), False),
        (("qemu:dirty-bitmap:b", "qemu:", ":", "x-unknown:ø"), False),
    ],
)
def test_list_meta_context_shows_what_a_query_finds(
    peer: Peer, queries: tuple[str, ...], finds: bool
) -> None:
    peer.ask(STRUCTURED)
    answer = peer.ask(option(LIST_META_CONTEXT, meta_query("disk0", *queries)))
    assert answer == (LIST_REPLY if finds else b"") + option_reply(LIST_META_CONTEXT, ACK)
    peer.send(go("disk0"))
    assert peer.negotiated[0].contexts == ()


@pytest.mark.parametrize(
    ("queries", "selects"),
    [
        ((ALLOCATION,), True),
        (("base:", "x-unknown:y", ALLOCATION, ALLOCATION), True),
        ((), False),
        (("base:",), False),
        (("base:nosuch", "qemu:allocation-depth"), False),
    ],
)
@pytest.mark.parametrize("form", [STRUCTURED, EXTENDED])
def test_set_meta_context_selects_what_is_named(
    peer: Peer, form: bytes, queries: tuple[str, ...], selects: bool
) -> None:
    peer.ask(form)
    answer = peer.ask(option(SET_META_CONTEXT, meta_query("disk0", *queries)))
    assert answer == (SET_REPLY if selects else b"") + option_reply(SET_META_CONTEXT, ACK)
    peer.send(go("disk0"))
    assert peer.negotiated[0].contexts == (CONTEXTS if selects else ())


@pytest.mark.parametrize(
    ("set_for", "opened", "counts"),
    [
        ("disk0", "disk0", True),
        ("", "disk0", True),
        ("disk0", "", True),
        ("", "", True),
        ("disk1", "disk0", False),
        ("disk1", "", False),
        ("", "disk1", False),
    ],
)
def test_contexts_count_for_the_export_that_they_were_set_for(
    peer: Peer, set_for: str, opened: str, counts: bool
) -> None:
    message = option(SET_META_CONTEXT, meta_query(set_for, ALLOCATION))
    flags = FLAGS | SEND_DF | (BLOCK_STATUS_PAYLOAD if counts else 0)
    peer.ask(EXTENDED, message)
    assert peer.ask(go(opened)) == described(GO, flags=flags)
    assert peer.negotiated[0].contexts == (CONTEXTS if counts else ())


def test_contexts_of_another_export_do_not_hinder_an_info_of_this_one(peer: Peer) -> None:
    peer.ask(STRUCTURED, SET, option(INFO, information("disk1")), go("disk0"))
    assert peer.negotiated[0].contexts == CONTEXTS


MALFORMED = [
    (b"", ERR_INVALID),
    (bytes(7), ERR_INVALID),
    # Name, query and count beyond the data.
    (bytes.fromhex("00000006 6469736b30 00000000"), ERR_INVALID),
    (bytes.fromhex("00000005 6469736b30 00000001 0000000f") + b"base:allocatio", ERR_INVALID),
    (bytes.fromhex("00000005 6469736b30 00000001 ffffffff"), ERR_INVALID),
    (bytes.fromhex("00000005 6469736b30 ffffffff"), ERR_INVALID),
    (bytes.fromhex("ffffffff 6469736b30 00000000"), ERR_INVALID),
    (meta_query("disk0", ALLOCATION) + b"\0", ERR_INVALID),
    # Strings that are none: NUL, not UTF-8, too long; and a query without a namespace.
    (meta_query("disk0", "base:\0"), ERR_INVALID),
    (meta_query("disk0\0", ALLOCATION), ERR_INVALID),
    (meta_query("disk0", "base:xx").replace(b"xx", b"\xff\xfe"), ERR_INVALID),
    (meta_query("disk0", "base:" + "x" * 4092), ERR_INVALID),
    (meta_query("disk0", ALLOCATION, "allocation"), ERR_INVALID),
    (meta_query("disk0", *["base:"] * 1025), ERR_TOO_BIG),
    (meta_query("disk2", ALLOCATION), ERR_UNKNOWN),
]


@pytest.mark.parametrize("number", [LIST_META_CONTEXT, SET_META_CONTEXT])
@pytest.mark.parametrize(("data", "error"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_failing_query_says_why_and_only_set_forgets_what_was_set(
    peer: Peer, number: int, data: bytes, error: int
) -> None:
    peer.ask(STRUCTURED, SET)
    (reply,) = parse_option_replies(peer.ask(option(number, data)))
    assert (reply.option, reply.kind) == (number, error)
    assert 0 < len(reply.data) <= 256
    peer.send(go("disk0"))
    # "replaces all previously-set metadata contexts (including when this command fails)".
    assert peer.negotiated[0].contexts == (() if number == SET_META_CONTEXT else CONTEXTS)


def test_as_many_queries_as_are_allowed_are_answered_once(peer: Peer) -> None:
    queries = ["x:"] * 1023 + [ALLOCATION]
    peer.ask(STRUCTURED)
    assert _kinds(peer, option(SET_META_CONTEXT, meta_query("disk0", *queries))) == [
        META_CONTEXT,
        ACK,
    ]


def test_the_last_set_wins(peer: Peer) -> None:
    peer.ask(STRUCTURED, SET, option(SET_META_CONTEXT, meta_query("disk0")), go("disk0"))
    assert peer.negotiated[0].contexts == ()


def test_queries_open_no_export(peer: Peer) -> None:
    peer.ask(STRUCTURED, SET, option(LIST_META_CONTEXT, meta_query("disk0")))
    assert peer.exports.exports["disk0"].opened == 0
