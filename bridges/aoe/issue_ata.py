# SPDX-License-Identifier: GPL-2.0-or-later
"""Issue ATA Command: what is refused at once, and the beginning of everything else.

How a command goes on is in operation.py. Source: AoEr11 3.1.
"""

from __future__ import annotations

from bridges.aoe import wire
from bridges.aoe.address import Address
from bridges.aoe.admission import Admission
from bridges.aoe.ata import (
    COMMANDS,
    AtaCommand,
    AtaRequest,
    Function,
    LbaWidth,
    Transfer,
    decode,
    put_signature,
)
from bridges.aoe.ata_codes import SIGNATURE_OPCODES, AtaOpcode
from bridges.aoe.errors import ABORTED, RESERVED, UNAVAILABLE, Outcome, put_outcome
from bridges.aoe.gate import Gate
from bridges.aoe.operation import AtaOperation, Port
from bridges.aoe.procedures import PROCEDURES
from bridges.aoe.sessions import Initiator, Sessions
from bridges.aoe.trim import TrimPlace, can_trim, trim_ranges
from bridges.aoe.views import Views
from bridges.aoe.wire import AtaArgument, Header
from scsi_backend.target.target import TargetError


class IssueAta:
    """Answers the ATA commands to one target."""

    def __init__(
        self,
        address: Address,
        admission: Admission,
        views: Views,
        sessions: Sessions,
        gate: Gate,
    ) -> None:
        self._address = address
        self._admission = admission
        self._views = views
        self._sessions = sessions
        self._gate = gate

    def execute(self, frame: memoryview, header: Header, port: Port) -> bool:
        """Handle a frame that holds the argument; tell whether it is kept."""
        argument = AtaArgument.parse(frame)
        command = COMMANDS[argument.opcode]
        # One frame must not overwrite every disk of a LAN.
        if command is not None and command.is_for_one_target and header.has_wildcard:
            return False
        if self._views.entry_of(header.source) is None:
            # It had a disk here, and is to know at once that this is over.
            return self._refuse(frame, header, port, ABORTED)
        if self._admission.fences(header.source) and not _is_identify(command):
            return self._refuse(frame, header, port, RESERVED)
        request = None if command is None else decode(command, argument, port.sector_count)
        if request is None or not _has_its_data(request, frame):
            return self._refuse(frame, header, port, ABORTED)
        try:
            initiator = self._sessions.of(header.source)
        except TargetError:
            return self._refuse(frame, header, port, UNAVAILABLE)
        refusal = self._refusal(request, initiator)
        if refusal is not None:
            return self._refuse(frame, header, port, refusal)
        return self._begin(frame, header, port, request, initiator)

    def _refusal(self, request: AtaRequest, initiator: Initiator) -> Outcome | None:
        """What is answered at once to a command that would wait for others, None if it may."""
        function, client = request.command.function, initiator.client
        if function is Function.TRIM and client is not None and not can_trim(client.info):
            return ABORTED
        if function in PROCEDURES and self._gate.is_full_for(initiator.name):
            return UNAVAILABLE
        return None

    def _begin(
        self,
        frame: memoryview,
        header: Header,
        port: Port,
        request: AtaRequest,
        initiator: Initiator,
    ) -> bool:
        command, disk = request.command, initiator.disk
        if command.function is Function.TRIM:
            self._begin_trim(frame, header, port, request, initiator)
            return False
        is_write = command.transfer is Transfer.DATA_OUT
        data_in_bytes = 0 if is_write else request.data_bytes or _padding_bytes(command, frame)
        reply = self._begin_reply(frame, header, port, data_in_bytes)
        operation = AtaOperation(disk, initiator, port, request, frame, reply, is_write=is_write)
        if command.width is LbaWidth.NONE or disk.order.enter(operation):
            operation.start()
        operation.is_frame_kept = is_write and not operation.is_done
        return operation.is_frame_kept

    def _begin_trim(
        self,
        frame: memoryview,
        header: Header,
        port: Port,
        request: AtaRequest,
        initiator: Initiator,
    ) -> None:
        """Take from the frame what is needed of it, since a TRIM may wait for long."""
        disk = initiator.disk
        ranges = trim_ranges(frame[wire.ATA_DATA_OFFSET :][: request.data_bytes])
        place = TrimPlace(disk.address, disk.order, ranges, durable=disk.durable)
        reply = self._begin_reply(frame, header, port, 0)
        operation = AtaOperation(
            place, initiator, port, request, frame, reply, is_write=False, ranges=ranges
        )
        place.enter(operation.start)

    def _begin_reply(
        self, frame: memoryview, header: Header, port: Port, data_bytes: int
    ) -> memoryview:
        reply = port.allocate(wire.ATA_DATA_OFFSET + data_bytes)
        wire.write_reply_header(reply, header, port.mac, *self._address)
        wire.echo_ata_argument(reply, frame)
        return reply

    def _refuse(self, frame: memoryview, header: Header, port: Port, outcome: Outcome) -> bool:
        """Answer at once with an outcome that is no success."""
        reply = self._begin_reply(frame, header, port, 0)
        if outcome is ABORTED and frame[wire.ATA_OPCODE_OFFSET] in SIGNATURE_OPCODES:
            put_signature(reply)
        put_outcome(reply, outcome)
        port.send(reply, len(reply))
        return False


def _is_identify(command: AtaCommand | None) -> bool:
    return command is not None and command.function is Function.IDENTIFY


def _padding_bytes(command: AtaCommand, frame: memoryview) -> int:
    """How many zeros a reply without data gets, which are not more than the request has brought.

    aoeping takes no reply to a SMART command that has less than a sector behind its registers.
    """
    if command.opcode is not AtaOpcode.SMART:
        return 0
    return min(len(frame) - wire.ATA_DATA_OFFSET, wire.SECTOR_BYTES)


def _has_its_data(request: AtaRequest, frame: memoryview) -> bool:
    return (
        request.command.transfer is not Transfer.DATA_OUT
        or len(frame) >= wire.ATA_DATA_OFFSET + request.data_bytes
    )
