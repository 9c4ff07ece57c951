# SPDX-License-Identifier: GPL-2.0-or-later
"""The file in which saved mode parameters outlive the device: SCST's vdev_mode_pages.

Text: a line with the version, one for each parameter, and one with the CRC-32 of those before it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final
from zlib import crc32

from scsi_backend.io.durable_file import DurableFile
from scsi_backend.io.engine import Done, Engine
from scsi_backend.t10 import mode_values
from scsi_backend.t10.mode_values import ModeValues

_log = logging.getLogger(__name__)

_VERSION: Final = "version 1\n"
_CHECKSUM: Final = "crc32 "


class ModePagesFile:
    """The mode pages file of one device; see ``ModeStore``."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._file = DurableFile(path)
        self._engine = engine

    def load(self, default: ModeValues) -> ModeValues | None:
        """See ``ModeStore.load``; a damaged file is set aside, and counts as none.

        The folder is made if there is none.
        """
        self._file.make_folder()
        data = self._file.read()
        if data is None:
            return None
        try:
            return _parse(data, default)
        except ValueError as error:
            aside = self._file.set_aside()
            _log.error("%s: %s: kept as %s, not used", self.path, error, aside)
            return None

    def save(self, values: ModeValues, done: Done) -> None:
        """See ``ModeStore.save``."""
        data = _serialize(values)

        def store() -> int:
            self._file.replace(data)
            return 0

        def finish(result: int) -> None:
            if result < 0:
                _log.error("%s: not saved: %s", self.path, os.strerror(-result))
            done(result)

        self._engine.call(store, finish)


def _serialize(values: ModeValues) -> bytes:
    body = (_VERSION + mode_values.serialize(values)).encode("ascii")
    return body + f"{_CHECKSUM}{crc32(body):08x}\n".encode("ascii")


def _parse(data: bytes, default: ModeValues) -> ModeValues:
    """Raises ValueError."""
    body, separator, checksum = data.rpartition(_CHECKSUM.encode("ascii"))
    if not separator or checksum != f"{crc32(body):08x}\n".encode("ascii"):
        raise ValueError("expected a checksum that fits")
    text = body.decode("ascii")
    if not text.startswith(_VERSION):
        raise ValueError(f"expected {_VERSION.strip()!r} in the first line")
    return mode_values.parse(text.removeprefix(_VERSION), default)
