# SPDX-License-Identifier: GPL-2.0-or-later
"""Query Config Information: the rules for asking for the config string and for changing it.

Source: AoEr11 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from bridges.aoe.state import TargetState
from bridges.aoe.wire import MAX_CONFIG_STRING_BYTES, AoeError, ConfigArgument, ConfigCommand

# The reply's error code, zero for none.
ANSWER: Final = 0

CHANGING_COMMANDS: Final = frozenset({ConfigCommand.SET_IF_EMPTY, ConfigCommand.FORCE_SET})


def check(argument: ConfigArgument) -> int:
    """Return the error of a request that is none, whatever the string is; zero if it is good."""
    if argument.command not in _RULES:
        return AoeError.BAD_ARGUMENT_PARAMETER
    # aoeping sends garbage with a read, which takes no string.
    if argument.command != ConfigCommand.READ and (
        argument.length_bytes > MAX_CONFIG_STRING_BYTES
        or len(argument.string) != argument.length_bytes
    ):
        return AoeError.BAD_ARGUMENT_PARAMETER
    return ANSWER


def execute(argument: ConfigArgument, state: TargetState) -> tuple[int | None, TargetState]:
    """Carry out a request that ``check`` has passed.

    Return the error code of its reply, or None for silence, and the state after it. The reply shows
    the string as it is then, also when it is an error.
    """
    answer, string = _RULES[argument.command](state.config_string, argument.string)
    return answer, replace(state, config_string=string)


def _read(current: bytes, string: bytes) -> tuple[int | None, bytes]:
    return ANSWER, current


def _test(current: bytes, string: bytes) -> tuple[int | None, bytes]:
    return (ANSWER if string == current else None), current


def _test_prefix(current: bytes, string: bytes) -> tuple[int | None, bytes]:
    return (ANSWER if current.startswith(string) else None), current


def _set_if_empty(current: bytes, string: bytes) -> tuple[int | None, bytes]:
    if current not in (b"", string):
        return AoeError.CONFIG_STRING_PRESENT, current
    return ANSWER, string


def _force_set(current: bytes, string: bytes) -> tuple[int | None, bytes]:
    return ANSWER, string


_RULES: Final[Mapping[int, Callable[[bytes, bytes], tuple[int | None, bytes]]]] = MappingProxyType(
    {
        ConfigCommand.READ: _read,
        ConfigCommand.TEST: _test,
        ConfigCommand.TEST_PREFIX: _test_prefix,
        ConfigCommand.SET_IF_EMPTY: _set_if_empty,
        ConfigCommand.FORCE_SET: _force_set,
    }
)
