# SPDX-License-Identifier: GPL-2.0-or-later
"""Random options in random pieces: there come well-formed replies, or a PeerError, and no more."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.listen import TlsMode
from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.stream_session import PeerError
from tests.bridges.nbd import proto
from tests.bridges.nbd.peer import ONE_MIB, FakeExport, FakeExports, Peer

NAMES = st.sampled_from(("disk", "", "disk1", "ø"))
QUERIES = st.lists(st.sampled_from(("base:", "base:allocation", "qemu:x", "allocation")))
KINDS = st.lists(st.integers(0, 5), max_size=4)
INFO_DATA = st.builds(lambda name, kinds: proto.information(name, *kinds), NAMES, KINDS)
META_DATA = st.builds(lambda name, queries: proto.meta_query(name, *queries), NAMES, QUERIES)
ANY_DATA = st.binary(max_size=40)
SENSIBLE = st.one_of(
    st.builds(
        proto.option,
        st.sampled_from((proto.LIST, proto.STRUCTURED_REPLY, proto.EXTENDED_HEADERS)),
    ),
    st.builds(proto.option, st.sampled_from((proto.INFO, proto.GO)), INFO_DATA),
    st.builds(
        proto.option, st.sampled_from((proto.LIST_META_CONTEXT, proto.SET_META_CONTEXT)), META_DATA
    ),
    st.builds(lambda name: proto.option(proto.EXPORT_NAME, name.encode()), NAMES),
    st.just(proto.option(proto.STARTTLS)),
    st.just(proto.option(proto.ABORT)),
)
WILD = st.builds(proto.option, st.integers(0, 13), st.one_of(ANY_DATA, INFO_DATA, META_DATA))
OPTIONS = st.lists(st.one_of(SENSIBLE, SENSIBLE, SENSIBLE, WILD, ANY_DATA), max_size=12)
FLAGS = st.sampled_from((b"\0\0\0\x03", b"\0\0\0\x03", b"\0\0\0\x01", b"\0\0\0\0"))


class _Conversation:
    """Says all it is given, does what the server waits for, and watches what comes back."""

    def __init__(self, draw: st.DataObject, tls: TlsMode) -> None:
        self._draw = draw
        self.export = FakeExport(ONE_MIB)
        exports = FakeExports({"disk": self.export}, default="disk")
        exports.is_slow = self._flip("is slow")
        self.peer = Peer(exports, tls)
        self.secured = 0

    def _flip(self, what: str) -> bool:
        return self._draw.draw(st.booleans(), what)

    def say(self, stream: bytes) -> None:
        """Send it in pieces; raises PeerError."""
        position = 0
        while position < len(stream):
            end = position + self._draw.draw(st.integers(1, 80), "piece")
            self.peer.is_full = self._flip("is full")
            self.peer.send(stream[position:end])
            self._turn()
            position = end

    def _turn(self) -> None:
        """What the connection does between two pieces."""
        peer = self.peer
        while peer.exports.waiting and self._flip("opens"):
            peer.exports.finish()
        if len(peer.tls_starts) > self.secured and self._flip("TLS is up"):
            self.secured += 1
            peer.handshake.secured(peer.exports)

    def end(self) -> None:
        """Hang up; what was being opened opens afterwards."""
        self.peer.handshake.closed()
        while self.peer.exports.waiting:
            self.peer.exports.finish()


def _check_replies(replies: bytes, *, may_end_in_export_name: bool) -> set[int]:
    kinds = set()
    while replies.startswith(bytes.fromhex("0003e889045565a9")):
        length = proto.OPTION_REPLY_BYTES + int.from_bytes(replies[16:20], "big")
        (reply,) = proto.parse_option_replies(replies[:length])
        assert reply.kind in range(1, 5) or reply.kind in range(0x80000001, 0x8000000B)
        if reply.kind & 0x80000000:
            assert 0 < len(reply.data.decode()) <= 256
        kinds.add(reply.kind)
        replies = replies[length:]
    assert len(replies) in ((0, 10, 134) if may_end_in_export_name else (0,))
    return kinds


@settings(max_examples=500, deadline=None)
@given(st.data(), st.sampled_from(TlsMode), FLAGS, OPTIONS)
def test_options_end_in_a_peer_error_or_in_well_formed_replies(
    data: st.DataObject, tls: TlsMode, flags: bytes, options: list[bytes]
) -> None:
    conversation = _Conversation(data, tls)
    peer, export = conversation.peer, conversation.export
    with suppress(PeerError):
        conversation.say(flags + b"".join(options))
    conversation.end()
    kinds = _check_replies(peer.take(), may_end_in_export_name=bool(peer.chosen))
    assert len(peer.tls_starts) <= 1
    assert not (tls is TlsMode.OFF and peer.tls_starts)
    assert tls is TlsMode.REQUIRE or proto.ERR_TLS_REQD not in kinds
    assert tls is not TlsMode.REQUIRE or not peer.chosen or conversation.secured
    assert len(peer.chosen) == len(peer.negotiated) <= 1
    assert export.opened == export.closed + len(peer.chosen)
    for negotiated in peer.negotiated:
        _check_negotiated(negotiated)


def _check_negotiated(negotiated: Negotiated) -> None:
    assert negotiated.contexts in ((), ((1, "base:allocation"),))
    assert not negotiated.contexts or negotiated.form is not ReplyForm.SIMPLE
