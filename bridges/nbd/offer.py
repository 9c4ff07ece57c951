# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports as a handshake sees them: to be listed, opened and described to a client.

What stands behind an export is not known here; ``exports`` has the one implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from bridges.lun import LunInfo
from bridges.nbd import wire
from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.nbd.options import OptionError, info_text
from bridges.nbd.translate import block_sizes, transmission_flags
from bridges.nbd.wire import Info, TransmissionFlag


class Export(Protocol):
    """An open export: somebody's hold on a LUN."""

    @property
    def name(self) -> str:
        """The canonical name, as LIST shows it."""

    @property
    def description(self) -> str:
        """Text for people, as LIST shows it."""

    @property
    def info(self) -> LunInfo:
        """What the LUN is."""

    def close(self) -> None:
        """Let go of it."""


class ExportError(OptionError):
    """An export cannot be served; carries the option reply that says so."""


class Exports(Protocol):
    """What a server offers to one client."""

    def names(self) -> Iterator[tuple[str, str]]:
        """Name and description of each export, for LIST; made as they are taken."""

    def canonical_name(self, name: str) -> str | ExportError:
        """The name under which LIST shows the export that ``name`` opens."""

    def open(self, name: str, done: Callable[[Export | ExportError], None]) -> None:
        """Open an export by name; ``done`` hears of it now or later."""


def flags_of(info: LunInfo, negotiated: Negotiated) -> TransmissionFlag:
    """The flags of an export, with those that depend on what was negotiated."""
    flags = transmission_flags(info)
    if negotiated.form is not ReplyForm.SIMPLE:
        # "MUST leave this flag clear if structured replies have not been negotiated".
        flags |= TransmissionFlag.SEND_DF
    if negotiated.form is ReplyForm.EXTENDED and negotiated.contexts:
        flags |= TransmissionFlag.BLOCK_STATUS_PAYLOAD
    return flags


def information(export: Export, negotiated: Negotiated, kinds: frozenset[int]) -> Iterator[bytes]:
    """The data of the INFO replies to INFO and GO; ``kinds`` are those that were asked for.

    Block sizes go to those too who did not ask, as qemu does.
    """
    info = export.info
    yield wire.INFO_EXPORT.pack(Info.EXPORT, info.size_bytes, flags_of(info, negotiated))
    if Info.NAME in kinds:
        yield info_text(Info.NAME, export.name)
    if Info.DESCRIPTION in kinds:
        yield info_text(Info.DESCRIPTION, export.description)
    yield wire.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, *block_sizes(info))
