# SPDX-License-Identifier: GPL-2.0-or-later
"""Building statements of scst.conf's grammar, for configurations that nobody has written."""

from __future__ import annotations

from dataclasses import dataclass

from bridges.scst_conf import Location, Statement, Word


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes statements that all claim to stand at one place."""

    location: Location

    def line(self, *words: str) -> Statement:
        """A plain line."""
        return Statement(self._words(words), None, self.location)

    def section(self, words: tuple[str, ...], *block: Statement) -> Statement:
        """A line with a block."""
        return Statement(self._words(words), block, self.location)

    def driver(self, name: str, target: str, device: str, *attributes: Statement) -> Statement:
        """A target driver with one enabled target that has one LUN, 0."""
        lun, enabled = self.line("LUN", "0", device), self.line("enabled", "1")
        return self.section(
            ("TARGET_DRIVER", name), *attributes, self.section(("TARGET", target), lun, enabled)
        )

    def _words(self, words: tuple[str, ...]) -> tuple[Word, ...]:
        return tuple(Word(word, self.location) for word in words)
