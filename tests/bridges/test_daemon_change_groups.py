# SPDX-License-Identifier: GPL-2.0-or-later
"""From one configuration to another: device groups and their states."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from bridges.daemon_change import Patience
from scsi_backend.t10.alua import AccessState
from tests.bridges.daemon_process import DEADLINE_S, NbdDisk, connect
from tests.bridges.nbd import proto
from tests.bridges.site import Led, Site, lead, target

ONE = target("t", "LUN 0 d")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def opened(site: Site, name: str = "t") -> NbdDisk:
    """An NBD client of an export."""
    return NbdDisk(connect(str(site.nbd)), name)


def group(state: str, *devices: str, port: str = "t", extra: str = "") -> str:
    """A device group with one target group."""
    lines = "".join(f"DEVICE {name}\n" for name in devices)
    part = f"TARGET_GROUP one {{\ngroup_id 1\nstate {state}\nTARGET {port}\n{extra}}}\n"
    return f"DEVICE_GROUP g {{\n{lines}{part}}}\n"


def test_device_groups_follow_and_keep_what_initiators_have_set(site: Site) -> None:
    base = site.disks("d", "e") + site.driver(target("t", "LUN 0 d", "LUN 1 e"))

    async def visit(led: Led) -> None:
        await led.apply(base + group("active", "d"))
        held = led.backend.device_groups["g"]
        part = held.target_groups["one"]
        held.set_states({1: AccessState.NONOPTIMIZED}, None)
        await led.apply(base + group("active", "d", "e"))
        assert [unit.name for unit in held.devices] == ["d", "e"]
        assert part.state.name == "NONOPTIMIZED"
        await led.apply(base + group("standby", "e"))
        assert [unit.name for unit in held.devices] == ["e"]
        assert part.state.name == "STANDBY"
        assert led.backend.devices["d"].port_groups is None
        await led.apply(base)
        assert dict(led.backend.device_groups) == {}
        assert led.backend.devices["e"].port_groups is None

    lead(base, visit)


def test_a_state_that_is_set_is_in_force_whatever_initiators_have_set(site: Site) -> None:
    base = site.disks("d") + site.driver(ONE)
    place = {"device_group": "g", "target_group": "one"}

    async def visit(led: Led) -> None:
        held = led.backend.device_groups["g"]
        part = held.target_groups["one"]
        held.set_states({1: AccessState.NONOPTIMIZED}, None)
        outcome = await led.running.edit("set-target-group-state", {**place, "state": "active"})
        assert outcome.lines == ("~ DEVICE_GROUP g TARGET_GROUP one state nonoptimized -> active",)
        assert part.state.name == "ACTIVE"
        held.set_states({1: AccessState.STANDBY}, None)
        # This one is not about states.
        await led.running.edit("set-target-group-preferred", {**place, "preferred": True})
        assert (part.state.name, part.is_preferred) == ("STANDBY", True)

    lead(base + group("active", "d"), visit)


def test_a_device_moves_from_one_device_group_to_another(site: Site) -> None:
    base = site.disks("d", "e", "f") + site.driver(target("t", "LUN 0 d"))
    second = group("active", "f", port="t").replace("DEVICE_GROUP g", "DEVICE_GROUP h")

    async def visit(led: Led) -> None:
        moved = group("active", "d") + second.replace("DEVICE f", "DEVICE f\nDEVICE e")
        await led.apply(base + moved)
        names = {
            name: [unit.name for unit in each.devices]
            for name, each in led.backend.device_groups.items()
        }
        assert names == {"g": ["d"], "h": ["f", "e"]}

    lead(base + group("active", "d", "e") + second, visit)


def test_target_and_device_of_a_group_go_with_what_others_are_given(site: Site) -> None:
    before = site.disks("d", "e") + site.driver(ONE) + group("active", "d", "e")
    local = f'TARGET_DRIVER scst_local {{\nsocket "{site.folder}/l"\n{ONE}}}\n'

    async def visit(led: Led) -> None:
        # Another driver's target has the name now.
        await led.apply(site.disks("d") + local + group("active", "d"))
        (one,) = led.backend.device_groups["g"].target_groups.values()
        assert one.ports == led.backend.targets_of("scst_local")
        assert list(led.backend.devices) == ["d"]

    lead(before, visit)


def test_a_change_of_state_waits_for_commands_and_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        entered.set()
        assert gate.wait(DEADLINE_S)

    monkeypatch.setattr(os, "fdatasync", slow)
    base = site.disks("d") + site.driver(ONE)

    async def visit(led: Led) -> None:
        disk = await asyncio.to_thread(opened, site)
        disk.client.send(proto.request(proto.FLUSH, 77))
        assert await asyncio.to_thread(entered.wait, DEADLINE_S)
        outcome = await led.apply(base + group("standby", "d"))
        assert outcome.warnings == (
            "target group g/one: transitioning, until the commands that are under way have"
            " ended; then standby",
        )
        # What is on its way already is not begun anew.
        place = {"device_group": "g", "target_group": "one"}
        outcome = await led.running.edit("set-target-group-state", {**place, "state": "standby"})
        assert (outcome.lines, outcome.warnings) == ((), ())
        gate.set()
        (one,) = led.backend.device_groups["g"].target_groups.values()
        while one.state is not AccessState.STANDBY:
            await asyncio.sleep(0)
        disk.close()

    lead(base + group("active", "d"), visit, Patience(end_s=0.0))
