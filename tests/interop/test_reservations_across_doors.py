# SPDX-License-Identifier: GPL-2.0-or-later
"""A persistent reservation taken at one door is in force at every other, also after a crash."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scsi_backend.t10.transport_id import transport_id
from tests.bridges.local_initiator import LocalInitiator
from tests.interop.netns import Network, veth_network
from tests.interop.reserved_doors import (
    CONFLICTS,
    IMAGE_BYTES,
    PORTS,
    AoeDoor,
    Door,
    House,
    LocalDoor,
    NbdDoor,
    nbd,
)
from tests.scsi_backend.reservation_model import GOOD as DONE
from tests.scsi_backend.reserving import (
    CLEAR,
    EA,
    EA_AR,
    EA_RO,
    GOOD,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    WE,
    WE_AR,
    WE_RO,
    pr_out,
    register,
    reserve,
    send_out,
)

ALL = frozenset(PORTS)
NOBODY: frozenset[str] = frozenset()
# NBD commands that write, and that read.
CHANGING = frozenset({"pwrite", "zero", "trim", "flush"})
LOOKING = frozenset({"pread", "block_status"})
APTPL, ALL_TG_PT, SPEC_I_PT = 1, 4, 8
UNREG = 2
KEY, OTHER_KEY = 0xA, 0xB


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with veth_network() as made:
        yield made


@pytest.fixture
def house(network: Network, tmp_path: Path) -> House:
    return House(network, tmp_path)


def local(doors: Mapping[str, Door], name: str) -> LocalInitiator:
    door = doors[name]
    assert isinstance(door, LocalDoor)
    door.initiator.take_attentions()
    return door.initiator


def move(doors: Mapping[str, Door], heir: str) -> None:
    """Hand the reservation of ``one`` over to the client of another door."""
    name = transport_id(doors[heir].name)
    flags = UNREG | APTPL
    data = struct.pack(">QQxBHI", KEY, OTHER_KEY, flags, PORTS[heir], len(name)) + name
    assert local(doors, "one").send(pr_out(MOVE, 0, len(data)), data) == GOOD


@pytest.mark.parametrize("kind", [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR])
def test_others_are_kept_out_at_every_door(house: House, kind: int) -> None:
    readers = ALL if kind in (WE, WE_RO, WE_AR) else NOBODY
    with house.open() as doors:
        house.check(doors, ALL, ALL)
        reserve(local(doors, "one"), KEY, kind)
        house.check(doors, {"one"}, readers)
        register(local(doors, "two"), OTHER_KEY)
        house.check(doors, {"one"} if kind in (WE, EA) else {"one", "two"}, readers)
        assert send_out(local(doors, "two"), PREEMPT, OTHER_KEY, KEY, kind) == GOOD
        house.check(doors, {"two"}, readers)
        assert send_out(local(doors, "two"), RELEASE, OTHER_KEY, kind=kind) == GOOD
        house.check(doors, ALL, ALL)


@pytest.mark.parametrize(("kind", "refused"), [(WE, CHANGING), (EA, CHANGING | LOOKING)])
def test_nbd_commands_are_refused_as_their_scsi_commands_are(
    house: House, kind: int, refused: frozenset[str]
) -> None:
    long = 8 << 16
    commands: Mapping[str, tuple[Any, ...]] = {
        "pread": (nbd.Buffer(long), 0),
        "block_status": (long, 0, lambda *extents: 0),
        # A hint.
        "cache": (long, 0),
        "pwrite": (nbd.Buffer.from_bytearray(bytearray(long)), 0),
        "zero": (long, 0),
        "trim": (long, 0),
        "flush": (),
    }
    with house.open() as doors:
        door = doors["nbd"]
        assert isinstance(door, NbdDoor)
        reserve(local(doors, "one"), KEY, kind)
        ends = {name: door.end_of(name, *arguments) for name, arguments in commands.items()}
    assert ends == {name: CONFLICTS["nbd"] if name in refused else DONE for name in commands}


@pytest.mark.parametrize("name", ["aoe", "ata"])
def test_aoe_client_learns_what_disk_it_is_although_others_have_it(house: House, name: str) -> None:
    with house.open() as doors:
        reserve(local(doors, "one"), KEY, EA)
        door = doors[name]
        assert isinstance(door, AoeDoor)
        # Words 100 to 103 are the number of sectors.
        assert int.from_bytes(door.identify()[200:208], "little") == IMAGE_BYTES // 512


@pytest.mark.parametrize("guest", ["nbd", "aoe"])
def test_client_that_was_registered_by_another_keeps_its_access(house: House, guest: str) -> None:
    with house.open() as doors:
        names = {doors["one"].name, doors[guest].name}
        name = transport_id(doors[guest].name)
        one = local(doors, "one")
        more = struct.pack(">I", len(name)) + name
        flags = SPEC_I_PT | ALL_TG_PT
        assert send_out(one, REGISTER, 0, KEY, flags=flags, more=more) == GOOD
        assert send_out(one, RESERVE, KEY, kind=EA_RO) == GOOD
        house.check(doors, {each for each, door in doors.items() if door.name in names}, NOBODY)
        # All have the same key.
        assert send_out(one, PREEMPT, KEY, KEY, EA_RO) == GOOD
        house.check(doors, {"one"}, NOBODY)
        assert send_out(one, CLEAR, KEY) == GOOD
        house.check(doors, ALL, ALL)


@pytest.mark.parametrize("heir", ["nbd", "aoe", "ata"])
def test_client_of_any_door_can_be_the_holder(house: House, heir: str) -> None:
    with house.open() as doors:
        reserve(local(doors, "one"), KEY, EA)
        move(doors, heir)
        house.check(doors, {heir}, NOBODY)
        register(local(doors, "two"), KEY)
        house.check(doors, {heir}, NOBODY)
        assert send_out(local(doors, "two"), PREEMPT, KEY, OTHER_KEY, EA) == GOOD
        house.check(doors, {"two"}, NOBODY)


@pytest.mark.parametrize("holder", ["one", "nbd", "aoe"])
def test_reservation_stands_at_every_door_after_a_crash(house: House, holder: str) -> None:
    with house.open() as doors:
        register(local(doors, "one"), KEY, APTPL)
        assert send_out(local(doors, "one"), RESERVE, KEY, kind=EA) == GOOD
        if holder != "one":
            move(doors, holder)
    with house.open() as doors:
        house.check(doors, {holder}, NOBODY)
        register(local(doors, "two"), 1, APTPL)
        assert send_out(local(doors, "two"), CLEAR, 1) == GOOD
        house.check(doors, ALL, ALL)
    with house.open() as doors:
        house.check(doors, ALL, ALL)


def test_reservation_that_was_not_to_persist_is_gone_after_a_crash(house: House) -> None:
    with house.open() as doors:
        reserve(local(doors, "one"), KEY, EA)
        house.check(doors, {"one"}, NOBODY)
    with house.open() as doors:
        house.check(doors, ALL, ALL)
