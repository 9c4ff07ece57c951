# SPDX-License-Identifier: GPL-2.0-or-later
"""MAC addresses as users type them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from bridges.aoe_tools.errors import ArgumentError

SELF: Final = "self"

_SEPARATED = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", re.IGNORECASE)
_PLAIN = re.compile(r"[0-9a-f]{12}", re.IGNORECASE)
# IEEE 802: the first bit on the wire, which no sender's own address has set.
_GROUP_BIT: Final = 0x01


def parse_mac(text: str, own: bytes) -> bytes:
    """Return the six bytes of a MAC address, ``own`` for "self"; raises ArgumentError."""
    if text.lower() == SELF:
        return own
    if not (_SEPARATED.fullmatch(text) or _PLAIN.fullmatch(text)):
        raise ArgumentError(f"MAC '{text}': expected one like 02:00:00:00:00:01, or {SELF}")
    mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if mac[0] & _GROUP_BIT:
        raise ArgumentError(f"MAC '{text}': expected a single host's, this one means a group")
    return mac


def parse_macs(texts: Iterable[str], own: bytes) -> tuple[bytes, ...]:
    """Return the addresses, each once, in the order given; raises ArgumentError."""
    return tuple(dict.fromkeys(parse_mac(text, own) for text in texts))
