# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of addresses, and of which targets a frame is for."""

from __future__ import annotations

import pytest

from bridges.aoe.address import Address, AddressMap, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e0.0", (0, 0)),
        ("e1.1", (1, 1)),
        ("e4094.254", (4094, 254)),
        ("e4096.0", (4096, 0)),
        ("e65534.254", (65534, 254)),
    ],
)
def test_addresses_parse_and_print(text: str, expected: tuple[int, int]) -> None:
    assert parse_address(text) == expected
    assert str(Address(*expected)) == text


_NO_ADDRESSES = (
    *(
        "e01.1",
        "e1.01",
        "",
        "e",
        "1.1",
        "e1",
        "e1.",
        "e.1",
        "e1.1 ",
        "E1.1",
        "e-1.1",
        "e1.1.1",
        "e\u0661.1",
    ),
    # 4095 is what the Linux driver takes for switches that nobody set; all ones are wildcards.
    *("e4095.0", "e65535.0", "e65536.0", "e1.255", "e1.256", "e1.999", "e123456.1"),
)


@pytest.mark.parametrize("text", _NO_ADDRESSES)
def test_addresses_that_cannot_be_used_are_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="no leading zeros"):
        parse_address(text)


@pytest.mark.parametrize("address", [(0xFFFF, 0), (0xFFF, 0), (0, 0xFF), (-1, 0), (0, -1)])
def test_check_refuses_what_clients_ignore(address: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected eSHELF"):
        Address(*address).check()


@pytest.mark.parametrize(
    ("shelf", "slot", "expected"),
    [
        (1, 1, "a"),
        (1, 2, "b"),
        (2, 1, "c"),
        (2, 2, ""),
        (0, 0, ""),
        (0xFFFF, 0xFF, "abc"),
        (1, 0xFF, "ab"),
        (0xFFFF, 1, "ac"),
        (0xFFFF, 9, ""),
        (9, 0xFF, ""),
    ],
)
def test_each_wildcard_stands_for_its_own_field(shelf: int, slot: int, expected: str) -> None:
    targets = AddressMap({Address(1, 1): "a", Address(1, 2): "b", Address(2, 1): "c"})
    assert "".join(targets.matching(shelf, slot)) == expected


def test_targets_come_and_go() -> None:
    targets = AddressMap({Address(1, 1): "a"})
    targets.add(Address(1, 2), "b")
    assert targets.targets == ("a", "b")
    assert (targets.matching(1, 2), targets.matching(1, 0xFF)) == (("b",), ("a", "b"))
    targets.remove(Address(1, 1))
    assert (targets.matching(1, 1), targets.matching(0xFFFF, 0xFF)) == ((), ("b",))
