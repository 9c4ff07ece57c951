# SPDX-License-Identifier: GPL-2.0-or-later
"""Device groups: devices that share the access states of their target groups (SCST's ALUA).

A state takes effect when it changes: each nexus of the devices lays what it refuses over its
dispatch table. Where a group loses access while commands are under way through its ports, the
groups concerned are transitioning until those commands have ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.port_groups import StatesNotSetError
from scsi_backend.t10.alua import MAX_PORTS, AccessState, PortGroup, StatusCode
from scsi_backend.t10.sense import ACCESS_STATE_CHANGED
from scsi_backend.target.target import Target, TargetError

_log = logging.getLogger(__name__)

# In these nothing new reaches the medium, so what is under way there ends before.
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


@dataclass(slots=True, eq=False)
class _Change:
    """New states that are on their way; ``but`` is the nexus that is not told."""

    states: Mapping[TargetGroup, AccessState]
    status: StatusCode
    but: object
    done: Callable[[], None]


class DeviceGroup:
    """Owns its target groups, and tells its devices of their states; see ``PortGroups``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._devices: list[LogicalUnit] = []
        self._groups: dict[str, TargetGroup] = {}
        self._by_port: dict[int, TargetGroup] = {}
        # The latest change of each group, which is the one that counts.
        self._changes: dict[TargetGroup, _Change] = {}

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
        if group.name in self._groups:
            raise TargetError(f"target group {group.name} exists already")
        if any(group.group_id == other.group_id for other in self._groups.values()):
            raise TargetError(f"group_id {group.group_id} is taken already")
        if len(group.ports) > MAX_PORTS:
            raise TargetError(f"target group {group.name}: expected at most {MAX_PORTS} targets")
        taken = self._by_port.keys() & set(group.port_numbers)
        if taken or len(set(group.port_numbers)) != len(group.ports):
            raise TargetError(f"target group {group.name}: a target is in a group already")
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

    def set_states(
        self, states: Mapping[int, AccessState], nexus: object, done: Callable[[], None]
    ) -> None:
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
        self._begin(_Change(changed, StatusCode.SET_BY_COMMAND, nexus, done))

    def set_state(
        self, group: TargetGroup, state: AccessState, done: Callable[[], None] = lambda: None
    ) -> None:
        """Set the state of one group, as its administrator; ``done`` follows when it is in force.

        A change that is still on its way gives in to this one.
        """
        is_set = group.state is state and group not in self._changes
        states = {} if is_set else {group: state}
        self._begin(_Change(states, StatusCode.IMPLICIT, None, done))

    def set_preferred(self, group: TargetGroup, is_preferred: bool) -> None:
        """Set PREF; as SCST, initiators hear of it as of a change of state."""
        if group.is_preferred is not is_preferred:
            group.is_preferred = is_preferred
            self._tell(None)

    def _begin(self, change: _Change) -> None:
        self._changes.update(dict.fromkeys(change.states, change))
        waited_for = self._under_way(change)
        if not waited_for:
            self._finish(change)
            return
        for group in change.states:
            group.state = AccessState.TRANSITIONING
        self._recompose()
        _when_all_have_ended(waited_for, lambda: self._finish(change))

    def _under_way(self, change: _Change) -> list[Command]:
        ports = {
            port
            for group, state in change.states.items()
            if state in _WITHOUT_ACCESS
            for port in group.port_numbers
        }
        return [
            command
            for unit in self._devices
            for command in unit.outstanding()
            if command.nexus.relative_target_port in ports
        ]

    def _finish(self, change: _Change) -> None:
        in_force = [group for group in change.states if self._changes.get(group) is change]
        for group in in_force:
            del self._changes[group]
            group.state, group.status = change.states[group], change.status
            _log.info("%s/%s: %s", self.name, group.name, group.state.name.lower())
        if in_force:
            self._recompose()
        # As SCST: a transition is told of when it is over.
        if any(group.state is not AccessState.TRANSITIONING for group in in_force):
            self._tell(change.but)
        change.done()

    def _recompose(self) -> None:
        for unit in self._devices:
            unit.recompose_nexuses()

    def _tell(self, but: object) -> None:
        """As SPC-5 5.8 says, every nexus; SCST tells those through the changed groups."""
        for unit in self._devices:
            unit.raise_unit_attention(ACCESS_STATE_CHANGED, but=but)


def _when_all_have_ended(commands: Sequence[Command], then: Callable[[], None]) -> None:
    """Call back when the last of some outstanding commands has ended, and its owner knows."""
    left = set(commands)

    def follow(command: Command) -> None:
        previous = command.on_done

        def ended(command: Command) -> None:
            # The owner may send it once more at once.
            command.on_done = previous
            try:
                previous(command)
            finally:
                left.discard(command)
                if not left:
                    then()

        command.on_done = ended

    for command in commands:
        follow(command)
