# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests of an NBD session that are no plain READ or WRITE, and those that are wrong.

What is in order becomes an exchange; what is not is refused, and its payload dropped. Both are
judged by what the LUN is, so that one that may have become another is asked before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeGuard

from bridges.buffers import Chunk
from bridges.exchange import Exchange
from bridges.lun import LunInfo
from bridges.lun_client import LunClient
from bridges.nbd import translate, wire
from bridges.nbd.answers import Answers, Connection
from bridges.nbd.extents import extents
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.replies import Replies, StructuredOnly
from bridges.nbd.requests import Refusal, check, status_filter
from bridges.nbd.transfer import PlainLimits, Transfer
from bridges.nbd.wire import Command, CommandFlag, Error, ExtentFlag
from bridges.recovery import ScsiError
from bridges.stream_session import PeerError
from bridges.turns import Turn
from scsi_backend.t10.sense import Sense, SenseKey

_log = logging.getLogger(__name__)

# A write beyond this is no mistake about limits but an attack on memory or patience.
_MAX_SKIPPED_BYTES = 128 << 20
# proto.md: a server SHOULD NOT send more than 2^20 extents; these fit one small reply.
_MAX_EXTENTS = 4096
# What an extent takes until it is sent: a small tuple, and its bytes in the reply.
_EXTENT_BYTES = 128
# More context ids than anybody has contexts.
_MAX_STATUS_PAYLOAD_BYTES = wire.BLOCK_STATUS_PAYLOAD.size + 4 * 1024
# A plain number: ``~`` of an IntFlag knows only the bits that have names.
_PAYLOAD_LEN = int(CommandFlag.PAYLOAD_LEN)
_PAST_END = Refusal(Error.EINVAL, "BLOCK_STATUS: past the end")
_UNSTEADY = Refusal(Error.EIO, "BLOCK_STATUS: the LUN changes all the time")
# A range whose LUN changes while its extents are being looked for is asked for so often.
_MAX_STATUS_TRIES = 4
_NOT_FAST = Refusal(Error.ENOTSUP, "WRITE_ZEROES: not faster here than writing")


class Request(NamedTuple):
    """The fields of a request's header; ``length`` is the payload's where it has a flag for it."""

    flags: int
    kind: int
    cookie: int
    offset: int
    length: int


class Uncommon(Answers):
    """What a session does with everything but plain READs and WRITEs."""

    def __init__(self, connection: Connection, client: LunClient, negotiated: Negotiated) -> None:
        super().__init__(connection, client, negotiated)
        self._negotiated = negotiated
        self._limits = PlainLimits.of(client.info, is_extended=self._form.is_extended)
        self._submit = client.nexus.submit
        self._skip_bytes = 0
        self._skip_reply: tuple[Request, Refusal | None] | None = None
        self._has_noted_partial_blocks = False
        self.wants_close = False

    def _plain_limits(self) -> PlainLimits:
        """What holds of the LUN as it is now."""
        info = self._client.info
        if self._limits.info is not info:
            self._limits = PlainLimits.of(info, is_extended=self._form.is_extended)
            self._submit = self._client.nexus.submit
        return self._limits

    def _uncommon(self, info: LunInfo, request: Request, behind: memoryview) -> int | None:
        """Handle a request whose payload, if any, begins ``behind`` its header.

        Return how many bytes of that were used, None where more have to come first, and -1 for a
        WRITE that is in order as soon as its payload is there. ``info`` is what made the request
        uncommon; the LUN may have changed since.
        """
        flags, kind, _, offset, length = request
        if kind == Command.DISC:
            self.wants_close = True
            return 0
        has_payload = kind == Command.WRITE
        if self._form.is_extended and flags & _PAYLOAD_LEN:
            if kind == Command.BLOCK_STATUS and length <= _MAX_STATUS_PAYLOAD_BYTES:
                return self._filtered_status(request, behind)
            flags &= ~_PAYLOAD_LEN
            if not has_payload:
                text = f"command {kind} takes no payload of {length} bytes"
                return self._begin_skip(request, Refusal(Error.EINVAL, text), behind)
        if not has_payload:
            self.open_requests += 1
            self._after_asking(partial(self._carry_out, request, flags))
            return 0
        refusal = check(info, self._negotiated, flags, kind, offset, length)
        if refusal is not None and not self._client.is_current:
            # If the LUN takes its time to answer, it is the next WRITE that is better judged.
            self._after_asking(lambda failure: None)
            refusal = check(self._client.info, self._negotiated, flags, kind, offset, length)
        return -1 if refusal is None and length else self._begin_skip(request, refusal, behind)

    def _after_asking(self, begin: Callable[[ScsiError | None], None]) -> None:
        """Begin what depends on what the LUN is, with what it failed with if it does not answer."""
        if self._client.is_current:
            begin(None)
        else:
            self._client.run(translate.ready(), begin)

    def _carry_out(self, request: Request, flags: int, failure: ScsiError | None) -> None:
        _, kind, cookie, offset, length = request
        refusal = check(self._client.info, self._negotiated, flags, kind, offset, length)
        if refusal is not None:
            self._refuse(cookie, offset, refusal)
        elif failure is not None:
            self._fail(Command(kind), cookie, offset, failure)
        elif length == 0 and kind != Command.FLUSH:
            # proto.md leaves the result open; nothing to do succeeds.
            self._end_empty(request)
        else:
            self._start(Command(kind), request)

    def _end_empty(self, request: Request) -> None:
        form = self._form
        if request.kind in (Command.READ, Command.BLOCK_STATUS) and is_structured(form):
            self._reply(form.nothing(request.cookie, request.offset))
        else:
            self._succeed(request.cookie, request.offset)

    def _begin_skip(self, request: Request, refusal: Refusal | None, behind: memoryview) -> int:
        """Drop the payload that follows; return how much of it is there already."""
        if request.length > _MAX_SKIPPED_BYTES:
            raise PeerError(f"payload of {request.length} bytes")
        self._skip_bytes = request.length
        self._skip_reply = (request, refusal)
        return self._skip(behind)

    def _skip(self, data: memoryview) -> int:
        """Drop some of a payload; answer once all of it has come."""
        count = min(len(data), self._skip_bytes)
        self._skip_bytes -= count
        if self._skip_bytes == 0:
            assert self._skip_reply is not None
            request, refusal = self._skip_reply
            self._skip_reply = None
            # Only now: of a payload that never comes to its end nothing is outstanding.
            self.open_requests += 1
            if refusal is None:
                self._succeed(request.cookie, request.offset)
            else:
                self._refuse(request.cookie, request.offset, refusal)
        return count

    def _start(self, command: Command, request: Request) -> None:
        if command is Command.READ:
            self._read_by_exchange(request)
            return
        if command is Command.BLOCK_STATUS:
            contexts = [number for number, _ in self._negotiated.contexts]
            self._status(request, request.length, contexts)
            return
        flags, _, cookie, offset, length = request
        info = self._client.info
        fua = bool(flags & CommandFlag.FUA)
        no_hole = bool(flags & CommandFlag.NO_HOLE)
        exchange: Exchange[None]
        if command is Command.FLUSH:
            exchange = translate.flush(info)
        elif command is Command.TRIM:
            exchange = translate.trim(info, offset, length, fua=fua)
        elif command is Command.CACHE:
            exchange = translate.cache(info, offset, length)
        elif flags & CommandFlag.FAST_ZERO and not translate.is_fast_zero(
            info, offset, length, no_hole=no_hole
        ):
            self._refuse(cookie, offset, _NOT_FAST)
            return
        else:
            exchange = translate.write_zeroes(info, offset, length, fua=fua, no_hole=no_hole)
        ended = partial(self._exchange_ended, command, cookie, offset)
        if command is Command.WRITE_ZEROES:
            self._run_in_turn(offset, length, exchange, ended)
        else:
            self._client.run(exchange, ended)

    def _exchange_ended(
        self, command: Command, cookie: int, offset: int, outcome: ScsiError | None
    ) -> None:
        if outcome is None:
            self._succeed(cookie, offset)
        else:
            self._fail(command, cookie, offset, outcome)

    def _run_in_turn(
        self,
        offset: int,
        length: int,
        exchange: Exchange[None],
        done: Callable[[ScsiError | None], None],
    ) -> None:
        """Run what writes a range, after what changes parts of the same blocks before it."""
        blocks = translate.partial_blocks(self._client.info, offset, length)
        if not blocks:
            self._client.run(exchange, done)
            return

        turns = self._client.turns

        def begin(turn: Turn) -> None:
            def ended(outcome: ScsiError | None) -> None:
                try:
                    done(outcome)
                finally:
                    turns.leave(turn)

            self._client.run(exchange, ended)

        turns.enter(blocks, begin)

    def _read_by_exchange(self, request: Request) -> None:
        """READ into the reply's memory, with as many commands as it takes."""
        _, _, cookie, offset, length = request
        self._note_partial_blocks(offset, length)
        form, out = self._form, self._out
        start = out.reserve(form.read_header_bytes + length)
        chunk = out.chunk
        first = start + form.read_header_bytes
        form.put_read_header(chunk.view, start, cookie, offset, length)
        connection, info = self._connection, self._client.info
        # The block that is read where only a part of it was asked for.
        block_bytes = info.block_size_bytes if translate.partial_blocks(info, offset, length) else 0
        connection.held_bytes += block_bytes

        def ended(outcome: ScsiError | None) -> None:
            connection.held_bytes -= block_bytes
            if outcome is None:
                self.open_requests -= 1
                self._commit(chunk, start, first + length)
            else:
                out.cancel(chunk)
                self._fail(Command.READ, cookie, offset, outcome)

        view = chunk.view[first : first + length]
        self._client.run(translate.read(info, offset, view), ended)

    def _read_failed(self, io: Transfer, failure: ScsiError) -> None:
        """Reply to a READ that failed for good: with what lies before the bad block, if known.

        proto.md: the client may use the data of OFFSET_DATA chunks that came before the error.
        """
        form, offset, cookie = self._form, io.offset, io.cookie
        first = io.start + form.read_header_bytes
        bad_offset = self._bad_offset(failure.reply.sense, offset, io.end - first)
        good_bytes = 0 if bad_offset is None else bad_offset - offset

        def fail() -> None:
            self._fail(Command.READ, cookie, offset, failure, bad_offset)

        def ended(outcome: ScsiError | None) -> None:
            if outcome is not None or not is_structured(form):
                self._out.cancel(io.chunk)
            else:
                header = form.read_part_header(cookie, offset, good_bytes, offset, is_last=False)
                io.chunk.view[io.start : first] = header
                self._commit(io.chunk, io.start, first + good_bytes)
            fail()

        if good_bytes and is_structured(form):
            # What a command leaves behind that ended with CHECK CONDITION is not to be relied on.
            view = io.chunk.view[first : first + good_bytes]
            self._client.run(translate.read(self._client.info, offset, view), ended)
        else:
            self._out.cancel(io.chunk)
            fail()

    def _bad_offset(self, sense: Sense | None, offset: int, length: int) -> int | None:
        """Where a read failed, if the sense data say so (SPC-5 4.4.2, INFORMATION)."""
        if sense is None or sense.key != SenseKey.MEDIUM_ERROR or sense.information is None:
            return None
        if sense.deferred:
            # It tells where an earlier command failed.
            return None
        bad_offset = sense.information * self._client.info.block_size_bytes
        return bad_offset if offset <= bad_offset < offset + length else None

    def _write_by_exchange(
        self, flags: int, cookie: int, offset: int, payload: memoryview, chunk: Chunk
    ) -> None:
        """WRITE a payload that lies in ``chunk``, with as many commands as it takes."""
        length = len(payload)
        self._note_partial_blocks(offset, length)
        connection = self._connection
        chunk.hold()
        connection.held_bytes += length
        self.open_requests += 1

        def ended(outcome: ScsiError | None) -> None:
            connection.held_bytes -= length
            chunk.release()
            self._exchange_ended(Command.WRITE, cookie, offset, outcome)

        fua = bool(flags & CommandFlag.FUA)
        exchange = translate.write(self._client.info, offset, payload, fua=fua)
        self._run_in_turn(offset, length, exchange, ended)

    def _note_partial_blocks(self, offset: int, length: int) -> None:
        size = self._client.info.block_size_bytes
        if (offset | length) & (size - 1) and not self._has_noted_partial_blocks:
            self._has_noted_partial_blocks = True
            _log.info(
                "%s: %s: requests not in whole blocks of %d bytes are served by reading, changing"
                " and writing back: slow (nbd-client has -b %d)",
                self._connection.peer,
                self._client.nexus.unit.name,
                size,
                size,
            )

    def _filtered_status(self, request: Request, behind: memoryview) -> int | None:
        """BLOCK_STATUS with a payload that says how far and in which contexts."""
        payload_bytes = request.length
        if len(behind) < payload_bytes:
            return None
        self.open_requests += 1
        payload = memoryview(bytes(behind[:payload_bytes]))
        self._after_asking(partial(self._filter_status, request, payload))
        return payload_bytes

    def _filter_status(
        self, request: Request, payload: memoryview, failure: ScsiError | None
    ) -> None:
        flags, _, cookie, offset, _ = request
        info = self._client.info
        wanted = status_filter(info, self._negotiated, flags & ~_PAYLOAD_LEN, offset, payload)
        if isinstance(wanted, Refusal):
            self._refuse(cookie, offset, wanted)
        elif failure is not None:
            self._fail(Command.BLOCK_STATUS, cookie, offset, failure)
        elif wanted.contexts:
            self._status(request, wanted.length_bytes, wanted.contexts)
        else:
            self._end_empty(request)

    def _status(
        self,
        request: Request,
        length: int,
        contexts: Sequence[int],
        tries_left: int = _MAX_STATUS_TRIES,
    ) -> None:
        """Tell the extents of a range; there is but one context, base:allocation."""
        form = self._form
        assert is_structured(form), "contexts are selected after structured replies"
        cookie, offset = request.cookie, request.offset
        info = self._client.info
        if offset >= info.size_bytes:
            # It has become smaller since the check; "at least one" extent must be told.
            self._refuse(cookie, offset, _PAST_END)
            return
        (context,) = contexts
        limit = 1 if request.flags & CommandFlag.REQ_ONE else _MAX_EXTENTS
        connection = self._connection
        # Thousands of such requests fit where few of their replies do.
        connection.held_bytes += limit * _EXTENT_BYTES

        def ended(outcome: list[tuple[int, ExtentFlag]] | ScsiError) -> None:
            connection.held_bytes -= limit * _EXTENT_BYTES
            if self._client.info is not info:
                # What is zeros on the one device may be anything on the other.
                if tries_left:
                    self._status(request, length, contexts, tries_left - 1)
                else:
                    self._refuse(cookie, offset, _UNSTEADY)
            elif isinstance(outcome, ScsiError):
                self._fail(Command.BLOCK_STATUS, cookie, offset, outcome)
            else:
                self._reply(form.block_status(cookie, offset, context, outcome))

        self._client.run(extents(info, offset, length, limit), ended)


def is_structured(form: Replies) -> TypeGuard[StructuredOnly]:
    """Tell whether a form has chunks."""
    return isinstance(form, StructuredOnly)
