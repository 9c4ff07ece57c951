# SPDX-License-Identifier: GPL-2.0-or-later
"""What sense data tell of an EXTENDED COPY that was aborted (SPC-4 5.17.7.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# Of sense data in fixed format; what a device said follows.
FIXED_LENGTH = 18

_DESCRIPTOR_COMMAND_SPECIFIC = 0x01
_DESCRIPTOR_FORWARDED_SENSE = 0x0C


class Encodable(Protocol):
    """Sense data of the device that failed."""

    def encode(self, *, descriptor: bool = False) -> bytes:
        """Return either wire form."""


@dataclass(frozen=True, slots=True)
class CopyFailure:
    """Where an EXTENDED COPY was aborted: the segment's number, and who failed it, if a device did.

    ``status`` and ``sense`` are how that device ended the copy manager's command (SPC-4 5.17.7.4).
    """

    segment: int
    status: int | None = None
    sense: Encodable | None = None
    is_destination: bool = False

    def fixed_format(self) -> tuple[bytes, bytes]:
        """Return the COMMAND-SPECIFIC INFORMATION field, and what follows the 18 bytes."""
        field = bytearray(4)
        field[2:] = self.segment.to_bytes(2, "big")
        if self.status is None:
            return bytes(field), b""
        field[1 if self.is_destination else 0] = FIXED_LENGTH
        inner = b"" if self.sense is None else self.sense.encode()
        return bytes(field), bytes((self.status,)) + inner

    def descriptors(self) -> bytes:
        """Return the command-specific and the forwarded sense data descriptors (SPC-4 4.5.2)."""
        data = bytes((_DESCRIPTOR_COMMAND_SPECIFIC, 0x0A, 0, 0))
        data += (self.segment << 32).to_bytes(8, "big")
        if self.status is None:
            return data
        inner = b"" if self.sense is None else self.sense.encode(descriptor=True)
        source = 2 if self.is_destination else 1
        head = (_DESCRIPTOR_FORWARDED_SENSE, len(inner) + 2, source, self.status)
        return data + bytes(head) + inner
