# SPDX-License-Identifier: GPL-2.0-or-later
"""Words and exit statuses of failures."""

from __future__ import annotations

import pytest

from bridges.aoe.address import Address
from bridges.aoe_tools.errors import (
    ArgumentError,
    LinkError,
    NoAnswerError,
    RefusedError,
    ToolError,
    aoe_error_text,
    mac_list_text,
    printable,
    reserved,
)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1, "unrecognized command code (AoE error 1)"),
        (2, "bad argument parameter (AoE error 2)"),
        (3, "device unavailable (AoE error 3)"),
        (4, "config string present (AoE error 4)"),
        (5, "unsupported version (AoE error 5)"),
        (6, "target is reserved (AoE error 6)"),
        (7, "unknown error (AoE error 7)"),
        (255, "unknown error (AoE error 255)"),
    ],
)
def test_aoe_errors_have_their_name_and_number(code: int, text: str) -> None:
    assert aoe_error_text(code) == text


@pytest.mark.parametrize(
    ("kind", "status"),
    [(LinkError, 1), (ArgumentError, 1), (NoAnswerError, 1), (RefusedError, 2)],
)
def test_only_a_refusal_has_exit_status_2(kind: type[ToolError], status: int) -> None:
    assert kind("text").exit_status == status


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"boot disk", "boot disk"),
        ("größe".encode(), "größe"),
        (b"\x1b[2J\r\n\0", r"\x1b[2J\r\n\x00"),
        (b"a\xffb", r"a\xffb"),
        ("\u202e".encode(), r"\u202e"),
    ],
)
def test_strings_from_the_wire_do_nothing_to_a_terminal(data: bytes, text: str) -> None:
    assert printable(data) == text


def test_addresses_are_listed_in_a_line() -> None:
    assert mac_list_text([b"\x02" + bytes(5), b"\x04" + bytes(5)]) == (
        "02:00:00:00:00:00, 04:00:00:00:00:00"
    )


def test_a_reservation_names_its_owners() -> None:
    assert str(reserved(Address(1, 2), [b"\x02" + bytes(5)])) == (
        "e1.2: target is reserved (AoE error 6): by 02:00:00:00:00:00"
    )
    assert str(reserved(Address(1, 2), [])).endswith(": by nobody that it tells of")
