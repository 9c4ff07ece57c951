# SPDX-License-Identifier: GPL-2.0-or-later
"""The vocabulary of persistent reservations: service actions, types, and parameter data.

SPC-5 6.16, 6.17 (PERSISTENT RESERVE IN and OUT) and SPC-4 5.13.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class PrInAction(IntEnum):
    """Service actions of PERSISTENT RESERVE IN."""

    READ_KEYS = 0
    READ_RESERVATION = 1
    REPORT_CAPABILITIES = 2
    READ_FULL_STATUS = 3


class PrOutAction(IntEnum):
    """Service actions of PERSISTENT RESERVE OUT."""

    REGISTER = 0
    RESERVE = 1
    RELEASE = 2
    CLEAR = 3
    PREEMPT = 4
    PREEMPT_AND_ABORT = 5
    REGISTER_AND_IGNORE_EXISTING_KEY = 6
    REGISTER_AND_MOVE = 7


class ReservationType(IntEnum):
    """The TYPE field (SPC-5 table 163)."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8

    @property
    def excludes_reads(self) -> bool:
        """Whether others may not even read."""
        return self in _EXCLUSIVE_ACCESS

    @property
    def is_registrants_only(self) -> bool:
        """Whether every registrant may do as the holder may."""
        return self in _REGISTRANTS_ONLY or self.is_all_registrants

    @property
    def is_all_registrants(self) -> bool:
        """Whether every registrant is a holder."""
        return self in _ALL_REGISTRANTS


_EXCLUSIVE_ACCESS: Final = frozenset({3, 6, 8})
_REGISTRANTS_ONLY: Final = frozenset({5, 6})
_ALL_REGISTRANTS: Final = frozenset({7, 8})

SCOPE_LOGICAL_UNIT: Final = 0

# As SCST's and sg3_utils' names for the types are abbreviated.
_TYPE_WORDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        ReservationType.WRITE_EXCLUSIVE: "write-exclusive",
        ReservationType.EXCLUSIVE_ACCESS: "exclusive-access",
        ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY: "write-exclusive-regonly",
        ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: "exclusive-access-regonly",
        ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS: "write-exclusive-all-reg",
        ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS: "exclusive-access-all-reg",
    }
)
TYPE_WORDS: Final = tuple(_TYPE_WORDS.values())
_MAX_TYPE: Final = 0xF


def type_text(kind: int) -> str:
    """Return a type in words and its number, which need not be one that there is."""
    return f"{_TYPE_WORDS.get(kind, 'unknown')} ({kind})"


def parse_type(text: str) -> int:
    """Return the type that a word or a number stands for, be there one or not.

    Raises ValueError.
    """
    for kind, word in _TYPE_WORDS.items():
        if word == text:
            return kind
    if not re.fullmatch("[0-9]{1,2}", text) or int(text) > _MAX_TYPE:
        raise ValueError(f"type '{text}': expected {', '.join(TYPE_WORDS)}, or 0 to {_MAX_TYPE}")
    return int(text)


_KEY_DIGITS: Final = 16


def key_text(key: int) -> str:
    """Return a key in hex digits, as ``parse_key`` reads it."""
    return f"{key:#x}"


def parse_key(text: str) -> int:
    """Return the key in up to 16 hex digits, with or without 0x; raises ValueError."""
    if not re.fullmatch(f"(0[xX])?[0-9a-fA-F]{{1,{_KEY_DIGITS}}}", text):
        raise ValueError(f"key '{text}': expected 1 to {_KEY_DIGITS} hex digits, as in 0xbeef")
    return int(text, 16)


class ItNexusId(NamedTuple):
    """Which I_T nexus a registration belongs to; it outlives sessions."""

    transport_id: bytes
    relative_target_port: int


# RESERVATION KEY, SERVICE ACTION RESERVATION KEY, obsolete, flags, obsolete.
PARAMETER_LIST: Final = struct.Struct(">QQ4xB3x")
# The same of REGISTER AND MOVE, up to its TransportID: keys, flags, port, TransportID length.
MOVE_PARAMETER_LIST: Final = struct.Struct(">QQxBHI")
SPEC_I_PT_BIT: Final = 0x08
ALL_TG_PT_BIT: Final = 0x04
APTPL_BIT: Final = 0x01
MOVE_UNREG_BIT: Final = 0x02
# Where the TransportIDs of SPEC_I_PT begin, behind their length in four bytes.
TRANSPORT_IDS_AT: Final = 28


def parameter_list(
    key: int, action_key: int, flags: int = 0, transport_ids: Iterable[bytes] = ()
) -> bytes:
    """PERSISTENT RESERVE OUT parameter list, with SPEC_I_PT where there are TransportIDs."""
    names = b"".join(transport_ids)
    if not names:
        return PARAMETER_LIST.pack(key, action_key, flags)
    head = PARAMETER_LIST.pack(key, action_key, flags | SPEC_I_PT_BIT)
    return head + len(names).to_bytes(4, "big") + names


def move_parameter_list(key: int, action_key: int, flags: int, heir: ItNexusId) -> bytes:
    """REGISTER AND MOVE parameter list."""
    name = heir.transport_id
    port = heir.relative_target_port
    return MOVE_PARAMETER_LIST.pack(key, action_key, flags, port, len(name)) + name


_HEADER = struct.Struct(">II")
_RESERVATION = struct.Struct(">Q4xxBxx")
_FULL_STATUS = struct.Struct(">Q4xBB4xHI")
_CAPABILITIES = struct.Struct(">HBBH2x")
_R_HOLDER: Final = 0x01
_TYPE_BITS: Final = 0x0F


@dataclass(frozen=True, slots=True)
class FullStatus:
    """One descriptor of READ FULL STATUS."""

    nexus: ItNexusId
    key: int
    is_holder: bool
    type: int

    def serialize(self) -> bytes:
        """Return the descriptor; scope and type are the holders' only."""
        name = self.nexus.transport_id
        head = _FULL_STATUS.pack(
            self.key,
            self.is_holder,
            self.type if self.is_holder else 0,
            self.nexus.relative_target_port,
            len(name),
        )
        return head + name

    @classmethod
    def parse(cls, data: bytes | memoryview, start: int = 0) -> tuple[FullStatus, int] | None:
        """Return the descriptor that begins there and where it ends, None for one cut short."""
        name_at = start + _FULL_STATUS.size
        if len(data) < name_at:
            return None
        key, flags, kind, port, length = _FULL_STATUS.unpack_from(data, start)
        end = name_at + length
        if len(data) < end:
            return None
        nexus = ItNexusId(bytes(data[name_at:end]), port)
        return cls(nexus, key, bool(flags & _R_HOLDER), kind & _TYPE_BITS), end


def keys_data(generation: int, keys: Iterable[int]) -> bytes:
    """READ KEYS parameter data."""
    body = b"".join(key.to_bytes(8, "big") for key in keys)
    return _HEADER.pack(generation, len(body)) + body


def reservation_data(generation: int, reservation: tuple[int, int] | None) -> bytes:
    """READ RESERVATION parameter data; ``reservation`` is key and type."""
    body = b"" if reservation is None else _RESERVATION.pack(*reservation)
    return _HEADER.pack(generation, len(body)) + body


def full_status_data(generation: int, descriptors: Iterable[FullStatus]) -> bytes:
    """READ FULL STATUS parameter data."""
    body = b"".join(descriptor.serialize() for descriptor in descriptors)
    return _HEADER.pack(generation, len(body)) + body


# CRH, SIP_C, ATP_C; and PTPL_C where there is a place to keep state in.
_CAPABLE: Final = 0x10 | 0x08 | 0x04
_PTPL_C: Final = 0x01
# TMV, and ALLOW COMMANDS 100b: what reads no medium is allowed in the presence of Write Exclusive
# types, and not of Exclusive Access types (SPC-5 table 168), as ``reservation_rules`` has it.
_TYPE_MASK_VALID: Final = 0x80
_ALLOW_COMMANDS: Final = 0x40
_PTPL_A: Final = 0x01
_TYPE_MASK: Final = 0xEA01


def capabilities_data(*, can_persist: bool, persists: bool) -> bytes:
    """REPORT CAPABILITIES parameter data."""
    flags = _CAPABLE | (_PTPL_C if can_persist else 0)
    state = _TYPE_MASK_VALID | _ALLOW_COMMANDS | (_PTPL_A if persists else 0)
    return _CAPABILITIES.pack(_CAPABILITIES.size, flags, state, _TYPE_MASK)
