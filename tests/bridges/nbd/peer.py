# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's end of a handshake, and exports that open when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from bridges.listen import TlsMode
from bridges.lun import LunInfo
from bridges.nbd.handshake import Handshake
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.offer import Export, ExportError
from bridges.nbd.wire import OptionReply
from tests.bridges.nbd import proto
from tests.bridges.nbd.test_translate import DISK

Opened = Callable[[Export | ExportError], None]

# A disk, and the transmission flags that it has with simple replies.
ONE_MIB = replace(DISK, block_count=2048)
FLAGS = 0x0D6D
SEND_DF = 0x0080
BLOCK_STATUS_PAYLOAD = 0x1000


@dataclass
class FakeExport:
    """An export that counts how often it was opened and closed; named when it is opened."""

    info: LunInfo
    opened: int = 0
    closed: int = 0
    name: str = ""

    @property
    def description(self) -> str:
        """See ``offer.Export``."""
        return f"about {self.name}"

    def close(self) -> None:
        """See ``offer.Export``."""
        self.closed += 1


@dataclass
class FakeExports:
    """Exports by name; while ``is_slow`` they open only when the test says so.

    The empty name opens ``default``. ``listed`` counts the names that LIST has taken.
    """

    exports: dict[str, FakeExport]
    is_slow: bool = False
    waiting: list[tuple[str, Opened]] = field(default_factory=list)
    default: str = ""
    listed: int = 0

    def names(self) -> Iterator[tuple[str, str]]:
        """See ``offer.Exports``."""
        for name in self.exports:
            self.listed += 1
            yield name, f"about {name}"

    def canonical_name(self, name: str) -> str | ExportError:
        """See ``offer.Exports``."""
        name = name or self.default
        return name if name in self.exports else _unknown()

    def open(self, name: str, done: Opened) -> None:
        """See ``offer.Exports``."""
        if self.is_slow:
            self.waiting.append((name, done))
        else:
            self._open(name, done)

    def finish(self) -> None:
        """Open what waits longest."""
        self._open(*self.waiting.pop(0))

    def _open(self, name: str, done: Opened) -> None:
        found = self.canonical_name(name)
        if isinstance(found, ExportError):
            done(found)
            return
        export = self.exports[found]
        export.name = found
        export.opened += 1
        done(export)


def _unknown() -> ExportError:
    return ExportError(OptionReply.ERR_UNKNOWN, "no such export")


class Peer:
    """The client's end of a handshake; what is not used yet is shown again with what follows."""

    def __init__(self, exports: FakeExports, tls: TlsMode = TlsMode.OFF) -> None:
        self.exports = exports
        self.received = bytearray()
        self.rest = b""
        self.chosen: list[Export] = []
        self.resumed = 0
        # How much the client had been sent each time that TLS was to be started.
        self.tls_starts: list[int] = []
        self.is_full = False
        # What the server's log would have.
        self.notes: list[str] = []
        self.negotiated: list[Negotiated] = []
        self.handshake = Handshake(
            exports,
            self.received.extend,
            self._transmit,
            self._resume,
            tls,
            self._start_tls,
            lambda: self.is_full,
            self.notes.append,
        )

    def _transmit(self, export: Export, negotiated: Negotiated) -> None:
        self.chosen.append(export)
        self.negotiated.append(negotiated)

    def _resume(self) -> None:
        self.resumed += 1

    def _start_tls(self) -> None:
        self.tls_starts.append(len(self.received))

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


def described(number: int, *texts: bytes, flags: int = FLAGS) -> bytes:
    """The whole answer to INFO or GO for ``ONE_MIB``; ``texts`` are the data of NAME and such."""
    datas = (
        bytes.fromhex("0000 0000000000100000") + flags.to_bytes(2, "big"),
        *texts,
        bytes.fromhex("0003 00000200 00001000 02000000"),
    )
    infos = b"".join(proto.option_reply(number, proto.REP_INFO, data) for data in datas)
    return infos + proto.option_reply(number, proto.ACK)
