# SPDX-License-Identifier: GPL-2.0-or-later
"""Designators: read from VPD 83h; those of logical units are compared with CSCD descriptors'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scsi_backend.t10.designation import DesignatorType

_HEADER_LENGTH = 4
_ASSOCIATION_LOGICAL_UNIT = 0
_RELATIVE_PORT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Designator:
    """A designation descriptor (SPC-5 7.7.6.1) without what does not tell units apart."""

    code_set: int
    association: int
    designator_type: int
    value: bytes

    @property
    def names_logical_unit(self) -> bool:
        """Whether it belongs to the logical unit, not to its port or target device."""
        return self.association == _ASSOCIATION_LOGICAL_UNIT


def designators(page: bytes | memoryview) -> Iterator[Designator]:
    """Read the designators of a VPD 83h page, as far as they are whole."""
    data = bytes(page)
    end = min(_HEADER_LENGTH + int.from_bytes(data[2:4], "big"), len(data))
    position = _HEADER_LENGTH
    while position + _HEADER_LENGTH <= end:
        start = position + _HEADER_LENGTH
        position = start + data[position + 3]
        if position > end:
            break
        code_set, kind = data[start - 4] & 0x0F, data[start - 3]
        yield Designator(code_set, kind >> 4 & 0x03, kind & 0x0F, data[start:position])


def logical_unit_designators(page: bytes | memoryview) -> frozenset[Designator]:
    """Read the logical unit's designators from a VPD 83h page."""
    return frozenset(each for each in designators(page) if each.names_logical_unit)


def relative_target_port_of(page: bytes | memoryview) -> int | None:
    """Return which port a VPD 83h page came through, where it says so."""
    for each in designators(page):
        # SPC-5 7.7.6.8: two bytes that are obsolete, and the identifier.
        is_port = each.designator_type == DesignatorType.RELATIVE_TARGET_PORT
        if is_port and len(each.value) == _RELATIVE_PORT_BYTES:
            return int.from_bytes(each.value[2:], "big")
    return None
