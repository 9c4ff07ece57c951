# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's side of the NBD handshake, fixed newstyle (proto.md, "Handshake phase").

Bytes in, bytes out; no socket. The handshake ends with an export to serve, or with the connection's
end. The table at the end of this file tells which options there are and what each may do; their
data is taken apart in ``options``.

Exports are opened through callbacks, so that asking a slow LUN never blocks the others; while one
is being opened no further option is looked at, which the protocol wants anyway: a client waits for
the reply to an option before it sends the next. For the same reason nothing may follow STARTTLS
until TLS is up: what does was put there by somebody who wants it taken for encrypted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from bridges.listen import TlsMode
from bridges.nbd import meta_context, options, wire
from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.nbd.offer import Export, ExportError, Exports, flags_of, information
from bridges.nbd.options import InfoRequest, MetaContextRequest, OptionError
from bridges.nbd.wire import HandshakeFlag, Info, Option, OptionReply, option_reply
from bridges.stream_session import PeerError

# LIST replies in one go, before other connections get their turn.
_LIST_TURN = 1024
_NOTED = frozenset({OptionReply.ERR_POLICY, OptionReply.ERR_TLS_REQD})
_SERVER_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


class _State(Enum):
    """What the handshake waits for."""

    OPTION = auto()
    EXPORT = auto()
    TLS = auto()
    # Nothing: transmission has begun.
    DONE = auto()


class Handshake:
    """One connection until transmission begins.

    ``send`` takes bytes for the peer; ``transmit(export, negotiated)`` is called when the client
    chose one, ``resume()`` when an answer that took time is there and further bytes can be handled.
    ``start_tls()`` is called right after the reply that accepts STARTTLS was sent; ``secured`` has
    to be called when TLS is up. While ``is_full()`` no further exports are listed; the connection
    shows the bytes again that were left when it is full no more. ``note(text)`` hears, once at
    most, of a refusal that only another configuration mends, the server's or the client's.
    """

    receive_limit_bytes = 0
    direct: memoryview | None = None
    open_requests = 0

    def __init__(
        self,
        exports: Exports,
        send: Callable[[bytes], None],
        transmit: Callable[[Export, Negotiated], None],
        resume: Callable[[], None],
        tls: TlsMode,
        start_tls: Callable[[], None],
        is_full: Callable[[], bool],
        note: Callable[[str], object],
    ) -> None:
        self._exports = exports
        self._send = send
        self._transmit = transmit
        self._resume = resume
        self._tls = tls
        self._start_tls = start_tls
        self._is_full = is_full
        self._note = note
        self._has_noted = False
        self._client_flags: HandshakeFlag | None = None
        self._state = _State.OPTION
        self._framing = options.Framing()
        self._form = ReplyForm.SIMPLE
        self._selection = meta_context.NOTHING
        # The exports that a LIST under way has still to name; its option is not used up until then.
        self._listing: Iterator[tuple[str, str]] | None = None
        self._is_secured = False
        self._is_closed = False
        self.wants_close = False

    def greet(self) -> None:
        """Send the server's greeting."""
        self._send(wire.GREETING.pack(wire.NBDMAGIC, wire.IHAVEOPT, _SERVER_FLAGS))

    def receive(self, data: memoryview) -> int:
        """Handle whole options; return how many bytes were used. Raises PeerError."""
        if self._state is _State.TLS:
            raise PeerError("sends on in plain text after STARTTLS")
        position = 0
        if self._client_flags is None:
            if len(data) < wire.CLIENT_FLAGS.size:
                return 0
            self._take_client_flags(wire.CLIENT_FLAGS.unpack_from(data)[0])
            position = wire.CLIENT_FLAGS.size
        while self._state is _State.OPTION and not self.wants_close:
            used = self._one_option(data[position:]) if self._listing is None else self._list_on()
            if used == 0:
                break
            position += used
        is_waiting = self._state is _State.EXPORT or self._listing is not None
        if is_waiting and len(data) - position > options.MAX_FRAME_BYTES:
            raise PeerError("sends on without waiting for the reply to an option")
        return position

    def direct_received(self) -> None:
        """Options are never received directly."""

    def secured(self, exports: Exports) -> None:
        """TLS is up: go on as if nothing had been said before, with what is now offered."""
        assert self._state is _State.TLS, "start_tls comes first"
        self._state = _State.OPTION
        self._is_secured = True
        self._exports = exports
        # "the server MUST NOT preserve any negotiation state": somebody else may have sent it.
        self._form = ReplyForm.SIMPLE
        self._selection = meta_context.NOTHING
        self._resume()

    def closed(self) -> None:
        """The connection ended before transmission."""
        self._is_closed = True

    def _take_client_flags(self, flags: int) -> None:
        # proto.md: "the server MUST close the connection if it does not recognize a flag".
        # ``~`` of an IntFlag knows only the bits that have names.
        if flags | _SERVER_FLAGS != _SERVER_FLAGS:
            raise PeerError(f"client flags {flags:#x}: expected at most {_SERVER_FLAGS:#x}")
        self._client_flags = HandshakeFlag(flags)

    def _one_option(self, data: memoryview) -> int:
        """Handle the option in front; return its length, 0 if it is not there or not done."""
        frame = self._framing.take(data)
        if frame is None:
            return 0
        self._answer(frame.option, frame.data)
        if self._listing is not None:
            return self._list_on()
        if self._state is _State.TLS:
            self._accept_tls(len(data) - frame.end)
        return frame.end

    def _answer(self, option: int, data: bytes) -> None:
        assert self._client_flags is not None, "they come before the first option"
        is_fixed = HandshakeFlag.FIXED_NEWSTYLE in self._client_flags
        if not is_fixed and option != Option.EXPORT_NAME:
            # proto.md: a client without FIXED_NEWSTYLE cannot take option replies.
            raise PeerError(f"option {option} from a client without fixed newstyle")
        try:
            rule = self._check(option, data)
            rule.handle(self, Option(option), data)
        except OptionError as error:
            if option == Option.EXPORT_NAME:
                # It has no reply that could report an error: the connection ends.
                raise PeerError(f"EXPORT_NAME: {error.text}") from None
            self._refuse(option, error)

    def _check(self, option: int, data: bytes) -> _Rule:
        """Find the rule of an option that may come now; raises OptionError."""
        rule = _RULES.get(option)
        may_be_plain = rule is not None and rule.may_precede_tls
        if self._tls is TlsMode.REQUIRE and not self._is_secured and not may_be_plain:
            # FORCEDTLS: "any other option, including NBD_OPT_INFO and unsupported options".
            raise OptionError(OptionReply.ERR_TLS_REQD, "TLS is required: send STARTTLS first")
        if rule is None:
            raise OptionError(OptionReply.ERR_UNSUP, f"option {option} is not supported")
        if data and not rule.takes_data:
            raise OptionError(OptionReply.ERR_INVALID, f"{Option(option).name} takes no data")
        return rule

    def _refuse(self, option: int, error: OptionError) -> None:
        if error.reply in _NOTED and not self._has_noted:
            self._has_noted = True
            self._note(error.text)
        self._send(option_reply(option, error.reply, error.text.encode()))

    def _abort(self, option: Option, data: bytes) -> None:
        self._send(option_reply(option, OptionReply.ACK))
        self.wants_close = True

    def _list(self, option: Option, data: bytes) -> None:
        self._listing = self._exports.names()

    def _list_on(self) -> int:
        """Name as many exports as there is room and time for; return how much of LIST is used up.

        That is nothing before the end, so that the connection shows it again later.
        """
        assert self._listing is not None, "a LIST is under way"
        for _ in range(_LIST_TURN):
            if self._is_full():
                return 0
            entry = next(self._listing, None)
            if entry is None:
                self._listing = None
                self._send(option_reply(Option.LIST, OptionReply.ACK))
                return wire.OPTION.size
            self._send(option_reply(Option.LIST, OptionReply.SERVER, options.server(*entry)))
        self._resume()
        return 0

    def _starttls(self, option: Option, data: bytes) -> None:
        if self._is_secured:
            raise OptionError(OptionReply.ERR_INVALID, "TLS is up already")
        if self._tls is TlsMode.OFF:
            # POLICY and not UNSUP: the option is known, and switched off here.
            raise OptionError(OptionReply.ERR_POLICY, "TLS is switched off here")
        self._state = _State.TLS

    def _accept_tls(self, unread_bytes: int) -> None:
        if unread_bytes:
            raise PeerError(f"{unread_bytes} bytes of plain text behind STARTTLS")
        self._send(option_reply(Option.STARTTLS, OptionReply.ACK))
        self._start_tls()

    def _structured_reply(self, option: Option, data: bytes) -> None:
        if self._form is ReplyForm.EXTENDED:
            text = "EXTENDED_HEADERS is agreed on already"
            raise OptionError(OptionReply.ERR_EXT_HEADER_REQD, text)
        self._agree(option, ReplyForm.STRUCTURED)

    def _extended_headers(self, option: Option, data: bytes) -> None:
        self._agree(option, ReplyForm.EXTENDED)

    def _agree(self, option: Option, form: ReplyForm) -> None:
        """Set the form of replies, which may be the one in force.

        proto.md: "the server MAY fail the repeated message with NBD_REP_ERR_INVALID". It does not:
        a client could take the error for the answer, and read replies of another form.
        """
        self._form = form
        self._send(option_reply(option, OptionReply.ACK))

    def _meta_context(self, option: Option, data: bytes) -> None:
        if option is Option.SET_META_CONTEXT:
            # "replaces all previously-set metadata contexts (including when this command fails)".
            self._selection = meta_context.NOTHING
        if self._form is ReplyForm.SIMPLE:
            # SET: "a server SHOULD send NBD_REP_ERR_INVALID"; LIST: MAY, and there is nothing yet
            # that the client could select.
            text = f"{option.name} needs STRUCTURED_REPLY or EXTENDED_HEADERS first"
            raise OptionError(OptionReply.ERR_INVALID, text)
        request = MetaContextRequest.parse(data)
        name = self._exports.canonical_name(request.export_name)
        if isinstance(name, ExportError):
            raise name
        if option is Option.SET_META_CONTEXT:
            contexts = meta_context.select(request.queries)
            self._selection = meta_context.Selection(name, contexts)
        else:
            contexts = meta_context.find(request.queries)
        for context in contexts:
            data = options.meta_context(*context)
            self._send(option_reply(option, OptionReply.META_CONTEXT, data))
        self._send(option_reply(option, OptionReply.ACK))

    def _export_name(self, option: Option, data: bytes) -> None:
        if self._form is ReplyForm.EXTENDED:
            # "the client MUST NOT use NBD_OPT_EXPORT_NAME" once extended headers are agreed on.
            raise OptionError(OptionReply.ERR_INVALID, "after EXTENDED_HEADERS, which wants GO")

        def opened(export: Export | ExportError) -> None:
            if isinstance(export, ExportError):
                self.wants_close = True
                return
            negotiated = self._negotiated(export)
            flags = flags_of(export.info, negotiated)
            self._send(wire.EXPORT_NAME_REPLY.pack(export.info.size_bytes, flags))
            if not (self._client_flags or HandshakeFlag(0)) & HandshakeFlag.NO_ZEROES:
                self._send(wire.EXPORT_NAME_PADDING)
            self._begin_transmission(export, negotiated)

        self._open(options.decode_string(data, "export name"), opened)

    def _describe(self, option: Option, data: bytes) -> None:
        """INFO and GO."""
        request = InfoRequest.parse(data)

        def opened(export: Export | ExportError) -> None:
            if isinstance(export, ExportError):
                self._refuse(option, export)
                return
            negotiated = self._negotiated(export, request.kinds)
            for answer in information(export, negotiated, request.kinds):
                self._send(option_reply(option, OptionReply.INFO, answer))
            self._send(option_reply(option, OptionReply.ACK))
            if option is Option.GO:
                self._begin_transmission(export, negotiated)
            else:
                export.close()

        self._open(request.export_name, opened)

    def _open(self, name: str, opened: Callable[[Export | ExportError], None]) -> None:
        self._state = _State.EXPORT

        def done(export: Export | ExportError) -> None:
            self._state = _State.OPTION
            if self._is_closed:
                if not isinstance(export, ExportError):
                    export.close()
                return
            opened(export)
            self._resume()

        self._exports.open(name, done)

    def _negotiated(self, export: Export, kinds: frozenset[int] = frozenset()) -> Negotiated:
        contexts = self._selection.for_export(export.name)
        return Negotiated(self._form, contexts, Info.BLOCK_SIZE in kinds)

    def _begin_transmission(self, export: Export, negotiated: Negotiated) -> None:
        self._state = _State.DONE
        self._transmit(export, negotiated)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What may be said with an option, and who answers it."""

    handle: Callable[[Handshake, Option, bytes], None]
    takes_data: bool = True
    may_precede_tls: bool = False


_RULES: Mapping[int, _Rule] = MappingProxyType(
    {
        Option.EXPORT_NAME: _Rule(Handshake._export_name),
        # "a server SHOULD ignore any data sent by the client".
        Option.ABORT: _Rule(Handshake._abort, may_precede_tls=True),
        Option.LIST: _Rule(Handshake._list, takes_data=False),
        Option.STARTTLS: _Rule(Handshake._starttls, takes_data=False, may_precede_tls=True),
        Option.INFO: _Rule(Handshake._describe),
        Option.GO: _Rule(Handshake._describe),
        Option.STRUCTURED_REPLY: _Rule(Handshake._structured_reply, takes_data=False),
        Option.LIST_META_CONTEXT: _Rule(Handshake._meta_context),
        Option.SET_META_CONTEXT: _Rule(Handshake._meta_context),
        Option.EXTENDED_HEADERS: _Rule(Handshake._extended_headers, takes_data=False),
    }
)
