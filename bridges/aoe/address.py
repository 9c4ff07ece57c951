# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE addresses: shelf and slot, as text, and which targets a frame's address means.

Source: AoEr11 2.2 (the Major and Minor fields and their wildcards).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

TargetT = TypeVar("TargetT")

BROADCAST_SHELF: Final = 0xFFFF
BROADCAST_SLOT: Final = 0xFF
# The Linux driver takes this shelf for DIP switches that nobody set, and drops its frames.
_ALL_ONES_SHELF: Final = 0xFFF

# One spelling for each address, so that two targets cannot have the same.
_PATTERN = re.compile(r"e(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,2})")
_EXPECTED = "expected eSHELF.SLOT, no leading zeros, shelf 0 to 65534 but not 4095, slot 0 to 254"


class Address(NamedTuple):
    """The address of one target; ``check`` tells whether a target may have it."""

    shelf: int
    slot: int

    def __str__(self) -> str:
        return f"e{self.shelf}.{self.slot}"

    def check(self) -> None:
        """Raise ValueError if clients would not talk to a target with this address."""
        is_valid = 0 <= self.shelf < BROADCAST_SHELF and 0 <= self.slot < BROADCAST_SLOT
        if not is_valid or self.shelf == _ALL_ONES_SHELF:
            raise ValueError(_EXPECTED)


def parse_address(text: str) -> Address:
    """Return (shelf, slot) of a text like ``e1.1``; raises ValueError."""
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(_EXPECTED)
    address = Address(int(found[1]), int(found[2]))
    address.check()
    return address


class AddressMap(Generic[TargetT]):
    """Targets by address; a wildcard in either field stands for every value of that field."""

    def __init__(self, targets: Mapping[tuple[int, int], TargetT]) -> None:
        self._targets = dict(targets)
        # A tuple each, made once: this is in the way of every frame.
        self._single = {address: (target,) for address, target in targets.items()}

    @property
    def targets(self) -> tuple[TargetT, ...]:
        """All targets, in the order of the map."""
        return tuple(self._targets.values())

    def add(self, address: tuple[int, int], target: TargetT) -> None:
        """One more target, at an address that none has."""
        self._targets[address] = target
        self._single[address] = (target,)

    def remove(self, address: tuple[int, int]) -> None:
        """Forget a target."""
        del self._targets[address]
        del self._single[address]

    def matching(self, shelf: int, slot: int) -> tuple[TargetT, ...]:
        """Return the targets that a frame with this address is for, in the order of the map."""
        single = self._single.get((shelf, slot))
        if single is not None:
            return single
        if shelf != BROADCAST_SHELF and slot != BROADCAST_SLOT:
            return ()
        return tuple(
            target
            for (its_shelf, its_slot), target in self._targets.items()
            if shelf in (its_shelf, BROADCAST_SHELF) and slot in (its_slot, BROADCAST_SLOT)
        )
