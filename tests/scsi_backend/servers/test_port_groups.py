# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever has target port groups can say to a logical unit what its ports are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scsi_backend.servers.disk import disk
from scsi_backend.servers.port_groups import PortGroups, StatesNotSetError
from scsi_backend.t10.alua import AccessState, PortGroup, StatusCode
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition, connect_unit
from tests.scsi_backend.ports import REPORT, set_groups


class Frozen:
    """One group with port 1, whose state nobody can change."""

    def state_of(self, relative_target_port: int) -> AccessState:
        """See ``PortGroups``."""
        return AccessState.STANDBY if relative_target_port == 1 else AccessState.ACTIVE

    def group_id_of(self, relative_target_port: int) -> int | None:
        """See ``PortGroups``."""
        return 9 if relative_target_port == 1 else None

    def described(self) -> Sequence[PortGroup]:
        """See ``PortGroups``."""
        return [PortGroup(9, AccessState.STANDBY, False, StatusCode.NO_STATUS, (1,))]

    def set_states(self, states: Mapping[int, AccessState], nexus: object) -> None:
        """See ``PortGroups``."""
        raise StatesNotSetError("frozen")


def test_a_unit_asks_its_groups() -> None:
    vdisk = FaultyVdisk()
    vdisk.has_explicit_alua = True
    unit, groups = disk(vdisk), Frozen()
    assert unit.access_state(1) is AccessState.ACTIVE
    as_protocol: PortGroups = groups
    unit.port_groups = as_protocol
    assert [unit.access_state(port) for port in (1, 2)] == [
        AccessState.STANDBY,
        AccessState.ACTIVE,
    ]
    initiator = connect_unit(unit)
    initiator.session.nexuses[0].take_unit_attention()
    assert (
        initiator.good(REPORT, None, 255).hex() == "0000000c" + "02cf0009" + "00000001" + "00000001"
    )
    assert_check_condition(initiator.send(*set_groups((0, 9))), "04/67/0A")
