# SPDX-License-Identifier: GPL-2.0-or-later
"""vdisk_fileio: a disk kept in a file or block device, through the page cache."""

from __future__ import annotations

import logging
from typing import ClassVar

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.handlers.vdisk import Extent, Space, Vdisk
from scsi_backend.io.engine import Done, Engine
from scsi_backend.io.file import BackingFile
from scsi_backend.io.located import Located
from scsi_backend.io.scatter import Buffer

_log = logging.getLogger(__name__)


class VdiskFileio(Vdisk):
    """A file's bytes as a disk; a tail shorter than a block is not served."""

    handler: ClassVar[str] = "vdisk_fileio"
    vendor: ClassVar[str] = "SCST_FIO"

    def __init__(self, name: str, attributes: FileioAttributes, file: BackingFile) -> None:
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
        self.needs_sync = not (attributes.nv_cache or attributes.read_only)
        self.has_volatile_cache = self.needs_sync and not attributes.write_through

    @classmethod
    def open(cls, name: str, attributes: FileioAttributes, engine: Engine) -> VdiskFileio:
        """Open the backing file; raises OSError."""
        file = BackingFile.open(attributes.filename, engine, read_only=attributes.read_only)
        try:
            return cls(name, attributes, file)
        except BaseException:
            file.close()
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

    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write``."""
        self._file.write(view, offset_bytes, done)

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
