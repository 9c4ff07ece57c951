# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules as words, and whom they let in."""

from __future__ import annotations

import errno
import os
import socket
import struct
from ipaddress import IPv4Network, IPv6Network
from typing import cast

import pytest

from bridges.access import (
    EVERYBODY,
    AccessRules,
    Identity,
    IdentityKind,
    Peer,
    Rule,
    host_of,
    parse_rule,
    peer_of,
    peer_process,
)

UID_0 = Identity(IdentityKind.UID, 0)


def host(text: str) -> Peer:
    """A peer with this address."""
    return Peer(host_of(text))


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("10.0.0.0/8", IPv4Network("10.0.0.0/8")),
        ("192.0.2.1", IPv4Network("192.0.2.1/32")),
        ("0.0.0.0/0", IPv4Network("0.0.0.0/0")),
        ("2001:db8::/32", IPv6Network("2001:db8::/32")),
        ("::1", IPv6Network("::1/128")),
        ("::ffff:10.0.0.0/104", IPv4Network("10.0.0.0/8")),
        ("::ffff:192.0.2.1", IPv4Network("192.0.2.1/32")),
        ("uid=0", UID_0),
        ("gid=100", Identity(IdentityKind.GID, 100)),
        ("cid=4294967295", Identity(IdentityKind.CID, 4294967295)),
    ],
)
def test_a_rule_is_read(word: str, rule: Rule) -> None:
    assert parse_rule(word) == rule


@pytest.mark.parametrize(
    "word",
    ["", "host", "10.0.0", "10.0.0.0/33", "uid=", "uid=root", "uid=-1", "cid=4294967296", "pid=1"],
)
def test_what_is_no_rule_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"^expected an address, a network as in 10\.0\.0\.0/8"):
        parse_rule(word)


def test_a_network_with_bits_of_a_host_is_refused_with_what_was_likely_meant() -> None:
    message = r"^address bits behind the prefix: expected 10\.1\.0\.0/16$"
    with pytest.raises(ValueError, match=message):
        parse_rule("10.1.2.3/16")


def test_a_scope_is_refused_because_rules_do_not_look_at_it() -> None:
    with pytest.raises(ValueError, match=r"without a scope$"):
        parse_rule("fe80::1%eth0")


def test_without_rules_everybody_may_connect() -> None:
    assert EVERYBODY.admits(host("192.0.2.1"))
    assert EVERYBODY.admits(Peer())


def test_who_is_denied_may_not_connect_even_if_allowed() -> None:
    rules = AccessRules((parse_rule("10.0.0.0/8"),), (parse_rule("10.1.0.0/16"),))
    assert rules.admits(host("10.0.0.1"))
    assert rules.admits(host("10.2.255.255"))
    assert not rules.admits(host("10.1.0.1"))
    assert not rules.admits(host("11.0.0.1"))


def test_only_denying_lets_the_others_in() -> None:
    rules = AccessRules((), (parse_rule("10.1.0.0/16"),))
    assert not rules.admits(host("10.1.2.3"))
    assert rules.admits(host("2001:db8::1"))


def test_an_address_mapped_into_ipv6_is_the_ipv4_address() -> None:
    rules = AccessRules((parse_rule("10.0.0.0/8"),))
    assert rules.admits(host("::ffff:10.9.9.9"))
    assert not rules.admits(host("::ffff:11.9.9.9"))
    assert not AccessRules((), (parse_rule("10.0.0.0/8"),)).admits(host("::ffff:10.9.9.9"))
    # Everything in IPv6 is not everything.
    assert not AccessRules((parse_rule("::/0"),)).admits(host("::ffff:10.9.9.9"))


def test_a_link_local_address_is_in_its_network_whatever_its_scope() -> None:
    rules = AccessRules((parse_rule("fe80::/10"),))
    assert rules.admits(host("fe80::1%eth0"))


def test_identities_are_compared_by_kind_and_number() -> None:
    rules = AccessRules((UID_0, Identity(IdentityKind.GID, 7)))
    assert rules.admits(Peer(identities=frozenset({UID_0})))
    assert rules.admits(Peer(identities=frozenset({Identity(IdentityKind.GID, 7)})))
    assert not rules.admits(Peer(identities=frozenset({Identity(IdentityKind.UID, 7)})))
    assert not rules.admits(host("0.0.0.0"))


def test_the_kernel_tells_who_is_behind_a_unix_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_process(one) == (os.getpid(), os.getuid(), os.getgid())
        expected = {Identity(IdentityKind.UID, os.getuid())}
        for gid in (os.getgid(), *os.getgroups()):
            expected.add(Identity(IdentityKind.GID, gid))
        assert peer_of(one) == Peer(identities=frozenset(expected))
        mine = AccessRules((Identity(IdentityKind.UID, os.getuid()),))
        assert mine.admit(one)
        assert not AccessRules(deny=mine.allow).admit(one)


def test_a_tcp_peer_is_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        with client, peer:
            assert peer_of(peer) == host("127.0.0.1")


class FakeSocket:
    """A socket whose credentials and groups are as told."""

    def __init__(self, family: socket.AddressFamily, groups: bytes | int = b"") -> None:
        self.family = family
        self._groups = groups

    def getpeername(self) -> tuple[int, int]:
        """See ``socket``."""
        return 3, 1024

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        """See ``socket``."""
        if option == socket.SO_PEERCRED:
            return struct.pack("iII", 1, 5, 6)
        if isinstance(self._groups, int):
            raise OSError(self._groups, os.strerror(self._groups))
        return self._groups


def test_the_peer_of_a_vsock_connection_is_its_context_id() -> None:
    sock = cast(socket.socket, FakeSocket(socket.AF_VSOCK))
    assert peer_of(sock) == Peer(identities=frozenset({Identity(IdentityKind.CID, 3)}))


def test_supplementary_groups_count() -> None:
    sock = cast(socket.socket, FakeSocket(socket.AF_UNIX, struct.pack("2I", 100, 101)))
    assert AccessRules((Identity(IdentityKind.GID, 101),)).admit(sock)
    assert AccessRules((Identity(IdentityKind.GID, 6),)).admit(sock)
    assert not AccessRules((Identity(IdentityKind.GID, 102),)).admit(sock)


def test_a_kernel_that_does_not_tell_groups_tells_the_first() -> None:
    sock = cast(socket.socket, FakeSocket(socket.AF_UNIX, errno.ENOPROTOOPT))
    assert AccessRules((Identity(IdentityKind.GID, 6),)).admit(sock)


def test_more_groups_than_can_be_looked_at_are_an_error() -> None:
    sock = cast(socket.socket, FakeSocket(socket.AF_UNIX, errno.ERANGE))
    with pytest.raises(OSError, match="out of range"):
        AccessRules((), (Identity(IdentityKind.GID, 6),)).admit(sock)
    # Who has no rules does not ask.
    assert EVERYBODY.admit(sock)
