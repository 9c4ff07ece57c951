# SPDX-License-Identifier: GPL-2.0-or-later
"""One place where a server listens, and on what terms: what a ``listen`` line says."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum

from bridges.access import EVERYBODY, AccessRules, Identity, IdentityKind, Rule
from bridges.listeners import Address
from bridges.stream import MAX_PENDING_BYTES


class TlsMode(StrEnum):
    """NOTLS, SELECTIVETLS for every export alike, and FORCEDTLS of NBD's proto.md."""

    OFF = "off"
    ON = "on"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Listen:
    """An address with the terms for whoever connects there.

    ``passed`` are sockets that listen already, in place of one to be opened at the address.
    """

    address: Address
    tls: TlsMode = TlsMode.OFF
    access: AccessRules = EVERYBODY
    # Of this one; None leaves it to the limit of the whole server.
    max_connections: int | None = None
    # What the requests of one connection may keep busy; a longer request is handled alone.
    connection_memory_bytes: int = MAX_PENDING_BYTES
    passed: tuple[socket.socket, ...] = ()


def check_rules(address: Address, rules: AccessRules) -> None:
    """Check that rules look at something that peers at an address have; raises ValueError."""
    for kind, given in (("allow", rules.allow), ("deny", rules.deny)):
        for rule in given:
            expected = _expected_of(address, rule)
            if expected:
                raise ValueError(f"{kind} {rule}: expected {expected}")


def _expected_of(address: Address, rule: Rule) -> str:
    """What a rule would have to be, or nothing if it is right."""
    kind = rule.kind if isinstance(rule, Identity) else None
    if address.path:
        return "" if kind in (IdentityKind.UID, IdentityKind.GID) else "uid=N or gid=N"
    if address.cid is not None:
        return "" if kind is IdentityKind.CID else "cid=N"
    if address.is_internet:
        return "" if kind is None else "an address or a network"
    # Whatever will be passed.
    return ""
