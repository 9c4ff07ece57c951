# SPDX-License-Identifier: GPL-2.0-or-later
"""One AoE target: which frames concern it, and what is answered. No socket is known here.

Frames come from ports (network interfaces), of which one target may have several. Issue ATA is
carried out here and in operation.py, the other commands in administration.py.

Source: AoEr11 2 and 3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridges.aoe import wire
from bridges.aoe.address import BROADCAST_SHELF, BROADCAST_SLOT, Address
from bridges.aoe.administration import Administration
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
from bridges.aoe.availability import Availability
from bridges.aoe.errors import ABORTED, RESERVED, UNAVAILABLE, Outcome, put_outcome
from bridges.aoe.fence import Commands, Fences
from bridges.aoe.gate import Gate
from bridges.aoe.operation import AtaOperation, Port
from bridges.aoe.ordering import WriteOrder
from bridges.aoe.policy import DEFAULT_POLICY, Policy
from bridges.aoe.procedures import PROCEDURES
from bridges.aoe.reservation import ListReservation
from bridges.aoe.sessions import (
    AoeTargetError,
    Initiator,
    Sessions,
    Terms,
    TimerClock,
    served_lun,
)
from bridges.aoe.state import KeptState, TargetState
from bridges.aoe.trim import TrimPlace, can_trim, trim_ranges
from bridges.aoe.wire import AoeError, AtaArgument, ConfigCommand, Header
from bridges.lun import LunInfo
from bridges.sparing_log import SparingLog
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.target import Target, TargetError

_log = logging.getLogger(__name__)

_RESPONSE: Final = int(wire.HeaderFlag.RESPONSE)
_GROUP_ADDRESS: Final = 0x01
# Those of procedures.py. A READ VERIFY takes a buffer of a megabyte.
_MAX_LONG_COMMANDS: Final = 4


@dataclass(frozen=True, slots=True)
class _CommandRow:
    """An AoE command: the shortest frame that holds its argument, and what carries it out."""

    length_bytes: int
    execute: Callable[[memoryview, Header, Port], bool]


class AoeTarget:
    """The protocol state of one target: initiators, order of writes, and what frames may change.

    ``durable`` makes each write stable before its reply, whatever the device's cache mode.
    """

    def __init__(
        self,
        address: Address,
        target: Target,
        clock: TimerClock,
        policy: Policy = DEFAULT_POLICY,
        state: KeptState | None = None,
    ) -> None:
        """Raises ValueError for an address that cannot be used, AoeTargetError for a target."""
        address.check()
        self._unit = _checked_unit(address, target)
        self.address = address
        self.durable = True
        self.order = WriteOrder()
        self._target = target
        self._ports: list[Port] = []
        self._availability = Availability(self._availability_changed)
        self._gate = Gate(_MAX_LONG_COMMANDS)
        state = state or KeptState()
        state.on_change = self._state_changed
        self._admission = Admission(policy.access, state.value)
        failures = SparingLog(clock.time, _log.warning)
        terms = Terms(policy, self._availability, self._gate, failures, self._admission.fences)
        self._sessions = Sessions(target, clock, terms, self._take_info, self._forget_flows)
        self._reservation = ListReservation(target.relative_target_port)
        self._reservation.lead_to([self._unit])
        self._reservation.take(state.value.reserve_list)
        fences = Fences(self._fenced_commands)
        self._administration = Administration(
            address,
            state,
            self._ports,
            fences,
            self._reservation,
            may_edit=policy.in_band_editing,
        )
        # As it was announced last.
        self._block_count = self._unit.block_count
        administration = self._administration
        self._commands = {
            int(wire.Command.ISSUE_ATA_COMMAND): _CommandRow(wire.ATA_DATA_OFFSET, self._issue_ata),
            int(wire.Command.QUERY_CONFIG_INFORMATION): _CommandRow(
                wire.CONFIG_STRING_OFFSET, administration.query_config
            ),
            int(wire.Command.MAC_MASK_LIST): _CommandRow(
                wire.MASK_DIRECTIVES_OFFSET, administration.mask_list
            ),
            int(wire.Command.RESERVE_RELEASE): _CommandRow(
                wire.RESERVE_MACS_OFFSET, administration.reserve_release
            ),
        }

    def attach(self, port: Port) -> None:
        """Serve a port from now on, and announce the target there."""
        self._ports.append(port)
        self.announce(port)

    def detach(self, port: Port) -> None:
        """Serve a port no more; without any, the sessions end."""
        self._ports.remove(port)
        port.forget_flows()
        if not self._ports:
            self._sessions.close()

    def announce(self, port: Port) -> None:
        """Send a Query Config reply that nobody asked for: clients look at the disk again."""
        if not self._target.is_enabled or self._availability.is_standby:
            return
        for mac in self._admission.audience():
            request = Header(
                port.mac,
                mac,
                wire.ETHERTYPE,
                wire.VERSION << 4,
                0,
                self.address.shelf,
                self.address.slot,
                wire.Command.QUERY_CONFIG_INFORMATION,
                0,
            )
            self._administration.reply_config(request, port, ConfigCommand.READ)

    def admits_data(self, mac: bytes) -> bool:
        """Whether READ and WRITE of this source MAC are carried out without further ado.

        A port may remember the answer until ``Port.forget_flows``. While the LUN is on standby,
        every command must be seen that may find it back.
        """
        return (
            self._target.is_enabled
            and not self._availability.is_standby
            and self._admission.hears(mac)
            and not self._admission.fences(mac)
        )

    def initiator(self, mac: bytes) -> Initiator | None:
        """Return the initiator with this source MAC if its session is open; none is opened."""
        return self._sessions.opened(mac)

    def receive(self, frame: memoryview, port: Port) -> bool:
        """Handle a frame from Ethernet's destination address on; any bytes are fine.

        Return whether the frame is kept: then its memory stays untouched until ``port.release``.
        """
        if len(frame) < wire.HEADER_BYTES:
            return False
        header = Header.parse(frame)
        if not self.concerns(header, port):
            return False
        if header.version != wire.VERSION:
            return self._refuse(header, port, AoeError.UNSUPPORTED_VERSION)
        row = self._commands.get(header.command)
        if row is None:
            return self._refuse(header, port, AoeError.UNRECOGNIZED_COMMAND_CODE)
        if len(frame) < row.length_bytes:
            return False
        return row.execute(frame, header, port)

    def concerns(self, header: Header, port: Port) -> bool:
        """Whether a frame with this header, whose version may be any, is for this target."""
        shelf, slot = self.address
        source, destination = header.source, header.destination
        return (
            # A target that answers replies feeds on its own.
            not header.version_flags & _RESPONSE
            and header.ethertype == wire.ETHERTYPE
            and header.major in (shelf, BROADCAST_SHELF)
            and header.minor in (slot, BROADCAST_SLOT)
            # Not what this host sent, nor what a promiscuous interface hears of other hosts.
            and source != port.mac
            and not source[0] & _GROUP_ADDRESS
            and (destination == port.mac or bool(destination[0] & _GROUP_ADDRESS))
            and self._target.is_enabled
            and self._admission.hears(source)
        )

    def _begin_reply(self, header: Header, port: Port, length_bytes: int) -> memoryview:
        reply = port.allocate(length_bytes)
        wire.write_reply_header(reply, header, port.mac, *self.address)
        return reply

    def _refuse(self, header: Header, port: Port, error: AoeError) -> bool:
        reply = self._begin_reply(header, port, wire.HEADER_BYTES)
        wire.set_error(reply, error)
        port.send(reply, len(reply))
        return False

    def _issue_ata(self, frame: memoryview, header: Header, port: Port) -> bool:
        argument = AtaArgument.parse(frame)
        command = COMMANDS[argument.opcode]
        # One frame must not overwrite every disk of a LAN.
        if command is not None and command.is_for_one_target and header.has_wildcard:
            return False
        if self._admission.fences(header.source) and not _is_identify(command):
            return self._refuse_ata(frame, header, port, RESERVED)
        request = None if command is None else decode(command, argument, port.sector_count)
        if request is None or not _has_its_data(request, frame):
            return self._refuse_ata(frame, header, port, ABORTED)
        try:
            initiator = self._sessions.of(header.source)
        except TargetError:
            return self._refuse_ata(frame, header, port, UNAVAILABLE)
        refusal = self._refusal(request, initiator)
        if refusal is not None:
            return self._refuse_ata(frame, header, port, refusal)
        return self._begin_ata(frame, header, port, request, initiator)

    def _refusal(self, request: AtaRequest, initiator: Initiator) -> Outcome | None:
        """What is answered at once to a command that would wait for others, None if it may."""
        function, client = request.command.function, initiator.client
        if function is Function.TRIM and client is not None and not can_trim(client.info):
            return ABORTED
        if function in PROCEDURES and self._gate.is_full_for(initiator.name):
            return UNAVAILABLE
        return None

    def _begin_ata(
        self,
        frame: memoryview,
        header: Header,
        port: Port,
        request: AtaRequest,
        initiator: Initiator,
    ) -> bool:
        command = request.command
        if command.function is Function.TRIM:
            self._begin_trim(frame, header, port, request, initiator)
            return False
        is_write = command.transfer is Transfer.DATA_OUT
        data_in_bytes = 0 if is_write else request.data_bytes or _padding_bytes(command, frame)
        reply = self._begin_ata_reply(frame, header, port, data_in_bytes)
        operation = AtaOperation(self, initiator, port, request, frame, reply, is_write=is_write)
        if command.width is LbaWidth.NONE or self.order.enter(operation):
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
        ranges = trim_ranges(frame[wire.ATA_DATA_OFFSET :][: request.data_bytes])
        place = TrimPlace(self.address, self.order, ranges, durable=self.durable)
        reply = self._begin_ata_reply(frame, header, port, 0)
        operation = AtaOperation(
            place, initiator, port, request, frame, reply, is_write=False, ranges=ranges
        )
        place.enter(operation.start)

    def _begin_ata_reply(
        self, frame: memoryview, header: Header, port: Port, data_bytes: int
    ) -> memoryview:
        reply = self._begin_reply(header, port, wire.ATA_DATA_OFFSET + data_bytes)
        wire.echo_ata_argument(reply, frame)
        return reply

    def _refuse_ata(self, frame: memoryview, header: Header, port: Port, outcome: Outcome) -> bool:
        reply = self._begin_ata_reply(frame, header, port, 0)
        if outcome is ABORTED and frame[wire.ATA_OPCODE_OFFSET] in SIGNATURE_OPCODES:
            put_signature(reply)
        put_outcome(reply, outcome)
        port.send(reply, len(reply))
        return False

    def _state_changed(self, before: TargetState, after: TargetState) -> None:
        was_fenced = self._sessions.macs(self._admission.fences)
        self._admission.take(after)
        if before.reserve_list != after.reserve_list:
            self._reservation.take(after.reserve_list)
            self._sessions.look_again(was_fenced - self._sessions.macs(self._admission.fences))
        if (before.mask_list, before.reserve_list) != (after.mask_list, after.reserve_list):
            self._forget_flows()

    def _fenced_commands(self) -> list[Commands]:
        fenced = self._sessions.so_far(self._admission.fences)
        return [*fenced, *self._reservation.commands_elsewhere()]

    def _availability_changed(self) -> None:
        self._forget_flows()
        self._announce_everywhere()

    def _announce_everywhere(self) -> None:
        for port in self._ports:
            self.announce(port)

    def _forget_flows(self, mac: bytes | None = None) -> None:
        for port in self._ports:
            port.forget_flows(mac)

    def look_at_size(self) -> None:
        """Announce a new capacity that no session may ever hear of.

        Linux looks at a disk's size while nobody has it open, and sends no command then.
        """
        self._take_block_count(self._unit.block_count)

    def _take_info(self, info: LunInfo) -> None:
        self._take_block_count(info.block_count)

    def _take_block_count(self, block_count: int) -> None:
        """Announce a new capacity once, though every session's LUN client tells of it."""
        if block_count != self._block_count:
            self._block_count = block_count
            self._announce_everywhere()


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


def _checked_unit(address: Address, target: Target) -> LogicalUnit:
    try:
        unit = served_lun(target.luns).unit
    except AoeTargetError as error:
        raise AoeTargetError(f"{address}: {error}") from error
    if unit.block_shift != wire.SECTOR_SHIFT:
        raise AoeTargetError(
            f"{address}: device {unit.name} has blocks of {1 << unit.block_shift} bytes: "
            f"expected {wire.SECTOR_BYTES}, because AoE has no other"
        )
    return unit
