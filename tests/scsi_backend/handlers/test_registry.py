# SPDX-License-Identifier: GPL-2.0-or-later
"""Handlers by SCST's names."""

from __future__ import annotations

from pathlib import Path

from scsi_backend.handlers.attributes import FileioAttributes, NullioAttributes
from scsi_backend.handlers.registry import HANDLERS
from scsi_backend.handlers.vdisk_fileio import VdiskFileio
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.io.engine import SyncEngine


def test_handlers_have_scsts_names_and_their_attributes() -> None:
    found = {name: handler.attributes for name, handler in HANDLERS.items()}
    assert found == {"vdisk_fileio": FileioAttributes, "vdisk_nullio": NullioAttributes}


def test_handler_opens_a_device_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1024))
    attributes = FileioAttributes(filename=str(path))
    fileio = HANDLERS["vdisk_fileio"].open("disk", attributes, SyncEngine())
    fileio.close()
    nullio = HANDLERS["vdisk_nullio"].open("null", NullioAttributes(size=512), SyncEngine())
    assert (type(fileio), type(nullio)) == (VdiskFileio, VdiskNullio)
    assert (fileio.block_count, nullio.block_count) == (2, 1)
