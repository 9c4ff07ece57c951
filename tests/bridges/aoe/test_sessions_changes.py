# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions whose LUNs change, and what is known of their commands afterwards."""

from __future__ import annotations

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb import synchronize_cache_16
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.status import Status
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from tests.bridges.aoe.session_scene import (
    Scene,
    Waiting,
    mac_of,
    make_entry,
)


def test_who_is_shown_another_device_gets_a_client_anew_in_the_same_session() -> None:
    scene = Scene()
    stays, moves = scene.sessions.of(mac_of(1)), scene.sessions.of(mac_of(2))
    command = moves.outstanding.begin()
    other = make_entry()
    group = InitiatorGroup("g", (InitiatorPattern.parse("*:02"),), {0: other})
    scene.target.configure(groups=[group])
    scene.sessions.follow()
    assert scene.sessions.of(mac_of(1)) is stays
    moved = scene.sessions.of(mac_of(2))
    assert moved is not moves
    assert (moved.session, moved.nexus.unit) == (moves.session, other.unit)
    assert moved.client is not None
    assert moved.disk is not moves.disk
    assert scene.gone == 1
    # What was under way is still known of.
    assert scene.sessions.so_far(lambda mac: mac == mac_of(2)) == [command]
    scene.sessions.follow()
    assert scene.sessions.of(mac_of(2)) is moved


def test_what_waits_for_a_session_that_leads_elsewhere_meanwhile_is_rejected() -> None:
    scene = Scene()
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    opening, command = scene.sessions.of(mac_of(1)), Waiting()
    opening.wait(command)
    scene.target.configure(luns={0: make_entry()})
    scene.sessions.follow()
    assert scene.sessions.opened(mac_of(1)) is not None
    scene.lun.held_opcodes = set()
    scene.lun.release()
    assert command.events == ["reject"]
    assert command.error is not None
    assert command.error.reply.sense == sense.LUN_NOT_SUPPORTED
    assert scene.sessions.opened(mac_of(1)) is not opening
    assert len(scene.sessions) == 1


@pytest.mark.parametrize("numbers", [(), (1, 2)])
def test_who_is_shown_nothing_any_more_has_no_session(numbers: tuple[int, ...]) -> None:
    scene = Scene()
    command = scene.sessions.of(mac_of(1)).outstanding.begin()
    scene.target.configure(luns={number: make_entry() for number in numbers})
    scene.sessions.follow()
    assert (len(scene.sessions), scene.names, scene.gone) == (0, [], 1)
    assert scene.clients == [mac_of(1)] * 2
    assert command in scene.sessions.under_way()


@pytest.mark.parametrize("is_away", [False, True])
def test_a_flush_covers_the_device_that_was_shown_before(*, is_away: bool) -> None:
    scene = Scene()
    scene.sessions.of(mac_of(1))
    scene.vdisk.is_held = True
    for luns in [{}, {0: make_entry()}] if is_away else [{0: make_entry()}]:
        scene.target.configure(luns=luns)
        scene.sessions.follow()
    client = scene.sessions.of(mac_of(1)).client
    assert client is not None
    ended: list[int | None] = []
    flush = synchronize_cache_16()
    client.submit(Command(flush, None, None, lambda command: ended.append(command.status)))
    assert ended == []
    scene.vdisk.release()
    assert ended == [Status.GOOD]


def test_what_is_under_way_is_of_all_initiators_and_of_all_kinds() -> None:
    scene = Scene()
    begun = [
        scene.sessions.of(mac_of(1)).outstanding.begin(),
        scene.sessions.of(mac_of(2)).outstanding.begin(is_harmless=True),
    ]
    scene.sessions.close()
    busy = [each for each in scene.sessions.under_way() if each.count]
    assert set(busy) == set(begun)


def test_whom_it_may_not_have_been_told_everything_looks_again() -> None:
    scene = Scene()
    one, _ = scene.sessions.of(mac_of(1)), scene.sessions.of(mac_of(2))
    assert scene.sessions.macs(lambda mac: mac != mac_of(2)) == {mac_of(1)}
    scene.lun.cdbs.clear()
    scene.sessions.look_again([mac_of(1)])
    assert Opcode.INQUIRY in scene.lun.opcodes()
    assert one.client is not None
