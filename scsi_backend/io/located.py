# SPDX-License-Identifier: GPL-2.0-or-later
"""Where data lie that need not be copied: what a read by reference brings instead of bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes in the page cache, to be sent from there (sendfile(2)) without waiting for a device.

    The descriptor stays its owner's. What is written there before the bytes have left may be what
    leaves, as with any read and write of the same blocks at the same time.
    """

    fd: int
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Zeros:
    """Nothing is stored, which reads as zeros."""


Located = FileRange | Zeros
ZEROS = Zeros()
