# SPDX-License-Identifier: GPL-2.0-or-later
"""vdisk_nullio: a disk without storage, for measuring everything else.

Deviation: SCST's reads return whatever its buffer held unless read_zero is set; these are zeros.
"""

from __future__ import annotations

from typing import ClassVar

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk import Extent, Vdisk
from scsi_backend.io.engine import Done, Engine, SyncEngine
from scsi_backend.io.located import ZEROS, Located
from scsi_backend.io.scatter import Buffer, segments_of

_ZEROS = bytes(64 << 10)


class VdiskNullio(Vdisk):
    """Discards writes and reads zeros."""

    handler: ClassVar[str] = "vdisk_nullio"
    vendor: ClassVar[str] = "SCST_FIO"
    keeps_data: ClassVar[bool] = False

    def __init__(
        self, name: str, attributes: NullioAttributes, engine: Engine | None = None
    ) -> None:
        super().__init__(name, attributes, attributes.size_bytes)
        self._engine = engine or SyncEngine()
        self.read_now = _zero
        self.write_now = _discard

    @classmethod
    def open(cls, name: str, attributes: NullioAttributes, engine: Engine) -> VdiskNullio:
        """Return the disk; there is nothing to open."""
        return cls(name, attributes, engine)

    def locate_now(self, offset_bytes: int, length_bytes: int) -> Located | None:
        """See ``Vdisk.locate_now``: there is nothing but zeros."""
        return ZEROS

    def read(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.read``."""
        done(_zero(view, offset_bytes))

    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write``."""
        done(len(view))

    def sync(self, done: Done) -> None:
        """See ``Vdisk.sync``."""
        done(0)

    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.unmap``."""
        done(0)

    def write_zeros(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_zeros``."""
        done(0)

    def read_ahead(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.read_ahead``.

        By the engine: who copies everything fetches ahead to let the event loop go on meanwhile.
        """
        self._engine.call(lambda: 0, done)

    def extents(self, offset_bytes: int, limit: int, runs: list[Extent], done: Done) -> None:
        """See ``Vdisk.extents``: all of it counts as stored."""
        size_bytes = self.block_count * self.block_size_bytes
        runs.append(Extent(size_bytes - offset_bytes, is_mapped=True))
        done(0)

    def reread_size(self) -> bool:
        """See ``Vdisk.reread_size``: it never changes."""
        return False

    def close(self) -> None:
        """See ``Vdisk.close``."""


def _zero(view: Buffer, offset_bytes: int) -> int:
    for segment in segments_of(view):
        for start in range(0, len(segment), len(_ZEROS)):
            piece = segment[start : start + len(_ZEROS)]
            piece[:] = _ZEROS[: len(piece)]
    return len(view)


def _discard(view: Buffer, offset_bytes: int) -> int:
    return len(view)
