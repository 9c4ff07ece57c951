# SPDX-License-Identifier: GPL-2.0-or-later
"""An export as the nbdkit plugin serves it: one request at a time, blocking.

Requests become the same CDBs as in the daemon. They go either to a backend inside nbdkit's own
process (embedded) or to the daemon over its local socket. Nothing here needs nbdkit's module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from pydantic import ValidationError

from bridges.exchange import Exchange, Request, perform_blocking, run_blocking
from bridges.local.client import LocalClient
from bridges.lun import LunInfo, probe
from bridges.nbd import translate
from bridges.nbd.errors import OUT_OF_RANGE, error_of
from bridges.nbd.wire import MAX_PAYLOAD_BYTES, Command, Error
from bridges.recovery import Reply, ScsiError, reply_of
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.command import Command as ScsiCommand
from scsi_backend.t10.cdb import FUA_BIT, read_16, write_16
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target

_DEVICE = "disk0"


class PluginError(Exception):
    """A request failed; ``error`` is the NBD error value, which is also Linux's errno."""

    def __init__(self, error: Error, text: str) -> None:
        super().__init__(text)
        self.error = error


class Door(Protocol):
    """A way to a LUN."""

    def execute(self, request: Request) -> Reply:
        """Execute one command and wait for its end."""

    def close(self) -> None:
        """Let go of the LUN."""


class Source(Protocol):
    """Where exports come from; made once for each nbdkit process."""

    def open(self) -> Door:
        """Open a door for one connection; raises OSError or PluginError."""


class EmbeddedSource:
    """A file served by a backend inside this process."""

    def __init__(self, attributes: FileioAttributes) -> None:
        self._backend = Backend(SyncEngine())
        unit = self._backend.add_device("vdisk_fileio", _DEVICE, attributes)
        self._target: Target = self._backend.add_target("nbd", _DEVICE)
        self._target.add_lun(0, LunEntry(unit))
        self._target.is_enabled = True

    def open(self) -> Door:
        """See ``Source``."""
        return _EmbeddedDoor(self._target)

    def close(self) -> None:
        """Flush and close the file."""
        self._backend.close()


class _EmbeddedDoor:
    def __init__(self, target: Target) -> None:
        self._session = target.open_session("nbdkit")
        self._nexus = self._session.nexuses[0]

    def execute(self, request: Request) -> Reply:
        command = ScsiCommand(request.cdb, request.data_in, request.data_out, _ignore)
        self._nexus.submit(command)
        return reply_of(command)

    def close(self) -> None:
        self._session.close()


def _ignore(command: ScsiCommand) -> None:
    """The engine is synchronous: the command has ended when submit returns."""


class DaemonSource:
    """A LUN of the daemon, over its local socket; each connection is a session of its own."""

    def __init__(self, device: str, socket: str) -> None:
        self._device = device
        self._socket = socket

    def open(self) -> Door:
        """See ``Source``."""
        return LocalClient.connect(self._socket, self._device, label="nbdkit")

    def close(self) -> None:
        """Nothing is shared between connections."""


class PluginExport:
    """One connection's export. Methods raise PluginError."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._execute = door.execute
        try:
            self.info: LunInfo = run_blocking(probe(), door.execute)
        except ScsiError as error:
            door.close()
            raise PluginError(Error.EIO, str(error)) from error
        self._mask = self.info.block_size_bytes - 1
        self._shift = self._mask.bit_length()

    def close(self) -> None:
        """Let go of the LUN."""
        self._door.close()

    def read(self, view: memoryview, offset_bytes: int) -> None:
        """Fill ``view``."""
        length = len(view)
        self._check(Command.READ, offset_bytes, length)
        shift = self._shift
        self._perform(
            Command.READ, Request(read_16(offset_bytes >> shift, length >> shift), data_in=view)
        )

    def write(self, view: memoryview, offset_bytes: int, *, fua: bool) -> None:
        """Write all of ``view``; with ``fua`` it is stable before this returns."""
        length = len(view)
        self._check(Command.WRITE, offset_bytes, length)
        shift = self._shift
        cdb = write_16(offset_bytes >> shift, length >> shift, FUA_BIT if fua else 0)
        self._perform(Command.WRITE, Request(cdb, data_out=view))

    def flush(self) -> None:
        """Make everything written so far stable."""
        self._run(Command.FLUSH, translate.flush(self.info))

    def trim(self, length_bytes: int, offset_bytes: int, *, fua: bool) -> None:
        """Deallocate the whole blocks of a range."""
        self._run(Command.TRIM, translate.trim(self.info, offset_bytes, length_bytes, fua=fua))

    def zero(self, length_bytes: int, offset_bytes: int, *, fua: bool, may_trim: bool) -> None:
        """Make a range read as zeros."""
        self._check(Command.WRITE_ZEROES, offset_bytes, length_bytes)
        exchange = translate.write_zeroes(
            self.info, offset_bytes, length_bytes, fua=fua, no_hole=not may_trim
        )
        self._run(Command.WRITE_ZEROES, exchange)

    def cache(self, length_bytes: int, offset_bytes: int) -> None:
        """Bring a range into the cache."""
        self._run(Command.CACHE, translate.cache(self.info, offset_bytes, length_bytes))

    def _check(self, command: Command, offset_bytes: int, length_bytes: int) -> None:
        if (offset_bytes | length_bytes) & self._mask:
            # nbdkit tells clients the block size but does not hold them to it.
            raise PluginError(
                Error.EINVAL, f"{command.name} not in blocks of {self._mask + 1} bytes"
            )
        if offset_bytes + length_bytes > self.info.size_bytes:
            raise PluginError(OUT_OF_RANGE.get(command, Error.EINVAL), "past the end of the disk")
        if length_bytes > MAX_PAYLOAD_BYTES and command is not Command.WRITE_ZEROES:
            # nbdkit itself takes up to 64 MiB.
            raise PluginError(Error.EINVAL, f"{command.name} of {length_bytes} bytes")

    def _perform(self, command: Command, request: Request) -> None:
        reply = self._execute(request)
        if reply.status == 0:
            return
        # The first try has failed; the retries begin with a try of their own.
        outcome = perform_blocking(request, self._execute)
        if isinstance(outcome, ScsiError):
            raise _plugin_error(outcome, command)

    def _run(self, command: Command, exchange: Exchange[None]) -> None:
        try:
            run_blocking(exchange, self._execute)
        except ScsiError as error:
            raise _plugin_error(error, command) from error


def _plugin_error(failure: ScsiError, command: Command) -> PluginError:
    return PluginError(error_of(failure.reply, command), str(failure))


def choose_source(parameters: Mapping[str, str]) -> Callable[[], EmbeddedSource | DaemonSource]:
    """Check nbdkit's parameters and return what opens the source; raises ValueError.

    ``file=PATH`` with attributes of vdisk_fileio, or ``socket=PATH`` with ``device=NAME``. The
    file is opened later, when nbdkit has forked.
    """
    if ("file" in parameters) == ("socket" in parameters):
        raise ValueError("expected either file=PATH or socket=PATH (and device=NAME)")
    if "file" in parameters:
        return partial(EmbeddedSource, _attributes(parameters))
    unknown = sorted(set(parameters) - {"device", "socket"})
    if unknown:
        raise ValueError(f"{unknown[0]}: with socket= expected only device=")
    return partial(DaemonSource, parameters.get("device", ""), parameters["socket"])


def _attributes(parameters: Mapping[str, str]) -> FileioAttributes:
    values = {"filename" if key == "file" else key: value for key, value in parameters.items()}
    try:
        return FileioAttributes.model_validate(values)
    except ValidationError as error:
        raise ValueError(_first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    detail = error.errors()[0]
    name = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    return f"{name}={detail['input']}: {message}" if name else message
