# SPDX-License-Identifier: GPL-2.0-or-later
"""A backing file: what can be done at once is, the rest goes to the I/O engine.

``read_now`` and ``write_now`` never block: they return how many bytes they moved (perhaps not
all), or a negated errno, ``NOT_NOW`` where the operation would have to wait.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from scsi_backend.io import direct, syscalls
from scsi_backend.io.engine import Done, Engine
from scsi_backend.io.group_commit import GroupCommit
from scsi_backend.io.located import ZEROS, FileRange, Located, SharedDescriptor
from scsi_backend.io.scatter import Buffer
from scsi_backend.io.sgv import PAGE_BYTES

NOT_NOW: Final = -errno.EAGAIN

# The window that Linux gives a block device unless told otherwise (read_ahead_kb).
_ADVICE_BYTES: Final = 128 << 10

Transfer = Callable[[Buffer, int], int]


class BackingFile:
    """An open regular file or block device; close it with ``close``."""

    def __init__(self, fd: int, engine: Engine) -> None:
        self.fd = fd
        self._descriptor = SharedDescriptor(fd)
        self._engine = engine
        self._commit = GroupCommit(fd, engine)
        self.read_now: Transfer
        self.write_now: Transfer
        self._is_in_memory = syscalls.is_in_memory(fd)
        self._can_send = syscalls.can_send(fd)
        self._is_hole = _hole_finder(fd)
        self.read_now, self.write_now = _immediate_transfers(fd, self._is_in_memory)

    @classmethod
    def open(cls, path: str, engine: Engine, *, read_only: bool) -> BackingFile:
        """Open ``path``, a regular file or block device; raises OSError."""
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise OSError(errno.EINVAL, "neither a regular file nor a block device", path)
        fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        try:
            return cls(fd, engine)
        except BaseException:
            os.close(fd)
            raise

    @property
    def size_bytes(self) -> int:
        """The file's size now."""
        return syscalls.size_bytes(self.fd)

    def locate_now(
        self, offset_bytes: int, length_bytes: int, *, is_sparse: bool
    ) -> Located | None:
        """Say where a range lies, if it can be sent from there at once; None to have it read.

        Holes are looked for only where the file ``is_sparse`` on purpose. What lies behind the
        file's end is no hole, but an error that the read is to meet.
        """
        if not self._can_send:
            return None
        try:
            if self._is_in_memory:
                if os.lseek(self.fd, 0, os.SEEK_END) < offset_bytes + length_bytes:
                    return None
                if is_sparse and self._is_hole(self.fd, offset_bytes, length_bytes):
                    return ZEROS
            elif not _is_cached(self.fd, offset_bytes, length_bytes):
                return None
        except OSError:
            # Whatever it is, the read itself will tell.
            return None
        return FileRange(self.fd, offset_bytes, self._descriptor)

    def find_hole(self, offset_bytes: int, length_bytes: int, done: Done) -> bool:
        """Ask the file system whether it stores nothing in a range, off the caller's thread.

        Tell whether that was begun: what a file in memory has is known at once. ``done`` gets 1
        for a hole, 0 where there are data, or a negated errno.
        """
        if self._is_in_memory:
            return False

        def look() -> int:
            # What lies behind the file's end is no hole, but an error that the read is to meet.
            if offset_bytes + length_bytes > self.size_bytes:
                return 0
            return int(syscalls.is_hole(self.fd, offset_bytes, length_bytes))

        self._engine.call(look, done)
        return True

    def read(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Fill ``view`` through the engine; fewer bytes mean end of file."""
        self._engine.read(self.fd, view, offset_bytes, done)

    def read_medium(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Fill ``view`` from the medium where that is possible (see ``direct.read_medium``)."""
        self._engine.call(partial(direct.read_medium, self.fd, view, offset_bytes), done)

    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Write all of ``view`` through the engine."""
        self._engine.write(self.fd, view, offset_bytes, done)

    def sync(self, done: Done) -> None:
        """Make finished writes survive a power failure (see ``GroupCommit.sync``)."""
        self._commit.sync(done)

    def punch_hole(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """Deallocate a range."""
        self._engine.call(partial(syscalls.punch_hole, self.fd, offset_bytes, length_bytes), done)

    def can_punch_holes(self) -> bool:
        """Tell whether the file system or device can deallocate; to be asked before any I/O."""
        return syscalls.can_punch_holes(self.fd)

    def zero_range(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """Zero a range and keep its space; EOPNOTSUPP where the file system cannot."""
        self._engine.call(partial(syscalls.zero_range, self.fd, offset_bytes, length_bytes), done)

    def read_ahead(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """Ask the kernel to bring a range into the page cache."""

        def advise() -> int:
            # One call is good for no more than the kernel's read-ahead window.
            for position in range(0, length_bytes, _ADVICE_BYTES):
                size = min(_ADVICE_BYTES, length_bytes - position)
                os.posix_fadvise(self.fd, offset_bytes + position, size, os.POSIX_FADV_WILLNEED)
            return 0

        self._engine.call(advise, done)

    def extents(
        self,
        offset_bytes: int,
        end_bytes: int,
        limit: int,
        runs: list[tuple[int, bool]],
        done: Done,
    ) -> None:
        """Append up to ``limit`` (length_bytes, is_data) runs from ``offset_bytes`` to ``runs``."""

        def collect() -> int:
            for run in syscalls.extents(self.fd, offset_bytes, end_bytes):
                runs.append(run)
                if len(runs) == limit:
                    break
            return 0

        self._engine.call(collect, done)

    @property
    def is_regular(self) -> bool:
        """Whether it is a file in a file system, not a block device."""
        return stat.S_ISREG(os.fstat(self.fd).st_mode)

    def measure_space(self, found: list[tuple[int, int]], done: Done) -> None:
        """Append (used_bytes, available_bytes) to ``found``: see ``syscalls.space``."""

        def measure() -> int:
            found.append(syscalls.space(self.fd))
            return 0

        self._engine.call(measure, done)

    def close(self) -> None:
        """Close the descriptor; the engine must be idle for this file.

        It lasts until what was located in the file has been sent.
        """
        self._descriptor.release()


def _immediate_transfers(fd: int, is_in_memory: bool) -> tuple[Transfer, Transfer]:
    if is_in_memory:
        return _bind_memory(fd, os.preadv), _bind_memory(fd, os.pwritev)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass
    except OSError as error:
        # A file system that has no RWF_NOWAIT and is not RAM (NFS, FUSE, 9p) may block on any read.
        if error.errno == errno.EOPNOTSUPP:
            return _never, _never
        raise
    # Few file systems take RWF_NOWAIT on buffered writes, and one that does may still fail with
    # EAGAIN for each; writes therefore go to the engine, in batches.
    return _bind_read_cached(fd), _never


def _hole_finder(fd: int) -> Callable[[int, int, int], bool]:
    try:
        syscalls.is_memory_hole(fd, 0, 1)
    except OSError:
        # Linux before 6.5 has no cachestat(2).
        return syscalls.is_hole
    return syscalls.is_memory_hole


def _is_cached(fd: int, offset_bytes: int, length_bytes: int) -> bool:
    """Tell whether a range can be read without waiting.

    Pages that are still being read count as cached; read-ahead ends with the last one, so that is
    looked at by a read that must not wait. Raises OSError.
    """
    first = offset_bytes // PAGE_BYTES
    end_bytes = offset_bytes + length_bytes
    pages = -(-end_bytes // PAGE_BYTES) - first
    if syscalls.cached_pages(fd, offset_bytes, length_bytes) < pages:
        return False
    try:
        return os.preadv(fd, [bytearray(1)], end_bytes - 1, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False


# Closures, and with what they need at hand: this is in the way of every command.


def _bind_read_cached(fd: int) -> Transfer:
    preadv, flag = os.preadv, os.RWF_NOWAIT

    def read_cached(view: Buffer, offset_bytes: int) -> int:
        try:
            segments = (view,) if type(view) is memoryview else view.segments
            return preadv(fd, segments, offset_bytes, flag)
        except BlockingIOError:
            return NOT_NOW
        except OSError as error:
            return -(error.errno or errno.EIO)

    return read_cached


def _bind_memory(fd: int, call: Callable[[int, Sequence[memoryview], int], int]) -> Transfer:
    def transfer(view: Buffer, offset_bytes: int) -> int:
        try:
            segments = (view,) if type(view) is memoryview else view.segments
            return call(fd, segments, offset_bytes)
        except OSError as error:
            return -(error.errno or errno.EIO)

    return transfer


def _never(view: Buffer, offset_bytes: int) -> int:
    return NOT_NOW
