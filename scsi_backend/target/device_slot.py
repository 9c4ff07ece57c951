# SPDX-License-Identifier: GPL-2.0-or-later
"""A device's place in the backend: its name, its part of the engine, and its files of saved state.

It is taken before the device is opened, and kept until it is closed: nobody else can have any of
them meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from scsi_backend.handlers.attributes import VdiskAttributes
from scsi_backend.handlers.registry import HANDLERS
from scsi_backend.io.engine import Engine
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.mode_pages_file import ModePagesFile
from scsi_backend.servers.reservation_file import ReservationFile


class DeviceSlot:
    """One device, before, while and after it is open; ``unit`` is None where it is not."""

    def __init__(
        self,
        handler: str,
        name: str,
        attributes: VdiskAttributes,
        engine: Engine,
        modes_path: Path | None,
        pr_path: Path | None,
    ) -> None:
        self.name = name
        self.engine = engine
        self.unit: LogicalUnit | None = None
        self._handler = handler
        self._attributes = attributes
        self._modes_path = modes_path
        self._pr_path = pr_path

    @property
    def state_paths(self) -> Iterator[Path]:
        """The files of saved state."""
        return filter(None, (self._modes_path, self._pr_path))

    def open(self) -> None:
        """Open the device; raises OSError.

        It may block for as long as the storage likes, and may be called on any thread.
        """
        modes, reservations = self._modes_path, self._pr_path
        mode_store = None if modes is None else ModePagesFile(modes, self.engine)
        pr_store = None if reservations is None else ReservationFile(reservations, self.engine)
        vdisk = HANDLERS[self._handler].open(self.name, self._attributes, self.engine)
        try:
            self.unit = disk(vdisk, mode_store, pr_store)
        except BaseException:
            vdisk.close()
            raise

    def open_soon(self, done: Callable[[Exception | None], None]) -> None:
        """Open the device on a thread of its own; ``done`` gets what ``open`` raised, if it did."""
        failures: list[Exception] = []

        def operation() -> int:
            try:
                self.open()
            except Exception as error:
                failures.append(error)
            return 0

        def finish(result: int) -> None:
            if result < 0:
                failures.append(OSError(-result, os.strerror(-result)))
            done(failures[0] if failures else None)

        self.engine.call(operation, finish)

    def close(self) -> None:
        """Close the device, if it is open; nothing of it may be under way."""
        if self.unit is not None:
            self.unit.vdisk.close()
            self.unit = None
