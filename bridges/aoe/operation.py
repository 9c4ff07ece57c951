# SPDX-License-Identifier: GPL-2.0-or-later
"""One Issue ATA command from its arrival to its reply, and the port that it came through.

The reply frame is allocated when the command arrives, and is where a READ's data go directly. No
socket is known here: a port hands out memory and takes it back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from bridges.aoe.address import Address
from bridges.aoe.ata import AtaRequest, AtaStatus, Function, put_lba
from bridges.aoe.errors import ABORTED, DEVICE_FAULT, RESERVED, Outcome, outcome_of, put_outcome
from bridges.aoe.ordering import Ranged
from bridges.aoe.policy import ReservationConflict
from bridges.aoe.procedures import CHANGING_FUNCTIONS, PROCEDURES, Procedure, Task
from bridges.aoe.results import RESULTS, Result
from bridges.aoe.sessions import Initiator
from bridges.aoe.translate import to_cdb
from bridges.aoe.trim import Range
from bridges.aoe.wire import ATA_DATA_OFFSET, MIN_FRAME_BYTES, set_ata_success, set_remaining
from bridges.exchange import Exchange
from bridges.lun_client import LunClient
from bridges.recovery import Reply, ScsiError, reply_of
from scsi_backend.servers.command import Command
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.sense import Sense

_log = logging.getLogger(__name__)

_MEDIUM_CHANGED: Final = AdditionalSense.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED
_DRDY: Final = int(AtaStatus.DRDY)
_NO_DATA: Final = bytes(MIN_FRAME_BYTES - ATA_DATA_OFFSET)


class Port(Protocol):
    """A network interface, as a target sees it.

    ``sector_count`` and ``buffer_count`` are what Query Config advertises here. ``mtu`` is in
    bytes, without the Ethernet header.
    """

    mac: bytes
    mtu: int
    sector_count: int
    buffer_count: int

    def allocate(self, length_bytes: int) -> memoryview:
        """Return a zeroed reply frame of this length, or of 60 bytes if it is shorter."""

    def send(self, frame: memoryview, length_bytes: int) -> None:
        """Send the first bytes of an allocated frame, which is the port's again."""

    def release(self, frame: memoryview) -> None:
        """Take back a received frame that the target kept."""

    def forget_flows(self, mac: bytes | None = None) -> None:
        """Forget what is remembered of an initiator, or of all: what decides has changed."""


class Order(Protocol):
    """Who is told that an operation has ended."""

    def leave(self, command: Ranged, /) -> None:
        """See ``WriteOrder.leave``."""


class Owner(Protocol):
    """Where an operation goes: a disk of a target, as a rule."""

    address: Address

    @property
    def durable(self) -> bool:
        """Whether each write is stable before its reply."""

    @property
    def order(self) -> Order:
        """Where the operation has its place."""


class AtaOperation:
    """A command in flight. It is ``is_done`` once the reply is with the port."""

    __slots__ = (
        "_counted",
        "_frame",
        "_initiator",
        "_owner",
        "_port",
        "_procedure",
        "_ranges",
        "_reply",
        "_request",
        "blockers",
        "end_lba",
        "followers",
        "is_done",
        "is_frame_kept",
        "is_write",
        "lba",
    )

    def __init__(
        self,
        owner: Owner,
        initiator: Initiator,
        port: Port,
        request: AtaRequest,
        frame: memoryview,
        reply: memoryview,
        *,
        is_write: bool,
        ranges: Sequence[Range] = (),
    ) -> None:
        """``is_write``: its data are in ``frame``. ``ranges`` are a TRIM's."""
        self._owner = owner
        self._initiator = initiator
        self._port = port
        self._request = request
        self._frame = frame
        self._reply = reply
        self._ranges = ranges
        self._procedure = PROCEDURES.get(request.command.function)
        if self._procedure is not None:
            initiator.terms.gate.arrive(initiator.name)
        self.is_write = is_write
        self.lba = request.lba
        self.end_lba = request.lba + request.length_sectors
        self.blockers = 0
        self.followers: list[Ranged] = []
        self.is_done = False
        self.is_frame_kept = False
        is_harmless = request.command.function is Function.IDENTIFY
        self._counted = initiator.outstanding.begin(is_harmless=is_harmless)

    def start(self) -> None:
        """Submit the command, as soon as the initiator's session is open."""
        client = self._initiator.client
        if client is None:
            self._initiator.wait(self)
            return
        if self._procedure is not None:
            self._run(self._procedure, client)
            return
        request = self._request
        function = request.command.function
        data_in = data_out = None
        if function is Function.READ:
            data_in = self._reply[ATA_DATA_OFFSET : ATA_DATA_OFFSET + request.data_bytes]
        elif self.is_write:
            data_out = self._frame[ATA_DATA_OFFSET : ATA_DATA_OFFSET + request.data_bytes]
        cdb = to_cdb(request, durable=self._owner.durable)
        client.nexus.submit(Command(cdb, data_in, data_out, self._complete))

    def reject(self, error: ScsiError, *, is_known: bool = False) -> None:
        """See ``Waiting.reject``. ``is_known``: another one has ended like this, and said so."""
        if not is_known:
            self._note_failure(error)
        outcome = self._outcome(error.reply)
        # GOOD, but with less data than there should be.
        self._fail(DEVICE_FAULT if outcome.is_success else outcome, error.reply.sense)

    def _run(self, procedure: Procedure, client: LunClient) -> None:
        policy, durable = self._initiator.terms.policy, self._owner.durable
        exchange = procedure(Task(self._request, self._ranges, client, policy, durable))
        self._initiator.terms.gate.enter(partial(self._let_through, client, exchange))

    def _let_through(self, client: LunClient, exchange: Exchange[Outcome]) -> None:
        # Whoever has fenced this host off meanwhile waits for what it has under way.
        if self._initiator.is_fenced:
            self._finish(RESERVED)
        else:
            client.run(exchange, self._finish)

    def _finish(self, outcome: Outcome | ScsiError) -> None:
        self._initiator.terms.gate.leave()
        if isinstance(outcome, ScsiError):
            self._note_failure(outcome)
            self._fail(self._outcome(outcome.reply), outcome.reply.sense)
        elif not outcome.is_success:
            self._fail(outcome, None)
        elif self._request.command.function in CHANGING_FUNCTIONS:
            self._client.refresh(self._succeed)
        else:
            self._succeed()

    def _complete(self, command: Command) -> None:
        if command.status == 0 and _has_all_data(command):
            self._succeed()
        else:
            self._client.recover(command, self._settle)

    def _settle(self, command: Command) -> None:
        reply = reply_of(command)
        outcome = self._outcome(reply)
        if outcome.is_success and _has_all_data(command):
            self._succeed(reply.sense)
            return
        self._note_failure(ScsiError(command.cdb, reply))
        self._fail(DEVICE_FAULT if outcome.is_success else outcome, reply.sense)

    @property
    def _client(self) -> LunClient:
        client = self._initiator.client
        assert client is not None, "the command was submitted through it"
        return client

    def _outcome(self, reply: Reply) -> Outcome:
        outcome = outcome_of(reply.status, reply.sense)
        conflict = self._initiator.terms.policy.reservation_conflict
        if (
            outcome is RESERVED
            and conflict is ReservationConflict.ATA
            # The reserve list has AoE's own answer, at the device too.
            and not self._initiator.is_fenced
        ):
            return ABORTED
        return outcome

    def _note_failure(self, error: ScsiError) -> None:
        text = f"{self._owner.address} from {self._initiator.name}: {error}"
        sense = error.reply.sense
        if sense is not None and sense.deferred:
            _log.error("%s: data of earlier writes are lost", text)
        else:
            self._initiator.terms.failures.log(text)
        client = self._initiator.client
        # Without a client it is the session that could not be opened.
        if client is not None and sense is not None and sense.code == _MEDIUM_CHANGED:
            # Not retried: what was meant for one medium must not be written to another.
            client.refresh(_nothing)

    def _succeed(self, sense: Sense | None = None) -> None:
        command, reply = self._request.command, self._reply
        set_ata_success(reply, _DRDY, 0)
        fill = RESULTS.get(command.function)
        if fill is not None:
            info, durable = self._client.info, self._owner.durable
            fill(Result(reply, command.width, info, durable, sense))
        self._initiator.disk.availability.note(is_standby=False)
        self._end(len(reply))

    def _fail(self, outcome: Outcome, sense: Sense | None) -> None:
        reply = self._reply
        if outcome.is_standby:
            self._initiator.disk.availability.note(is_standby=True)
        # A read may have got part of the data.
        reply[ATA_DATA_OFFSET:MIN_FRAME_BYTES] = _NO_DATA
        bad_lba = self._first_bad_lba(outcome, sense)
        if bad_lba is not None:
            set_remaining(reply, self.end_lba - bad_lba)
            put_lba(reply, self._request.command.width, bad_lba)
        put_outcome(reply, outcome)
        self._end(MIN_FRAME_BYTES)

    def _first_bad_lba(self, outcome: Outcome, sense: Sense | None) -> int | None:
        if not outcome.reports_lba or sense is None or sense.information is None:
            return None
        return sense.information if self.lba <= sense.information < self.end_lba else None

    def _end(self, length_bytes: int) -> None:
        self.is_done = True
        self._port.send(self._reply, length_bytes)
        if self.is_frame_kept:
            self._port.release(self._frame)
        if self._procedure is not None:
            self._initiator.terms.gate.depart(self._initiator.name)
        self._owner.order.leave(self)
        self._counted.end()


def _nothing() -> None:
    """Nobody waits for it."""


def _has_all_data(command: Command) -> bool:
    return command.data_in is None or command.data_in_length == len(command.data_in)
