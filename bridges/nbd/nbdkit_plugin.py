# SPDX-License-Identifier: GPL-2.0-or-later
"""An emulated SCSI disk as an nbdkit Python plugin (nbdkit-python-plugin(3), API version 2).

Parameters: file=PATH (embedded; with the attributes of vdisk_fileio, such as blocksize=4096), or
socket=PATH and device=NAME (a client of the daemon's local bridge). ``scst-bridge nbdkit`` starts
nbdkit with the environment that this file needs. nbdkit calls these functions by their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import nbdkit

from bridges.nbd.plugin_export import (
    DaemonSource,
    EmbeddedSource,
    PluginError,
    PluginExport,
    choose_source,
)
from bridges.nbd.translate import block_sizes
from bridges.nbd.wire import Error

API_VERSION = 2

_parameters: dict[str, str] = {}
_open_source: Callable[[], EmbeddedSource | DaemonSource] | None = None
_source: EmbeddedSource | DaemonSource | None = None


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
    _open_source = choose_source(_parameters)


def after_fork() -> None:
    """Open the file."""
    global _source
    assert _open_source is not None
    _source = _open_source()


def cleanup() -> None:
    """Flush and close the file."""
    if _source is not None:
        _source.close()


def open(readonly: bool) -> PluginExport:
    """Open a connection's export; nbdkit itself refuses writes of a read-only connection."""
    assert _source is not None
    return PluginExport(_source.open())


def close(h: PluginExport) -> None:
    """End a connection."""
    h.close()


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
    """Always claimed, and refused request by request.

    nbdkit 1.32 aborts on a FAST_ZERO request from a client to which it was not offered.
    """
    return True


def can_cache(h: PluginExport) -> int:
    """PRE-FETCH."""
    return int(nbdkit.CACHE_NATIVE)


def can_multi_conn(h: PluginExport) -> bool:
    """One cache is behind all connections."""
    return True


def is_rotational(h: PluginExport) -> bool:
    """From VPD B1h."""
    return h.info.is_rotational


def pread(h: PluginExport, buf: memoryview, offset: int, flags: int) -> None:
    """Fill ``buf``."""
    try:
        h.read(memoryview(buf), offset)
    except PluginError as error:
        _fail(error)


def pwrite(h: PluginExport, buf: memoryview, offset: int, flags: int) -> None:
    """Write ``buf``."""
    try:
        h.write(memoryview(buf), offset, fua=bool(flags & nbdkit.FLAG_FUA))
    except PluginError as error:
        _fail(error)


def flush(h: PluginExport, flags: int) -> None:
    """Make what was written stable."""
    try:
        h.flush()
    except PluginError as error:
        _fail(error)


def trim(h: PluginExport, count: int, offset: int, flags: int) -> None:
    """Deallocate."""
    try:
        h.trim(count, offset, fua=bool(flags & nbdkit.FLAG_FUA))
    except PluginError as error:
        _fail(error)


def zero(h: PluginExport, count: int, offset: int, flags: int) -> None:
    """Write zeros; a fast zero is refused, which makes the client write them."""
    try:
        if flags & nbdkit.FLAG_FAST_ZERO:
            raise PluginError(Error.ENOTSUP, "fast zero")
        h.zero(
            count,
            offset,
            fua=bool(flags & nbdkit.FLAG_FUA),
            may_trim=bool(flags & nbdkit.FLAG_MAY_TRIM),
        )
    except PluginError as error:
        _fail(error)


def cache(h: PluginExport, count: int, offset: int, flags: int) -> None:
    """Read ahead."""
    try:
        h.cache(count, offset)
    except PluginError as error:
        _fail(error)


def _fail(error: PluginError) -> None:
    """Tell nbdkit the errno: an exception alone always reaches the client as EIO."""
    nbdkit.set_error(int(error.error))
    raise error
