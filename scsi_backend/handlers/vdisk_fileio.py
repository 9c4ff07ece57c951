# SPDX-License-Identifier: GPL-2.0-or-later
"""vdisk_fileio: a disk kept in a file or block device, through the page cache."""

from __future__ import annotations

import logging
import os
from typing import ClassVar

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.handlers.vdisk import Extent, Space, Vdisk
from scsi_backend.io.atomic_journal import CAPACITY_BYTES, AtomicJournal, roll_back
from scsi_backend.io.atomic_write import AtomicWriter
from scsi_backend.io.engine import Done, Engine
from scsi_backend.io.file import BackingFile
from scsi_backend.io.located import Located
from scsi_backend.io.scatter import Buffer

_log = logging.getLogger(__name__)


class VdiskFileio(Vdisk):
    """A file's bytes as a disk; a tail shorter than a block is not served."""

    handler: ClassVar[str] = "vdisk_fileio"
    vendor: ClassVar[str] = "SCST_FIO"

    def __init__(
        self,
        name: str,
        attributes: FileioAttributes,
        file: BackingFile,
        engine: Engine,
        journal: AtomicJournal | None = None,
    ) -> None:
        super().__init__(name, attributes, file.size_bytes)
        self._file = file
        self.read_now = file.read_now
        self.write_now = file.write_now
        self.is_thin_provisioned = attributes.thin_provisioned
        if attributes.thin_provisioned and not (attributes.read_only or file.can_punch_holes()):
            _log.warning(
                "%s: %s cannot deallocate: thin_provisioned off", name, attributes.filename
            )
            self.is_thin_provisioned = False
        self.measures_space = self.is_thin_provisioned and file.is_regular
        if self.measures_space:
            self.soft_threshold_bytes = attributes.tp_soft_threshold_mb << 20
        elif attributes.tp_soft_threshold_mb:
            _log.warning("%s: its free space cannot be measured: tp_soft_threshold_mb off", name)
        self.needs_sync = not (attributes.nv_cache or attributes.read_only)
        self.has_volatile_cache = self.needs_sync and not attributes.write_through
        self._journal = journal
        if journal is not None:
            self._atomic = AtomicWriter(file, journal, engine, self.sync)
            self.max_atomic_bytes = CAPACITY_BYTES

    @classmethod
    def open(cls, name: str, attributes: FileioAttributes, engine: Engine) -> VdiskFileio:
        """Open the backing file, and undo an atomic write that was cut off; raises OSError."""
        file = BackingFile.open(attributes.filename, engine, read_only=attributes.read_only)
        journal = None
        try:
            if attributes.atomic_journal is not None:
                subject = os.path.realpath(attributes.filename)
                journal = AtomicJournal.open(attributes.atomic_journal, subject)
                _undo_unfinished(name, journal, file)
            return cls(name, attributes, file, engine, journal)
        except BaseException:
            file.close()
            if journal is not None:
                journal.close()
            raise

    def locate_now(self, offset_bytes: int, length_bytes: int) -> Located | None:
        """See ``Vdisk.locate_now``."""
        is_sparse = self.is_thin_provisioned
        return self._file.locate_now(offset_bytes, length_bytes, is_sparse=is_sparse)

    def find_hole(self, offset_bytes: int, length_bytes: int, done: Done) -> bool:
        """See ``Vdisk.find_hole``: only thin-provisioned disks have holes."""
        if not self.is_thin_provisioned:
            return False
        return self._file.find_hole(offset_bytes, length_bytes, done)

    def read(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.read``."""
        self._file.read(view, offset_bytes, done)

    def read_medium(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.read_medium``; with nv_cache the page cache counts as the medium."""
        if self.needs_sync:
            self._file.read_medium(view, offset_bytes, done)
        else:
            self._file.read(view, offset_bytes, done)

    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write``."""
        self._file.write(view, offset_bytes, done)

    def write_atomic(self, view: memoryview, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_atomic``; needs atomic_journal."""
        self._atomic.write(view, offset_bytes, done)

    def sync(self, done: Done) -> None:
        """See ``Vdisk.sync``; with nv_cache there is nothing to do."""
        if self.needs_sync:
            self._file.sync(done)
        else:
            done(0)

    def sync_medium(self, done: Done) -> None:
        """See ``Vdisk.sync_medium``."""
        self._file.sync(done)

    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.unmap``."""
        self._file.punch_hole(offset_bytes, length_bytes, done)

    def write_zeros(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_zeros``."""
        self._file.zero_range(offset_bytes, length_bytes, done)

    def read_ahead(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.read_ahead``."""
        self._file.read_ahead(offset_bytes, length_bytes, done)

    def extents(self, offset_bytes: int, limit: int, runs: list[Extent], done: Done) -> None:
        """See ``Vdisk.extents``: SEEK_DATA and SEEK_HOLE."""
        found: list[tuple[int, bool]] = []
        end_bytes = self.block_count * self.block_size_bytes

        def finish(result: int) -> None:
            runs.extend(Extent(length_bytes, is_data) for length_bytes, is_data in found)
            done(result)

        self._file.extents(offset_bytes, end_bytes, limit, found, finish)

    def measure_space(self, space: Space, done: Done) -> None:
        """See ``Vdisk.measure_space``: a file's blocks, and what its file system has left."""
        found: list[tuple[int, int]] = []

        def finish(result: int) -> None:
            for used_bytes, available_bytes in found:
                space.used_bytes, space.available_bytes = used_bytes, available_bytes
            done(result)

        self._file.measure_space(found, finish)

    def reread_size(self) -> bool:
        """See ``Vdisk.reread_size``."""
        before = self.block_count
        self.block_count = self._file.size_bytes // self.block_size_bytes
        return self.block_count != before

    def close(self) -> None:
        """See ``Vdisk.close``."""
        self._file.close()
        if self._journal is not None:
            self._journal.close()


def _undo_unfinished(name: str, journal: AtomicJournal, file: BackingFile) -> None:
    undone = roll_back(journal, file.fd, file.size_bytes)
    if undone is not None:
        _log.warning(
            "%s: undid an atomic write of %d bytes at %d that was cut off",
            name,
            len(undone.data),
            undone.offset_bytes,
        )
