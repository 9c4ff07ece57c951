# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker-thread engine: what an event loop uses for anything that may block.

Operations gather while the loop handles a batch of requests, and go to the workers together when
it has: one hand-over of the interpreter lock for a batch instead of one for each request. The
owner registers ``fileno()`` with its loop and calls ``reap()`` when it becomes readable, which is
also how io_uring is driven.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

from scsi_backend.io.engine import Done, Operation, call_guarded, read_fully, write_fully

DEFAULT_WORKERS = 8
# A file system lets one thread write to a file at a time, so one worker takes many writes. A read
# that got here is not cached and waits for the disk, so each has a worker to itself.
_WRITES_PER_ITEM = 64
_WRITE_BYTES_PER_ITEM = 1 << 20

_log = logging.getLogger(__name__)

_Item = list[tuple[Operation, Done]]


@dataclass(slots=True)
class _Writes:
    """Writes to one file that go to a worker together."""

    item: _Item = field(default_factory=list)
    size_bytes: int = 0


class ThreadEngine:
    """Runs operations on a pool of threads.

    ``schedule`` arranges for a function to be called on the owner's thread once it has finished
    what it is doing (``loop.call_soon``). All methods and ``done`` callbacks run on that thread.
    """

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], object],
        workers: int = DEFAULT_WORKERS,
    ) -> None:
        self._schedule = schedule
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._readable = select.poll()
        self._readable.register(self._eventfd, select.POLLIN)
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._finished: deque[list[tuple[Done, int]]] = deque()
        self._items: list[_Item] = []
        # By file: a write must not wait for those to another disk.
        self._writes: dict[int, _Writes] = {}
        self._scheduled = False
        self._outstanding = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"io-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def outstanding(self) -> int:
        """Operations whose ``done`` has not been called."""
        return self._outstanding

    def fileno(self) -> int:
        """A descriptor that is readable while finished operations wait for ``reap()``."""
        return self._eventfd

    def read(self, fd: int, view: memoryview, offset_bytes: int, done: Done) -> None:
        """See ``Engine.read``."""
        self._add([(partial(read_fully, fd, view, offset_bytes), done)])

    def write(self, fd: int, view: memoryview, offset_bytes: int, done: Done) -> None:
        """See ``Engine.write``."""
        writes = self._writes.setdefault(fd, _Writes())
        writes.item.append((partial(write_fully, fd, view, offset_bytes), done))
        writes.size_bytes += len(view)
        if len(writes.item) >= _WRITES_PER_ITEM or writes.size_bytes >= _WRITE_BYTES_PER_ITEM:
            self._items.append(self._writes.pop(fd).item)
        self._arm(1)

    def call(self, operation: Operation, done: Done) -> None:
        """See ``Engine.call``."""
        self._add([(operation, done)])

    def reap(self) -> None:
        """Call ``done`` for every finished operation."""
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        while self._finished:
            results = self._finished.popleft()
            self._outstanding -= len(results)
            for done, result in results:
                try:
                    done(result)
                except Exception:
                    # The other completions must still be told to their owners.
                    _log.exception("completion callback failed")

    def drain(self) -> None:
        """Wait for every outstanding operation and call its ``done``."""
        while self._outstanding:
            self._kick()
            self._readable.poll()
            self.reap()

    def close(self) -> None:
        """Finish what is outstanding, then stop the workers."""
        self.drain()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        os.close(self._eventfd)

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._arm(len(item))

    def _arm(self, operations: int) -> None:
        self._outstanding += operations
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._kick)

    def _kick(self) -> None:
        self._scheduled = False
        items, self._items = self._items, []
        items += [writes.item for writes in self._writes.values()]
        self._writes.clear()
        for item in items:
            self._queue.put(item)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            results = [(done, _run(operation)) for operation, done in item]
            self._finished.append(results)
            os.eventfd_write(self._eventfd, 1)


def _run(operation: Operation) -> int:
    try:
        return call_guarded(operation)
    except Exception:
        # A worker that died would leave commands unanswered and drain() waiting for ever.
        _log.exception("I/O operation failed")
        return -errno.EIO
