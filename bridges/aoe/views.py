# SPDX-License-Identifier: GPL-2.0-or-later
"""Which device of a target each initiator is shown: LUN 0 of its own LUN map, or the only LUN.

To an initiator without one the target does not exist: nothing is announced to it and nothing
answered. One that has been a client, however, may have the disk open, and its programs would hang
for as long as nothing is answered. Its ATA commands fail at once, as long as it is remembered: that
are the last 1024 clients since the target is there.

What changes is announced to those that it concerns, one by one. Everybody hears it where it
concerns whoever is in no group, and where it concerns too many to tell them one by one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

from bridges.aoe.acl import parse_host_mac
from bridges.aoe.address import Address
from bridges.aoe.wire import BROADCAST_MAC, MAX_LIST_ENTRIES, SECTOR_BYTES, SECTOR_SHIFT
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError

_log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 1024
# More than that are forged addresses.
_MAX_CACHED: Final = 4096


class AoeTargetError(TargetError):
    """A target cannot be served over AoE."""


class Lun(Protocol):
    """What leads to a device."""

    @property
    def unit(self) -> LogicalUnit:
        """The device."""


LunT = TypeVar("LunT", bound=Lun)


def shown_lun(luns: Mapping[int, LunT]) -> LunT | None:
    """Return LUN 0 or the only one, None where there are none; raises AoeTargetError."""
    if not luns:
        return None
    if 0 not in luns and len(luns) != 1:
        raise AoeTargetError(f"LUNs {sorted(luns)}: expected LUN 0, or only one LUN")
    found = luns[0] if 0 in luns else next(iter(luns.values()))
    unit = found.unit
    if unit.block_shift != SECTOR_SHIFT:
        raise AoeTargetError(
            f"device {unit.name} has blocks of {1 << unit.block_shift} bytes: "
            f"expected {SECTOR_BYTES}, because AoE has no other"
        )
    return found


class Views:
    """Owns what is known of who is shown what; raises AoeTargetError where nothing can be shown."""

    def __init__(self, address: Address, target: Target) -> None:
        self._address = address
        self._target = target
        for luns in self._maps:
            try:
                shown_lun(luns)
            except AoeTargetError as error:
                raise AoeTargetError(f"{address}: {error}") from error
        self._cache: dict[bytes, LunEntry | None] = {}
        # What those in no group are shown.
        self._default = self._shown_by_default()
        # What clients were shown last, and hosts that a group names.
        self._clients: OrderedDict[bytes, LunEntry | None] = OrderedDict()
        self._named = {mac: self.entry_of(mac) for mac in self._macs_of_groups()}

    def entry_of(self, mac: bytes) -> LunEntry | None:
        """What the host with this MAC address is shown."""
        if mac in self._cache:
            return self._cache[mac]
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        found = self._cache[mac] = _shown(self._target.luns_of(mac.hex(":")))
        return found

    @property
    def units(self) -> frozenset[LogicalUnit]:
        """The devices that somebody may be shown."""
        return frozenset(entry.unit for entry in map(_shown, self._maps) if entry is not None)

    def remember(self, mac: bytes) -> None:
        """This host is a client."""
        self._clients[mac] = self.entry_of(mac)
        self._clients.move_to_end(mac)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)

    def is_client(self, mac: bytes) -> bool:
        """Whether this host is remembered."""
        return mac in self._clients

    def update(self) -> tuple[bytes, ...]:
        """Take over a change of the target; return whom to tell that it looks another."""
        before, default_before = {**self._named, **self._clients}, self._default
        for luns in self._maps:
            try:
                shown_lun(luns)
            except AoeTargetError as error:
                _log.warning("target %s: not shown: %s", self._address, error)
        self._cache.clear()
        self._default = self._shown_by_default()
        self._named = {mac: self.entry_of(mac) for mac in self._macs_of_groups()}
        for mac in self._clients:
            self._clients[mac] = self.entry_of(mac)
        if self._default not in (None, default_before):
            return (BROADCAST_MAC,)
        known = before.keys() | self._named.keys()
        return _few(
            mac
            for mac in sorted(known)
            if self.entry_of(mac) not in (None, before.get(mac, default_before))
        )

    def audience(self, is_meant: Callable[[LunEntry], bool]) -> tuple[bytes, ...]:
        """Return whom to tell of what is meant: those who are shown it."""
        if self._default is not None and is_meant(self._default):
            return (BROADCAST_MAC,)
        known = self._named.keys() | self._clients.keys()
        return _few(mac for mac in sorted(known) if self.shows(mac, is_meant))

    def shows(self, mac: bytes, is_meant: Callable[[LunEntry], bool]) -> bool:
        """Whether a host is shown what is meant."""
        entry = self.entry_of(mac)
        return entry is not None and is_meant(entry)

    @property
    def _maps(self) -> tuple[Mapping[int, LunEntry], ...]:
        return (self._target.luns, *(group.luns for group in self._target.groups.values()))

    def _shown_by_default(self) -> LunEntry | None:
        return _shown(self._target.luns) if self._target.is_enabled else None

    def _macs_of_groups(self) -> Iterable[bytes]:
        for group in self._target.groups.values():
            for pattern in group.patterns:
                try:
                    yield parse_host_mac(pattern.text)
                except ValueError:
                    # Stands for hosts that nobody can list.
                    continue


def _shown(luns: Mapping[int, LunEntry]) -> LunEntry | None:
    try:
        return shown_lun(luns)
    except AoeTargetError:
        return None


def _few(macs: Iterable[bytes]) -> tuple[bytes, ...]:
    found = tuple(macs)
    return found if len(found) <= MAX_LIST_ENTRIES else (BROADCAST_MAC,)
