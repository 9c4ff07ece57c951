# SPDX-License-Identifier: GPL-2.0-or-later
"""Doubles for what the backend stands on: a disk and an engine that obey the test.

``FaultyVdisk`` keeps its blocks in memory, records what it is asked, and holds back, shortens or
fails operations on demand. ``ManualEngine`` runs operations only when it is told to.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from scsi_backend.handlers.attributes import VdiskAttributes
from scsi_backend.handlers.vdisk import Extent, Space, Vdisk
from scsi_backend.io.engine import Done, Engine, Operation, call_guarded, read_fully, write_fully
from scsi_backend.io.scatter import Buffer, contiguous

NOT_NOW = -errno.EAGAIN


@dataclass(slots=True)
class Faults:
    """What shall go wrong: errno by operation name, errno of reads by LBA, where data ends."""

    errno_of: dict[str, int] = field(default_factory=dict)
    errno_at: dict[int, int] = field(default_factory=dict)
    stored_bytes: int | None = None
    raised: Exception | None = None


class FaultyVdisk(Vdisk):
    """A disk in memory.

    ``immediate_bytes`` bounds what ``read_now`` and ``write_now`` move (None: all of it, negative:
    their result). While ``is_held`` is set, everything else waits in ``held`` for ``release``.
    """

    handler: ClassVar[str] = "faulty"
    vendor: ClassVar[str] = "SCST_FIO"

    def __init__(
        self,
        blocks: int = 1024,
        block_size_bytes: int = 512,
        *,
        is_thin: bool = False,
        write_through: bool = False,
        nv_cache: bool = False,
        read_only: bool = False,
        tail_bytes: int = 0,
        naa_id: bytes | None = None,
        max_atomic_bytes: int = 0,
    ) -> None:
        attributes = VdiskAttributes(blocksize=block_size_bytes, read_only=read_only, naa_id=naa_id)
        super().__init__("faulty", attributes, blocks * block_size_bytes + tail_bytes)
        self.has_long_cdbs = True
        self.needs_sync = not (nv_cache or read_only)
        self.has_volatile_cache = self.needs_sync and not write_through
        self.is_thin_provisioned = self.measures_space = is_thin
        self.space = Space()
        self.max_atomic_bytes = max_atomic_bytes
        self.data = bytearray(blocks * block_size_bytes)
        self.faults = Faults()
        self.immediate_bytes: int | None = None
        self.is_held = False
        self.held: deque[Callable[[], None]] = deque()
        self.log: list[tuple[str, int, int]] = []
        self.runs: list[Extent] = []
        self.new_block_count = self.block_count
        self.read_now = self._read_now
        self.write_now = self._write_now

    def fill(self) -> bytes:
        """Give each block its own contents, beginning with its number; return all of them."""
        size = self.block_size_bytes
        for lba in range(self.block_count):
            self.data[lba * size : (lba + 1) * size] = pattern(lba, size)
        return bytes(self.data)

    def blocks(self, lba: int, count: int) -> bytes:
        """The stored bytes of some blocks."""
        size = self.block_size_bytes
        return bytes(self.data[lba * size : (lba + count) * size])

    @property
    def names(self) -> list[str]:
        """The names of the operations in the log."""
        return [name for name, _, _ in self.log]

    def release(self, index: int = 0) -> None:
        """Perform one held operation, by default the oldest."""
        operation = self.held[index]
        del self.held[index]
        operation()

    def release_all(self) -> None:
        """Perform held operations until there are none, not even new ones."""
        while self.held:
            self.release()

    def read(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.read``."""
        self._do("read", offset_bytes, len(view), lambda: self._load(view, offset_bytes), done)

    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write``."""
        self._do("write", offset_bytes, len(view), lambda: self._store(view, offset_bytes), done)

    def read_medium(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.read_medium``."""
        load = partial(self._load, view, offset_bytes)
        self._do("read_medium", offset_bytes, len(view), load, done)

    def write_atomic(self, view: memoryview, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_atomic``."""
        store = partial(self._store, view, offset_bytes)
        self._do("write_atomic", offset_bytes, len(view), store, done)

    def sync(self, done: Done) -> None:
        """See ``Vdisk.sync``."""
        if self.needs_sync:
            self._do("sync", 0, 0, lambda: 0, done)
        else:
            done(0)

    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.unmap``."""
        self._zero("unmap", offset_bytes, length_bytes, done)

    def write_zeros(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_zeros``."""
        self._zero("write_zeros", offset_bytes, length_bytes, done)

    def read_ahead(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.read_ahead``."""
        self._do("read_ahead", offset_bytes, length_bytes, lambda: 0, done)

    def extents(self, offset_bytes: int, limit: int, runs: list[Extent], done: Done) -> None:
        """See ``Vdisk.extents``: ``self.runs``, which begin at byte 0."""

        def collect() -> int:
            position = 0
            for run in self.runs:
                start, position = position, position + run.length_bytes
                if position > offset_bytes and limit > len(runs):
                    length_bytes = position - max(start, offset_bytes)
                    runs.append(Extent(length_bytes, run.is_mapped))
            return 0

        self._do("extents", offset_bytes, limit, collect, done)

    def measure_space(self, space: Space, done: Done) -> None:
        """See ``Vdisk.measure_space``: ``self.space``."""

        def measure() -> int:
            space.used_bytes, space.available_bytes = (
                self.space.used_bytes,
                self.space.available_bytes,
            )
            return 0

        self._do("measure_space", 0, 0, measure, done)

    def reread_size(self) -> bool:
        """See ``Vdisk.reread_size``: takes ``new_block_count`` over."""
        before, self.block_count = self.block_count, self.new_block_count
        return self.block_count != before

    def close(self) -> None:
        """See ``Vdisk.close``."""
        self.log.append(("close", 0, 0))

    def _read_now(self, view: Buffer, offset_bytes: int) -> int:
        return self._now("read_now", view, offset_bytes, self._load)

    def _write_now(self, view: Buffer, offset_bytes: int) -> int:
        return self._now("write_now", view, offset_bytes, self._store)

    def _now(
        self, name: str, view: Buffer, offset_bytes: int, move: Callable[[Buffer, int], int]
    ) -> int:
        self.log.append((name, offset_bytes, len(view)))
        if self.faults.raised is not None:
            raise self.faults.raised
        if self.immediate_bytes is not None and self.immediate_bytes < 0:
            return self.immediate_bytes
        return move(view[: self.immediate_bytes], offset_bytes)

    def _do(self, name: str, offset: int, length: int, operation: Operation, done: Done) -> None:
        self.log.append((name, offset, length))

        def perform() -> None:
            code = self.faults.errno_of.get(name, 0)
            done(-code if code else operation())

        if self.is_held:
            self.held.append(perform)
        else:
            perform()

    def _zero(self, name: str, offset_bytes: int, length_bytes: int, done: Done) -> None:
        def clear() -> int:
            self.data[offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)
            return 0

        self._do(name, offset_bytes, length_bytes, clear, done)

    def _load(self, view: Buffer, offset_bytes: int) -> int:
        size = self.block_size_bytes
        for lba, code in self.faults.errno_at.items():
            if offset_bytes < (lba + 1) * size and lba * size < offset_bytes + len(view):
                return -code
        stored = self.data[offset_bytes : offset_bytes + len(view)]
        if self.faults.stored_bytes is not None:
            stored = stored[: max(0, self.faults.stored_bytes - offset_bytes)]
        view[: len(stored)] = stored
        return len(stored)

    def _store(self, view: Buffer, offset_bytes: int) -> int:
        self.data[offset_bytes : offset_bytes + len(view)] = contiguous(view)
        return len(view)


class ManualEngine:
    """Queues operations. ``start`` runs the oldest one, ``finish`` tells its owner the result."""

    def __init__(self) -> None:
        self.queued: deque[tuple[Operation, Done]] = deque()
        self.started: deque[tuple[Done, int]] = deque()
        self.is_closed = False

    def for_device(self) -> ManualEngine:
        """See ``WholeEngine.for_device``."""
        return self

    def release(self, part: Engine, done: Callable[[], None]) -> None:
        """See ``WholeEngine.release``: of one engine for all, no part can be given back."""
        done()

    def read(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Engine.read``."""
        self.call(lambda: read_fully(fd, view, offset_bytes), done)

    def write(self, fd: int, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Engine.write``."""
        self.call(lambda: write_fully(fd, view, offset_bytes), done)

    def call(self, operation: Operation, done: Done) -> None:
        """See ``Engine.call``."""
        self.queued.append((operation, done))

    def start(self) -> None:
        """Run the oldest queued operation, as a worker thread would."""
        operation, done = self.queued.popleft()
        self.started.append((done, call_guarded(operation)))

    def refuse(self, error: int) -> None:
        """Report the oldest queued operation as failed without having run it."""
        _, done = self.queued.popleft()
        done(-error)

    def finish(self) -> None:
        """Report the oldest operation that was run."""
        done, result = self.started.popleft()
        done(result)

    def run_all(self) -> None:
        """Run and report until nothing is left."""
        while self.queued or self.started:
            if self.queued:
                self.start()
            else:
                self.finish()

    def close(self, timeout_s: float | None = None) -> bool:
        """See ``WholeEngine.close``."""
        self.run_all()
        self.is_closed = True
        return True


def pattern(number: int, length_bytes: int) -> bytes:
    """Bytes that tell by their first eight which block they belong to."""
    return (number.to_bytes(8, "big") + bytes(range(1, 9))) * (length_bytes // 16)
