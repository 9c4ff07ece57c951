# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``alua_set`` command: what it takes, when it answers, and what clients at the doors see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from bridges.config import load
from bridges.config_edit_tree import EditError
from bridges.control import Command, ControlError, ask
from bridges.control_alua import alua_set_command
from bridges.daemon import ControlSocket, Daemon
from scsi_backend.io.engine import SyncEngine
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.status import Status
from scsi_backend.target.backend import Backend
from tests.bridges.daemon_process import (
    BLOCK_BYTES,
    LocalDoor,
    NbdDisk,
    NbdDoor,
    configure,
    connect,
)
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, pattern
from tests.scsi_backend.ports import TwoPorts

GROUP = """\
DEVICE_GROUP g {
DEVICE d
TARGET_GROUP at_nbd {
group_id 1
TARGET n
}
TARGET_GROUP at_local {
group_id 2
TARGET t
}
}
"""


@pytest.fixture
def backend() -> Backend:
    """A backend with the device group ``g``."""
    made = Backend(SyncEngine())
    made.add_device_group("g")
    return made


@pytest.fixture
def ports(backend: Backend) -> TwoPorts:
    """Target groups ``one`` and ``two`` of it."""
    return TwoPorts(group=backend.device_groups["g"])


def words(
    attribute: str, value: str, group: str = "g", target_group: str = "one"
) -> dict[str, str]:
    """The arguments."""
    return {"group": group, "target_group": target_group, "attribute": attribute, "value": value}


def execute(command: Command, arguments: dict[str, str]) -> object:
    """Carry the command out in a loop of its own."""

    async def run() -> object:
        return await command(arguments)

    return asyncio.run(run())


@pytest.mark.parametrize("state", AccessState)
def test_a_state_is_set(backend: Backend, ports: TwoPorts, state: AccessState) -> None:
    ports.put(ports.one, AccessState.STANDBY)
    ports.put(ports.two, AccessState.OFFLINE)
    assert execute(alua_set_command(backend), words("state", state.name.lower())) is None
    assert (ports.one.state, ports.two.state) == (state, AccessState.OFFLINE)


def test_preference_is_set(backend: Backend, ports: TwoPorts) -> None:
    command = alua_set_command(backend)
    execute(command, words("preferred", "0"))
    execute(command, words("preferred", "1", target_group="two"))
    assert (ports.one.is_preferred, ports.two.is_preferred) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "group: Field required"),
        ({**words("state", "active"), "x": "1"}, "x: Extra inputs are not permitted"),
        (words("state", "active", group="h"), "unknown device group 'h': expected g"),
        (
            words("state", "active", target_group="three"),
            "unknown target group 'three': expected one, two",
        ),
        (words("group_id", "1"), "unknown attribute 'group_id': expected state or preferred"),
        (
            words("state", "on"),
            "state 'on': expected active, nonoptimized, standby, unavailable, offline,"
            " transitioning",
        ),
        (words("preferred", "yes"), "preferred 'yes': expected 0 or 1"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_changes(
    backend: Backend, ports: TwoPorts, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(ControlError) as caught:
        execute(alua_set_command(backend), arguments)
    assert str(caught.value) == message
    assert (ports.one.state, ports.one.is_preferred) == (AccessState.ACTIVE, True)


def test_without_groups_that_is_what_is_told() -> None:
    command = alua_set_command(Backend(SyncEngine()))
    with pytest.raises(ControlError) as caught:
        execute(command, words("state", "active"))
    expected = "expected DEVICE_GROUP sections in the configuration"
    assert str(caught.value) == f"unknown device group 'g': {expected}"


def test_what_is_under_way_is_waited_for(backend: Backend, ports: TwoPorts) -> None:
    ports.vdisk.immediate_bytes, ports.vdisk.is_held = NOT_NOW, True
    read = ports.first.start(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)

    async def run() -> None:
        setting = asyncio.create_task(alua_set_command(backend)(words("state", "offline")))
        await asyncio.sleep(0)
        assert (ports.one.state, setting.done()) == (AccessState.TRANSITIONING, False)
        ports.vdisk.release_all()
        await setting

    asyncio.run(run())
    assert (ports.one.state, read.outcome.status) == (AccessState.OFFLINE, Status.GOOD)


def test_what_does_not_end_in_time_is_told_and_goes_on(backend: Backend, ports: TwoPorts) -> None:
    ports.vdisk.immediate_bytes, ports.vdisk.is_held = NOT_NOW, True
    ports.first.start(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    with pytest.raises(ControlError, match=r"g/one: transitioning, until .*; then standby"):
        execute(alua_set_command(backend, wait_s=0.0), words("state", "standby"))
    assert ports.one.state is AccessState.TRANSITIONING
    ports.vdisk.release_all()
    assert ports.group.state_of(1) is AccessState.STANDBY


def serving(folder: Path, visit: Callable[[str], Awaitable[None]], group: str = GROUP) -> None:
    """Run a daemon with the disk at two doors in one device group; ``visit`` gets its control."""
    path, image = folder / "control", folder / "disk.img"
    image.write_bytes(b"".join(pattern(lba, BLOCK_BYTES) for lba in range(16)))
    nbd = NbdDoor().section(folder).replace("TARGET t", "TARGET n")

    async def run() -> None:
        config = load(str(configure(folder, nbd, LocalDoor().section(folder), group)))
        control = ControlSocket(str(path), is_required=True)
        served = Daemon(asyncio.get_running_loop(), config, control=control)
        await served.start()
        try:
            await visit(str(path))
        finally:
            await served.stop()

    asyncio.run(run())


def put(control: str, state: str) -> None:
    """Have the daemon set the state of the NBD target."""
    arguments = words("state", state, target_group="at_nbd")
    assert ask(control, "alua_set", arguments) is None
    group = ask(control, "status")["device_groups"][0]["target_groups"][0]
    assert (group["name"], group["state"]) == ("at_nbd", state)


def connected(folder: Path) -> Client:
    """An NBD client that has not chosen an export."""
    client = Client(connect(str(NbdDoor().path(folder))))
    client.greet()
    client.send(proto.go("n"))
    return client


def test_a_daemon_s_doors_follow_the_states_at_run_time(tmp_path: Path) -> None:
    def work(control: str) -> None:
        disk = NbdDisk(connect(str(NbdDoor().path(tmp_path))), "n")
        other = LocalDoor().open(tmp_path)
        for state in ("standby", "unavailable", "offline"):
            put(control, state)
            assert disk.client.call(proto.READ, 0, BLOCK_BYTES) == (proto.EIO, b"")
            assert disk.client.call(proto.WRITE, 0, 1, b"x") == (proto.EIO, b"")
            put(control, "active")
            assert disk.read(3, 1) == pattern(3, BLOCK_BYTES)
        disk.close()
        # The first command hears of the changes.
        with pytest.raises(AssertionError):
            other.read(3, 1)
        assert other.read(3, 1) == pattern(3, BLOCK_BYTES)
        other.close()

    async def visit(control: str) -> None:
        await asyncio.to_thread(work, control)

    serving(tmp_path, visit)


def test_an_export_on_standby_is_not_there_for_new_clients(tmp_path: Path) -> None:
    def work(control: str) -> None:
        put(control, "standby")
        with connected(tmp_path) as client:
            kind, text = client.option_reply()
            assert kind == proto.ERR_UNKNOWN
            assert b"STANDBY" in text
        put(control, "nonoptimized")
        with connected(tmp_path) as client:
            assert client.option_reply()[0] == proto.REP_INFO

    async def visit(control: str) -> None:
        await asyncio.to_thread(work, control)

    serving(tmp_path, visit)


def test_a_configured_state_is_in_force_from_the_start(tmp_path: Path) -> None:
    def work(control: str) -> None:
        with connected(tmp_path) as client:
            assert client.option_reply()[0] == proto.ERR_UNKNOWN
        disk = LocalDoor().open(tmp_path)
        assert disk.read(3, 1) == pattern(3, BLOCK_BYTES)
        disk.close()
        (group,) = ask(control, "status")["device_groups"]
        assert group == {
            "name": "g",
            "devices": ["d"],
            "target_groups": [
                {
                    "name": "at_nbd",
                    "group_id": 1,
                    "state": "unavailable",
                    "is_preferred": False,
                    "targets": [{"name": "n", "driver": "nbd", "rel_tgt_id": 1}],
                },
                {
                    "name": "at_local",
                    "group_id": 2,
                    "state": "active",
                    "is_preferred": True,
                    "targets": [
                        {"name": "t", "driver": "scst_local", "rel_tgt_id": 2},
                        {"name": "far", "driver": None, "rel_tgt_id": 9},
                    ],
                },
            ],
        }

    async def visit(control: str) -> None:
        await asyncio.to_thread(work, control)

    group = GROUP.replace("group_id 1", "group_id 1\nstate unavailable")
    far = "TARGET t\nTARGET far {\nrel_tgt_id 9\n}\npreferred 1"
    serving(tmp_path, visit, group.replace("TARGET t", far))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (words("state", "standby"), ("set-target-group-state", {"state": "standby"})),
        (words("preferred", "0"), ("set-target-group-preferred", {"preferred": False})),
    ],
)
def test_the_configuration_says_it_before_it_is_done(
    backend: Backend,
    ports: TwoPorts,
    arguments: dict[str, str],
    expected: tuple[str, dict[str, object]],
) -> None:
    noted: list[tuple[str, dict[str, object]]] = []

    async def note(verb: str, edit: Mapping[str, object]) -> None:
        assert (ports.one.state, ports.one.is_preferred) == (AccessState.ACTIVE, True)
        noted.append((verb, dict(edit)))

    execute(alua_set_command(backend, note), arguments)
    verb, edit = expected
    assert noted == [(verb, {"device_group": "g", "target_group": "one", **edit})]
    assert (ports.one.state, ports.one.is_preferred) != (AccessState.ACTIVE, True)


def test_what_the_configuration_cannot_say_is_not_done(backend: Backend, ports: TwoPorts) -> None:
    async def note(verb: str, edit: Mapping[str, object]) -> None:
        raise EditError("no such group")

    with pytest.raises(ControlError, match=r"^no such group$"):
        execute(alua_set_command(backend, note), words("state", "standby"))
    assert ports.one.state is AccessState.ACTIVE


def test_a_group_that_goes_while_it_waits_for_its_turn_is_not_set(
    backend: Backend, ports: TwoPorts
) -> None:
    async def note(verb: str, edit: Mapping[str, object]) -> None:
        backend.remove_device_group("g")

    with pytest.raises(ControlError, match="unknown device group 'g'"):
        execute(alua_set_command(backend, note), words("state", "standby"))
