# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handshake agrees on besides the export, and transmission has to obey."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class ReplyForm(Enum):
    """Which replies the client understands (proto.md, "Transmission phase")."""

    SIMPLE = auto()
    STRUCTURED = auto()
    EXTENDED = auto()


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The outcome of the options; the defaults are those of a client that negotiates nothing.

    ``contexts`` maps the metadata context ids that were selected for this export to their names.
    ``knows_block_sizes``: the client asked for INFO_BLOCK_SIZE and must obey what it was told.
    """

    form: ReplyForm = ReplyForm.SIMPLE
    contexts: tuple[tuple[int, str], ...] = ()
    knows_block_sizes: bool = False
