# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the nbdkit plugin's exports come from: a file, or the daemon over its local socket.

A *door* is one connection's way to a LUN. Names are resolved here, and failures to reach the LUN
become ``PluginError``; what CDBs a request needs is the business of ``plugin_export``. Nothing here
needs nbdkit's module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

from pydantic import ValidationError

from bridges.exchange import Request, run_blocking
from bridges.local.client import LocalClient, LocalError
from bridges.local.wire import decode_lun
from bridges.lun import LunInfo, probe
from bridges.nbd.wire import Error
from bridges.recovery import Reply, ScsiError, reply_of
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.command import Command as ScsiCommand
from scsi_backend.t10 import cdb
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import MAX_LUN, LunEntry
from scsi_backend.target.target import Target

_DEVICE: Final = "disk0"
# Requests of up to nearly half of it, which are all that are frequent, bypass the daemon's socket.
_SHARED_BYTES = 4 << 20
_LABEL: Final = "nbdkit"
# NAME/N, as the daemon's own NBD server calls its exports.
_WITH_LUN: Final = re.compile(r"(?P<name>.*)/(?P<lun>0|[1-9][0-9]{0,4})", re.DOTALL)
# REPORT LUNS: a header and an entry for every LUN that a target can have.
_LUN_BYTES: Final = 8
_REPORT_LUNS_BYTES: Final = _LUN_BYTES * (MAX_LUN + 2)


# The plugin's parameters, by what serves: a file, or the daemon over its socket.
PARAMETERS: Final = MappingProxyType(
    {
        "file": ("file", *(name for name in FileioAttributes.model_fields if name != "filename")),
        "socket": ("socket", "device"),
    }
)


class PluginError(Exception):
    """A request failed; ``error`` is the NBD error value, which is also Linux's errno."""

    def __init__(self, error: Error, text: str) -> None:
        super().__init__(text)
        self.error = error


class Door(Protocol):
    """A way to a LUN."""

    def execute(self, request: Request) -> Reply:
        """Execute one command and wait for its end; raises PluginError where there is no way."""

    def close(self) -> None:
        """Let go of the LUN."""


class Source(Protocol):
    """Where exports come from; made once for each nbdkit process."""

    # What the empty export name stands for.
    default_export: str

    def open(self, name: str) -> Door:
        """Open a door to an export for one connection; raises PluginError."""

    def exports(self) -> list[tuple[str, str]]:
        """Names and descriptions of what can be opened; raises PluginError."""

    def close(self) -> None:
        """Let go of what all connections share; raises PluginError if data may be lost."""


def describe(info: LunInfo) -> str:
    """A LUN's identity for a person: vendor, product and serial number."""
    return " ".join(word for word in (info.vendor, info.product, info.serial) if word)


def probe_lun(execute: Callable[[Request], Reply]) -> LunInfo:
    """Ask a LUN what it is; raises PluginError."""
    try:
        return run_blocking(probe(), execute)
    except ScsiError as error:
        raise PluginError(Error.EIO, str(error)) from error


def _unknown_export(name: str, *expected: str) -> PluginError:
    names = " or ".join(f"'{each}'" for each in expected)
    return PluginError(Error.EINVAL, f"no export named '{name}': expected {names}")


class EmbeddedSource:
    """A file served by a backend inside this process."""

    default_export = _DEVICE

    def __init__(self, attributes: FileioAttributes) -> None:
        self._filename = attributes.filename
        # Nobody can reserve here; a daemon's device of the same name has its file in the folder.
        self._backend = Backend(SyncEngine(), pr_folder=None)
        unit = self._backend.add_device("vdisk_fileio", _DEVICE, attributes)
        self._target: Target = self._backend.add_target("nbd", _DEVICE)
        self._target.add_lun(0, LunEntry(unit))
        self._target.is_enabled = True

    def open(self, name: str) -> Door:
        """See ``Source``."""
        if name not in ("", _DEVICE):
            raise _unknown_export(name, "", _DEVICE)
        return _EmbeddedDoor(self._target)

    def exports(self) -> list[tuple[str, str]]:
        """See ``Source``."""
        door = _EmbeddedDoor(self._target)
        try:
            return [(_DEVICE, describe(probe_lun(door.execute)))]
        finally:
            door.close()

    def close(self) -> None:
        """See ``Source``; flushes and closes the file."""
        if not self._backend.close():
            raise PluginError(Error.EIO, f"{self._filename}: the last flush failed")


class _EmbeddedDoor:
    def __init__(self, target: Target) -> None:
        self._session = target.open_session(_LABEL)
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
    """The daemon's LUNs, over its local socket; each connection is a session of its own.

    With a device there is one export, called like it. Without, an export's name is that of a
    target or device, ``NAME/N`` is LUN N of a target, and no name is the only target there is.
    """

    def __init__(self, device: str, socket: str) -> None:
        self.default_export = device
        self._socket = socket

    def open(self, name: str) -> Door:
        """See ``Source``."""
        target, lun = self._resolve(name)
        return self._connect(target, lun)

    def exports(self) -> list[tuple[str, str]]:
        """See ``Source``; without a device, the LUNs of the only enabled target."""
        door = self._connect(self.default_export, None)
        try:
            if self.default_export:
                return [(self.default_export, describe(probe_lun(door.execute)))]
            return [
                (f"/{lun}" if lun else "", _description(door.at(lun)))
                for lun in _luns(door.execute)
            ]
        finally:
            door.close()

    def close(self) -> None:
        """See ``Source``; nothing is shared."""

    def _resolve(self, name: str) -> tuple[str, int | None]:
        if self.default_export:
            if name not in ("", self.default_export):
                raise _unknown_export(name, "", self.default_export)
            return self.default_export, None
        match = _WITH_LUN.fullmatch(name)
        if match is None or int(match["lun"]) > MAX_LUN:
            return name, None
        return match["name"], int(match["lun"])

    def _connect(self, target: str, lun: int | None) -> _DaemonDoor:
        try:
            client = LocalClient.connect(
                self._socket, target, label=_LABEL, shared_bytes=_SHARED_BYTES
            )
        except LocalError as error:
            raise PluginError(Error.EIO, str(error)) from error
        return _DaemonDoor(client, client.lun if lun is None else lun)


class _DaemonDoor:
    """A session with the daemon; once it has broken off, only a new connection helps."""

    def __init__(self, client: LocalClient, lun: int) -> None:
        self._client = client
        self._lun = lun
        self._is_gone = False

    def execute(self, request: Request) -> Reply:
        try:
            return self._client.execute(request, self._lun)
        except LocalError as error:
            # The request under way may or may not have been done, which is EIO. Those behind it
            # are for a server that is gone: ESHUTDOWN, the client must disconnect.
            code = Error.ESHUTDOWN if self._is_gone else Error.EIO
            self._is_gone = True
            raise PluginError(code, str(error)) from error

    def at(self, lun: int) -> _DaemonDoor:
        """Another LUN through the same session."""
        return _DaemonDoor(self._client, lun)

    def close(self) -> None:
        self._client.close()


def _description(door: Door) -> str:
    """What a person is told of a LUN; where it does not answer well, that."""
    try:
        return describe(run_blocking(probe(), door.execute))
    except ScsiError as error:
        return str(error)


def _luns(execute: Callable[[Request], Reply]) -> Iterator[int]:
    """The LUNs of a session's target (SPC-5 6.33), in the target's order; raises PluginError."""
    buffer = memoryview(bytearray(_REPORT_LUNS_BYTES))
    reply = execute(Request(cdb.report_luns(_REPORT_LUNS_BYTES), data_in=buffer))
    if not reply.is_success:
        raise PluginError(Error.EIO, f"REPORT LUNS: {reply}")
    end = min(reply.data_in_length, _LUN_BYTES + int.from_bytes(buffer[:4], "big"))
    for position in range(_LUN_BYTES, end - _LUN_BYTES + 1, _LUN_BYTES):
        lun = decode_lun(int.from_bytes(buffer[position : position + _LUN_BYTES], "big"))
        if lun is not None:
            yield lun


def choose_source(parameters: Mapping[str, str]) -> Callable[[], EmbeddedSource | DaemonSource]:
    """Check nbdkit's parameters and return what opens the source; raises ValueError.

    ``file=PATH`` with attributes of vdisk_fileio, or ``socket=PATH`` with or without
    ``device=NAME``. The source raises OSError for a file that cannot be opened.
    """
    if ("file" in parameters) == ("socket" in parameters):
        raise ValueError("expected either file=PATH or socket=PATH (and device=NAME)")
    if "file" in parameters:
        return partial(EmbeddedSource, _attributes(parameters))
    unknown = sorted(set(parameters) - set(PARAMETERS["socket"]))
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
