# SPDX-License-Identifier: GPL-2.0-or-later
"""Target port group data against bytes written out from SPC-5 6.37."""

from __future__ import annotations

import pytest

from scsi_backend.t10.alua import (
    MAX_PORTS,
    AccessState,
    PortGroup,
    StatusCode,
    port_groups_data,
)

GOLDEN_STATES = {
    "ACTIVE": 0x0,
    "NONOPTIMIZED": 0x1,
    "STANDBY": 0x2,
    "UNAVAILABLE": 0x3,
    "OFFLINE": 0xE,
    "TRANSITIONING": 0xF,
}
ONE = PortGroup(0x0102, AccessState.ACTIVE, True, StatusCode.NO_STATUS, (1, 0x0304))
TWO = PortGroup(0xFFFF, AccessState.STANDBY, False, StatusCode.IMPLICIT, (5,))
# PREF and state, supported states, group; reserved, status, vendor specific, port count; ports.
DESCRIPTORS = "80cf0102" + "00000002" + "00000001" + "00000304"
DESCRIPTORS += "02cfffff" + "00020001" + "00000005"


def test_states_equal_the_golden_list() -> None:
    assert {state.name: state.value for state in AccessState} == GOLDEN_STATES


def test_status_codes_equal_the_golden_list() -> None:
    assert {code.name: code.value for code in StatusCode} == {
        "NO_STATUS": 0,
        "SET_BY_COMMAND": 1,
        "IMPLICIT": 2,
    }


def test_groups_with_the_length_only_header() -> None:
    data = port_groups_data((ONE, TWO), is_extended=False)
    assert data.hex() == "0000001c" + DESCRIPTORS


def test_groups_with_the_extended_header_which_counts_itself() -> None:
    data = port_groups_data((ONE, TWO), is_extended=True)
    assert data.hex() == "00000020" + "10000000" + DESCRIPTORS


@pytest.mark.parametrize(("is_extended", "golden"), [(False, "0" * 8), (True, "0000000410000000")])
def test_without_groups_there_is_the_header(is_extended: bool, golden: str) -> None:
    assert port_groups_data((), is_extended=is_extended).hex() == golden


@pytest.mark.parametrize("state", AccessState)
def test_each_state_has_its_value_beside_pref(state: AccessState) -> None:
    group = PortGroup(1, state, True, StatusCode.SET_BY_COMMAND, ())
    assert group.serialize().hex() == f"{0x80 | GOLDEN_STATES[state.name]:02x}cf0001" + "00010000"


def test_the_largest_group_fits_its_count() -> None:
    ports = tuple(range(1, MAX_PORTS + 1))
    data = PortGroup(1, AccessState.ACTIVE, False, StatusCode.NO_STATUS, ports).serialize()
    assert (len(data), data[7]) == (8 + 4 * 255, 255)
