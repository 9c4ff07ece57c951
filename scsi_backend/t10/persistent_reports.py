# SPDX-License-Identifier: GPL-2.0-or-later
"""What PERSISTENT RESERVE IN brings, read (SPC-5 6.16); ``persistent_reservation`` writes it.

Parameter data may have been cut to the allocation length; what they lack is told. Data that are too
short to say anything raise ValueError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from scsi_backend.t10.persistent_reservation import FullStatus, ReservationType

_HEADER = struct.Struct(">II")
_KEY_BYTES: Final = 8
# Key, scope and type.
_RESERVATION = struct.Struct(">Q5xB2x")
# Length, two bytes of flags, type mask.
_CAPABILITIES = struct.Struct(">HBBH2x")


@dataclass(frozen=True, slots=True)
class Keys:
    """READ KEYS; ``lacking`` is how many bytes were cut off."""

    generation: int
    keys: tuple[int, ...]
    lacking: int = 0

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Keys:
        """Read parameter data."""
        generation, body, lacking = _parse_header(data)
        starts = range(0, len(body) - _KEY_BYTES + 1, _KEY_BYTES)
        keys = (int.from_bytes(body[start : start + _KEY_BYTES], "big") for start in starts)
        return cls(generation, tuple(keys), lacking)


@dataclass(frozen=True, slots=True)
class HeldReservation:
    """READ RESERVATION; without a reservation ``key`` and ``type`` are None."""

    generation: int
    key: int | None = None
    scope: int = 0
    type: int | None = None

    @classmethod
    def parse(cls, data: bytes | memoryview) -> HeldReservation:
        """Read parameter data."""
        generation, body, lacking = _parse_header(data)
        if len(body) + lacking == 0:
            return cls(generation)
        if len(body) < _RESERVATION.size:
            raise ValueError(f"reservation of {len(body)} bytes: expected {_RESERVATION.size}")
        key, scope_and_type = _RESERVATION.unpack_from(body)
        return cls(generation, key, scope_and_type >> 4, scope_and_type & 0xF)


@dataclass(frozen=True, slots=True)
class FullStatuses:
    """READ FULL STATUS; ``lacking`` is how many bytes were cut off."""

    generation: int
    registrants: tuple[FullStatus, ...]
    lacking: int = 0

    @classmethod
    def parse(cls, data: bytes | memoryview) -> FullStatuses:
        """Read parameter data."""
        generation, body, lacking = _parse_header(data)
        registrants = []
        start = 0
        while (parsed := FullStatus.parse(body, start)) is not None:
            registrants.append(parsed[0])
            start = parsed[1]
        if not lacking and start < len(body):
            rest = len(body) - start
            raise ValueError(f"{rest} bytes behind the last registrant: expected a whole one")
        return cls(generation, tuple(registrants), lacking)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """REPORT CAPABILITIES; ``types`` is None where TMV says that none are told."""

    has_compatible_handling: bool
    takes_initiator_ports: bool
    takes_all_target_ports: bool
    can_persist: bool
    persists: bool
    allow_commands: int
    types: frozenset[int] | None

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Capabilities:
        """Read parameter data."""
        if len(data) < _CAPABILITIES.size:
            raise ValueError(f"capabilities of {len(data)} bytes: expected {_CAPABILITIES.size}")
        _, flags, state, mask = _CAPABILITIES.unpack_from(data)
        types = frozenset(kind for kind in ReservationType if mask & _mask_bit(kind))
        return cls(
            has_compatible_handling=bool(flags & 0x10),
            takes_initiator_ports=bool(flags & 0x08),
            takes_all_target_ports=bool(flags & 0x04),
            can_persist=bool(flags & 0x01),
            persists=bool(state & 0x01),
            allow_commands=state >> 4 & 0x7,
            types=types if state & 0x80 else None,
        )


def _mask_bit(kind: int) -> int:
    """Where the type mask has a type (SPC-5 table 169): 0 to 7 in its first byte, then 8 on."""
    return 1 << (kind + 8) % 16


def _parse_header(data: bytes | memoryview) -> tuple[int, bytes, int]:
    """Return the generation, what follows the header, and how many bytes of that are lacking."""
    if len(data) < _HEADER.size:
        raise ValueError(f"parameter data of {len(data)} bytes: expected {_HEADER.size} or more")
    generation, length = _HEADER.unpack_from(data)
    body = bytes(data[_HEADER.size : _HEADER.size + length])
    return generation, body, length - len(body)
