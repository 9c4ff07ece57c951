# SPDX-License-Identifier: GPL-2.0-or-later
"""A wire in memory, with its own time: what is sent is kept, and answered as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bridges.aoe_tools.exchange import Exchanger

CLIENT: Final = bytes.fromhex("0200000000c1")
TARGET: Final = bytes.fromhex("020000000011")
OTHER: Final = bytes.fromhex("020000000022")

# The frames that come back for one that was sent.
Answer = Callable[[bytes], Iterable[bytes]]


class FakeWire:
    """Answers each frame by the next of ``answers``, and no frame after the last."""

    mac = CLIENT

    def __init__(self, answers: Sequence[Answer] = ()) -> None:
        self.sent: list[bytes] = []
        self.now_s = 0.0
        self._answers = list(answers)
        self._arriving: list[bytes] = []

    def clock(self) -> float:
        """The wire's own time."""
        return self.now_s

    def send(self, frame: bytes) -> None:
        """Keep a frame, and let its answer arrive at once."""
        self.sent.append(frame)
        if self._answers:
            self._arriving += self._answers.pop(0)(frame)

    def receive(self, timeout_s: float) -> bytes | None:
        """The next frame that arrives; time passes while there is none."""
        if self._arriving:
            return self._arriving.pop(0)
        self.now_s += timeout_s
        return None

    def exchanger(self, timeout_s: float = 2.0, first_tag: int = 0x11) -> Exchanger:
        """A client of this wire."""
        return Exchanger(self, timeout_s, first_tag, self.clock)


def reply_to(
    request: bytes,
    argument: str,
    *,
    error: int = 0,
    address: str = "0001 01",
    source: bytes = TARGET,
) -> bytes:
    """A target's reply with an argument in hex, padded as all replies are."""
    flags = 0x1C if error else 0x18
    header = request[6:12] + source + b"\x88\xa2" + bytes((flags, error))
    frame = header + bytes.fromhex(address) + request[19:24] + bytes.fromhex(argument)
    return frame.ljust(60, b"\0")


def answering(argument: str, *, error: int = 0, address: str = "0001 01") -> Answer:
    """Answer a request once."""
    return lambda request: [reply_to(request, argument, error=error, address=address)]


def silent(request: bytes) -> Iterable[bytes]:
    """Lose a frame."""
    return ()
