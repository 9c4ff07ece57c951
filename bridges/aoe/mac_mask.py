# SPDX-License-Identifier: GPL-2.0-or-later
"""MAC Mask List: the rules for editing the list of sources that a target hears.

Source: AoEr11 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from bridges.aoe.state import TargetState
from bridges.aoe.wire import (
    MASK_DIRECTIVES_OFFSET,
    MAX_LIST_ENTRIES,
    MaskArgument,
    MaskDirective,
    MaskError,
)


class MaskAnswer(NamedTuple):
    """``error`` with the index of the directive that failed, or NONE."""

    error: MaskError
    failed_index: int = 0


def capacity_for(mtu: int) -> int:
    """Return how many directives fit into a reply that passes an interface with this MTU."""
    # 28 bytes with the Ethernet header, which the MTU does not count: a directive is left spare.
    room_bytes = max(mtu - MASK_DIRECTIVES_OFFSET, 0)
    return min(room_bytes // MaskArgument.DIRECTIVE_BYTES, MAX_LIST_ENTRIES)


def edit(
    argument: MaskArgument, capacity: int, state: TargetState
) -> tuple[MaskAnswer, TargetState]:
    """Carry out directives in their order up to the first bad one; earlier ones stay."""
    macs = dict.fromkeys(state.mask_list)
    answer = MaskAnswer(MaskError.NONE)
    for index, (code, mac) in enumerate(argument.directives):
        carry_out = _DIRECTIVES.get(code)
        error = MaskError.BAD_DIRECTIVE if carry_out is None else carry_out(macs, mac, capacity)
        if error is not MaskError.NONE:
            answer = MaskAnswer(error, index)
            break
    return answer, replace(state, mask_list=tuple(macs))


def _nothing(macs: dict[bytes, None], mac: bytes, capacity: int) -> MaskError:
    return MaskError.NONE


def _add(macs: dict[bytes, None], mac: bytes, capacity: int) -> MaskError:
    if mac not in macs:
        if len(macs) >= capacity:
            return MaskError.LIST_FULL
        macs[mac] = None
    return MaskError.NONE


def _delete(macs: dict[bytes, None], mac: bytes, capacity: int) -> MaskError:
    macs.pop(mac, None)
    return MaskError.NONE


_DIRECTIVES: Final[Mapping[int, Callable[[dict[bytes, None], bytes, int], MaskError]]] = (
    MappingProxyType(
        {
            MaskDirective.NONE: _nothing,
            MaskDirective.ADD: _add,
            MaskDirective.DELETE: _delete,
        }
    )
)
