# SPDX-License-Identifier: GPL-2.0-or-later
"""The static access list of a target: which MAC addresses the configuration lets in.

A MAC address is easily forged: this keeps hosts from one another's disks by mistake, no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_PATTERN = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_GROUP_ADDRESS: Final = 0x01


def parse_mac(text: str) -> bytes:
    """Return the six bytes of a text like ``02:00:00:00:00:01``; raises ValueError."""
    if not _PATTERN.fullmatch(text.lower()):
        raise ValueError("expected a MAC address, as in 02:00:00:00:00:01")
    return bytes.fromhex(text.replace(":", ""))


def parse_host_mac(text: str) -> bytes:
    """As ``parse_mac``, for what a host can send from: no group address."""
    mac = parse_mac(text)
    if mac[0] & _GROUP_ADDRESS:
        raise ValueError("expected the MAC address of one host, as in 02:00:00:00:00:01")
    return mac


def format_mac(mac: bytes) -> str:
    """Return the text of a MAC address."""
    return mac.hex(":")


@dataclass(frozen=True, slots=True)
class AccessList:
    """``deny`` is looked at first; with any ``allow``, who is not allowed is not heard."""

    allow: frozenset[bytes] = field(default_factory=frozenset)
    deny: frozenset[bytes] = field(default_factory=frozenset)

    def admits(self, mac: bytes) -> bool:
        """Whether this source MAC is heard."""
        return mac not in self.deny and (not self.allow or mac in self.allow)
