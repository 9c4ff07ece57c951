# SPDX-License-Identifier: GPL-2.0-or-later
"""An emulated SCSI disk as an nbdkit Python plugin (nbdkit-python-plugin(3), API version 2).

Parameters: file=PATH (embedded; with the attributes of vdisk_fileio, such as blocksize=4096), or
socket=PATH and perhaps device=NAME (a client of the daemon's local bridge). ``scst-bridge nbdkit``
starts nbdkit with the environment that this file needs. nbdkit calls these functions by name.

nbdkit prints the traceback of every exception, so that of a PluginError is cut to the one frame
of the function here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import nbdkit

from bridges.nbd.plugin_export import PluginExport
from bridges.nbd.plugin_sources import (
    PARAMETERS,
    DaemonSource,
    EmbeddedSource,
    PluginError,
    choose_source,
)
from bridges.nbd.translate import block_sizes
from bridges.nbd.wire import Error, ExtentFlag

API_VERSION = 2

_EXTENT_TYPES = (
    (ExtentFlag.HOLE, int(nbdkit.EXTENT_HOLE)),
    (ExtentFlag.ZERO, int(nbdkit.EXTENT_ZERO)),
)

_parameters: dict[str, str] = {}
_open_source: Callable[[], EmbeddedSource | DaemonSource] | None = None
_source: EmbeddedSource | DaemonSource | None = None


def dump_plugin() -> None:
    """Say what this is, for ``nbdkit --dump-plugin``."""
    try:
        number = version("scst-bridge")
    except PackageNotFoundError:
        # Where the modules are, but were never installed. nbdkit does not survive an exception.
        number = "unknown"
    print("scst_bridge=emulated SCSI disk")
    print(f"scst_bridge_version={number}")
    print(f"scst_bridge_modes={' '.join(PARAMETERS)}")
    for mode, parameters in PARAMETERS.items():
        print(f"scst_bridge_{mode}_parameters={' '.join(parameters)}")
    sys.stdout.flush()


def thread_model() -> int:
    """One request at a time: threads would only fight for the interpreter lock.

    nbdkit 1.32's parallel model also aborts when a client hangs up with requests queued.
    """
    return int(nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS)


def config(key: str, value: str) -> None:
    """Take one parameter."""
    if key in _parameters:
        raise ValueError(f"{key}: given twice")
    # nbdkit changes its folder when it goes into the background.
    _parameters[key] = os.path.abspath(value) if key in ("file", "socket") else value


def config_complete() -> None:
    """Check the parameters."""
    global _open_source
    try:
        _open_source = choose_source(_parameters)
    except ValueError as error:
        raise error.with_traceback(None) from None


def get_ready() -> None:
    """Open the file while nbdkit, not yet in the background, can tell who started it."""
    global _source
    assert _open_source is not None
    try:
        _source = _open_source()
    except OSError as error:
        raise error.with_traceback(None) from None


def cleanup() -> None:
    """Flush and close the file."""
    if _source is not None:
        try:
            _source.close()
        except PluginError as error:
            raise _told(error) from None


def list_exports(readonly: bool, is_tls: bool) -> list[tuple[str, str]]:
    """Names and descriptions."""
    assert _source is not None
    try:
        return _source.exports()
    except PluginError as error:
        raise _told(error) from None


def default_export(readonly: bool, is_tls: bool) -> str:
    """What the empty name stands for."""
    assert _source is not None
    return _source.default_export


def open(readonly: bool) -> PluginExport:
    """Open a connection's export; nbdkit itself refuses writes of a read-only connection."""
    assert _source is not None
    try:
        return PluginExport(_source.open(_export_name()))
    except PluginError as error:
        raise _told(error) from None


def close(h: PluginExport) -> None:
    """End a connection."""
    h.close()


def export_description(h: PluginExport) -> str:
    """The LUN's identity."""
    return h.description


def get_size(h: PluginExport) -> int:
    """Size in bytes."""
    return h.info.size_bytes


def block_size(h: PluginExport) -> tuple[int, int, int]:
    """Minimum, preferred and maximum block size in bytes."""
    return block_sizes(h.info)


def can_write(h: PluginExport) -> bool:
    """Whether the LUN can be written."""
    return not h.info.is_read_only


def can_flush(h: PluginExport) -> bool:
    """A flush is always possible."""
    return True


def can_fua(h: PluginExport) -> int:
    """WRITE(16) has FUA."""
    return int(nbdkit.FUA_NATIVE)


def can_trim(h: PluginExport) -> bool:
    """Whether UNMAP does anything."""
    return h.info.can_unmap


def can_zero(h: PluginExport) -> bool:
    """WRITE SAME is always there."""
    return True


def can_fast_zero(h: PluginExport) -> bool:
    """Always claimed, and where zeros are not fast, refused request by request.

    nbdkit 1.32 aborts on a FAST_ZERO request from a client to which it was not offered.
    """
    return True


def can_cache(h: PluginExport) -> int:
    """PRE-FETCH."""
    return int(nbdkit.CACHE_NATIVE)


def can_extents(h: PluginExport) -> bool:
    """GET LBA STATUS, where there can be anything but data."""
    return True


def can_multi_conn(h: PluginExport) -> bool:
    """One cache is behind all connections."""
    return True


def is_rotational(h: PluginExport) -> bool:
    """From VPD B1h."""
    return h.info.is_rotational


def pread(h: PluginExport, buf: memoryview, offset: int, flags: int) -> None:
    """Fill ``buf``."""
    try:
        h.read(buf, offset)
    except PluginError as error:
        raise _told(error) from None


def pwrite(h: PluginExport, buf: memoryview, offset: int, flags: int) -> None:
    """Write ``buf``."""
    try:
        h.write(buf, offset, fua=bool(flags & nbdkit.FLAG_FUA))
    except PluginError as error:
        raise _told(error) from None


def flush(h: PluginExport, flags: int) -> None:
    """Make what was written stable."""
    try:
        h.flush()
    except PluginError as error:
        raise _told(error) from None


def trim(h: PluginExport, count: int, offset: int, flags: int) -> None:
    """Deallocate."""
    try:
        h.trim(count, offset, fua=bool(flags & nbdkit.FLAG_FUA))
    except PluginError as error:
        raise _told(error) from None


def zero(h: PluginExport, count: int, offset: int, flags: int) -> None:
    """Write zeros; one who wants them fast or not at all writes them where they are not."""
    try:
        h.zero(
            count,
            offset,
            fua=bool(flags & nbdkit.FLAG_FUA),
            may_trim=bool(flags & nbdkit.FLAG_MAY_TRIM),
            is_fast=bool(flags & nbdkit.FLAG_FAST_ZERO),
        )
    except PluginError as error:
        told = _told(error)
        # For this errno nbdkit needs no exception, and it is no news for the log.
        if error.error is not Error.ENOTSUP:
            raise told from None


def cache(h: PluginExport, count: int, offset: int, flags: int) -> None:
    """Read ahead."""
    try:
        h.cache(count, offset)
    except PluginError as error:
        raise _told(error) from None


def extents(h: PluginExport, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:
    """Offset, length and type of what a range is made of."""
    try:
        found = h.extents(count, offset, is_one=bool(flags & nbdkit.FLAG_REQ_ONE))
    except PluginError as error:
        raise _told(error) from None
    return [(start, length, _extent_type(flag)) for start, length, flag in found]


def _extent_type(flags: ExtentFlag) -> int:
    return sum(value for flag, value in _EXTENT_TYPES if flag in flags)


def _export_name() -> str:
    """The name that the client asked for; raises PluginError."""
    try:
        return str(nbdkit.export_name())
    except UnicodeDecodeError as error:
        raise PluginError(Error.EINVAL, f"export name: {error}") from error


def _told(error: PluginError) -> PluginError:
    """Tell nbdkit the errno: an exception alone always reaches the client as EIO."""
    nbdkit.set_error(int(error.error))
    return error.with_traceback(None)
