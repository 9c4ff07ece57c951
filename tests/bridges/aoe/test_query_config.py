# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the config string's rules."""

from __future__ import annotations

import pytest

from bridges.aoe.query_config import ConfigString
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
        (b"abc", 5, b"x", _BAD_ARGUMENT, b"abc"),
        (b"abc", 15, b"x", _BAD_ARGUMENT, b"abc"),
    ],
)
def test_command(
    before: bytes, command: int, string: bytes, result: int | None, after: bytes
) -> None:
    config = ConfigString()
    config.value = before
    assert config.execute(_argument(command, string), is_wildcard=False) == result
    assert config.value == after


@pytest.mark.parametrize("command", [1, 2, 3, 4])
@pytest.mark.parametrize(("string", "length_bytes"), [(b"s" * 1025, 1025), (b"ab", 3)])
def test_string_too_long_or_beyond_the_frame_is_a_bad_argument(
    command: int, string: bytes, length_bytes: int
) -> None:
    config = ConfigString()
    argument = _argument(command, string, length_bytes)
    assert config.execute(argument, is_wildcard=False) == _BAD_ARGUMENT
    assert config.value == b""


def test_reading_ignores_the_string_that_aoeping_sends() -> None:
    config = ConfigString()
    argument = _argument(0, b"\xed" * 1024, 0xEDED)
    assert config.execute(argument, is_wildcard=False) == _ANSWER


@pytest.mark.parametrize(("command", "result"), [(0, _ANSWER), (1, _SILENCE), (2, _SILENCE)])
def test_wildcards_may_ask(command: int, result: int | None) -> None:
    config = ConfigString()
    config.value = b"abc"
    assert config.execute(_argument(command, b"x"), is_wildcard=True) == result


def test_a_wildcard_cannot_rename_everybody() -> None:
    config = ConfigString()
    config.value = b"abc"
    assert config.execute(_argument(4, b"x"), is_wildcard=True) is _SILENCE
    assert config.value == b"abc"
