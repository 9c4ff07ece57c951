# SPDX-License-Identifier: GPL-2.0-or-later
"""INITIATOR patterns against names and hosts, by SCST's rules."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.target.initiator_pattern import MAX_PATTERN_CHARACTERS, InitiatorPattern

# Pattern, name, whether it matches.
_BY_NAME = (
    ("host", "host", True),
    ("host", "hosts", False),
    ("host", "hos", False),
    ("HOST", "hOsT", True),
    ("host?", "host1", True),
    ("host?", "host", False),
    ("host?", "host12", False),
    ("*", "", True),
    ("*", "anything at all", True),
    ("host*", "host", True),
    ("*host", "a host", True),
    ("*o*t", "host", True),
    ("*o*t", "hose", False),
    ("a*b*c", "a-b-b-c", True),
    ("h[o]st", "host", False),
    ("h[o]st", "h[o]st", True),
    ("!host", "host", False),
    ("!host", "Host", False),
    ("!host", "other", True),
    ("!host*", "host7", False),
    ("!*", "host", False),
    ("host!1", "host1", False),
    ("host!1", "host2", True),
    ("host!1", "other", False),
    ("host!1", "host", False),
    ("host*!1", "host", False),
    ("host?!*1", "host2", False),
    ("host?!*1", "host22", True),
    ("host!", "host", False),
    ("host!", "host1", True),
    # The head's star takes as little as it can.
    ("*-!a", "x-a-b", True),
    ("*-!a-b", "x-a-b", False),
    # Only the first one turns round.
    ("!a!b", "a!b", False),
    ("!a!b", "ab", True),
    # Case is ASCII's: the sign for kelvin is no k, and no letter becomes two.
    ("disk", "dis\u212a", False),
    ("?", "\u0130", True),
    ("unix:uid=*", "unix:uid=0", True),
    ("02:00:00:00:00:0?", "02:00:00:00:00:01", True),
    ("10.0.0.0/8", "10.0.0.0/8", True),
)


@pytest.mark.parametrize(("pattern", "name", "expected"), _BY_NAME)
def test_name_matches_as_in_scst(pattern: str, name: str, expected: bool) -> None:
    assert InitiatorPattern.parse(pattern).matches(name) is expected


# Pattern, host, whether it matches, under a name that the pattern does not.
_BY_HOST = (
    ("10.0.0.0/8", "10.255.0.1", True),
    ("10.0.0.0/8", "11.0.0.1", False),
    ("10.1.2.3", "10.1.2.3", True),
    ("10.1.2.3", "10.1.2.4", False),
    ("!10.0.0.0/8", "10.0.0.1", False),
    ("!10.0.0.0/8", "192.0.2.1", True),
    ("fd00::/8", "fd12::1", True),
    ("fd00::/8", "10.0.0.1", False),
    ("::ffff:10.0.0.0/104", "10.0.0.1", True),
    ("10.*", "10.0.0.1", False),
)


@pytest.mark.parametrize(("pattern", "host", "expected"), _BY_HOST)
def test_network_matches_by_host_whatever_the_name(pattern: str, host: str, expected: bool) -> None:
    assert InitiatorPattern.parse(pattern).matches("tls:CN=x", ip_address(host)) is expected


def test_name_of_an_address_is_matched_as_any_other() -> None:
    assert InitiatorPattern.parse("10.*").matches("10.0.0.1", ip_address("10.0.0.1"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "expected 1 to 255 characters"),
        ("x" * (MAX_PATTERN_CHARACTERS + 1), "expected 1 to 255 characters"),
        ("10.0.0.1/8", r"address bits behind the prefix: expected 10\.0\.0\.0/8"),
        ("!10.0.0.1/8", r"address bits behind the prefix: expected 10\.0\.0\.0/8"),
        ("fe80::1%eth0", "expected an address or network without a scope"),
    ],
)
def test_pattern_that_cannot_be_meant_is_refused(pattern: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        InitiatorPattern.parse(pattern)


@given(st.text("ab*?", min_size=1, max_size=8), st.text("ab", max_size=8))
def test_stars_and_question_marks_agree_with_a_regular_expression(pattern: str, name: str) -> None:
    regex = "".join({"*": ".*", "?": "."}.get(each, each) for each in pattern)
    expected = re.fullmatch(regex, name) is not None
    assert InitiatorPattern.parse(pattern).matches(name) is expected


def test_long_name_takes_no_time_that_grows_with_the_stars() -> None:
    assert not InitiatorPattern.parse("*a" * 100 + "b").matches("a" * 50_000)
