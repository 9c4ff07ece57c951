# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a client has no result, in words for its user; and which exit status says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bridges.aoe.address import Address
from bridges.aoe.wire import AoeError

EXIT_DONE: Final = 0
EXIT_NOT_ASKED: Final = 1
EXIT_REFUSED: Final = 2


class ToolError(Exception):
    """A client's failure; the text is for its user."""

    exit_status = EXIT_NOT_ASKED


class LinkError(ToolError):
    """The interface cannot be used."""


class ArgumentError(ToolError):
    """The user asked for what no frame can say."""


class NoAnswerError(ToolError):
    """Nothing came back in time."""


class RefusedError(ToolError):
    """A target answered that it does not do this, or answered nonsense."""

    exit_status = EXIT_REFUSED


def aoe_error_text(code: int) -> str:
    """Return an AoE error in AoEr11's words, and its number."""
    try:
        name = AoeError(code).name.lower().replace("_", " ")
    except ValueError:
        name = "unknown error"
    return f"{name} (AoE error {code})"


def printable(data: bytes) -> str:
    """Return a string from the wire as text that does nothing to a terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def mac_list_text(macs: Iterable[bytes]) -> str:
    """Return MAC addresses in one line."""
    return ", ".join(mac.hex(":") for mac in macs)


def reserved(address: Address, macs: Iterable[bytes]) -> RefusedError:
    """Return the error of a target that others have reserved."""
    owners = mac_list_text(macs) or "nobody that it tells of"
    error = aoe_error_text(AoeError.TARGET_IS_RESERVED)
    return RefusedError(f"{address}: {error}: by {owners}")
