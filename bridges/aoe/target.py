# SPDX-License-Identifier: GPL-2.0-or-later
"""One AoE target: which frames concern it, and what is answered. No socket is known here.

Frames come from ports (network interfaces), of which one target may have several. Limit: MAC Mask
List and Reserve/Release are answered as commands that are not recognized.

Source: AoEr11 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridges.aoe import wire
from bridges.aoe.address import BROADCAST_SHELF, BROADCAST_SLOT, Address
from bridges.aoe.ata import COMMANDS, LbaWidth, Transfer, decode
from bridges.aoe.errors import ABORTED, UNAVAILABLE, Outcome, put_outcome
from bridges.aoe.operation import AtaOperation, Port
from bridges.aoe.ordering import WriteOrder
from bridges.aoe.query_config import ANSWER, ConfigString
from bridges.aoe.sessions import AoeTargetError, Initiator, Sessions, served_lun
from bridges.aoe.wire import AoeError, AtaArgument, ConfigArgument, ConfigCommand, Header
from bridges.lun import LunInfo
from bridges.lun_client import Clock
from scsi_backend.target.target import Target, TargetError

FIRMWARE_VERSION: Final = 1

_RESPONSE: Final = int(wire.HeaderFlag.RESPONSE)
_GROUP_ADDRESS: Final = 0x01


@dataclass(frozen=True, slots=True)
class _CommandRow:
    """An AoE command: the shortest frame that holds its argument, and what carries it out."""

    length_bytes: int
    execute: Callable[[memoryview, Header, Port], bool]


class AoeTarget:
    """The protocol state of one target: config string, initiators, order of writes.

    ``durable`` makes each write stable before its reply, whatever the device's cache mode.
    """

    def __init__(self, address: Address, target: Target, clock: Clock) -> None:
        """Raises ValueError for an address that cannot be used, AoeTargetError for a target."""
        address.check()
        _check_block_size(address, target)
        self.address = address
        self.durable = True
        self.order = WriteOrder()
        self._target = target
        self._config = ConfigString()
        self._sessions = Sessions(target, clock, self._take_info, self._forget_flows)
        self._block_count: int | None = None
        self._ports: list[Port] = []
        self._commands = {
            int(wire.Command.ISSUE_ATA_COMMAND): _CommandRow(wire.ATA_DATA_OFFSET, self._issue_ata),
            int(wire.Command.QUERY_CONFIG_INFORMATION): _CommandRow(
                wire.CONFIG_STRING_OFFSET, self._query_config
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
        """Broadcast a Query Config reply that nobody asked for: clients look at the disk again."""
        if self._target.is_enabled:
            nobody = Header(
                port.mac,
                wire.BROADCAST_MAC,
                wire.ETHERTYPE,
                wire.VERSION << 4,
                0,
                self.address.shelf,
                self.address.slot,
                wire.Command.QUERY_CONFIG_INFORMATION,
                0,
            )
            self._reply_config(nobody, port, ConfigCommand.READ, ANSWER)

    def admits_data(self, mac: bytes) -> bool:
        """Whether READ and WRITE of this source MAC are carried out.

        A port may remember the answer until ``Port.forget_flows``.
        """
        return self._target.is_enabled

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
        if not self._concerns(header, port):
            return False
        if header.version != wire.VERSION:
            return self._refuse(header, port, AoeError.UNSUPPORTED_VERSION)
        row = self._commands.get(header.command)
        if row is None:
            return self._refuse(header, port, AoeError.UNRECOGNIZED_COMMAND_CODE)
        if len(frame) < row.length_bytes:
            return False
        return row.execute(frame, header, port)

    def _concerns(self, header: Header, port: Port) -> bool:
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
        is_write = command is not None and command.transfer is Transfer.DATA_OUT
        # One frame must not overwrite every disk of a LAN.
        if is_write and header.has_wildcard:
            return False
        request = None if command is None else decode(command, argument, port.sector_count)
        if (
            command is None
            or request is None
            or (is_write and len(frame) < wire.ATA_DATA_OFFSET + request.data_bytes)
        ):
            return self._refuse_ata(frame, header, port, ABORTED)
        try:
            initiator = self._sessions.of(header.source)
        except TargetError:
            return self._refuse_ata(frame, header, port, UNAVAILABLE)
        data_in_bytes = 0 if is_write else request.data_bytes
        reply = self._begin_reply(header, port, wire.ATA_DATA_OFFSET + data_in_bytes)
        wire.echo_ata_argument(reply, frame)
        operation = AtaOperation(self, initiator, port, request, frame, reply, is_write=is_write)
        if command.width is LbaWidth.NONE or self.order.enter(operation):
            operation.start()
        operation.is_frame_kept = is_write and not operation.is_done
        return operation.is_frame_kept

    def _refuse_ata(self, frame: memoryview, header: Header, port: Port, outcome: Outcome) -> bool:
        reply = self._begin_reply(header, port, wire.ATA_DATA_OFFSET)
        wire.echo_ata_argument(reply, frame)
        put_outcome(reply, outcome)
        port.send(reply, len(reply))
        return False

    def _query_config(self, frame: memoryview, header: Header, port: Port) -> bool:
        argument = ConfigArgument.parse(frame)
        error = self._config.execute(argument, is_wildcard=header.has_wildcard)
        if error is not None:
            self._reply_config(header, port, argument.command, error)
        return False

    def _reply_config(self, header: Header, port: Port, command: int, error: int) -> None:
        string = self._config.value
        argument = ConfigArgument(
            buffer_count=port.buffer_count,
            firmware_version=FIRMWARE_VERSION,
            sector_count=port.sector_count,
            version=wire.VERSION,
            command=command,
            length_bytes=len(string),
            string=string,
        ).serialize()
        end = wire.HEADER_BYTES + len(argument)
        reply = self._begin_reply(header, port, end)
        reply[wire.HEADER_BYTES : end] = argument
        if error:
            wire.set_error(reply, error)
        port.send(reply, len(reply))

    def _forget_flows(self) -> None:
        for port in self._ports:
            port.forget_flows()

    def _take_info(self, info: LunInfo) -> None:
        """Announce a new capacity once, though every session's LUN client tells of it."""
        before, self._block_count = self._block_count, info.block_count
        if before not in (None, info.block_count):
            for port in self._ports:
                self.announce(port)


def _check_block_size(address: Address, target: Target) -> None:
    try:
        unit = served_lun(target.luns).unit
    except AoeTargetError as error:
        raise AoeTargetError(f"{address}: {error}") from error
    if unit.block_shift != wire.SECTOR_SHIFT:
        raise AoeTargetError(
            f"{address}: device {unit.name} has blocks of {1 << unit.block_shift} bytes: "
            f"expected {wire.SECTOR_BYTES}, because AoE has no other"
        )
