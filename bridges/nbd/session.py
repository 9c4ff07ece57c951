# SPDX-License-Identifier: GPL-2.0-or-later
"""One NBD connection in its transmission phase (proto.md, "Transmission phase").

Requests are taken in batches from the stream's chunk. READ and WRITE of whole blocks, which are
nearly all of them, go straight to the nexus as one CDB each, with the reply's memory (READ) or the
received bytes (WRITE) as its buffer. Everything else is ``uncommon``'s. There is no socket here.
"""

from __future__ import annotations

from collections.abc import Callable

from bridges.buffers import Chunk
from bridges.lun_client import LunClient
from bridges.nbd import wire
from bridges.nbd.answers import Connection
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.requests import Refusal
from bridges.nbd.transfer import LongRead, Transfer
from bridges.nbd.uncommon import Request, Uncommon, is_structured
from bridges.nbd.wire import Command, Error
from bridges.recovery import ScsiError, reply_of
from bridges.stream_session import PeerError
from scsi_backend.io.located import FileRange
from scsi_backend.io.sgv import SgvCache
from scsi_backend.servers.command import Command as ScsiCommand
from scsi_backend.t10.cdb import FUA_BIT, read_16, write_16

# Payloads up to this are used where they were received; larger ones get memory of their own, so
# that they need not be copied when the chunk is full.
_IN_PLACE_BYTES = 64 << 10
_NEVER = wire.MAX_PAYLOAD_BYTES + 1
_ZEROS = bytes(64 << 10)


class TransmissionSession(Uncommon):
    """Owns the requests of one connection to one export."""

    def __init__(
        self,
        connection: Connection,
        client: LunClient,
        sgv: SgvCache,
        on_closed: Callable[[], None],
        negotiated: Negotiated,
    ) -> None:
        super().__init__(connection, client, negotiated)
        self._shift = client.info.block_size_bytes.bit_length() - 1
        self._mask = client.info.block_size_bytes - 1
        self._sgv = sgv
        self._on_closed = on_closed
        form = self._form
        self._unpack = form.request.unpack_from
        self._header_bytes = form.request.size
        self._read_header_bytes = form.read_header_bytes
        self._put_read_header = form.put_read_header
        from_bytes = connection.send_file_from_bytes
        self._long_read_bytes = _NEVER if from_bytes is None else from_bytes
        self.receive_limit_bytes = 0
        self.direct: memoryview | None = None
        # The WRITE whose payload is being received into memory of its own.
        self._incoming_write: tuple[int, int, int, Chunk, int] | None = None

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
        header_bytes, unpack = self._header_bytes, self._unpack
        expected_magic = self._form.request_magic
        limits = self._plain_limits()
        size_bytes, max_bytes, plain_flags = limits.size_bytes, limits.max_bytes, limits.flags
        mask = self._mask
        while end - position >= header_bytes and not self._skip_bytes:
            if connection.is_full or self.wants_close or self.direct is not None:
                break
            magic, flags, kind, cookie, offset, length = unpack(data, position)
            if magic != expected_magic:
                raise PeerError(f"request magic {magic:#x}: expected {expected_magic:#x}")
            if (
                kind > 1
                or flags not in plain_flags[kind]
                or (offset | length) & mask
                or offset + length > size_bytes
                or not 0 < length <= max_bytes
            ):
                request = Request(flags, kind, cookie, offset, length)
                used = self._uncommon(limits.info, request, data[position + header_bytes :])
                if used is None:
                    break
                if used >= 0:
                    position += header_bytes + used
                    continue
            if kind == 0:
                position += header_bytes
                self._read(cookie, offset, length)
            else:
                first = position + header_bytes
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
        if length >= self._long_read_bytes:
            self._read_by_reference(cookie, offset, length)
            return
        shift = self._shift
        out = self._out
        head = self._read_header_bytes
        start = out.reserve(head + length)
        chunk = out.chunk
        first = start + head
        end = first + length
        view = chunk.view
        # Known ahead; a read that fails gets another.
        self._put_read_header(view, start, cookie, offset, length)
        cdb = read_16(offset >> shift, length >> shift)
        io = Transfer(cdb, view[first:end], None, self._read_done)
        io.cookie, io.offset, io.chunk, io.start, io.end = cookie, offset, chunk, start, end
        self.open_requests += 1
        self._submit(io)

    def _read_done(self, io: ScsiCommand) -> None:
        assert isinstance(io, Transfer)
        if io.status:
            self._client.recover(io, self._read_ended)
            return
        self.open_requests -= 1
        self._commit(io.chunk, io.start, io.end)

    def _read_by_reference(self, cookie: int, offset: int, length: int) -> None:
        """READ what may be sent from the page cache, or told as a hole, instead of copied."""
        shift = self._shift
        cdb = read_16(offset >> shift, length >> shift)
        io = LongRead(cdb, None, None, self._located)
        io.cookie, io.offset, io.length_bytes = cookie, offset, length
        io.has_memory = io.is_held = False
        io.reserve = self._reserve
        self.open_requests += 1
        self._submit(io)
        if io.status is None and not io.has_memory:
            # Kept waiting by an atomic command, or while a hole is looked for. It may want memory
            # later, so it counts already.
            io.is_held = True
            self._connection.held_bytes += length

    def _reserve(self, io: LongRead) -> memoryview:
        """Give a READ memory after all."""
        self._count_no_more(io)
        out, length = self._out, io.length_bytes
        io.start = out.reserve(self._read_header_bytes + length)
        io.chunk = out.chunk
        first = io.start + self._read_header_bytes
        io.end = first + length
        io.has_memory = True
        self._put_read_header(io.chunk.view, io.start, io.cookie, io.offset, length)
        return io.chunk.view[first : io.end]

    def _count_no_more(self, io: LongRead) -> None:
        if io.is_held:
            io.is_held = False
            self._connection.held_bytes -= io.length_bytes

    def _located(self, io: ScsiCommand) -> None:
        assert isinstance(io, LongRead)
        self._count_no_more(io)
        if io.status:
            # Tried again, it needs what every READ has.
            if io.data_in is None and not self._give_memory(io):
                return
            self._client.recover(io, self._read_ended)
        elif io.has_memory:
            self.open_requests -= 1
            self._commit(io.chunk, io.start, io.end)
        elif isinstance(io.located, FileRange):
            self._send_file(io, io.located)
        else:
            self._send_zeros(io)

    def _give_memory(self, io: LongRead) -> bool:
        """Give a READ memory that has ended without; if there is none, that is the reply."""
        try:
            io.data_in = self._reserve(io)
        except (OSError, MemoryError) as error:
            text = f"READ of {io.length_bytes} bytes: no memory: {error}"
            self._refuse(io.cookie, io.offset, Refusal(Error.EIO, text))
            return False
        return True

    def _send_file(self, io: LongRead, where: FileRange) -> None:
        head = self._read_header_bytes
        start = self._out.reserve(head)
        chunk = self._out.chunk
        self._put_read_header(chunk.view, start, io.cookie, io.offset, io.length_bytes)
        self.open_requests -= 1
        self._connection.commit_with_file(chunk, start, start + head, where, io.length_bytes)

    def _send_zeros(self, io: LongRead) -> None:
        form = self._form
        if is_structured(form):
            self._reply(form.hole(io.cookie, io.offset, io.length_bytes, io.offset, is_last=True))
        elif self._give_memory(io):
            view = io.data_in
            assert view is not None
            for start in range(0, len(view), len(_ZEROS)):
                piece = view[start : start + len(_ZEROS)]
                piece[:] = _ZEROS[: len(piece)]
            self.open_requests -= 1
            self._commit(io.chunk, io.start, io.end)

    def _read_ended(self, io: ScsiCommand) -> None:
        """End a READ that was tried again."""
        assert isinstance(io, Transfer)
        reply = reply_of(io)
        if reply.is_success and reply.data_in_length == io.end - io.start - self._read_header_bytes:
            self.open_requests -= 1
            self._commit(io.chunk, io.start, io.end)
        else:
            self._read_failed(io, ScsiError(io.cdb, reply))

    def _write(
        self, flags: int, cookie: int, offset: int, payload: memoryview, chunk: Chunk
    ) -> None:
        """Write a payload that lies in ``chunk``."""
        length = len(payload)
        limits = self._limits
        if (
            (offset | length) & self._mask
            or flags not in limits.flags[1]
            or length > limits.max_bytes
        ):
            self._write_by_exchange(flags, cookie, offset, payload, chunk)
            return
        shift = self._shift
        cdb = write_16(offset >> shift, length >> shift, FUA_BIT if flags & 1 else 0)
        io = Transfer(cdb, None, payload, self._write_done)
        io.cookie, io.offset, io.chunk, io.is_held = cookie, offset, chunk, False
        self.open_requests += 1
        self._submit(io)
        if io.status is None and not io.is_held:
            self._hold(io)

    def _hold(self, io: Transfer) -> None:
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
        self.receive_limit_bytes = self._header_bytes
        self._connection.held_bytes -= length
        self._write(flags, cookie, offset, chunk.view[:length], chunk)
        chunk.release()

    def _write_done(self, io: ScsiCommand) -> None:
        assert isinstance(io, Transfer)
        if io.status:
            # The payload must stay while the command is tried again.
            if not io.is_held:
                self._hold(io)
            self._client.recover(io, self._write_ended)
            return
        if io.is_held:
            self._let_go(io)
        self._succeed(io.cookie, io.offset)

    def _let_go(self, io: Transfer) -> None:
        assert io.data_out is not None
        self._connection.held_bytes -= len(io.data_out)
        io.chunk.release()

    def _write_ended(self, io: ScsiCommand) -> None:
        """End a WRITE that was tried again."""
        assert isinstance(io, Transfer)
        self._let_go(io)
        reply = reply_of(io)
        if reply.is_success:
            self._succeed(io.cookie, io.offset)
        else:
            self._fail(Command.WRITE, io.cookie, io.offset, ScsiError(io.cdb, reply))
