# SPDX-License-Identifier: GPL-2.0-or-later
"""Asymmetric logical unit access: the data of REPORT and SET TARGET PORT GROUPS (SPC-5 6.37, 6.45).

A target port group is the ports through which a logical unit has one access state at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class AccessState(IntEnum):
    """ASYMMETRIC ACCESS STATE; the names are SCST's.

    T10's for the first two are active/optimized and active/non-optimized.
    """

    ACTIVE = 0x0
    NONOPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    OFFLINE = 0xE
    TRANSITIONING = 0xF


# T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP: all that a group can be in.
_SUPPORTED_STATES: Final = 0xCF
_PREF: Final = 0x80


class StatusCode(IntEnum):
    """Why a target port group is in its state."""

    NO_STATUS = 0
    SET_BY_COMMAND = 1
    IMPLICIT = 2


# The TARGET PORT COUNT field has one byte.
MAX_PORTS: Final = 255

# PREF and state, supported states, identifier, reserved, status code, vendor specific, port count.
_GROUP = struct.Struct(">BBHxBxB")
_PORT = struct.Struct(">2xH")
_LENGTH = struct.Struct(">I")
# FORMAT TYPE 001b in bits 6-4, IMPLICIT TRANSITION TIME zero: not specified.
_EXTENDED_HEADER: Final = bytes.fromhex("10000000")


@dataclass(frozen=True, slots=True)
class PortGroup:
    """A target port group descriptor; ``ports`` are relative target port identifiers."""

    group_id: int
    state: AccessState
    is_preferred: bool
    status: StatusCode
    ports: tuple[int, ...]

    def serialize(self) -> bytes:
        """Return the descriptor, which has at most ``MAX_PORTS`` ports."""
        first = self.state | (_PREF if self.is_preferred else 0)
        head = _GROUP.pack(first, _SUPPORTED_STATES, self.group_id, self.status, len(self.ports))
        return head + b"".join(_PORT.pack(port) for port in self.ports)


def port_groups_data(groups: Iterable[PortGroup], *, is_extended: bool) -> bytes:
    """The parameter data of REPORT TARGET PORT GROUPS, with either header."""
    body = _EXTENDED_HEADER if is_extended else b""
    body += b"".join(group.serialize() for group in groups)
    return _LENGTH.pack(len(body)) + body
