# SPDX-License-Identifier: GPL-2.0-or-later
"""One disk behind two targets of two target groups, and an initiator at each.

Group 1 has target 1 and is preferred, group 2 has target 2 and a port of another machine, 7.
"""

from __future__ import annotations

import struct

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.alua import AccessState
from scsi_backend.target.device_group import DeviceGroup, RemotePort, TargetGroup
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition

CHANGED = "06/2A/06"
REPORT = cdbs.raw("a30a00000000000000ff")


def set_groups(
    *descriptors: tuple[int, int], length_bytes: int | None = None
) -> tuple[bytes, bytes]:
    """SET TARGET PORT GROUPS with (state, group) descriptors: the CDB and its list."""
    data = bytes(4) + b"".join(struct.pack(">BxH", *each) for each in descriptors)
    length = len(data) if length_bytes is None else length_bytes
    return struct.pack(">BB4xI", 0xA4, 0x0A, length).ljust(16, b"\0"), data


class TwoPorts:
    """The disk, its group and its initiators."""

    def __init__(
        self,
        *,
        is_explicit: bool = True,
        has_remote: bool = True,
        group: DeviceGroup | None = None,
    ) -> None:
        self.vdisk = FaultyVdisk(is_thin=True, max_atomic_bytes=1 << 20)
        self.vdisk.has_explicit_alua = is_explicit
        self.unit = disk(self.vdisk)
        self.targets = tuple(target_of(self.unit, number) for number in (1, 2))
        remote = [RemotePort("elsewhere", 7)] if has_remote else []
        self.one = TargetGroup("one", 1, self.targets[:1], is_preferred=True)
        self.two = TargetGroup("two", 2, [self.targets[1], *remote])
        self.group = group or DeviceGroup("group")
        for each in (self.one, self.two):
            self.group.add_target_group(each)
        self.group.add_device(self.unit)
        self.first, self.second = (
            Initiator(target.open_session("initiator")) for target in self.targets
        )
        for initiator in (self.first, self.second):
            initiator.send(cdbs.TEST_UNIT_READY)

    def put(self, group: TargetGroup, state: AccessState) -> None:
        """Set a state as the administrator, and take the unit attention of it, if there is one."""
        self.group.set_state(group, state)
        for initiator in (self.first, self.second):
            initiator.session.nexuses[0].take_unit_attention()

    def report(self, initiator: Initiator | None = None) -> str:
        """The descriptors of REPORT TARGET PORT GROUPS, in hex."""
        return (initiator or self.first).good(REPORT, None, 255).hex()[8:]

    def set(self, *descriptors: tuple[int, int]) -> Outcome:
        """SET TARGET PORT GROUPS through the first port."""
        return self.first.send(*set_groups(*descriptors))


def target_of(unit: LogicalUnit, number: int) -> Target:
    """An enabled target with the unit as LUN 0."""
    target = Target("scst_local", f"target{number}", number)
    target.add_lun(0, LunEntry(unit))
    target.is_enabled = True
    return target


def assert_changed_once(initiator: Initiator) -> None:
    """The initiator hears once that access states have changed."""
    assert_check_condition(initiator.send(REPORT, None, 255), CHANGED)
    initiator.good(REPORT, None, 255)
