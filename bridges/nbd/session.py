# SPDX-License-Identifier: GPL-2.0-or-later
"""One NBD connection in its transmission phase (proto.md, "Transmission phase").

Requests are taken in batches from the stream's chunk. READ and WRITE, which are nearly all of
them, go straight to the nexus as one CDB each, with the reply's memory (READ) or the received
bytes (WRITE) as its buffer; the other requests are exchanges. There is no socket here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

from bridges.buffers import Chunk, Outgoing
from bridges.exchange import Exchange
from bridges.lun import LunInfo
from bridges.lun_client import LunClient
from bridges.nbd import translate, wire
from bridges.nbd.errors import OUT_OF_RANGE, error_of
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.wire import Command, CommandFlag, Error
from bridges.recovery import ScsiError, reply_of
from bridges.stream import PeerError
from scsi_backend.io.sgv import SgvCache
from scsi_backend.servers.command import Command as ScsiCommand
from scsi_backend.t10.cdb import FUA_BIT, read_16, write_16

_log = logging.getLogger(__name__)

_HEADER_BYTES = wire.REQUEST.size
_REPLY_BYTES = wire.SIMPLE_REPLY.size
_unpack_request = wire.REQUEST.unpack_from
_pack_reply = wire.SIMPLE_REPLY.pack_into

# Payloads up to this are used where they were received; larger ones get memory of their own, so
# that they need not be copied when the chunk is full.
_IN_PLACE_BYTES = 64 << 10
# A write beyond this is no mistake about limits but an attack on memory or patience.
_MAX_SKIPPED_BYTES = 128 << 20


class Connection(Protocol):
    """The stream, as the session sees it."""

    out: Outgoing
    held_bytes: int
    incoming: Chunk
    peer: str

    @property
    def is_full(self) -> bool:
        """Whether no more requests are to be handled for now."""

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        """Queue a reply reserved in ``out``."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is checked of a request before it is carried out."""

    flags: CommandFlag = CommandFlag.FUA
    writes: bool = False
    has_range: bool = True


# FUA "MUST be accepted on all commands" once offered; Linux sets it on READ.
_RULES = MappingProxyType(
    {
        Command.READ: _Rule(),
        Command.WRITE: _Rule(writes=True),
        Command.FLUSH: _Rule(has_range=False),
        Command.TRIM: _Rule(writes=True),
        Command.CACHE: _Rule(),
        Command.WRITE_ZEROES: _Rule(flags=CommandFlag.FUA | CommandFlag.NO_HOLE, writes=True),
    }
)


class _Io(ScsiCommand):
    """A READ or WRITE on its way, with what its reply needs."""

    __slots__ = ("chunk", "cookie", "end", "is_held", "start")

    cookie: int
    # Where the reply (READ) or the payload (WRITE) lies.
    chunk: Chunk
    start: int
    end: int
    # Whether a WRITE keeps its chunk.
    is_held: bool


class TransmissionSession:
    """Owns the requests of one connection to one export."""

    receive_limit_bytes = 0

    def __init__(
        self,
        connection: Connection,
        client: LunClient,
        sgv: SgvCache,
        on_closed: Callable[[], None],
        negotiated: Negotiated,
    ) -> None:
        self._connection = connection
        self._out = connection.out
        self._commit = connection.commit
        self._client = client
        self._submit = client.nexus.submit
        self._shift = client.info.block_size_bytes.bit_length() - 1
        self._sgv = sgv
        self._on_closed = on_closed
        self._negotiated = negotiated
        self.direct: memoryview | None = None
        # The WRITE whose payload is being received into memory of its own.
        self._incoming_write: tuple[int, int, int, Chunk, int] | None = None
        self._skip_bytes = 0
        self._skip_reply: tuple[int, Error] | None = None
        self.open_requests = 0
        self.wants_close = False

    def closed(self) -> None:
        """See ``stream.Session``."""
        if self._incoming_write is not None:
            self._incoming_write[3].release()
        self._on_closed()

    def receive(self, data: memoryview) -> int:
        """Handle the whole requests in ``data``; return how many bytes they took."""
        position = self._skip(data) if self._skip_bytes else 0
        end = len(data)
        self.receive_limit_bytes = 0
        connection = self._connection
        info = self._client.info
        size_bytes = info.size_bytes
        mask = info.block_size_bytes - 1
        max_bytes = wire.MAX_PAYLOAD_BYTES
        while end - position >= _HEADER_BYTES and not self._skip_bytes:
            if connection.is_full or self.wants_close or self.direct is not None:
                break
            magic, flags, kind, cookie, offset, length = _unpack_request(data, position)
            if magic != wire.REQUEST_MAGIC:
                raise PeerError(f"request magic {magic:#x}: expected {wire.REQUEST_MAGIC:#x}")
            if (
                kind > 1
                or flags > 1
                or (offset | length) & mask
                or offset + length > size_bytes
                or not 0 < length <= max_bytes
                or (kind == 1 and info.is_read_only)
            ):
                position += _HEADER_BYTES
                self._uncommon(info, flags, kind, cookie, offset, length)
                if self._skip_bytes:
                    position += self._skip(data[position:])
            elif kind == 0:
                position += _HEADER_BYTES
                self._read(cookie, offset, length)
            else:
                first = position + _HEADER_BYTES
                if first + length <= end:
                    payload = data[first : first + length]
                    position = first + length
                    self._write(flags, cookie, offset, payload, connection.incoming)
                elif length <= _IN_PLACE_BYTES:
                    break
                else:
                    self._write_directly(flags, cookie, offset, length, data[first:])
                    position = end
        return position

    def _read(self, cookie: int, offset: int, length: int) -> None:
        shift = self._shift
        out = self._out
        start = out.reserve(_REPLY_BYTES + length)
        chunk = out.chunk
        first = start + _REPLY_BYTES
        end = first + length
        io = _Io(
            read_16(offset >> shift, length >> shift), chunk.view[first:end], None, self._read_done
        )
        io.cookie, io.chunk, io.start, io.end = cookie, chunk, start, end
        self.open_requests += 1
        self._submit(io)

    def _read_done(self, io: ScsiCommand) -> None:
        assert isinstance(io, _Io)
        if io.status:
            self._client.recover(io, self._read_ended)
            return
        chunk, start = io.chunk, io.start
        _pack_reply(chunk.view, start, wire.SIMPLE_REPLY_MAGIC, 0, io.cookie)
        self.open_requests -= 1
        self._commit(chunk, start, io.end)

    def _read_ended(self, io: ScsiCommand) -> None:
        """End a READ that was tried again; on failure the reply is only its header."""
        assert isinstance(io, _Io)
        error = self._error(io, Command.READ)
        if not error and io.data_in_length < io.end - io.start - _REPLY_BYTES:
            # What lies behind the data is another request's.
            error = Error.EIO
        end = io.start + _REPLY_BYTES if error else io.end
        _pack_reply(io.chunk.view, io.start, wire.SIMPLE_REPLY_MAGIC, error, io.cookie)
        self.open_requests -= 1
        self._commit(io.chunk, io.start, end)

    def _write(
        self, flags: int, cookie: int, offset: int, payload: memoryview, chunk: Chunk
    ) -> None:
        """Write a payload that lies in ``chunk``."""
        shift = self._shift
        cdb = write_16(offset >> shift, len(payload) >> shift, FUA_BIT if flags else 0)
        io = _Io(cdb, None, payload, self._write_done)
        io.cookie, io.chunk, io.is_held = cookie, chunk, False
        self.open_requests += 1
        self._submit(io)
        if io.status is None and not io.is_held:
            self._hold(io)

    def _hold(self, io: _Io) -> None:
        """Keep a payload's memory until its command has ended."""
        assert io.data_out is not None
        io.is_held = True
        io.chunk.hold()
        self._connection.held_bytes += len(io.data_out)

    def _write_directly(
        self, flags: int, cookie: int, offset: int, length: int, received: memoryview
    ) -> None:
        """Give a long payload memory of its own and receive the rest of it there."""
        chunk = Chunk(self._sgv, length)
        chunk.view[: len(received)] = received
        self._incoming_write = (flags, cookie, offset, chunk, length)
        self._connection.held_bytes += length
        self.direct = chunk.view[len(received) : length]

    def direct_received(self) -> None:
        """See ``stream.Session``."""
        assert self._incoming_write is not None
        flags, cookie, offset, chunk, length = self._incoming_write
        self._incoming_write = None
        self.direct = None
        # The next request is likely as long: see its header before its payload.
        self.receive_limit_bytes = _HEADER_BYTES
        self._connection.held_bytes -= length
        self._write(flags, cookie, offset, chunk.view[:length], chunk)
        chunk.release()

    def _write_done(self, io: ScsiCommand) -> None:
        assert isinstance(io, _Io)
        if io.status:
            # The payload must stay while the command is tried again.
            if not io.is_held:
                self._hold(io)
            self._client.recover(io, self._write_ended)
            return
        self._write_ended(io)

    def _write_ended(self, io: ScsiCommand) -> None:
        assert isinstance(io, _Io)
        if io.is_held:
            assert io.data_out is not None
            self._connection.held_bytes -= len(io.data_out)
            io.chunk.release()
        self._answer(io.cookie, self._error(io, Command.WRITE) if io.status else 0)

    def _answer(self, cookie: int, error: int) -> None:
        """Reply without data to a request that was counted as open."""
        out = self._out
        start = out.reserve(_REPLY_BYTES)
        chunk = out.chunk
        _pack_reply(chunk.view, start, wire.SIMPLE_REPLY_MAGIC, error, cookie)
        self.open_requests -= 1
        self._commit(chunk, start, start + _REPLY_BYTES)

    def _error(self, io: ScsiCommand, command: Command) -> int:
        reply = reply_of(io)
        error = error_of(reply, command)
        if error:
            self._report(ScsiError(io.cdb, reply), error)
        return error

    def _report(self, failure: ScsiError, error: Error) -> None:
        nexus = self._client.nexus
        _log.warning("%s: %s: %s: %s", self._connection.peer, nexus.unit.name, failure, error.name)

    def _uncommon(
        self, info: LunInfo, flags: int, kind: int, cookie: int, offset: int, length: int
    ) -> None:
        """Every request but a plain READ or WRITE, and every one that is wrong.

        ``info`` is what made the request uncommon; the LUN may have changed since.
        """
        if kind == Command.DISC:
            self.wants_close = True
            return
        error = _check(info, flags, kind, offset, length)
        if kind == Command.WRITE:
            # It came here because something is wrong with it, or because it is empty.
            if length > _MAX_SKIPPED_BYTES:
                raise PeerError(f"WRITE of {length} bytes")
            self._skip_bytes = length
            self._skip_reply = (cookie, error)
            if length == 0:
                self._end_skip()
            return
        self.open_requests += 1
        # Zero length: proto.md leaves the result open; nothing to do succeeds.
        if error or (length == 0 and kind != Command.FLUSH):
            self._answer(cookie, error)
            return
        self._start(Command(kind), flags, cookie, offset, length)

    def _skip(self, data: memoryview) -> int:
        """Drop the payload of a refused WRITE; answer once all of it has come."""
        count = min(len(data), self._skip_bytes)
        self._skip_bytes -= count
        if self._skip_bytes == 0:
            self._end_skip()
        return count

    def _end_skip(self) -> None:
        assert self._skip_reply is not None
        cookie, error = self._skip_reply
        self._skip_reply = None
        # Only now: of a payload that never comes to its end nothing is outstanding.
        self.open_requests += 1
        self._answer(cookie, error)

    def _start(self, command: Command, flags: int, cookie: int, offset: int, length: int) -> None:
        info = self._client.info
        fua = bool(flags & CommandFlag.FUA)
        exchange: Exchange[None]
        if command is Command.FLUSH:
            exchange = translate.flush(info)
        elif command is Command.TRIM:
            exchange = translate.trim(info, offset, length, fua=fua)
        elif command is Command.WRITE_ZEROES:
            no_hole = bool(flags & CommandFlag.NO_HOLE)
            exchange = translate.write_zeroes(info, offset, length, fua=fua, no_hole=no_hole)
        else:
            exchange = translate.cache(info, offset, length)
        self._client.run(exchange, partial(self._exchange_ended, command, cookie))

    def _exchange_ended(self, command: Command, cookie: int, outcome: ScsiError | None) -> None:
        error = Error.OK
        if outcome is not None:
            error = error_of(outcome.reply, command)
            self._report(outcome, error)
        self._answer(cookie, error)


def _check(info: LunInfo, flags: int, kind: int, offset: int, length: int) -> Error:
    """Return the error value that proto.md wants for a request, OK if it may proceed."""
    rule = _RULES.get(kind)  # type: ignore[call-overload]
    # ``~`` of an IntFlag knows only the bits that have names.
    if rule is None or flags | rule.flags != rule.flags:
        return Error.EINVAL
    if rule.writes and info.is_read_only:
        return Error.EPERM
    if not rule.has_range:
        return Error.OK
    if offset + length > info.size_bytes:
        return OUT_OF_RANGE.get(Command(kind), Error.EINVAL)
    is_transfer = kind in (Command.READ, Command.WRITE)
    if is_transfer and length > wire.MAX_PAYLOAD_BYTES:
        return Error.EINVAL
    if (offset | length) & (info.block_size_bytes - 1):
        return Error.EINVAL
    return Error.OK
