# SPDX-License-Identifier: GPL-2.0-or-later
"""The file in which persistent reservations outlive the daemon (APTPL), in SCST's pr_state words.

    version 1
    generation 7                             PRGENERATION when this was stored
    reservation 05 00                        type and scope, in hex; without one, no such line
    registrant 1 00000000deadbeef 1 36 05..  relative target port, key, whether it is a holder,
                                             length of the TransportID and the TransportID in hex
    crc32 12345678                           of all that is before

A state that is not to persist is stored as one without registrants. The generation is for people
and tools: PRGENERATION is zero after power on, whatever persists (SPC-4 6.15.2). Files written
before there was that line are read, too.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final
from zlib import crc32

from scsi_backend.io.durable_file import DurableFile
from scsi_backend.io.engine import Done, Engine
from scsi_backend.servers.reservation_state import PrState, Reservation
from scsi_backend.t10.persistent_reservation import (
    SCOPE_LOGICAL_UNIT,
    ItNexusId,
    ReservationType,
)
from scsi_backend.t10.transport_id import parse_transport_id

_log = logging.getLogger(__name__)

_VERSION: Final = "version 1"
_GENERATION: Final = re.compile("generation (0|[1-9][0-9]*)")
_CHECKSUM: Final = "crc32 "
_MAX_KEY: Final = (1 << 64) - 1
_MAX_PORT: Final = (1 << 16) - 1
_MAX_GENERATION: Final = (1 << 32) - 1


class ReservationFile:
    """The persistent reservations of one device; see ``PrStore``."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._file = DurableFile(path)
        self._engine = engine
        # Whether there may be something in the file.
        self._has_state = False

    def load(self) -> PrState:
        """Return what was stored, nothing without a file; raises OSError.

        A damaged file is set aside by another name and never guessed at.
        """
        data = self._file.read()
        if data is None:
            return PrState()
        try:
            state = parse(data)
        except ValueError as error:
            aside = self._file.set_aside()
            _log.error("%s: %s: kept as %s, not used", self.path, error, aside)
            return PrState()
        self._has_state = bool(state.registrants)
        return state

    def save(self, state: PrState, done: Done) -> None:
        """See ``PrStore.save``."""
        if not state.persists:
            if not self._has_state:
                done(0)
                return
            state = PrState(state.generation)
        data = serialize(state)

        def store() -> int:
            self._file.make_folder()
            self._file.replace(data)
            return 0

        def finish(result: int) -> None:
            if result < 0:
                _log.error("%s: not stored: %s", self.path, os.strerror(-result))
            self._has_state = result < 0 or bool(state.registrants)
            done(result)

        self._engine.call(store, finish)


def serialize(state: PrState) -> bytes:
    """Return the file's contents."""
    return _sealed((_VERSION, f"generation {state.generation}", *_lines(state)))


def _sealed(lines: Iterable[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    return f"{text}{_CHECKSUM}{crc32(text.encode('ascii')):08x}\n".encode("ascii")


def _lines(state: PrState) -> Iterator[str]:
    if state.reservation is not None:
        yield f"reservation {state.reservation.type:02x} {SCOPE_LOGICAL_UNIT:02x}"
    for nexus, key in state.registrants.items():
        name = nexus.transport_id
        is_holder = int(state.is_holder(nexus))
        yield (
            f"registrant {nexus.relative_target_port} {key:016x} {is_holder}"
            f" {len(name)} {name.hex()}"
        )


def parse(data: bytes) -> PrState:
    """Read a file's contents; raises ValueError for whatever ``serialize`` does not write.

    The state's generation is zero, whatever it was.
    """
    body, separator, checksum = data.rpartition(_CHECKSUM.encode("ascii"))
    if not separator or checksum != f"{crc32(body):08x}\n".encode("ascii"):
        raise ValueError("expected a checksum that fits")
    lines = body.decode("ascii").splitlines()
    if not lines or lines[0] != _VERSION:
        raise ValueError(f"expected '{_VERSION}' in the first line")
    head = _head(lines)
    words = [line.split() for line in lines[len(head) :]]
    registrants: dict[ItNexusId, int] = {}
    holders = []
    for line in words:
        if line[:1] == ["registrant"]:
            nexus, key, is_holder = _registrant(line)
            registrants[nexus] = key
            if is_holder:
                holders.append(nexus)
    kinds = [_type(line) for line in words if line[:1] == ["reservation"]]
    state = PrState(registrants=MappingProxyType(registrants), persists=bool(registrants))
    if kinds:
        is_everybodys = kinds[0].is_all_registrants
        if not is_everybodys and len(holders) != 1:
            raise ValueError("reservation: expected one holder")
        holder = None if is_everybodys else holders[0]
        state = replace(state, reservation=Reservation(kinds[0], holder))
    # Whatever is said twice, not at all, or against something else, shows here.
    if _sealed((*head, *_lines(state))) != data:
        raise ValueError("expected the lines of a reservation and its registrants")
    return state


def _head(lines: list[str]) -> list[str]:
    """The lines before those of ``_lines``."""
    generation = _GENERATION.fullmatch(lines[1]) if len(lines) > 1 else None
    if generation is None:
        return lines[:1]
    if int(generation[1]) > _MAX_GENERATION:
        raise ValueError(f"{lines[1]}: expected at most {_MAX_GENERATION}")
    return lines[:2]


def _type(line: list[str]) -> ReservationType:
    if len(line) != 3:
        raise ValueError("reservation: expected type and scope")
    return ReservationType(int(line[1], 16))


def _registrant(line: list[str]) -> tuple[ItNexusId, int, bool]:
    if len(line) != 6:
        raise ValueError("registrant: expected port, key, holder, length and TransportID")
    name, key, port = bytes.fromhex(line[5]), int(line[2], 16), int(line[1])
    if parse_transport_id(name) != (name, len(name)):
        raise ValueError("registrant: expected a TransportID")
    if not (0 < key <= _MAX_KEY and 0 < port <= _MAX_PORT):
        raise ValueError("registrant: expected a key and a relative target port")
    return ItNexusId(name, port), key, line[3] == "1"
