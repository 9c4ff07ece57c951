# SPDX-License-Identifier: GPL-2.0-or-later
"""The interface of I/O engines, and the engine that does everything at once.

An engine performs file operations for which the caller must not wait. It reports each one by
calling ``done(result)``: the number of bytes moved (zero for operations that move none), or a
negated errno, as io_uring does. Short transfers are continued until end of file or an error, so
fewer bytes than asked for means end of file.

Buffers belong to the caller and stay untouched by it until ``done`` is called.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol

from scsi_backend.io.scatter import Buffer, segments_of

Done = Callable[[int], None]
Operation = Callable[[], int]


class Engine(Protocol):
    """Performs operations off the caller's thread, or at once; ``done`` runs on the caller's."""

    def read(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Fill ``view`` from ``offset_bytes``."""

    def write(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Write all of ``view`` at ``offset_bytes``."""

    def call(self, operation: Operation, done: Done) -> None:
        """Run ``operation``, which may block; an OSError it raises becomes its negated errno."""


class WholeEngine(Protocol):
    """The engine of a whole backend."""

    def for_device(self) -> Engine:
        """An engine whose operations those of other devices do not delay."""

    def release(self, part: Engine, done: Callable[[], None]) -> None:
        """Give back what ``for_device`` returned; ``done`` follows when nothing is under way."""

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish what is outstanding and release threads and descriptors.

        Tell whether everything ended; what hangs longer than ``timeout_s`` is given up.
        """


def read_fully(fd: int, view: Buffer, offset_bytes: int) -> int:
    """Read until ``view`` is full or the file ends; return the bytes read or a negated errno."""
    total = 0
    try:
        while total < len(view):
            count = os.preadv(fd, segments_of(view[total:]), offset_bytes + total)
            if count == 0:
                break
            total += count
    except OSError as error:
        return -(error.errno or errno.EIO)
    return total


def write_fully(fd: int, view: Buffer, offset_bytes: int) -> int:
    """Write all of ``view``; return its length or a negated errno."""
    total = 0
    try:
        while total < len(view):
            total += os.pwritev(fd, segments_of(view[total:]), offset_bytes + total)
    except OSError as error:
        return -(error.errno or errno.EIO)
    return total


def call_guarded(operation: Operation) -> int:
    """Return the operation's result, or the negated errno of its OSError."""
    try:
        return operation()
    except OSError as error:
        return -(error.errno or errno.EIO)


class SyncEngine:
    """Does each operation before returning: for callers that may block, such as nbdkit's."""

    def for_device(self) -> Engine:
        """See ``WholeEngine.for_device``."""
        return self

    def release(self, part: Engine, done: Callable[[], None]) -> None:
        """See ``WholeEngine.release``."""
        done()

    def read(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Engine.read``."""
        done(read_fully(fd, view, offset_bytes))

    def write(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Engine.write``."""
        done(write_fully(fd, view, offset_bytes))

    def call(self, operation: Operation, done: Done) -> None:
        """See ``Engine.call``."""
        done(call_guarded(operation))

    def close(self, timeout_s: float | None = None) -> bool:
        """See ``WholeEngine.close``; nothing is ever outstanding."""
        return True
