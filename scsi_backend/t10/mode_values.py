# SPDX-License-Identifier: GPL-2.0-or-later
"""The mode parameters that can be changed: a record, and where each lies in its page.

Whoever builds or reads a page goes by ``CHANGEABLE``; nothing else knows their bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, cast

from scsi_backend.t10.cdb import Field
from scsi_backend.t10.mode_pages import ModePage


@dataclass(frozen=True, slots=True)
class ModeValues:
    """The parameters of one logical unit (SBC-4 6.5.6, SPC-5 7.5.10)."""

    wce: bool
    # Sense data in descriptor format.
    d_sense: bool = False
    # Software write protection.
    swp: bool = False
    # Which others a CHECK CONDITION aborts: 00b none, 01b the task set's, 11b the same nexus's.
    qerr: int = 0
    # Whether those that others abort end with TASK ABORTED, without a unit attention.
    tas: bool = False
    # 0h: commands run in their order, 1h: as they come.
    queue_algorithm_modifier: int = 1
    # Which is configured, and nobody can change: 000b is one task set for all I_T nexuses, 001b one
    # for each (SCST's default).
    tst: int = 1

    @property
    def may_reorder(self) -> bool:
        """Whether SIMPLE commands need not wait for each other."""
        return self.queue_algorithm_modifier != 0

    def changed(self, changes: Mapping[str, int]) -> ModeValues:
        """The values with some of them changed, by name."""
        return replace(self, **cast("dict[str, Any]", changes))


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of them: its field, counted from the beginning of the page, and what it may hold."""

    name: str
    field: Field
    allowed: frozenset[int] = frozenset({0, 1})

    def read(self, page: bytes) -> int:
        """The value in a page."""
        value = self.field.read(page)
        return bool(value) if self.field.width == 1 else value


CHANGEABLE: Final[Mapping[int, tuple[Parameter, ...]]] = MappingProxyType(
    {
        ModePage.CACHING: (Parameter("wce", Field(2, 2, 1)),),
        ModePage.CONTROL: (
            Parameter("d_sense", Field(2, 2, 1)),
            Parameter("queue_algorithm_modifier", Field(3, 7, 4)),
            Parameter("qerr", Field(3, 2, 2), frozenset({0, 1, 3})),
            Parameter("swp", Field(4, 3, 1)),
            Parameter("tas", Field(5, 6, 1)),
        ),
    }
)
PARAMETERS: Final[Mapping[str, Parameter]] = MappingProxyType(
    {parameter.name: parameter for page in CHANGEABLE.values() for parameter in page}
)


def serialize(values: ModeValues) -> str:
    """One line ``NAME value`` for each parameter."""
    lines = (f"{name.upper()} {int(getattr(values, name))}\n" for name in sorted(PARAMETERS))
    return "".join(lines)


def parse(text: str, default: ModeValues) -> ModeValues:
    """Read such lines; what none of them names is as in ``default``. Raises ValueError."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        word, _, number = line.partition(" ")
        parameter = PARAMETERS.get(word.lower())
        if parameter is None or not word.isupper() or parameter.name in found:
            raise ValueError(f"{line!r}: expected each parameter once, one of {_NAMES}")
        if number not in {str(value) for value in parameter.allowed}:
            raise ValueError(f"{line!r}: expected one of {sorted(parameter.allowed)}")
        value = int(number)
        found[parameter.name] = bool(value) if parameter.field.width == 1 else value
    return default.changed(found)


_NAMES: Final = ", ".join(name.upper() for name in sorted(PARAMETERS))
