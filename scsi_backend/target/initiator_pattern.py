# SPDX-License-Identifier: GPL-2.0-or-later
"""INITIATOR patterns: which initiators a group is for.

As in SCST: ``*`` is any characters, ``?`` is one, the case of ASCII letters does not matter, and
what is behind the first ``!`` must not match. ``!`` alone at the beginning so turns the whole
pattern round; behind something, that must be how the name begins, and not all of it.

Deviation: an address or network (``10.0.0.0/8``, ``!fd00::/8``) also matches by the peer's host,
whatever the initiator's name is. SCST knows names only.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from string import ascii_lowercase, ascii_uppercase
from typing import Final

Host = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# SCST: 255 characters with the terminating NUL would do for its longest names.
MAX_PATTERN_CHARACTERS: Final = 255
_INVERT: Final = "!"
# Not str.lower(), for which other characters are some of these letters, too (U+212A is a k).
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class InitiatorPattern:
    """A pattern, and the network that it is if it is one; ``inverts`` belongs to the latter."""

    text: str
    network: Network | None = None
    inverts: bool = False

    @classmethod
    def parse(cls, text: str) -> InitiatorPattern:
        """Read a pattern; raises ValueError."""
        if not 0 < len(text) <= MAX_PATTERN_CHARACTERS:
            raise ValueError(f"expected 1 to {MAX_PATTERN_CHARACTERS} characters")
        body = text.removeprefix(_INVERT)
        return cls(text, _network(body), inverts=body != text)

    def matches(self, name: str, host: Host | None = None) -> bool:
        """Whether an initiator is meant; ``host`` is where it comes from, if from a network."""
        if self.network is not None and host is not None:
            return (host in self.network) is not self.inverts
        return _matches(self.text.translate(_LOWER), name.translate(_LOWER))


def _network(text: str) -> Network | None:
    """The network that a pattern is; raises ValueError where it only looks like one."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        return None
    if "%" in text:
        # Python's networks keep a scope (fe80::1%eth0), but do not look at it.
        raise ValueError("expected an address or network without a scope")
    network = interface.network
    if interface.ip != network.network_address:
        raise ValueError(f"address bits behind the prefix: expected {network}")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        # RFC 4291, 2.5.5.2: a host is named by its IPv4 address whichever socket it comes by.
        mapped = network.network_address.ipv4_mapped
        return IPv4Network(f"{mapped}/{network.prefixlen - _MAPPED.prefixlen}")
    return network


def _matches(pattern: str, name: str) -> bool:
    head, invert, rest = pattern.partition(_INVERT)
    if not invert:
        return _is_like(head, name)
    # What must not match is something: a name that ends before the ``!`` is none that is meant.
    for end in range(len(name)):
        # Where the head may end in several places, the first one counts, as in SCST.
        if _is_like(head, name[:end]):
            return not _is_like(rest, name[end:])
    return False


def _is_like(pattern: str, name: str) -> bool:
    """Match ``*`` and ``?`` without backtracking further than to the last ``*``.

    Names are the peers' own: no name may make this take long.
    """
    at, tried, star, resume = 0, 0, -1, 0
    while tried < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, tried
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[tried]):
            at += 1
            tried += 1
        elif star >= 0:
            resume += 1
            at, tried = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")
