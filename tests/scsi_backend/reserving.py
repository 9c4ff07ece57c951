# SPDX-License-Identifier: GPL-2.0-or-later
"""Initiators that reserve: sessions of different names to one unit, and their CDBs."""

from __future__ import annotations

import struct
from typing import Protocol

from scsi_backend.io.engine import Done
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.reservation_state import PrState
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.initiator import Initiator, Outcome

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE, MOVE = range(8)
WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = 1, 3, 5, 6, 7, 8
CONFLICT = Outcome(Status.RESERVATION_CONFLICT, None, b"")
GOOD = Outcome(Status.GOOD, None, b"")


class Sends(Protocol):
    """Whoever sends commands to a disk: ``Initiator``, or a client of a daemon."""

    def send(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> Outcome:
        """Send a command and wait for its end."""

    def good(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> bytes:
        """Send a command that must end with GOOD; return its data."""


class Store:
    """Where states are kept; holds them back or fails when told to."""

    def __init__(self) -> None:
        self.saved: list[PrState] = []
        self.result = 0
        self.is_held = False
        self.held: list[Done] = []

    def load(self) -> PrState:
        """See ``PrStore``."""
        return PrState()

    def save(self, state: PrState, done: Done) -> None:
        """See ``PrStore``."""
        self.saved.append(state)
        if self.is_held:
            self.held.append(done)
        else:
            done(self.result)


def sign_in(
    unit: LogicalUnit, name: str, port: int = 1, *, keep_attentions: bool = False
) -> Initiator:
    """A session of an initiator; what came with it is taken, unless it is to be kept."""
    target = Target("scst_local", f"target{port}", port)
    target.add_lun(0, LunEntry(unit))
    target.is_enabled = True
    initiator = Initiator(target.open_session(name))
    while not keep_attentions and initiator.send(cdbs.TEST_UNIT_READY).status != Status.GOOD:
        pass
    return initiator


def pr_in(action: int, allocation_bytes: int = 1024) -> bytes:
    return struct.pack(">BB5xHx", 0x5E, action, allocation_bytes).ljust(16, b"\0")


def pr_out(action: int, kind: int, length_bytes: int) -> bytes:
    return struct.pack(">BBB2xIx", 0x5F, action, kind, length_bytes).ljust(16, b"\0")


def send_out(
    initiator: Sends,
    action: int,
    key: int = 0,
    action_key: int = 0,
    kind: int = 0,
    flags: int = 0,
    more: bytes = b"",
) -> Outcome:
    """Send PERSISTENT RESERVE OUT with the parameter list of all but REGISTER AND MOVE."""
    data = struct.pack(">QQ4xB3x", key, action_key, flags) + more
    return initiator.send(pr_out(action, kind, len(data)), data)


def register(initiator: Sends, key: int, flags: int = 0) -> None:
    assert send_out(initiator, IGNORE, 0, key, flags=flags) == GOOD


def reserve(initiator: Sends, key: int, kind: int) -> None:
    register(initiator, key)
    assert send_out(initiator, RESERVE, key, kind=kind) == GOOD


def keys(initiator: Sends) -> tuple[int, list[int]]:
    """What READ KEYS says: generation and keys."""
    data = initiator.good(pr_in(0), None, 1024)
    generation, length = struct.unpack_from(">II", data)
    assert len(data) == 8 + length
    return generation, [int.from_bytes(data[at : at + 8], "big") for at in range(8, len(data), 8)]


def holder(initiator: Sends) -> tuple[int, int] | None:
    """What READ RESERVATION says: key and type."""
    data = initiator.good(pr_in(1), None, 1024)
    if len(data) == 8:
        return None
    key, kind = struct.unpack_from(">Q4xxB", data, 8)
    return key, kind


def full_status(initiator: Sends) -> dict[tuple[bytes, int], tuple[int, bool]]:
    """What READ FULL STATUS says: key and whether it is a holder, by TransportID and port."""
    data = initiator.good(pr_in(3), None, 1024)[8:]
    found = {}
    while data:
        key, is_holder, port, length = struct.unpack_from(">Q4xB5xHI", data)
        found[data[24 : 24 + length], port] = key, is_holder == 1
        data = data[24 + length :]
    return found


def persists(initiator: Sends) -> bool:
    """What REPORT CAPABILITIES says of the state that is there (PTPL_A)."""
    return bool(initiator.good(pr_in(2), None, 8)[3] & 1)
