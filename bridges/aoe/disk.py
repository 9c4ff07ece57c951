# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices that a target leads to, each as all its initiators have it in common.

With groups, initiators may find different devices at one address. What holds up, or is announced
of, one of them is nothing to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from bridges.aoe.address import Address
from bridges.aoe.availability import Availability
from bridges.aoe.ordering import WriteOrder
from scsi_backend.servers.logical_unit import LogicalUnit


class Disk:
    """One device: the order of its writes, whether it is on standby, its size as announced last."""

    def __init__(self, disks: Disks, unit: LogicalUnit) -> None:
        self.unit = unit
        self.address = disks.address
        self.order = WriteOrder()
        self.availability = Availability(partial(disks.availability_changed, self))
        self._disks = disks
        self._block_count = unit.block_count

    @property
    def durable(self) -> bool:
        """Whether each write is stable before its reply, whatever the device's cache mode."""
        return self._disks.durable

    def take_block_count(self, block_count: int) -> None:
        """Announce a new capacity once, though every session's LUN client tells of it."""
        if block_count != self._block_count:
            self._block_count = block_count
            self._disks.announce(self)


class Disks:
    """Owns the disks of a target. ``announce`` is called with one that clients are to look at."""

    def __init__(
        self,
        address: Address,
        announce: Callable[[Disk], None],
        forget_flows: Callable[[], None],
    ) -> None:
        self.address = address
        self.durable = True
        self.announce = announce
        self._forget_flows = forget_flows
        self._by_unit: dict[LogicalUnit, Disk] = {}

    def of(self, unit: LogicalUnit) -> Disk:
        """The disk that a device is."""
        found = self._by_unit.get(unit)
        if found is None:
            found = self._by_unit[unit] = Disk(self, unit)
        return found

    def retain(self, units: Collection[LogicalUnit]) -> None:
        """Forget devices that the target leads to no more, but not while they are written to."""
        for unit, disk in list(self._by_unit.items()):
            if unit not in units and not disk.order.writes:
                del self._by_unit[unit]

    def look_at_sizes(self) -> None:
        """Announce new capacities that no session may ever hear of.

        Linux looks at a disk's size while nobody has it open, and sends no command then.
        """
        for disk in tuple(self._by_unit.values()):
            disk.take_block_count(disk.unit.block_count)

    def availability_changed(self, disk: Disk) -> None:
        """A disk has gone on standby, or has come back."""
        self._forget_flows()
        self.announce(disk)
