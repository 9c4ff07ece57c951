# SPDX-License-Identifier: GPL-2.0-or-later
"""Where data lie that need not be copied: what a read by reference brings instead of bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


class SharedDescriptor:
    """A file descriptor that is closed when the last of its users has released it.

    Its number would otherwise soon be another file's, while bytes are still to be sent from it.
    """

    __slots__ = ("_users", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._users = 1

    def hold(self) -> None:
        """Count one user more."""
        self._users += 1

    def release(self) -> None:
        """Count one less."""
        self._users -= 1
        if not self._users:
            os.close(self.fd)


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes in the page cache, to be sent from there (sendfile(2)) without waiting for a device.

    Who sends them later than at once has to hold ``descriptor`` until then. What is written there
    before the bytes have left may be what leaves, as with any read and write of the same blocks at
    the same time.
    """

    fd: int
    offset_bytes: int
    descriptor: SharedDescriptor | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Zeros:
    """Nothing is stored, which reads as zeros."""


Located = FileRange | Zeros
ZEROS = Zeros()
