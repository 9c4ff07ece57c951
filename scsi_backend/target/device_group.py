# SPDX-License-Identifier: GPL-2.0-or-later
"""Device groups: devices that share the access states of their target groups (SCST's ALUA).

A state takes effect when it changes: each nexus of the devices lays what it refuses over its
dispatch table. Before the administrator takes access away, perhaps to give it to another machine,
the commands that are under way end; until then the group is transitioning. What an initiator sets
is among ports of this machine, so it needs no waiting: commands under way go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.port_groups import StatesNotSetError
from scsi_backend.servers.task_abort import when_ended
from scsi_backend.t10.alua import MAX_PORTS, AccessState, PortGroup, StatusCode
from scsi_backend.t10.sense import ACCESS_STATE_CHANGED, INQUIRY_DATA_CHANGED
from scsi_backend.target.target import Target, TargetError

_log = logging.getLogger(__name__)

# In these nothing reaches the medium any more.
_WITHOUT_ACCESS = frozenset({AccessState.STANDBY, AccessState.UNAVAILABLE, AccessState.OFFLINE})


@dataclass(frozen=True, slots=True)
class RemotePort:
    """A target port of another machine that leads to the same devices."""

    name: str
    relative_target_port: int


class TargetGroup:
    """SCST's target group: ports of this machine and of others, with one access state."""

    def __init__(
        self,
        name: str,
        group_id: int,
        ports: Iterable[Target | RemotePort],
        *,
        state: AccessState = AccessState.ACTIVE,
        is_preferred: bool = False,
    ) -> None:
        self.name = name
        self.group_id = group_id
        self.ports = tuple(ports)
        self.state = state
        self.is_preferred = is_preferred
        self.status = StatusCode.NO_STATUS

    @property
    def port_numbers(self) -> tuple[int, ...]:
        """The relative target port identifiers."""
        return tuple(port.relative_target_port for port in self.ports)

    @property
    def has_remote_ports(self) -> bool:
        """Whether another machine has to do its part when the state changes."""
        return any(isinstance(port, RemotePort) for port in self.ports)

    def describe(self) -> PortGroup:
        """What REPORT TARGET PORT GROUPS says of it."""
        return PortGroup(
            self.group_id, self.state, self.is_preferred, self.status, self.port_numbers
        )


class DeviceGroup:
    """Owns its target groups, and tells its devices of their states; see ``PortGroups``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._devices: list[LogicalUnit] = []
        self._groups: dict[str, TargetGroup] = {}
        self._by_port: dict[int, TargetGroup] = {}
        # The administrator's latest of each group, while it waits; that is the one that counts.
        self._decisions: dict[TargetGroup, object] = {}

    @property
    def devices(self) -> tuple[LogicalUnit, ...]:
        """The devices, in the order they were added."""
        return tuple(self._devices)

    @property
    def target_groups(self) -> Mapping[str, TargetGroup]:
        """The target groups by name."""
        return MappingProxyType(self._groups)

    def add_target_group(self, group: TargetGroup) -> None:
        """Add a group; raises TargetError where its name, identifier or a port is taken."""
        _check([*self._groups.values(), group])
        self._groups[group.name] = group
        self._by_port.update(dict.fromkeys(group.port_numbers, group))
        self._recompose()

    def add_device(self, unit: LogicalUnit) -> None:
        """Put a device under the groups' states; raises TargetError if others have it."""
        if unit.port_groups is not None:
            raise TargetError(f"device {unit.name} is in a device group already")
        unit.port_groups = self
        self._devices.append(unit)
        unit.recompose_nexuses()

    def configure(self, devices: Iterable[LogicalUnit], groups: Iterable[TargetGroup]) -> None:
        """Have these devices and target groups from now on; raises TargetError, changing nothing.

        A target group of a name that there is already keeps its state and PREF, and what is waited
        for before it gets another. Initiators hear of what is different for them.
        """
        devices, groups = list(devices), list(groups)
        _check(groups)
        for unit in devices:
            if unit.port_groups not in (None, self):
                raise TargetError(f"device {unit.name} is in a device group already")
        before, old_devices = self._described_by_port(), self._devices
        self._groups = {group.name: self._kept(group) for group in groups}
        self._by_port = {
            number: group for group in self._groups.values() for number in group.port_numbers
        }
        for group in self._decisions.keys() - set(self._groups.values()):
            del self._decisions[group]
        self._devices = devices
        after = self._described_by_port()
        for unit in old_devices:
            if unit not in devices:
                unit.port_groups = None
                _tell_of_regrouping(unit, before, {})
        for unit in devices:
            unit.port_groups = self
            _tell_of_regrouping(unit, before if unit in old_devices else {}, after)

    def _kept(self, group: TargetGroup) -> TargetGroup:
        old = self._groups.get(group.name)
        if old is None:
            return group
        old.group_id, old.ports = group.group_id, group.ports
        return old

    def _described_by_port(self) -> Mapping[int, PortGroup]:
        return {number: group.describe() for number, group in self._by_port.items()}

    def state_of(self, relative_target_port: int) -> AccessState:
        """See ``PortGroups.state_of``."""
        group = self._by_port.get(relative_target_port)
        return AccessState.ACTIVE if group is None else group.state

    def group_id_of(self, relative_target_port: int) -> int | None:
        """See ``PortGroups.group_id_of``."""
        group = self._by_port.get(relative_target_port)
        return None if group is None else group.group_id

    def described(self) -> Sequence[PortGroup]:
        """See ``PortGroups.described``."""
        return [group.describe() for group in self._groups.values()]

    def set_states(self, states: Mapping[int, AccessState], nexus: object) -> None:
        """See ``PortGroups.set_states``; states of other machines' ports are not ours to set."""
        by_id = {group.group_id: group for group in self._groups.values()}
        changed = {
            by_id[group_id]: state
            for group_id, state in states.items()
            if by_id[group_id].state is not state
        }
        for group in changed:
            if group.has_remote_ports:
                raise StatesNotSetError(f"target group {group.name} has remote targets")
        for group, state in changed.items():
            self._put(group, state, StatusCode.SET_BY_COMMAND)
        if changed:
            self._tell(nexus)

    def set_state(
        self, group: TargetGroup, state: AccessState, done: Callable[[], None] = lambda: None
    ) -> None:
        """Set the state of a group, as its administrator; ``done`` follows when it is in force.

        One that still waits when another is set gives in to that.
        """
        if group.state is state and group not in self._decisions:
            done()
            return
        decision = object()
        self._decisions[group] = decision

        def carry_out() -> None:
            if self._decisions.get(group) is decision:
                del self._decisions[group]
                self._put(group, state, StatusCode.IMPLICIT)
                # As SCST: a transition is told of when it is over.
                if state is not AccessState.TRANSITIONING:
                    self._tell(None)
            done()

        waited_for = self._under_way(group) if state in _WITHOUT_ACCESS else []
        if waited_for:
            self._put(group, AccessState.TRANSITIONING, group.status)
        when_ended(waited_for, carry_out)

    def _put(self, group: TargetGroup, state: AccessState, status: StatusCode) -> None:
        group.state, group.status = state, status
        _log.info("%s/%s: %s", self.name, group.name, state.name.lower())
        self._recompose()

    def _under_way(self, group: TargetGroup) -> list[Command]:
        ports = group.port_numbers
        return [
            command
            for unit in self._devices
            for command in unit.under_way()
            if command.nexus.relative_target_port in ports
        ]

    def set_preferred(self, group: TargetGroup, is_preferred: bool) -> None:
        """Set PREF; as SCST, initiators hear of it as of a change of state."""
        if group.is_preferred is not is_preferred:
            group.is_preferred = is_preferred
            self._tell(None)

    def _recompose(self) -> None:
        for unit in self._devices:
            unit.recompose_nexuses()

    def _tell(self, but: object) -> None:
        """As SPC-5 5.8 says, every nexus; SCST tells those through the changed groups."""
        for unit in self._devices:
            unit.raise_unit_attention(ACCESS_STATE_CHANGED, but=but)


def _check(groups: Iterable[TargetGroup]) -> None:
    """Check that a device can have these together; raises TargetError."""
    names: set[str] = set()
    identifiers: set[int] = set()
    ports: set[int] = set()
    for group in groups:
        if group.name in names:
            raise TargetError(f"target group {group.name} exists already")
        if group.group_id in identifiers:
            raise TargetError(f"group_id {group.group_id} is taken already")
        if len(group.ports) > MAX_PORTS:
            raise TargetError(f"target group {group.name}: expected at most {MAX_PORTS} targets")
        numbers = set(group.port_numbers)
        if ports & numbers or len(numbers) != len(group.ports):
            raise TargetError(f"target group {group.name}: a target is in a group already")
        names.add(group.name)
        identifiers.add(group.group_id)
        ports |= numbers


def _tell_of_regrouping(
    unit: LogicalUnit, before: Mapping[int, PortGroup], after: Mapping[int, PortGroup]
) -> None:
    """Let a device's nexuses take over other target groups; empty ones are those of no group."""
    unit.recompose_nexuses()
    if before == after:
        return
    unit.raise_unit_attention(ACCESS_STATE_CHANGED)
    identifiers = [{n: each.group_id for n, each in groups.items()} for groups in (before, after)]
    if identifiers[0] != identifiers[1]:
        # TPGS, and the target port group that VPD page 83h tells of.
        unit.raise_unit_attention(INQUIRY_DATA_CHANGED)
