# SPDX-License-Identifier: GPL-2.0-or-later
"""Security groups: whom they have, and which of several is whose."""

from __future__ import annotations

from ipaddress import ip_address

from scsi_backend.target.initiator_group import InitiatorGroup, group_of
from scsi_backend.target.initiator_pattern import InitiatorPattern


def _group(name: str, *patterns: str) -> InitiatorGroup:
    return InitiatorGroup(name, tuple(map(InitiatorPattern.parse, patterns)), {})


def test_group_has_whom_any_of_its_patterns_means() -> None:
    group = _group("group", "a*", "10.0.0.0/8")
    assert group.has("abc", None)
    assert group.has("xyz", ip_address("10.9.8.7"))
    assert not group.has("xyz", None)
    assert not _group("empty").has("abc", None)


def test_first_group_in_order_counts() -> None:
    groups = [_group("one", "a"), _group("two", "*"), _group("three", "b")]
    assert [group_of(groups, name, None) for name in "ab"] == groups[:2]
    assert group_of(groups[::2], "c", None) is None
