# SPDX-License-Identifier: GPL-2.0-or-later
"""One AoE target: which frames concern it, and what is answered. No socket is known here.

Frames come from ports (network interfaces), of which one target may have several. Issue ATA is
carried out in issue_ata.py and operation.py, the other commands in administration.py.

Source: AoEr11 2 and 3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from bridges.aoe import wire
from bridges.aoe.address import BROADCAST_SHELF, BROADCAST_SLOT, Address
from bridges.aoe.administration import Administration
from bridges.aoe.admission import Admission
from bridges.aoe.disk import Disk, Disks
from bridges.aoe.fence import Commands, Fences
from bridges.aoe.gate import Gate
from bridges.aoe.issue_ata import IssueAta
from bridges.aoe.operation import Port
from bridges.aoe.policy import DEFAULT_POLICY, Policy
from bridges.aoe.reservation import ListReservation
from bridges.aoe.sessions import Initiator, Sessions, Terms, TimerClock
from bridges.aoe.state import KeptState, TargetState
from bridges.aoe.views import Views
from bridges.aoe.wire import AoeError, ConfigCommand, Header
from bridges.sparing_log import SparingLog
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target

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
    """The protocol state of one target: initiators, devices, and what frames may change.

    It follows every change of ``target`` until ``end``.
    """

    def __init__(
        self,
        address: Address,
        target: Target,
        clock: TimerClock,
        policy: Policy = DEFAULT_POLICY,
        state: KeptState | None = None,
    ) -> None:
        """Raises ValueError for an address that cannot be used, AoeTargetError for a target.

        A reserve list that was kept is in force from now on.
        """
        address.check()
        self.address = address
        self._target = target
        self._ports: list[Port] = []
        self._views = Views(address, target)
        self._disks = Disks(address, self._announce_disk, self._forget_flows)
        self._is_ended = False
        gate = Gate(_MAX_LONG_COMMANDS)
        state = state or KeptState()
        self._admission = Admission(policy.access, state.value)
        failures = SparingLog(clock.time, _log.warning)
        terms = Terms(policy, gate, failures, self._admission.fences)
        self._sessions = Sessions(
            target, clock, terms, self._disks, self._views.remember, self._forget_flows
        )
        self._reservation = ListReservation(target.relative_target_port)
        self._reservation.take(state.value.reserve_list)
        self._take_units()
        self._administration = Administration(
            address,
            state,
            self._ports,
            Fences(self._fenced_commands),
            self._reservation,
            may_edit=policy.in_band_editing,
        )
        self._ata = IssueAta(address, self._admission, self._views, self._sessions, gate)
        self._unwatch = target.watch(self._target_changed)
        self._unwatch_state = state.watch(self._state_changed)
        administration = self._administration
        self._commands = {
            int(wire.Command.ISSUE_ATA_COMMAND): _CommandRow(
                wire.ATA_DATA_OFFSET, self._ata.execute
            ),
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

    @property
    def durable(self) -> bool:
        """Whether each write is stable before its reply, whatever the device's cache mode."""
        return self._disks.durable

    @durable.setter
    def durable(self, value: bool) -> None:
        self._disks.durable = value
        self._forget_flows()

    def attach(self, port: Port) -> None:
        """Serve a port from now on, and announce the target there."""
        self._ports.append(port)
        self.announce(port)

    def detach(self, port: Port) -> None:
        """Serve a port no more, if it is served; without any, the sessions end."""
        if port not in self._ports:
            return
        self._ports.remove(port)
        port.forget_flows()
        if not self._ports:
            self._sessions.close()

    def end(self, done: Callable[[], None]) -> None:
        """Answer nothing any more, and let go of the SCSI target and its devices.

        ``done`` is called when everything under way has been answered, and every change kept.
        """
        if not self._is_ended:
            self._is_ended = True
            self._unwatch()
        under_way = self._sessions.under_way()
        self._sessions.close()
        self._ports.clear()

        def answered() -> None:
            self._administration.when_idle(idle)

        def idle() -> None:
            self.let_go()
            self._unwatch_state()
            done()

        Fences(lambda: under_way).wait(answered)

    def let_go(self) -> None:
        """Keep nothing reserved any more, whatever may still be under way."""
        self._reservation.lead_to(())

    def announce(self, port: Port) -> None:
        """Send a Query Config reply that nobody asked for: clients look at the disk again."""
        self._announce(self._audience(self._is_ready), (port,))

    def _announce(self, macs: Iterable[bytes], ports: Iterable[Port]) -> None:
        if self._is_ended:
            return
        macs = tuple(macs)
        for port in ports:
            for mac in macs:
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

    def _announce_disk(self, disk: Disk) -> None:
        """Tell those who are shown a disk to look at it."""
        audience = self._audience(lambda entry: entry.unit is disk.unit and self._is_ready(entry))
        self._announce(audience, self._ports)

    def _is_ready(self, entry: LunEntry) -> bool:
        return not self._disks.of(entry.unit).availability.is_standby

    def _audience(self, is_meant: Callable[[LunEntry], bool]) -> tuple[bytes, ...]:
        """Whom to tell of what is meant, of those who are heard."""
        listed = self._admission.audience()
        if listed is None:
            return tuple(filter(self._may_be_told, self._views.audience(is_meant)))
        return tuple(mac for mac in listed if self._views.shows(mac, is_meant))

    def _may_be_told(self, mac: bytes) -> bool:
        return mac == wire.BROADCAST_MAC or self._admission.hears(mac)

    def admits_data(self, mac: bytes) -> bool:
        """Whether READ and WRITE of this source MAC are carried out without further ado.

        A port may remember the answer until ``Port.forget_flows``. While the LUN is on standby,
        every command must be seen that may find it back.
        """
        return (
            self._views.shows(mac, self._is_ready)
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
            and not self._is_ended
            and self._target.is_enabled
            and self._admission.hears(source)
            and (self._views.entry_of(source) is not None or self._is_of_former_client(header))
        )

    def _is_of_former_client(self, header: Header) -> bool:
        """Whether to tell a host that it has lost its disk, instead of nothing."""
        return (
            header.command == wire.Command.ISSUE_ATA_COMMAND
            and not header.has_wildcard
            and self._views.is_client(header.source)
        )

    def _refuse(self, header: Header, port: Port, error: AoeError) -> bool:
        reply = port.allocate(wire.HEADER_BYTES)
        wire.write_reply_header(reply, header, port.mac, *self.address)
        wire.set_error(reply, error)
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
        return [*fenced, *self._reservation.commands_kept_out()]

    def _target_changed(self) -> None:
        """The SCSI target was enabled or disabled, or shows initiators other devices."""
        told = self._views.update()
        self._take_units()
        self._sessions.follow()
        if wire.BROADCAST_MAC in told:
            told = self._audience(self._is_ready)
        self._announce(filter(self._may_be_told, told), self._ports)

    def _take_units(self) -> None:
        units = self._views.units
        self._reservation.lead_to(units)
        self._disks.retain(units)
        for unit in units:
            # It announces from now on what differs from what it finds.
            self._disks.of(unit)

    def _forget_flows(self, mac: bytes | None = None) -> None:
        for port in self._ports:
            port.forget_flows(mac)

    def look_at_size(self) -> None:
        """Announce new capacities that no session may ever hear of."""
        self._disks.look_at_sizes()
