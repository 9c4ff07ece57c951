# SPDX-License-Identifier: GPL-2.0-or-later
"""What a failed storage operation becomes: errno to sense data, one table for each direction."""

from __future__ import annotations

import errno
from dataclasses import replace
from types import MappingProxyType

from scsi_backend.t10 import sense
from scsi_backend.t10.sense import Sense

_WRITE_SENSE = MappingProxyType(
    {
        errno.ENOSPC: sense.SPACE_ALLOCATION_FAILED,
        errno.EDQUOT: sense.SPACE_ALLOCATION_FAILED,
        errno.EFBIG: sense.SPACE_ALLOCATION_FAILED,
        errno.EROFS: sense.WRITE_PROTECTED,
        errno.EPERM: sense.WRITE_PROTECTED,
    }
)


def read_sense(result: int, lba: int) -> Sense:
    """The sense data of a read that stopped at ``lba``; ``result`` as from an I/O engine.

    Too few bytes (a backing file cut short) and every errno are medium errors.
    """
    return replace(sense.READ_ERROR, information=lba)


def write_sense(result: int, lba: int) -> Sense:
    """The sense data of a write, unmap or sync that failed; ``result`` is a negated errno."""
    found = _WRITE_SENSE.get(-result)
    return found if found is not None else replace(sense.WRITE_ERROR, information=lba)
