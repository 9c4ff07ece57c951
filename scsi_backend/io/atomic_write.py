# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes that happen whole or not at all, one at a time, by way of an undo journal."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Generator
from functools import partial

from scsi_backend.io.atomic_journal import AtomicJournal
from scsi_backend.io.engine import Done, Engine
from scsi_backend.io.file import BackingFile
from scsi_backend.io.trampoline import Trampoline

_log = logging.getLogger(__name__)

_Steps = Generator[Callable[[Done], None], int, int]


class AtomicWriter:
    """Writes to one file; ``sync`` is how its owner makes finished writes stable.

    Whoever comes while a write is under way waits: the journal has room for one.
    """

    def __init__(
        self,
        file: BackingFile,
        journal: AtomicJournal,
        engine: Engine,
        sync: Callable[[Done], None],
    ) -> None:
        self._file = file
        self._journal = journal
        self._engine = engine
        self._sync = sync
        self._waiting: deque[tuple[memoryview, int, Done]] = deque()
        self._is_writing = False
        self._is_starting = False

    def write(self, view: memoryview, offset_bytes: int, done: Done) -> None:
        """Write all of ``view`` and make it stable, or change nothing.

        ``done`` gets its length or a negated errno. On a medium that fails while it is written and
        again while that is undone, what is left is undefined, as the log then says.
        """
        self._waiting.append((view, offset_bytes, done))
        self._start()

    def _start(self) -> None:
        # A loop, because each may end at once.
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._waiting and not self._is_writing:
                self._is_writing = True
                self._run(*self._waiting.popleft())
        finally:
            self._is_starting = False

    def _run(self, view: memoryview, offset_bytes: int, done: Done) -> None:
        def finish(result: int) -> None:
            self._is_writing = False
            try:
                done(result)
            finally:
                self._start()

        def fail(error: OSError) -> None:
            finish(-(error.errno or errno.EIO))

        def begin(operation: Callable[[Done], None], resume: Done) -> None:
            operation(resume)

        Trampoline(self._steps(view, offset_bytes), begin, finish, OSError, fail).start()

    def _steps(self, view: memoryview, offset_bytes: int) -> _Steps:
        file, engine, journal = self._file, self._engine, self._journal
        old = memoryview(bytearray(len(view)))
        result = yield partial(file.read, old, offset_bytes)
        if result < len(old):
            return result if result < 0 else -errno.EIO
        result = yield partial(engine.call, partial(journal.record, offset_bytes, old))
        if result >= 0:
            result = yield partial(file.write, view, offset_bytes)
            if result >= 0:
                result = yield self._sync
            if result < 0:
                yield from self._undo(old, offset_bytes)
        cleared = yield partial(engine.call, journal.clear)
        # The next start would undo a write whose record is still there.
        if cleared < 0 <= result:
            yield from self._undo(old, offset_bytes)
        result = min(result, cleared)
        return len(view) if result >= 0 else result

    def _undo(
        self, old: memoryview, offset_bytes: int
    ) -> Generator[Callable[[Done], None], int, None]:
        result = yield partial(self._file.write, old, offset_bytes)
        if result >= 0:
            result = yield self._sync
        if result < 0:
            _log.error(
                "%d bytes at %d are partly written: undoing that failed, too: %s",
                len(old),
                offset_bytes,
                os.strerror(-result),
            )
