# SPDX-License-Identifier: GPL-2.0-or-later
"""Reserve/Release: the rules for changing the list of sources that may use a target's disk.

This is how clusters fence off a host. What the list is to the devices behind the target is in
reservation.py. Source: AoEr11 3.4.
"""

from __future__ import annotations

from dataclasses import replace

from bridges.aoe.state import TargetState
from bridges.aoe.wire import (
    MAC_BYTES,
    MAX_LIST_ENTRIES,
    RESERVE_MACS_OFFSET,
    AoeError,
    ReserveArgument,
    ReserveCommand,
)


def capacity_for(mtu: int) -> int:
    """Return how many addresses fit into a reply that passes an interface with this MTU."""
    return min(max(mtu - RESERVE_MACS_OFFSET, 0) // MAC_BYTES, MAX_LIST_ENTRIES)


def reserve(
    argument: ReserveArgument, source: bytes, state: TargetState
) -> tuple[int, TargetState]:
    """Carry out a set or force set from ``source``; return the error code, zero for success.

    An empty list releases the target.
    """
    holders = state.reserve_list
    if argument.command == ReserveCommand.SET and holders and source not in holders:
        return AoeError.TARGET_IS_RESERVED, state
    return 0, replace(state, reserve_list=argument.macs)
