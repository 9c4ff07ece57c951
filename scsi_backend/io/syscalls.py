# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux system calls and file facts that Python's os module lacks."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_FALLOC_FL_ZERO_RANGE = 0x10

# File systems whose pages are the storage: no read or write of them waits for a device.
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "hugetlbfs", "devtmpfs"})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


_libc.syscall.restype = ctypes.c_long
# Linux 6.5 and later; the number is the same on all architectures.
_SYS_CACHESTAT = 451


# Linux 5.6 and later.
_PR_SET_IO_FLUSHER = 57


def become_io_flusher() -> bool:
    """Say that this process stands behind a block device of its own host; tell whether it could.

    Memory that it or its later threads need is then not won by writing to that device, and their
    own writes are not held up for the sake of that device's (prctl(2), PR_SET_IO_FLUSHER).
    """
    arguments = (ctypes.c_ulong(each) for each in (1, 0, 0, 0))
    return int(_libc.prctl(_PR_SET_IO_FLUSHER, *arguments)) == 0


class _CachestatRange(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Cachestat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


def cached_pages(fd: int, offset_bytes: int, length_bytes: int) -> int:
    """Return how many pages of a range are in the page cache (cachestat(2)); raises OSError."""
    return int(_cachestat(fd, offset_bytes, length_bytes).cache)


def is_memory_hole(fd: int, offset_bytes: int, length_bytes: int) -> bool:
    """Tell whether a file in memory has no page in a range, nor one swapped out; raises OSError.

    This looks at the range alone. SEEK_DATA passes over every page behind it that was allocated
    and never written, which takes milliseconds where somebody has allocated a whole disk.
    """
    found = _cachestat(fd, offset_bytes, length_bytes)
    return not (found.cache or found.evicted)


def _cachestat(fd: int, offset_bytes: int, length_bytes: int) -> _Cachestat:
    where = _CachestatRange(offset_bytes, length_bytes)
    found = _Cachestat()
    pointers = ctypes.byref(where), ctypes.byref(found)
    if _libc.syscall(_SYS_CACHESTAT, ctypes.c_int(fd), *pointers, ctypes.c_uint(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def can_send(fd: int) -> bool:
    """Tell whether sendfile(2) takes bytes from a file (hugetlbfs cannot), by trying at its end."""
    ours, peer = socket.socketpair()
    with ours, peer:
        try:
            os.sendfile(ours.fileno(), fd, size_bytes(fd), 1)
        except OSError:
            return False
    return True


def is_hole(fd: int, offset_bytes: int, length_bytes: int) -> bool:
    """Tell whether a file has no data in a range (SEEK_DATA of lseek(2)); raises OSError."""
    end_bytes = offset_bytes + length_bytes
    return _seek(fd, offset_bytes, os.SEEK_DATA, end_bytes) >= end_bytes


def _fallocate(fd: int, mode: int, offset_bytes: int, length_bytes: int) -> int:
    while _libc.fallocate(fd, mode, offset_bytes, length_bytes) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return 0


def punch_hole(fd: int, offset_bytes: int, length_bytes: int) -> int:
    """Deallocate a range, which then reads as zeros (fallocate(2)); raises OSError."""
    return _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset_bytes, length_bytes)


def can_punch_holes(fd: int) -> bool:
    """Tell whether ``punch_hole`` works, by trying it where a regular file has no bytes."""
    status = os.fstat(fd)
    if stat.S_ISBLK(status.st_mode):
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        device = Path("/sys/dev/block", number).resolve()
        # fallocate(2) on a block device punches holes by WRITE ZEROES, never by discard alone.
        # A partition has no queue of its own; its disk's is one folder up.
        for queue in (device / "queue", device.parent / "queue"):
            if (limit := queue / "write_zeroes_max_bytes").exists():
                return int(limit.read_text()) > 0
        return False
    try:
        punch_hole(fd, status.st_size, 4096)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise
    return True


def zero_range(fd: int, offset_bytes: int, length_bytes: int) -> int:
    """Make a range read as zeros and keep its space allocated (fallocate(2)); raises OSError."""
    return _fallocate(fd, _FALLOC_FL_ZERO_RANGE | _FALLOC_FL_KEEP_SIZE, offset_bytes, length_bytes)


def size_bytes(fd: int) -> int:
    """Return the size of a regular file or of a block device."""
    status = os.fstat(fd)
    return os.lseek(fd, 0, os.SEEK_END) if stat.S_ISBLK(status.st_mode) else status.st_size


def space(fd: int) -> tuple[int, int]:
    """Return the bytes that a file takes and those that its file system has left for anybody.

    Metadata and what is not written out yet are in neither; raises OSError.
    """
    # st_blocks counts 512 bytes each, whatever the file system's own block is (stat(2)).
    used_bytes = os.fstat(fd).st_blocks * 512
    system = os.fstatvfs(fd)
    return used_bytes, system.f_bavail * system.f_frsize


def is_in_memory(fd: int) -> bool:
    """Tell whether the file lives in RAM, so that no plain read or write of it can block."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        mount, _, file_system = line.partition(" - ")
        if mount.split()[2] == device:
            return file_system.split()[0] in _MEMORY_FILE_SYSTEMS
    return False


def extents(fd: int, offset_bytes: int, end_bytes: int) -> Iterator[tuple[int, bool]]:
    """Yield (length_bytes, is_data) runs that cover [offset, end) of a file, in order.

    The runs are SEEK_DATA's and SEEK_HOLE's; a file without holes is one run of data.
    """
    position = offset_bytes
    while position < end_bytes:
        data = min(_seek(fd, position, os.SEEK_DATA, end_bytes), end_bytes)
        if data > position:
            yield data - position, False
            position = data
        if position < end_bytes:
            # The file may shrink between the two calls: never yield an empty run.
            hole = min(_seek(fd, position, os.SEEK_HOLE, end_bytes), end_bytes)
            hole = max(hole, position + 1)
            yield hole - position, True
            position = hole


def _seek(fd: int, position: int, whence: int, end_bytes: int) -> int:
    try:
        return os.lseek(fd, position, whence)
    except OSError as error:
        # ENXIO: no data (or nothing at all) at or after the position.
        if error.errno == errno.ENXIO:
            return end_bytes
        # A block device has no holes to seek.
        if error.errno == errno.EINVAL:
            return position if whence == os.SEEK_DATA else end_bytes
        raise
