# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that a client of the local bridge and its server both map: making it, and taking it.

A memfd (memfd_create(2)) whose size is sealed: a file that could shrink would let either side kill
the other with SIGBUS. What lies where in it is the client's business (``allocator``).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat

_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_NAME = "scst_local"


def create_area(length_bytes: int) -> tuple[mmap.mmap, int]:
    """Return new zeroed memory and a descriptor of it for the other side; raises OSError.

    The memory goes when the mapping and every view of it are gone; the descriptor is the caller's
    to close.
    """
    descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, length_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SIZE_SEALS | fcntl.F_SEAL_SEAL)
        return mmap.mmap(descriptor, length_bytes), descriptor
    except BaseException:
        os.close(descriptor)
        raise


def map_area(descriptor: int, length_bytes: int) -> mmap.mmap:
    """Map what the other side made; raises ValueError for what is no such memory, and OSError."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != length_bytes:
        raise ValueError(f"the area is no file of {length_bytes} bytes")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ValueError("the area is a file without seals") from error
    if seals & _SIZE_SEALS != _SIZE_SEALS:
        raise ValueError("the area may change its size")
    return mmap.mmap(descriptor, length_bytes)
