# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may connect: a listener's ``allow`` and ``deny`` rules, and what they look at in a peer.

A rule is an IP network (``10.0.0.0/8``, ``2001:db8::1``) or an identity that the kernel vouches
for: ``uid=N`` and ``gid=N`` of the process at the other end of a unix socket, ``cid=N`` of a
virtual machine. An IPv4 address is the same address when it comes in an IPv6 socket (RFC 4291,
2.5.5.2).
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# struct ucred: pid, uid, gid.
_PEER_CREDENTIALS = struct.Struct("iII")
# asm-generic/socket.h; Python has no name for it, and takes no more than 1024 bytes of an option.
_SO_PEERGROUPS = 59
_MAX_GROUPS_BYTES = 1024
_IDENTITY = re.compile("(uid|gid|cid)=([0-9]{1,10})")
_MAPPED = IPv6Network("::ffff:0:0/96")
_EXPECTED = "expected an address, a network as in 10.0.0.0/8, uid=N, gid=N or cid=N"


class IdentityKind(StrEnum):
    """What an identity is a number of."""

    UID = "uid"
    GID = "gid"
    CID = "cid"


@dataclass(frozen=True, slots=True)
class Identity:
    """A number that the kernel gives for a peer."""

    kind: IdentityKind
    number: int

    def __str__(self) -> str:
        return f"{self.kind}={self.number}"


Host = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Rule = Network | Identity


@dataclass(frozen=True, slots=True)
class Peer:
    """What rules can look at: the host of a TCP connection, or the identities of another one."""

    host: Host | None = None
    identities: frozenset[Identity] = frozenset()

    def fits(self, rule: Rule) -> bool:
        """Whether a rule means this peer."""
        if isinstance(rule, Identity):
            return rule in self.identities
        # Networks of the other version hold no address of this one.
        return self.host is not None and self.host in rule


@dataclass(frozen=True, slots=True)
class AccessRules:
    """``deny`` is looked at first; with any ``allow``, who is not allowed is refused."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    def admit(self, sock: socket.socket) -> bool:
        """Whether the peer of a connected socket may stay; raises OSError if it is gone."""
        return not (self.allow or self.deny) or self.admits(peer_of(sock))

    def admits(self, peer: Peer) -> bool:
        """Whether a peer may stay."""
        if any(map(peer.fits, self.deny)):
            return False
        return not self.allow or any(map(peer.fits, self.allow))


EVERYBODY = AccessRules()


def parse_rule(word: str) -> Rule:
    """Read a rule; raises ValueError."""
    found = _IDENTITY.fullmatch(word)
    if found is not None and int(found[2]) < 1 << 32:
        return Identity(IdentityKind(found[1]), int(found[2]))
    if "%" in word:
        # Python's networks keep a scope (fe80::1%eth0), but do not look at it.
        raise ValueError(f"{_EXPECTED}, without a scope")
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError as error:
        raise ValueError(_EXPECTED) from error
    if ipaddress.ip_interface(word).ip != network.network_address:
        raise ValueError(f"address bits behind the prefix: expected {network}")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network(f"{mapped}/{network.prefixlen - _MAPPED.prefixlen}")
    return network


def host_of(text: str) -> Host:
    """Read a numeric address; one that is mapped into IPv6 becomes what it was."""
    host = ipaddress.ip_address(text)
    return host.ipv4_mapped or host if isinstance(host, IPv6Address) else host


def peer_of(sock: socket.socket) -> Peer:
    """Look at the other end of a connected socket; raises OSError if it is gone.

    A process in more than 256 groups cannot be looked at either.
    """
    if sock.family == socket.AF_UNIX:
        return Peer(identities=_process_identities(sock))
    if sock.family == socket.AF_VSOCK:
        return Peer(identities=frozenset({Identity(IdentityKind.CID, sock.getpeername()[0])}))
    return Peer(host_of(sock.getpeername()[0]))


def peer_process(sock: socket.socket) -> tuple[int, int, int]:
    """The pid, uid and gid of the process at the other end of a unix socket, says the kernel."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, gid = _PEER_CREDENTIALS.unpack(raw)
    return pid, uid, gid


def _process_identities(sock: socket.socket) -> frozenset[Identity]:
    _, uid, gid = peer_process(sock)
    groups = {gid, *_supplementary_groups(sock)}
    return frozenset(
        {Identity(IdentityKind.UID, uid), *(Identity(IdentityKind.GID, each) for each in groups)}
    )


def _supplementary_groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError as error:
        # Linux before 4.13, and a peer without credentials.
        if error.errno in (errno.ENOPROTOOPT, errno.ENODATA):
            return ()
        raise
    return struct.unpack(f"{len(raw) // 4}I", raw)
