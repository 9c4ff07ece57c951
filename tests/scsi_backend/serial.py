# SPDX-License-Identifier: GPL-2.0-or-later
"""Is there an order, one command after the other, that explains what concurrent commands saw?

A block is the number that fills it. Commands that overlapped in time may stand in any order; one
that ended before another was sent stands before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

State = tuple[int, ...]
# From the blocks before a command to those after it, or None where its result contradicts them.
Effect = Callable[[State], State | None]


@dataclass(frozen=True, slots=True)
class Event:
    """A command: when it was sent, when it ended, and what it says of the blocks."""

    sent: int
    ended: int
    effect: Effect


def has_read(lba: int, found: State) -> Effect:
    """A READ that gave ``found``."""
    return lambda state: state if state[lba : lba + len(found)] == found else None


def has_written(lba: int, data: State) -> Effect:
    """A WRITE, which is good whatever was there."""
    return lambda state: state[:lba] + data + state[lba + len(data) :]


def has_replaced(lba: int, expected: State, data: State) -> Effect:
    """A COMPARE AND WRITE that ended with GOOD."""
    write = has_written(lba, data)
    return lambda state: write(state) if state[lba : lba + len(data)] == expected else None


def has_miscompared(lba: int, expected: State, at: int) -> Effect:
    """A COMPARE AND WRITE whose first difference was in its block number ``at``."""

    def effect(state: State) -> State | None:
        found = state[lba : lba + len(expected)]
        is_first = found[:at] == expected[:at] and found[at] != expected[at]
        return state if is_first else None

    return effect


def is_serial(state: State, events: list[Event]) -> bool:
    """Whether some order of the events explains all of them; for a dozen of events."""
    seen: set[tuple[frozenset[int], State]] = set()

    def explains(left: frozenset[int], state: State) -> bool:
        if not left:
            return True
        if (left, state) in seen:
            return False
        seen.add((left, state))
        first_end = min(events[index].ended for index in left)
        for index in left:
            if events[index].sent < first_end:
                after = events[index].effect(state)
                if after is not None and explains(left - {index}, after):
                    return True
        return False

    return explains(frozenset(range(len(events))), state)
