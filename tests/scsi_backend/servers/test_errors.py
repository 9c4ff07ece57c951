# SPDX-License-Identifier: GPL-2.0-or-later
"""Errno to sense data, by an independent list and for every errno there is."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.t10.sense import Sense, SenseKey

# What is not here is a medium error that names the LBA.
GOLDEN_WRITE = {
    "ENOSPC": (SenseKey.DATA_PROTECT, 0x2707),
    "EDQUOT": (SenseKey.DATA_PROTECT, 0x2707),
    "EFBIG": (SenseKey.DATA_PROTECT, 0x2707),
    "EROFS": (SenseKey.DATA_PROTECT, 0x2700),
    "EPERM": (SenseKey.DATA_PROTECT, 0x2700),
}


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_every_errno_of_a_write_has_its_sense(code: int) -> None:
    golden = GOLDEN_WRITE.get(errno.errorcode[code])
    expected = Sense(SenseKey.MEDIUM_ERROR, 0x0300, 77) if golden is None else Sense(*golden)
    assert write_sense(-code, 77) == expected


@pytest.mark.parametrize("result", [-errno.EIO, -errno.ENOSPC, -9999, 0, 511])
def test_every_failed_or_short_read_is_a_medium_error(result: int) -> None:
    assert read_sense(result, 77) == Sense(SenseKey.MEDIUM_ERROR, 0x1100, 77)
