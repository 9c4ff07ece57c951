# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reserve list of a target is to the devices behind it, and to SCSI's reservations.

A list with at least one address reserves every device that the target leads to, as SPC-2's RESERVE
does, for the I_T nexuses that these hosts have through this target, logged in or not. Everybody
else, at every door, meets RESERVATION CONFLICT by SPC-2's table; at this target AoE's own rule
comes first. Persistent reservations cannot be made or read meanwhile, by nobody. An empty list ends
all this, and so does the end of the target, or of its way to the device. A reset does not, nor the
loss of a session, nor that the target is disabled: the list is the target's. One that was kept is
in force as soon as the target is there again.

The other way round, a host cannot reserve, by force neither, where its RESERVE would be a conflict:
a device with registrants of persistent reservations, with SPC-2's reservation of somebody else, or
with the list of another target. What force overrides is the target's own list. To release is never
a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from bridges.aoe.fence import Commands
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.reservation_rules import Conflict, rule_of
from scsi_backend.servers.task_abort import when_ended
from scsi_backend.servers.turn import take_all
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.transport_id import transport_id


class ListReservation:
    """Owns what one target keeps reserved, through the port with this relative identifier."""

    def __init__(self, relative_target_port: int) -> None:
        self._port = relative_target_port
        self._units: dict[str, LogicalUnit] = {}
        self._holders: frozenset[ItNexusId] = frozenset()

    def lead_to(self, units: Iterable[LogicalUnit]) -> None:
        """The target leads to these devices from now on, and to no others."""
        before = self._units
        # In one order, in which everybody takes turns.
        self._units = dict(sorted((unit.name, unit) for unit in units))
        for name, unit in before.items():
            if self._units.get(name) is not unit:
                unit.reservations.keep_for(self, ())
        self._put_in_force()

    def take(self, macs: Collection[bytes]) -> None:
        """The list is this from now on."""
        self._holders = frozenset(self._nexus_of(mac) for mac in macs)
        self._put_in_force()

    def _put_in_force(self) -> None:
        for unit in self._units.values():
            unit.reservations.keep_for(self, self._holders)

    def _nexus_of(self, mac: bytes) -> ItNexusId:
        return ItNexusId(transport_id(mac.hex(":")), self._port)

    def admits(self, mac: bytes) -> bool:
        """Whether SCSI's reservations let a host reserve."""
        who = self._nexus_of(mac)
        return all(unit.reservations.admits_legacy(who, self) for unit in self._units.values())

    def in_turn(self, then: Callable[[Callable[[], None]], None]) -> None:
        """Call ``then(leave)`` when nobody else changes reservations of the devices."""
        take_all([unit.reservations.turn for unit in self._units.values()], then)

    def commands_kept_out(self) -> tuple[Commands, ...]:
        """Return what is under way, at whatever door, and would meet the list now.

        A target that had this one's port before may have left some of it behind.
        """
        if not self._holders:
            return ()
        found = [
            command
            for unit in self._units.values()
            for nexus in unit.nexuses
            if nexus.id not in self._holders
            for command in nexus.outstanding
            if rule_of(command.cdb[0], None).conflicts & Conflict.LEGACY
        ]
        commands = Commands()
        commands.count = len(found)
        for command in found:
            when_ended((command,), commands.end)
        return (commands,)
