# SPDX-License-Identifier: GPL-2.0-or-later
"""The least that a Python plugin for nbdkit needs to serve a file: the yardstick for ours.

Run by nbdkit (`nbdkit python nbdkit_python_plugin.py file=PATH`), never imported. It must
stay trivial: no SCSI, no caching. API version 2 of nbdkit-python-plugin(3).
"""

from __future__ import annotations

import os

import nbdkit

API_VERSION = 2

_parameters: dict[str, str] = {}


def thread_model() -> int:
    # Threads of a PARALLEL plugin hand the GIL to and fro, at twice the CPU time per request.
    return int(nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS)


def config(key: str, value: str) -> None:
    _parameters[key] = value


def open(readonly: bool) -> int:
    return os.open(_parameters["file"], os.O_RDONLY if readonly else os.O_RDWR)


def close(handle: int) -> None:
    os.close(handle)


def get_size(handle: int) -> int:
    return os.fstat(handle).st_size


def pread(handle: int, buffer: bytearray, offset_bytes: int, flags: int) -> None:
    if os.preadv(handle, [buffer], offset_bytes) != len(buffer):
        raise OSError("short read")


def pwrite(handle: int, buffer: bytes, offset_bytes: int, flags: int) -> None:
    if os.pwritev(handle, [buffer], offset_bytes) != len(buffer):
        raise OSError("short write")


def flush(handle: int, flags: int) -> None:
    os.fdatasync(handle)
