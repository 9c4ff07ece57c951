# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading past the page cache (O_DIRECT), so that the bytes come from the medium.

The kernel writes dirty pages of the range back first. Where a file cannot be read so (a file in
memory has no other copy), an ordinary read has to do.
"""

from __future__ import annotations

import errno
import mmap
import os

from scsi_backend.io.engine import read_fully
from scsi_backend.io.scatter import Buffer

# A multiple of every logical block length in use, to which direct reads must be aligned.
_ALIGNMENT_BYTES = 4096


def read_medium(fd: int, view: Buffer, offset_bytes: int) -> int:
    """Fill ``view``; return the bytes read, fewer at the end of the file, or a negated errno."""
    try:
        return _read_direct(fd, view, offset_bytes)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return read_fully(fd, view, offset_bytes)
        return -(error.errno or errno.EIO)


def _read_direct(fd: int, view: Buffer, offset_bytes: int) -> int:
    if not len(view):
        return 0
    start = offset_bytes & -_ALIGNMENT_BYTES
    end = offset_bytes + len(view) + _ALIGNMENT_BYTES - 1 & -_ALIGNMENT_BYTES
    # Memory from mmap is aligned as well.
    with mmap.mmap(-1, end - start) as memory, memoryview(memory) as buffer:
        direct = _open_direct(fd)
        try:
            total = read_fully(direct, buffer, start)
        finally:
            os.close(direct)
        if total < 0:
            raise OSError(-total, os.strerror(-total))
        skipped = offset_bytes - start
        found = max(min(total - skipped, len(view)), 0)
        view[:found] = buffer[skipped : skipped + found]
        return found


def _open_direct(fd: int) -> int:
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        # Whatever forbids it (no /proc, rights given up meanwhile) does not forbid an ordinary
        # read through the descriptor that is open.
        raise OSError(errno.EOPNOTSUPP, error.strerror) from error
