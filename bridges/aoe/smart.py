# SPDX-License-Identifier: GPL-2.0-or-later
"""SMART READ DATA: what a disk without attributes has to say (ATA8-ACS 7.53.6).

Health is told by SMART RETURN STATUS alone: the emulated devices have no log pages.
"""

from __future__ import annotations

from typing import Final

from bridges.aoe.wire import SECTOR_BYTES

# The first word is the vendor's; drives and tools take it for the revision of an attribute table,
# here of one without entries. All else zero: no off-line collection, no self-tests, no error log.
_ATTRIBUTE_REVISION: Final = 0x0010


def with_checksum(data: bytes) -> bytes:
    """Return a sector whose last byte makes all of them add up to zero."""
    return data + bytes((-sum(data) & 0xFF,))


SMART_DATA: Final = with_checksum(
    _ATTRIBUTE_REVISION.to_bytes(2, "little").ljust(SECTOR_BYTES - 1, b"\0")
)
