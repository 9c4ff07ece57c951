# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SELECT for tests: pages in hex, and a store of saved values that obeys the test."""

from __future__ import annotations

from scsi_backend.io.engine import Done
from scsi_backend.t10.mode_values import ModeValues
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.initiator import Initiator, Outcome, Pending

GOOD = Outcome(Status.GOOD, None, b"")
CACHING_OFF = "0812" + "00" * 18


def control(byte_2: int = 0x20, byte_3: int = 0x10, byte_4: int = 0, byte_5: int = 0) -> str:
    """The control mode page in hex."""
    return "0a0a" + bytes((byte_2, byte_3, byte_4, byte_5)).hex() + "0000" + "ffff0000"


D_SENSE, SWP, TAS, NOTHING = control(0x24), control(byte_4=0x08), control(byte_5=0x40), control()


def start(initiator: Initiator, pages: str, flags: int = 0x10) -> Pending:
    """Begin MODE SELECT(6) of pages in hex."""
    body = bytes(4) + bytes.fromhex(pages)
    return initiator.start(cdbs.raw(f"15{flags:02x}0000{len(body):02x}00"), body)


def select(initiator: Initiator, pages: str, flags: int = 0x10) -> Outcome:
    """MODE SELECT(6), which must end at once."""
    return start(initiator, pages, flags).outcome


def shown(initiator: Initiator, code: str) -> str:
    """A page as MODE SENSE shows it; ``code`` has the page control."""
    return initiator.good(cdbs.raw(f"1a08{code}00ff00"), None, 255).hex()[8:]


class Shelf:
    """A store that keeps values in memory, and answers when it is told to."""

    def __init__(self, saved: ModeValues | None = None) -> None:
        self.saved = saved
        self.error = 0
        self.waiting: list[tuple[ModeValues, Done]] = []

    def load(self, default: ModeValues) -> ModeValues | None:
        """See ``ModeStore``."""
        return self.saved

    def save(self, values: ModeValues, done: Done) -> None:
        """See ``ModeStore``."""
        self.waiting.append((values, done))

    def answer(self) -> None:
        """End the oldest save."""
        values, done = self.waiting.pop(0)
        if not self.error:
            self.saved = values
        done(-self.error)
