# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's side of the NBD handshake, fixed newstyle (proto.md, "Handshake phase").

Bytes in, bytes out; no socket. The handshake ends with an export to serve, or with the connection's
end. Exports are opened through callbacks, so that asking a slow LUN never blocks the others; while
one is being opened no further option is looked at, which the protocol wants anyway: a client waits
for the reply to an option before it sends the next.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Protocol

from bridges.lun import LunInfo
from bridges.nbd import wire
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.translate import block_sizes, transmission_flags
from bridges.nbd.wire import HandshakeFlag, Info, Option, OptionReply, option_reply
from bridges.stream import PeerError

# No option here needs more than a name and a list of information requests.
_MAX_OPTION_BYTES = 64 << 10
# nbdkit stops at 32; a client that lists and asks about many exports needs more.
_MAX_OPTIONS = 1024
_SERVER_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


class Export(Protocol):
    """An open export: somebody's hold on a LUN."""

    @property
    def info(self) -> LunInfo:
        """What the LUN is."""

    def close(self) -> None:
        """Let go of it."""


class ExportError(Exception):
    """An export cannot be served; carries the option reply that says so."""

    def __init__(self, reply: OptionReply, text: str) -> None:
        super().__init__(text)
        self.reply = reply
        self.text = text


class Exports(Protocol):
    """What a server offers."""

    def names(self) -> Iterable[tuple[str, str]]:
        """Name and description of each export, for LIST."""

    def open(self, name: str, done: Callable[[Export | ExportError], None]) -> None:
        """Open an export by name; ``done`` hears of it now or later."""


class Handshake:
    """One connection until transmission begins.

    ``send`` takes bytes for the peer; ``transmit(export, negotiated)`` is called when the client
    chose one, ``resume()`` when an answer that took time is there and further bytes can be handled.
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
    ) -> None:
        self._exports = exports
        self._send = send
        self._transmit = transmit
        self._resume = resume
        self._client_flags: HandshakeFlag | None = None
        self._is_opening = False
        self._is_closed = False
        self._is_done = False
        self._options = 0
        self.wants_close = False
        self._handlers: dict[int, Callable[[bytes], None]] = {
            Option.EXPORT_NAME: self._export_name,
            Option.ABORT: self._abort,
            Option.LIST: self._list,
            Option.INFO: self._info,
            Option.GO: self._go,
        }

    def greet(self) -> None:
        """Send the server's greeting."""
        self._send(wire.GREETING.pack(wire.NBDMAGIC, wire.IHAVEOPT, _SERVER_FLAGS))

    def receive(self, data: memoryview) -> int:
        """Handle whole options; return how many bytes were used. Raises PeerError."""
        position = 0
        if self._client_flags is None:
            if len(data) < wire.CLIENT_FLAGS.size:
                return 0
            self._take_client_flags(wire.CLIENT_FLAGS.unpack_from(data)[0])
            position = wire.CLIENT_FLAGS.size
        while not (self._is_opening or self._is_done or self.wants_close):
            used = self._one_option(data[position:])
            if used == 0:
                break
            position += used
        if self._is_opening and len(data) - position > _MAX_OPTION_BYTES:
            raise PeerError("sends on without waiting for the reply to an option")
        return position

    def direct_received(self) -> None:
        """Options are never received directly."""

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
        if len(data) < wire.OPTION.size:
            return 0
        magic, option, length = wire.OPTION.unpack_from(data)
        if magic != wire.IHAVEOPT:
            raise PeerError(f"option magic {magic:#x}: expected {wire.IHAVEOPT:#x}")
        if length > _MAX_OPTION_BYTES:
            raise PeerError(f"option {option} of {length} bytes: expected {_MAX_OPTION_BYTES}")
        end: int = wire.OPTION.size + length
        if len(data) < end:
            return 0
        self._options += 1
        if self._options > _MAX_OPTIONS:
            raise PeerError(f"more than {_MAX_OPTIONS} options")
        assert self._client_flags is not None, "they come before the first option"
        is_fixed = HandshakeFlag.FIXED_NEWSTYLE in self._client_flags
        if not is_fixed and option != Option.EXPORT_NAME:
            # proto.md: a client without FIXED_NEWSTYLE cannot take option replies.
            raise PeerError(f"option {option} from a client without fixed newstyle")
        handler = self._handlers.get(option)
        if handler is None:
            self._send(option_reply(option, OptionReply.ERR_UNSUP))
        else:
            handler(bytes(data[wire.OPTION.size : end]))
        return end

    def _abort(self, data: bytes) -> None:
        self._send(option_reply(Option.ABORT, OptionReply.ACK))
        self.wants_close = True

    def _list(self, data: bytes) -> None:
        if data:
            self._refuse(Option.LIST, OptionReply.ERR_INVALID, "LIST takes no data")
            return
        for name, description in self._exports.names():
            encoded = name.encode()
            entry = struct.pack(">I", len(encoded)) + encoded + description.encode()
            self._send(option_reply(Option.LIST, OptionReply.SERVER, entry))
        self._send(option_reply(Option.LIST, OptionReply.ACK))

    def _refuse(self, option: Option, reply: OptionReply, text: str) -> None:
        self._send(option_reply(option, reply, text.encode()))

    def _export_name(self, data: bytes) -> None:
        name = _decode_name(data)
        # There is no way to report an error: the connection ends (proto.md, NBD_OPT_EXPORT_NAME).
        if name is None:
            raise PeerError("export name is not UTF-8 or too long")

        def opened(export: Export | ExportError) -> None:
            if isinstance(export, ExportError):
                self.wants_close = True
                return
            info = export.info
            self._send(wire.EXPORT_NAME_REPLY.pack(info.size_bytes, transmission_flags(info)))
            if not (self._client_flags or HandshakeFlag(0)) & HandshakeFlag.NO_ZEROES:
                self._send(wire.EXPORT_NAME_PADDING)
            self._begin_transmission(export)

        self._open(name, opened)

    def _info(self, data: bytes) -> None:
        self._describe(Option.INFO, data)

    def _go(self, data: bytes) -> None:
        self._describe(Option.GO, data)

    def _describe(self, option: Option, data: bytes) -> None:
        name = _parse_info_request(data)
        if name is None:
            self._refuse(option, OptionReply.ERR_INVALID, "malformed information request")
            return

        def opened(export: Export | ExportError) -> None:
            if isinstance(export, ExportError):
                self._refuse(option, export.reply, export.text)
                return
            for information in _information(export.info):
                self._send(option_reply(option, OptionReply.INFO, information))
            self._send(option_reply(option, OptionReply.ACK))
            if option is Option.GO:
                self._begin_transmission(export)
            else:
                export.close()

        self._open(name, opened)

    def _open(self, name: str, opened: Callable[[Export | ExportError], None]) -> None:
        self._is_opening = True

        def done(export: Export | ExportError) -> None:
            self._is_opening = False
            if self._is_closed:
                if not isinstance(export, ExportError):
                    export.close()
                return
            opened(export)
            self._resume()

        self._exports.open(name, done)

    def _begin_transmission(self, export: Export) -> None:
        self._is_done = True
        self._transmit(export, Negotiated())


def _information(info: LunInfo) -> Iterable[bytes]:
    """The answers to INFO and GO; block sizes go to those too who did not ask (as qemu does)."""
    yield wire.INFO_EXPORT.pack(Info.EXPORT, info.size_bytes, transmission_flags(info))
    yield wire.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, *block_sizes(info))


def _parse_info_request(data: bytes) -> str | None:
    """Return the export name of an INFO or GO request, None where its lengths do not fit.

    The list of wanted information is only checked for its length: all there is gets sent.
    """
    if len(data) < 6:
        return None
    length = int.from_bytes(data[:4], "big")
    if length > len(data) - 6:
        return None
    count = int.from_bytes(data[4 + length : 6 + length], "big")
    if len(data) != 6 + length + 2 * count:
        return None
    return _decode_name(data[4 : 4 + length])


def _decode_name(data: bytes) -> str | None:
    if len(data) > wire.MAX_STRING_BYTES or 0 in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
