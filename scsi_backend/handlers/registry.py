# SPDX-License-Identifier: GPL-2.0-or-later
"""The device handlers, by SCST's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scsi_backend.handlers.attributes import FileioAttributes, NullioAttributes, VdiskAttributes
from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.handlers.vdisk_fileio import VdiskFileio
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.io.engine import Engine


@dataclass(frozen=True, slots=True)
class Handler:
    """How devices of one handler are described and opened."""

    attributes: type[VdiskAttributes]
    open: Callable[[str, Any, Engine], Vdisk]


HANDLERS = MappingProxyType(
    {
        VdiskFileio.handler: Handler(FileioAttributes, VdiskFileio.open),
        VdiskNullio.handler: Handler(NullioAttributes, VdiskNullio.open),
    }
)
