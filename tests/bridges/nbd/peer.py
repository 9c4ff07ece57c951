# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's end of a handshake, and exports that open when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridges.lun import LunInfo
from bridges.nbd.handshake import Export, ExportError, Handshake
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.wire import OptionReply

Opened = Callable[[Export | ExportError], None]


@dataclass
class FakeExport:
    """An export that counts how often it was opened and closed."""

    info: LunInfo
    opened: int = 0
    closed: int = 0

    def close(self) -> None:
        """See ``handshake.Export``."""
        self.closed += 1


@dataclass
class FakeExports:
    """Exports by name; while ``is_slow`` they open only when the test says so."""

    exports: dict[str, FakeExport]
    is_slow: bool = False
    waiting: list[tuple[str, Opened]] = field(default_factory=list)

    def names(self) -> Iterable[tuple[str, str]]:
        """See ``handshake.Exports``."""
        return [(name, f"about {name}") for name in self.exports]

    def open(self, name: str, done: Opened) -> None:
        """See ``handshake.Exports``."""
        if self.is_slow:
            self.waiting.append((name, done))
        else:
            self._open(name, done)

    def finish(self) -> None:
        """Open what waits longest."""
        self._open(*self.waiting.pop(0))

    def _open(self, name: str, done: Opened) -> None:
        export = self.exports.get(name)
        if export is not None:
            export.opened += 1
        done(export or ExportError(OptionReply.ERR_UNKNOWN, "no such export"))


class Peer:
    """The client's end of a handshake; what is not used yet is shown again with what follows."""

    def __init__(self, exports: FakeExports) -> None:
        self.exports = exports
        self.received = bytearray()
        self.rest = b""
        self.chosen: list[Export] = []
        self.resumed = 0
        self.negotiated: list[Negotiated] = []
        self.handshake = Handshake(exports, self.received.extend, self._transmit, self._resume)

    def _transmit(self, export: Export, negotiated: Negotiated) -> None:
        self.chosen.append(export)
        self.negotiated.append(negotiated)

    def _resume(self) -> None:
        self.resumed += 1

    def send(self, *messages: bytes) -> None:
        """Send messages in one piece."""
        shown = self.rest + b"".join(messages)
        used = self.handshake.receive(memoryview(shown))
        self.rest = shown[used:]

    def take(self) -> bytes:
        """Everything the server has sent since the last call."""
        taken = bytes(self.received)
        self.received.clear()
        return taken

    def ask(self, *messages: bytes) -> bytes:
        """Send messages and take what came back at once."""
        self.send(*messages)
        return self.take()
