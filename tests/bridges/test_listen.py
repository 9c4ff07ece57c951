# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests for the terms of a listener."""

from __future__ import annotations

import pytest

from bridges.access import AccessRules, parse_rule
from bridges.listen import Listen, TlsMode, check_rules
from bridges.listeners import Address


def test_a_listener_has_no_tls_no_rules_and_no_limit_unless_told() -> None:
    listen = Listen(Address(host="127.0.0.1"))
    assert listen.tls is TlsMode.OFF
    assert (listen.access, listen.max_connections) == (AccessRules(), None)
    assert listen.connection_memory_bytes == 16 << 20


@pytest.mark.parametrize("word", ["off", "on", "require"])
def test_modes_are_written_as_words(word: str) -> None:
    assert TlsMode(word).value == word


def test_another_word_is_no_mode() -> None:
    with pytest.raises(ValueError, match="maybe"):
        TlsMode("maybe")


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        ("host:1", "10.0.0.0/8"),
        ("[::]:1", "::1"),
        ("unix:/s", "uid=0"),
        ("unix:/s", "gid=0"),
        ("vsock:1", "cid=3"),
        ("systemd", "uid=0"),
        ("systemd:x", "10.0.0.0/8"),
        ("stdio", "cid=3"),
    ],
)
def test_rules_may_look_at_what_peers_there_have(where: str, rule: str) -> None:
    rules = (parse_rule(rule),)
    check_rules(Address.parse(where, 1), AccessRules(rules, rules))


@pytest.mark.parametrize(
    ("where", "rule", "expected"),
    [
        ("host:1", "uid=0", "an address or a network"),
        ("host:1", "cid=0", "an address or a network"),
        ("unix:/s", "10.0.0.0/8", "uid=N or gid=N"),
        ("unix:/s", "cid=1", "uid=N or gid=N"),
        ("vsock:1", "::1/128", "cid=N"),
        ("vsock:1", "uid=1", "cid=N"),
    ],
)
def test_rules_may_not_look_at_anything_else(where: str, rule: str, expected: str) -> None:
    address, rules = Address.parse(where, 1), (parse_rule(rule),)
    with pytest.raises(ValueError, match=f"^allow {rule}: expected {expected}$"):
        check_rules(address, AccessRules(allow=rules))
    with pytest.raises(ValueError, match=f"^deny {rule}: expected {expected}$"):
        check_rules(address, AccessRules(deny=rules))
