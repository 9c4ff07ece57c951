# SPDX-License-Identifier: GPL-2.0-or-later
"""An export as the nbdkit plugin serves it: one request at a time, blocking.

Requests become the same CDBs as in the daemon, and go to whatever door ``plugin_sources`` opened.
nbdkit tells clients the block size but does not hold them to it, so requests of any bytes are
served. Nothing here needs nbdkit's module.

A LUN that reports a unit attention may be another device by now, and is looked at before anything
else is sent to it: requests made for blocks of one length must not reach blocks of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from bridges.exchange import Exchange, OutcomeT, Request, perform_blocking, run_blocking
from bridges.lun import LunInfo
from bridges.nbd import translate
from bridges.nbd.errors import OUT_OF_RANGE, error_of
from bridges.nbd.extents import Extents, extents
from bridges.nbd.plugin_sources import Door, PluginError, describe, probe_lun
from bridges.nbd.transfer import PlainLimits
from bridges.nbd.wire import MAX_PAYLOAD_BYTES, Command, Error, ExtentFlag
from bridges.recovery import Reply, ScsiError
from scsi_backend.t10.cdb import FUA_BIT, TEST_UNIT_READY, read_16, write_16
from scsi_backend.t10.sense import SenseKey

# What one BLOCK_STATUS is answered with; the client asks again behind it.
_MAX_EXTENTS: Final = 4096
# A LUN that changes during each of so many looks, or questions for extents, is given up.
_MAX_TRIES: Final = 4


class PluginExport:
    """One connection's export. Methods raise PluginError; offsets and lengths are in bytes."""

    def __init__(self, door: Door) -> None:
        self._door = door
        # What a request is sent with: at once, after a look, or not at all any more.
        self._execute: Callable[[Request], Reply] = door.execute
        try:
            self.info: LunInfo = self._look()
        except PluginError:
            door.close()
            raise
        self._mask = self.info.block_size_bytes - 1
        self._shift = self._mask.bit_length()
        self._limits = PlainLimits.of(self.info, is_extended=False)

    def close(self) -> None:
        """Let go of the LUN."""
        self._door.close()

    @property
    def description(self) -> str:
        """The LUN's identity for a person."""
        return describe(self.info)

    def read(self, view: memoryview, offset_bytes: int) -> None:
        """Fill ``view``."""
        length = len(view)
        self._check(Command.READ, offset_bytes, length)
        if (offset_bytes | length) & self._mask or length > self._limits.max_bytes:
            self._run(Command.READ, translate.read(self.info, offset_bytes, view))
            return
        shift = self._shift
        self._perform(
            Command.READ, Request(read_16(offset_bytes >> shift, length >> shift), data_in=view)
        )

    def write(self, view: memoryview, offset_bytes: int, *, fua: bool) -> None:
        """Write all of ``view``; with ``fua`` it is stable before this returns."""
        length = len(view)
        self._check(Command.WRITE, offset_bytes, length)
        limits = self._limits
        if (
            (offset_bytes | length) & self._mask
            or fua not in limits.flags[1]
            or length > limits.max_bytes
        ):
            self._run(Command.WRITE, translate.write(self.info, offset_bytes, view, fua=fua))
            return
        shift = self._shift
        cdb = write_16(offset_bytes >> shift, length >> shift, FUA_BIT if fua else 0)
        self._perform(Command.WRITE, Request(cdb, data_out=view))

    def flush(self) -> None:
        """Make everything written so far stable."""
        self._run(Command.FLUSH, translate.flush(self.info))

    def trim(self, length_bytes: int, offset_bytes: int, *, fua: bool) -> None:
        """Deallocate the whole blocks of a range."""
        self._run(Command.TRIM, translate.trim(self.info, offset_bytes, length_bytes, fua=fua))

    def zero(
        self,
        length_bytes: int,
        offset_bytes: int,
        *,
        fua: bool,
        may_trim: bool,
        is_fast: bool = False,
    ) -> None:
        """Make a range read as zeros.

        With ``is_fast``, ENOTSUP before anything is done, unless it is faster than writing zeros.
        """
        self._check(Command.WRITE_ZEROES, offset_bytes, length_bytes)
        if is_fast and not translate.is_fast_zero(
            self.info, offset_bytes, length_bytes, no_hole=not may_trim
        ):
            raise PluginError(Error.ENOTSUP, "zeros here are no faster than writing them")
        exchange = translate.write_zeroes(
            self.info, offset_bytes, length_bytes, fua=fua, no_hole=not may_trim
        )
        self._run(Command.WRITE_ZEROES, exchange)

    def cache(self, length_bytes: int, offset_bytes: int) -> None:
        """Bring a range into the cache."""
        self._run(Command.CACHE, translate.cache(self.info, offset_bytes, length_bytes))

    def extents(
        self, length_bytes: int, offset_bytes: int, *, is_one: bool
    ) -> list[tuple[int, int, ExtentFlag]]:
        """Offset, length and flags of what a range is made of; with ``is_one``, of its first."""
        limit = 1 if is_one else _MAX_EXTENTS
        for _ in range(_MAX_TRIES):
            info = self.info
            exchange = extents(info, offset_bytes, length_bytes, limit)
            runs = self._run(Command.BLOCK_STATUS, exchange)
            # What is zeros on one device may be anything on another.
            if self.info is info:
                return _placed(offset_bytes, runs)
        raise _unsteady()

    def _check(self, command: Command, offset_bytes: int, length_bytes: int) -> None:
        if offset_bytes + length_bytes > self._limits.size_bytes:
            raise PluginError(OUT_OF_RANGE.get(command, Error.EINVAL), "past the end of the disk")
        if length_bytes > MAX_PAYLOAD_BYTES and command is not Command.WRITE_ZEROES:
            # nbdkit itself takes up to 64 MiB.
            raise PluginError(Error.EINVAL, f"{command.name} of {length_bytes} bytes")

    def _perform(self, command: Command, request: Request) -> None:
        reply = self._execute(request)
        if reply.status == 0:
            return
        # The first try has failed; the retries begin with a try of their own.
        self._consider(reply)
        outcome = perform_blocking(request, self._try)
        if isinstance(outcome, ScsiError):
            raise _plugin_error(outcome, command)

    def _run(self, command: Command, exchange: Exchange[OutcomeT]) -> OutcomeT:
        try:
            return run_blocking(exchange, self._try)
        except ScsiError as error:
            raise _plugin_error(error, command) from error

    def _try(self, request: Request) -> Reply:
        reply = self._execute(request)
        self._consider(reply)
        return reply

    def _consider(self, reply: Reply) -> None:
        if _is_unit_attention(reply):
            self._look_again()

    def _look_again(self) -> None:
        """Learn what the LUN is now; raises PluginError, and then it is not known."""
        self._execute = self._execute_after_look
        info = self._look()
        if info.block_size_bytes != self.info.block_size_bytes:
            self._execute = _refuse
            _refuse()
        self.info = info
        self._limits = PlainLimits.of(info, is_extended=False)
        self._execute = self._door.execute

    def _execute_after_look(self, request: Request) -> Reply:
        self._look_again()
        return self._door.execute(request)

    def _look(self) -> LunInfo:
        """Probe the LUN, again where it changes on the way; raises PluginError."""
        has_changed = False

        def execute(request: Request) -> Reply:
            nonlocal has_changed
            reply = self._door.execute(request)
            # With the first command nothing has been seen yet that could have changed.
            if _is_unit_attention(reply) and request.cdb != TEST_UNIT_READY:
                has_changed = True
            return reply

        for _ in range(_MAX_TRIES):
            has_changed = False
            info = probe_lun(execute)
            if not has_changed:
                return info
        raise _unsteady()


def _placed(offset_bytes: int, runs: Extents) -> list[tuple[int, int, ExtentFlag]]:
    placed = []
    for length, flags in runs:
        placed.append((offset_bytes, length, flags))
        offset_bytes += length
    return placed


def _is_unit_attention(reply: Reply) -> bool:
    return reply.sense is not None and reply.sense.key == SenseKey.UNIT_ATTENTION


def _refuse(request: Request | None = None) -> NoReturn:
    # ESHUTDOWN: the client must disconnect; nbdkit cannot make it.
    text = "the LUN leads to a device with blocks of another size: connect again"
    raise PluginError(Error.ESHUTDOWN, text)


def _unsteady() -> PluginError:
    return PluginError(Error.EIO, "the LUN changes all the time")


def _plugin_error(failure: ScsiError, command: Command) -> PluginError:
    return PluginError(error_of(failure.reply, command), str(failure))
