# SPDX-License-Identifier: GPL-2.0-or-later
"""STARTTLS and the three modes of proto.md ("TLS support"), up to where TLS itself begins."""

from __future__ import annotations

import pytest

from bridges.listen import TlsMode
from bridges.nbd.negotiated import Negotiated
from bridges.stream_session import PeerError
from tests.bridges.nbd.peer import ONE_MIB, FakeExport, FakeExports, Peer, described
from tests.bridges.nbd.proto import (
    ABORT,
    ACK,
    ERR_INVALID,
    ERR_POLICY,
    ERR_TLS_REQD,
    ERR_UNKNOWN,
    ERR_UNSUP,
    EXPORT_NAME,
    EXTENDED_HEADERS,
    FIXED_NEWSTYLE_NO_ZEROES,
    GO,
    INFO,
    LIST,
    LIST_META_CONTEXT,
    PEEK_EXPORT,
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

QUERY = meta_query("disk0", "base:allocation")
# Every option that is answered with replies, as a client would send it, and how it is answered
# where nothing is in its way; contexts would need structured replies first.
ANSWERS = {
    LIST: (b"", ACK),
    PEEK_EXPORT: (b"disk0", ERR_UNSUP),
    INFO: (information("disk0"), ACK),
    GO: (information("disk0"), ACK),
    STRUCTURED_REPLY: (b"", ACK),
    LIST_META_CONTEXT: (QUERY, ERR_INVALID),
    SET_META_CONTEXT: (QUERY, ERR_INVALID),
    EXTENDED_HEADERS: (b"", ACK),
    12: (b"", ERR_UNSUP),
    0xFFFFFFFF: (b"data", ERR_UNSUP),
}
TLS_REQD = b"TLS is required: send STARTTLS first"
ACCEPTED = option_reply(STARTTLS, ACK)


def _peer(mode: TlsMode) -> Peer:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}), mode)
    peer.send(FIXED_NEWSTYLE_NO_ZEROES)
    return peer


def _secured(mode: TlsMode) -> Peer:
    peer = _peer(mode)
    assert peer.ask(option(STARTTLS)) == ACCEPTED
    peer.handshake.secured(peer.exports)
    return peer


def _last_kind(peer: Peer, message: bytes) -> int:
    return parse_option_replies(peer.ask(message))[-1].kind


@pytest.mark.parametrize("number", ANSWERS)
@pytest.mark.parametrize("mode", [TlsMode.OFF, TlsMode.ON])
def test_tls_is_never_demanded_where_it_is_not_required(mode: TlsMode, number: int) -> None:
    data, kind = ANSWERS[number]
    assert _last_kind(_peer(mode), option(number, data)) == kind


@pytest.mark.parametrize("number", ANSWERS)
@pytest.mark.parametrize("data", [None, b"", b"\xff" * 100], ids=["right", "none", "wrong"])
def test_required_tls_is_demanded_before_any_other_option(number: int, data: bytes | None) -> None:
    peer = _peer(TlsMode.REQUIRE)
    message = option(number, ANSWERS[number][0] if data is None else data)
    assert peer.ask(message) == option_reply(number, ERR_TLS_REQD, TLS_REQD)
    assert peer.exports.exports["disk0"].opened == peer.exports.listed == 0


@pytest.mark.parametrize("number", ANSWERS)
@pytest.mark.parametrize("mode", [TlsMode.ON, TlsMode.REQUIRE])
def test_every_option_is_answered_once_tls_is_up(mode: TlsMode, number: int) -> None:
    data, kind = ANSWERS[number]
    assert _last_kind(_secured(mode), option(number, data)) == kind


@pytest.mark.parametrize("mode", TlsMode)
def test_abort_needs_no_tls(mode: TlsMode) -> None:
    peer = _peer(mode)
    assert peer.ask(option(ABORT)) == option_reply(ABORT, ACK)
    assert peer.handshake.wants_close


@pytest.mark.parametrize("flags", [b"\0\0\0\x03", b"\0\0\0\0"], ids=["fixed", "not fixed"])
def test_export_name_without_required_tls_ends_the_connection(flags: bytes) -> None:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}), TlsMode.REQUIRE)
    with pytest.raises(PeerError, match="EXPORT_NAME: TLS is required"):
        peer.send(flags, option(EXPORT_NAME, b"disk0"))
    assert (peer.take(), peer.exports.exports["disk0"].opened) == (b"", 0)


@pytest.mark.parametrize("mode", [TlsMode.ON, TlsMode.REQUIRE])
def test_export_name_is_served_over_tls(mode: TlsMode) -> None:
    peer = _secured(mode)
    assert len(peer.ask(option(EXPORT_NAME, b"disk0"))) == 10
    assert len(peer.chosen) == 1


def test_starttls_is_refused_by_policy_where_tls_is_off() -> None:
    peer = _peer(TlsMode.OFF)
    refused = option_reply(STARTTLS, ERR_POLICY, b"TLS is switched off here")
    # No injection: what follows the refusal is in plain text for all to see.
    assert peer.ask(option(STARTTLS), option(STARTTLS)) == refused + refused
    assert peer.tls_starts == []
    assert peer.ask(go("disk0")) == described(GO)


def test_the_log_hears_once_of_clients_that_want_tls_where_it_is_off() -> None:
    peer = _peer(TlsMode.OFF)
    peer.ask(option(STARTTLS), option(STARTTLS), option(PEEK_EXPORT), go("none"))
    assert peer.notes == ["TLS is switched off here"]


@pytest.mark.parametrize("number", [GO, LIST, 0xFFFFFFFF])
def test_the_log_hears_once_of_clients_without_the_required_tls(number: int) -> None:
    peer = _peer(TlsMode.REQUIRE)
    peer.ask(option(number), option(INFO))
    assert peer.notes == ["TLS is required: send STARTTLS first"]


@pytest.mark.parametrize("mode", [TlsMode.ON, TlsMode.REQUIRE])
def test_starttls_is_acknowledged_before_tls_starts(mode: TlsMode) -> None:
    peer = _peer(mode)
    assert peer.ask(option(STARTTLS)) == bytes.fromhex(
        "0003e889045565a9 00000005 00000001 00000000"
    )
    assert peer.tls_starts == [20]


@pytest.mark.parametrize("mode", TlsMode)
def test_starttls_with_data_is_invalid_and_starts_nothing(mode: TlsMode) -> None:
    peer = _peer(mode)
    invalid = option_reply(STARTTLS, ERR_INVALID, b"STARTTLS takes no data")
    assert peer.ask(option(STARTTLS, b"x")) == invalid
    assert peer.tls_starts == []


@pytest.mark.parametrize("mode", [TlsMode.ON, TlsMode.REQUIRE])
def test_starttls_over_tls_is_invalid(mode: TlsMode) -> None:
    peer = _secured(mode)
    again = option_reply(STARTTLS, ERR_INVALID, b"TLS is up already")
    assert peer.ask(option(STARTTLS)) == again
    assert len(peer.tls_starts) == 1
    assert peer.ask(go("disk0")) == described(GO)


@pytest.mark.parametrize("injected", [b"\x16", go("disk0"), option(LIST), bytes(70_000)])
@pytest.mark.parametrize("before", [b"", option(STRUCTURED_REPLY)])
def test_plain_text_behind_starttls_ends_the_connection(before: bytes, injected: bytes) -> None:
    peer = _peer(TlsMode.ON)
    with pytest.raises(PeerError, match=f"{len(injected)} bytes of plain text behind STARTTLS"):
        peer.send(before, option(STARTTLS), injected)
    assert peer.tls_starts == []
    assert ACCEPTED not in peer.take()
    assert peer.chosen == []


@pytest.mark.parametrize("sent", [b"\x16", go("disk0")])
def test_plain_text_that_comes_before_tls_is_up_ends_the_connection(sent: bytes) -> None:
    peer = _peer(TlsMode.REQUIRE)
    peer.ask(option(STARTTLS))
    with pytest.raises(PeerError, match="in plain text after STARTTLS"):
        peer.send(sent)
    assert (peer.take(), peer.chosen) == (b"", [])


def test_securing_lets_the_connection_go_on() -> None:
    peer = _peer(TlsMode.REQUIRE)
    peer.ask(option(STARTTLS))
    assert peer.resumed == 0
    peer.handshake.secured(peer.exports)
    assert peer.resumed == 1
    assert peer.ask(go("disk0")) == described(GO)


@pytest.mark.parametrize("number", [STRUCTURED_REPLY, EXTENDED_HEADERS])
def test_securing_forgets_all_that_was_negotiated(number: int) -> None:
    peer = _peer(TlsMode.ON)
    peer.ask(option(number), option(SET_META_CONTEXT, QUERY), option(STARTTLS))
    peer.handshake.secured(peer.exports)
    assert _last_kind(peer, option(LIST_META_CONTEXT, QUERY)) == ERR_INVALID
    assert peer.ask(go("disk0")) == described(GO)
    assert peer.negotiated == [Negotiated()]


def test_securing_forgets_contexts_even_if_replies_are_agreed_on_again() -> None:
    peer = _peer(TlsMode.ON)
    peer.ask(option(STRUCTURED_REPLY), option(SET_META_CONTEXT, QUERY), option(STARTTLS))
    peer.handshake.secured(peer.exports)
    peer.ask(option(STRUCTURED_REPLY), go("disk0"))
    assert peer.negotiated[0].contexts == ()


def test_securing_replaces_what_is_offered() -> None:
    peer = _peer(TlsMode.ON)
    peer.ask(option(STARTTLS))
    peer.handshake.secured(FakeExports({"private": FakeExport(ONE_MIB)}))
    (listed, _) = parse_option_replies(peer.ask(option(LIST)))
    assert listed.data == b"\0\0\0\x07privateabout private"
    assert _last_kind(peer, go("disk0")) == ERR_UNKNOWN
    assert peer.ask(go("private")) == described(GO)


def test_padding_stays_as_agreed_in_the_client_flags() -> None:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}), TlsMode.ON)
    peer.ask(b"\0\0\0\x01", option(STARTTLS))
    peer.handshake.secured(peer.exports)
    assert len(peer.ask(option(EXPORT_NAME, b"disk0"))) == 134


@pytest.mark.parametrize("flags", [0, 2])
def test_a_client_without_fixed_newstyle_cannot_start_tls(flags: int) -> None:
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}), TlsMode.ON)
    with pytest.raises(PeerError, match="without fixed newstyle"):
        peer.send(flags.to_bytes(4, "big"), option(STARTTLS))
    assert peer.tls_starts == []
