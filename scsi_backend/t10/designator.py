# SPDX-License-Identifier: GPL-2.0-or-later
"""Designators of logical units: read from VPD 83h, and compared with those of CSCD descriptors."""

from __future__ import annotations

from dataclasses import dataclass

_HEADER_LENGTH = 4
_ASSOCIATION_LOGICAL_UNIT = 0


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


def logical_unit_designators(page: bytes | memoryview) -> frozenset[Designator]:
    """Read the logical unit's designators from a VPD 83h page, as far as they are whole."""
    data = bytes(page)
    end = min(_HEADER_LENGTH + int.from_bytes(data[2:4], "big"), len(data))
    position = _HEADER_LENGTH
    found = set()
    while position + _HEADER_LENGTH <= end:
        start = position + _HEADER_LENGTH
        position = start + data[position + 3]
        if position > end:
            break
        code_set, kind = data[start - 4] & 0x0F, data[start - 3]
        designator = Designator(code_set, kind >> 4 & 0x03, kind & 0x0F, data[start:position])
        if designator.names_logical_unit:
            found.add(designator)
    return frozenset(found)
