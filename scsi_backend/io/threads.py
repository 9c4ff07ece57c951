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
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from scsi_backend.io.engine import Done, Engine, Operation, call_guarded, read_fully, write_fully
from scsi_backend.io.scatter import Buffer

DEFAULT_WORKERS = 8
# A file system lets one thread write to a file at a time, so one worker takes many writes. A read
# that got here is not cached and waits for the disk, so each has a worker to itself.
_WRITES_PER_ITEM = 64
_WRITE_BYTES_PER_ITEM = 1 << 20

_log = logging.getLogger(__name__)

_Item = list[tuple[Operation, Done]]


class _Device:
    """The operations of one device, and the threads that perform them.

    Threads are started as operations need them, and stay. A device that hangs keeps its own threads
    waiting and nobody else's.
    """

    def __init__(self, owner: ThreadEngine, workers: int) -> None:
        self._owner = owner
        self._workers = workers
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Items with the workers, finished or not, that the owner has not reaped.
        self._busy = 0
        # Operations whose ``done`` has not been called.
        self.outstanding = 0
        # Called once there are none, if nobody uses the device any more.
        self.released: Callable[[], None] | None = None
        self._items: list[_Item] = []
        self._writes: _Item = []
        self._write_bytes = 0

    def read(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Engine.read``."""
        self._items.append([(partial(read_fully, fd, view, offset_bytes), done)])
        self._owner.arm(self)

    def write(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Engine.write``."""
        self._writes.append((partial(write_fully, fd, view, offset_bytes), done))
        self._write_bytes += len(view)
        if len(self._writes) >= _WRITES_PER_ITEM or self._write_bytes >= _WRITE_BYTES_PER_ITEM:
            self._seal_writes()
        self._owner.arm(self)

    def call(self, operation: Operation, done: Done) -> None:
        """See ``Engine.call``."""
        self._items.append([(operation, done)])
        self._owner.arm(self)

    def _seal_writes(self) -> None:
        self._items.append(self._writes)
        self._writes = []
        self._write_bytes = 0

    def kick(self) -> None:
        """Hand what has gathered to the workers."""
        if self._writes:
            self._seal_writes()
        items, self._items = self._items, []
        for item in items:
            self._busy += 1
            if self._busy > len(self._threads) < self._workers:
                self._start_thread()
            if self._threads:
                self._queue.put(item)
            else:
                self._owner.finished(self, [(done, -errno.EAGAIN) for _, done in item])

    def reaped(self) -> None:
        """One of the items is finished, and about to be told of."""
        self._busy -= 1

    def close(self) -> None:
        """Stop the workers; nothing may be outstanding."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        name = f"io-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The limit of processes (pids.max) is reached: those that there are do the work.
            _log.error("worker thread: %s", error)
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._owner.finished(self, [(done, _run(operation)) for operation, done in item])
            # While it waits for the next one, a worker shall not keep the memory of this one.
            item = None


class ThreadEngine:
    """Runs operations on threads, and tells of their ends on the owner's thread.

    ``schedule`` arranges for a function to be called on the owner's thread once it has finished
    what it is doing (``loop.call_soon``). All methods and ``done`` callbacks run on that thread.
    ``workers`` is the number of threads for each device.
    """

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], object],
        workers: int = DEFAULT_WORKERS,
    ) -> None:
        self._schedule = schedule
        self._workers = workers
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._readable = select.poll()
        self._readable.register(self._eventfd, select.POLLIN)
        self._finished: deque[tuple[_Device, list[tuple[Done, int]]]] = deque()
        self._devices: list[_Device] = []
        # Devices with operations that the workers do not have yet.
        self._armed: dict[_Device, None] = {}
        self._outstanding = 0
        # For those who do not ask for one of their own.
        self._common = self.for_device()
        self.read = self._common.read
        self.write = self._common.write
        self.call = self._common.call

    def for_device(self) -> Engine:
        """See ``WholeEngine.for_device``."""
        device = _Device(self, self._workers)
        self._devices.append(device)
        return device

    def release(self, part: Engine, done: Callable[[], None]) -> None:
        """See ``WholeEngine.release``; the threads of the device end."""
        (device,) = (each for each in self._devices if each is part)
        if device.outstanding:
            device.released = done
        else:
            self._part_from(device, done)

    def _part_from(self, device: _Device, done: Callable[[], None]) -> None:
        self._devices.remove(device)
        # Each has nothing to do but to end.
        device.close()
        done()

    @property
    def outstanding(self) -> int:
        """Operations whose ``done`` has not been called."""
        return self._outstanding

    def fileno(self) -> int:
        """A descriptor that is readable while finished operations wait for ``reap()``."""
        return self._eventfd

    def reap(self) -> None:
        """Call ``done`` for every finished operation."""
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        while self._finished:
            device, results = self._finished.popleft()
            device.reaped()
            self._outstanding -= len(results)
            device.outstanding -= len(results)
            for done, result in results:
                try:
                    done(result)
                except Exception:
                    # The other completions must still be told to their owners.
                    _log.exception("completion callback failed")
            if device.released is not None and not device.outstanding:
                self._part_from(device, device.released)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait for every outstanding operation and call its ``done``.

        Tell whether all have ended; with a timeout, some may not have.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._outstanding:
            self._kick()
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            self._readable.poll(None if left_s is None else left_s * 1000)
            self.reap()
        return True

    def close(self, timeout_s: float | None = None) -> bool:
        """See ``WholeEngine.close``: finish what is outstanding, then stop the workers.

        Operations that hang longer than ``timeout_s`` are given up with their threads.
        """
        if not self.drain(timeout_s):
            return False
        for device in self._devices:
            device.close()
        self._devices.clear()
        os.close(self._eventfd)
        return True

    def arm(self, device: _Device) -> None:
        """A device has one operation more."""
        self._outstanding += 1
        device.outstanding += 1
        if not self._armed:
            self._schedule(self._kick)
        self._armed[device] = None

    def finished(self, device: _Device, results: list[tuple[Done, int]]) -> None:
        """An item is finished; called by the device's workers."""
        self._finished.append((device, results))
        os.eventfd_write(self._eventfd, 1)

    def _kick(self) -> None:
        armed, self._armed = self._armed, {}
        for device in armed:
            device.kick()


def _run(operation: Operation) -> int:
    try:
        return call_guarded(operation)
    except Exception:
        # A worker that died would leave commands unanswered and drain() waiting for ever.
        _log.exception("I/O operation failed")
        return -errno.EIO
