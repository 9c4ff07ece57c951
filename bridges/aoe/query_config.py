# SPDX-License-Identifier: GPL-2.0-or-later
"""Query Config Information: the config string of a target, and the rules for changing it.

The string lives in memory only. Source: AoEr11 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from bridges.aoe.wire import MAX_CONFIG_STRING_BYTES, AoeError, ConfigArgument, ConfigCommand

# The reply's error code, zero for none.
ANSWER: Final = 0


class ConfigString:
    """Owns the string of one target."""

    def __init__(self) -> None:
        self.value = b""

    def execute(self, argument: ConfigArgument, *, is_wildcard: bool) -> int | None:
        """Carry out a request; return the error code of its reply, or None for silence.

        The reply shows ``value``, also when it is an error. ``is_wildcard``: the request is for
        whoever hears it.
        """
        rule = _RULES.get(argument.command)
        if rule is None:
            return AoeError.BAD_ARGUMENT_PARAMETER
        # aoeping sends garbage with a read, which takes no string.
        if argument.command != ConfigCommand.READ and (
            argument.length_bytes > MAX_CONFIG_STRING_BYTES
            or len(argument.string) != argument.length_bytes
        ):
            return AoeError.BAD_ARGUMENT_PARAMETER
        # One frame must not rename every target of a LAN.
        if is_wildcard and argument.command == ConfigCommand.FORCE_SET:
            return None
        return rule(self, argument.string)


def _read(config: ConfigString, string: bytes) -> int | None:
    return ANSWER


def _test(config: ConfigString, string: bytes) -> int | None:
    return ANSWER if string == config.value else None


def _test_prefix(config: ConfigString, string: bytes) -> int | None:
    return ANSWER if config.value.startswith(string) else None


def _set_if_empty(config: ConfigString, string: bytes) -> int | None:
    if config.value not in (b"", string):
        return AoeError.CONFIG_STRING_PRESENT
    config.value = string
    return ANSWER


def _force_set(config: ConfigString, string: bytes) -> int | None:
    config.value = string
    return ANSWER


_RULES: Final[Mapping[int, Callable[[ConfigString, bytes], int | None]]] = MappingProxyType(
    {
        ConfigCommand.READ: _read,
        ConfigCommand.TEST: _test,
        ConfigCommand.TEST_PREFIX: _test_prefix,
        ConfigCommand.SET_IF_EMPTY: _set_if_empty,
        ConfigCommand.FORCE_SET: _force_set,
    }
)
