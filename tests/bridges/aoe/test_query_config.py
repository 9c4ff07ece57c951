# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the config string's rules."""

from __future__ import annotations

import pytest

from bridges.aoe import query_config
from bridges.aoe.state import TargetState
from bridges.aoe.wire import ConfigArgument

_SILENCE = None
_ANSWER = 0
_BAD_ARGUMENT = 2
_PRESENT = 4


def _argument(command: int, string: bytes, length_bytes: int | None = None) -> ConfigArgument:
    length = len(string) if length_bytes is None else length_bytes
    return ConfigArgument(0, 0, 0, 0, command, length, string)


@pytest.mark.parametrize(
    ("before", "command", "string", "result", "after"),
    [
        (b"", 0, b"", _ANSWER, b""),
        (b"abc", 0, b"", _ANSWER, b"abc"),
        (b"abc", 0, b"x", _ANSWER, b"abc"),
        (b"abc", 1, b"abc", _ANSWER, b"abc"),
        (b"abc", 1, b"ab", _SILENCE, b"abc"),
        (b"abc", 1, b"abcd", _SILENCE, b"abc"),
        (b"abc", 1, b"", _SILENCE, b"abc"),
        (b"", 1, b"", _ANSWER, b""),
        (b"abc", 2, b"ab", _ANSWER, b"abc"),
        (b"abc", 2, b"abc", _ANSWER, b"abc"),
        (b"abc", 2, b"", _ANSWER, b"abc"),
        (b"abc", 2, b"abcd", _SILENCE, b"abc"),
        (b"abc", 2, b"b", _SILENCE, b"abc"),
        (b"", 3, b"abc", _ANSWER, b"abc"),
        (b"abc", 3, b"abc", _ANSWER, b"abc"),
        (b"abc", 3, b"abd", _PRESENT, b"abc"),
        (b"abc", 3, b"", _PRESENT, b"abc"),
        (b"abc", 4, b"xyz", _ANSWER, b"xyz"),
        (b"abc", 4, b"", _ANSWER, b""),
        (b"", 4, b"s" * 1024, _ANSWER, b"s" * 1024),
    ],
)
def test_command(
    before: bytes, command: int, string: bytes, result: int | None, after: bytes
) -> None:
    argument = _argument(command, string)
    state = TargetState(before, (b"\2\0\0\0\0\1",), (b"\2\0\0\0\0\2",))
    assert query_config.check(argument) == 0
    expected = TargetState(after, state.mask_list, state.reserve_list)
    assert query_config.execute(argument, state) == (result, expected)


@pytest.mark.parametrize("command", range(5, 16))
def test_codes_from_5_on_are_a_bad_argument(command: int) -> None:
    assert query_config.check(_argument(command, b"")) == _BAD_ARGUMENT


@pytest.mark.parametrize("command", [1, 2, 3, 4])
@pytest.mark.parametrize(("string", "length_bytes"), [(b"s" * 1025, 1025), (b"ab", 3)])
def test_string_too_long_or_beyond_the_frame_is_a_bad_argument(
    command: int, string: bytes, length_bytes: int
) -> None:
    assert query_config.check(_argument(command, string, length_bytes)) == _BAD_ARGUMENT


def test_reading_ignores_the_string_that_aoeping_sends() -> None:
    assert query_config.check(_argument(0, b"\xed" * 1024, 0xEDED)) == _ANSWER
