# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams that went wrong once, or that stand for a rule which is easily broken."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.model import World


@dataclass(frozen=True, slots=True)
class Case:
    """Requests in hex, for a kind of disk."""

    world: World
    requests: str


_SIMPLE = World(Form.SIMPLE, knows_block_sizes=False)
_STRUCTURED = World(Form.STRUCTURED, knows_block_sizes=False, is_thin=True)
_EXTENDED = World(Form.EXTENDED, knows_block_sizes=False, is_thin=True)
# Cookie 1, offset 0.
_AT_0 = "0000000000000001 0000000000000000"
_COMPACT, _EXT = "25609513", "21e41c71"

REQUESTS = {
    "structured success without data": Case(
        _STRUCTURED,
        f"{_COMPACT} 0000 0001 {_AT_0} 00000004 deadbeef {_COMPACT} 0000 0003 {_AT_0} 00000000",
    ),
    "extended write with a flag that has no name": Case(
        _EXTENDED, f"{_EXT} 0060 0001 {_AT_0} 0000000000000004 deadbeef"
    ),
    "extended write without its payload flag": Case(
        _EXTENDED, f"{_EXT} 0000 0001 {_AT_0} 0000000000000004 deadbeef"
    ),
    "filter with a flag that has no name": Case(
        _EXTENDED, f"{_EXT} 0060 0007 {_AT_0} 000000000000000c 0000000000000200 00000007"
    ),
    "filter with the flag of another command": Case(
        _EXTENDED, f"{_EXT} 0022 0007 {_AT_0} 000000000000000c 0000000000000200 00000007"
    ),
    "filter of nothing": Case(
        _EXTENDED, f"{_EXT} 0020 0007 {_AT_0} 000000000000000c 0000000000000000 00000007"
    ),
    "filter of no context": Case(
        _EXTENDED, f"{_EXT} 0020 0007 {_AT_0} 0000000000000008 0000000000000200"
    ),
    "filter longer than is looked at": Case(
        _EXTENDED, f"{_EXT} 0020 0007 {_AT_0} 000000000000100c" + "00" * 0x100C
    ),
    "filter of a client without contexts": Case(
        replace(_EXTENDED, has_contexts=False),
        f"{_EXT} 0020 0007 {_AT_0} 0000000000000008 0000000000000200",
    ),
    "compact status with a payload flag": Case(
        _STRUCTURED, f"{_COMPACT} 0020 0007 {_AT_0} 0000000c {_COMPACT} 0000 0003 {_AT_0} 00000000"
    ),
    "status of nothing": Case(_STRUCTURED, f"{_COMPACT} 0000 0007 {_AT_0} 00000000"),
    "extended status of nothing": Case(_EXTENDED, f"{_EXT} 0000 0007 {_AT_0} 0000000000000000"),
    "status without structured replies": Case(_SIMPLE, f"{_COMPACT} 0000 0007 {_AT_0} 00000200"),
    "status of two kinds of blocks": Case(
        _STRUCTURED,
        f"{_COMPACT} 0000 0004 0000000000000001 0000000000000400 00000400"
        f"{_COMPACT} 0000 0007 {_AT_0} 00004000 {_COMPACT} 0008 0007 {_AT_0} 00004000",
    ),
    "payload of a flush": Case(
        _EXTENDED,
        f"{_EXT} 0020 0003 {_AT_0} 0000000000000004 deadbeef {_EXT} 0000 0003 {_AT_0}"
        "0000000000000000",
    ),
    "payload flag without a payload": Case(_EXTENDED, f"{_EXT} 0020 0000 {_AT_0} 0000000000000000"),
    "payload that would fill the disk": Case(
        _EXTENDED, f"{_EXT} 0020 0004 {_AT_0} 8000000000000000"
    ),
    "length of 64 bits": Case(_EXTENDED, f"{_EXT} 0000 0006 {_AT_0} ffffffffffffffff"),
    "read of nothing": Case(_STRUCTURED, f"{_COMPACT} 0000 0000 {_AT_0} 00000000"),
    "read up to a bad block": Case(
        replace(_STRUCTURED, bad_block=3), f"{_COMPACT} 0000 0000 {_AT_0} 00001000"
    ),
    "extended read up to a bad block": Case(
        replace(_EXTENDED, bad_block=3), f"{_EXT} 0001 0000 {_AT_0} 0000000000001000"
    ),
    "unaligned write up to a bad block": Case(
        replace(_SIMPLE, bad_block=1),
        f"{_COMPACT} 0000 0001 0000000000000001 00000000000001fe 00000004 deadbeef",
    ),
    "long read of a hole": Case(
        replace(_EXTENDED, blocks=512, can_send_files=True),
        f"{_EXT} 0000 0000 0000000000000001 0000000000010000 0000000000010000",
    ),
    "df with simple replies": Case(_SIMPLE, f"{_COMPACT} 0004 0000 {_AT_0} 00000200"),
    "fast zeros of a part of a block": Case(_STRUCTURED, f"{_COMPACT} 0010 0006 {_AT_0} 00000100"),
}

# Client flags and options in hex.
OPTIONS = {
    "structured replies twice": "00000003" + "49484156454f5054 00000008 00000000" * 2,
    "structured replies after extended headers": "00000003"
    "49484156454f5054 0000000b 00000000 49484156454f5054 00000008 00000000",
    "contexts before structured replies": "00000003"
    "49484156454f5054 0000000a 0000000c 00000004 6469736b 00000000",
    "more queries than there are bytes": "00000003 49484156454f5054 00000008 00000000"
    "49484156454f5054 0000000a 0000000c 00000004 6469736b ffffffff",
    "an option longer than it may be": "00000003 49484156454f5054 00000007 ffffffff",
}
