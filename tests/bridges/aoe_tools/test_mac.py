# SPDX-License-Identifier: GPL-2.0-or-later
"""MAC addresses as users type them."""

from __future__ import annotations

import pytest

from bridges.aoe_tools.errors import ArgumentError
from bridges.aoe_tools.mac import parse_mac, parse_macs

OWN = bytes.fromhex("0200000000c1")
GIVEN = bytes.fromhex("020000abcdef")


@pytest.mark.parametrize(
    "text",
    ["02:00:00:ab:cd:ef", "02:00:00:AB:CD:EF", "02-00-00-ab-cd-ef", "020000abcdef", "020000ABCDEF"],
)
def test_usual_spellings_are_read(text: str) -> None:
    assert parse_mac(text, OWN) == GIVEN


@pytest.mark.parametrize("text", ["self", "SELF"])
def test_self_is_the_interface_s_own(text: str) -> None:
    assert parse_mac(text, OWN) == OWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:00:ab:cd",
        "02:00:00:ab:cd:ef:00",
        "02:00:00-ab-cd-ef",
        "2:0:0:ab:cd:ef",
        "0200.00ab.cdef",
        "02:00:00:ab:cd:eg",
        "02:00:00:ab:cd:ef\n",
        "eth0",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ArgumentError, match="expected one like 02:00:00:00:00:01, or self"):
        parse_mac(text, OWN)


@pytest.mark.parametrize("text", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "03:00:00:00:00:00"])
def test_no_host_has_a_group_s_address(text: str) -> None:
    with pytest.raises(ArgumentError, match="this one means a group"):
        parse_mac(text, OWN)


def test_a_list_has_each_address_once_in_the_order_given() -> None:
    texts = ["02:00:00:ab:cd:ef", "self", "020000ABCDEF", "02:00:00:00:00:c1"]
    assert parse_macs(texts, OWN) == (GIVEN, OWN)
