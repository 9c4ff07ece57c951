# SPDX-License-Identifier: GPL-2.0-or-later
"""MAC addresses as text, and who the static access list lets in."""

from __future__ import annotations

import pytest

from bridges.aoe.acl import AccessList, format_mac, parse_host_mac, parse_mac

_A, _B, _C = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 3))


def test_an_address_is_read_in_either_case_and_written_in_lower_case() -> None:
    assert parse_mac("02:aB:00:ff:7e:01") == bytes.fromhex("02ab00ff7e01")
    assert format_mac(bytes.fromhex("02ab00ff7e01")) == "02:ab:00:ff:7e:01"


@pytest.mark.parametrize(
    "text",
    ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "02-00-00-00-00-01", "020000000001", "x", "2:0"],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a MAC address, as in 02:00:00:00:00:01$"):
        parse_mac(text)


@pytest.mark.parametrize("text", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
def test_a_group_is_no_host(text: str) -> None:
    assert parse_mac(text)[0] & 1
    with pytest.raises(ValueError, match="expected the MAC address of one host"):
        parse_host_mac(text)
    assert parse_host_mac("02:00:00:00:00:01") == _A


@pytest.mark.parametrize(
    ("allow", "deny", "admitted"),
    [
        ([], [], [_A, _B, _C]),
        ([_A], [], [_A]),
        ([], [_A], [_B, _C]),
        ([_A, _B], [_B], [_A]),
        ([_A], [_A], []),
    ],
)
def test_deny_comes_first_and_allow_shuts_out_the_others(
    allow: list[bytes], deny: list[bytes], admitted: list[bytes]
) -> None:
    access = AccessList(frozenset(allow), frozenset(deny))
    assert [mac for mac in (_A, _B, _C) if access.admits(mac)] == admitted
