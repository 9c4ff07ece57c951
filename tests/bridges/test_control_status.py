# SPDX-License-Identifier: GPL-2.0-or-later
"""What the status says of a backend and of servers on sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from bridges.aoe.address import parse_address
from bridges.aoe.server import AoeServer, Export
from bridges.aoe.target import AoeTarget
from bridges.control_status import (
    DeviceGroupStatus,
    DeviceStatus,
    GroupStatus,
    GroupTargetStatus,
    InterfaceStatus,
    KernelDiskStatus,
    ListenerStatus,
    LunStatus,
    SessionStatus,
    Status,
    TargetGroupStatus,
    TargetStatus,
    status_of,
)
from bridges.listen import Listen, TlsMode
from bridges.listeners import Address
from bridges.spin import Spinner
from bridges.stream import Stream
from bridges.stream_server import StreamServer
from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.sgv import SgvCache
from scsi_backend.t10.alua import AccessState
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import RemotePort, TargetGroup
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import TargetError
from tests.bridges.aoe.bench import ManualClock
from tests.bridges.local.tcmu.serving import House
from tests.bridges.local.tcmu.serving import run as run_house
from tests.bridges.test_stream_server import Quiet
from tests.interop.netns import Network, veth_network

ME = f"unix:uid={os.getuid()}"
HANDLERS = {"d": "vdisk_nullio", "r": "vdisk_nullio"}


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend(SyncEngine())
    disk = made.add_device("vdisk_nullio", "d", NullioAttributes(size_mb=1))
    frozen = NullioAttributes(size_mb=2, blocksize=4096, read_only=True)
    read_only = made.add_device("vdisk_nullio", "r", frozen)
    target = made.add_target("nbd", "t x")
    target.add_lun(7, LunEntry(read_only))
    target.add_lun(0, LunEntry(disk, is_read_only=True))
    target.is_enabled = True
    made.add_target("nbd", "off").add_lun(0, LunEntry(disk))
    made.add_target("scst_local", "local").add_lun(0, LunEntry(disk))
    yield made
    made.close()


def group(name: str, patterns: str, luns: dict[int, LunEntry]) -> InitiatorGroup:
    """A group of some patterns."""
    parsed = tuple(InitiatorPattern.parse(each) for each in patterns.split())
    return InitiatorGroup(name, parsed, luns)


def server_at(*listens: Listen) -> StreamServer:
    """A server that is not started."""
    loop = asyncio.get_running_loop()

    def connect(stream: Stream, listen: Listen) -> Quiet:
        return Quiet(stream)

    return StreamServer(loop, SgvCache(), listens, connect)


def listeners_of(backend: Backend, *listens: Listen) -> tuple[ListenerStatus, ...]:
    """What is said of an NBD server's listeners."""

    async def run() -> Status:
        return status_of(backend, HANDLERS, {"nbd": [server_at(*listens)]})

    return asyncio.run(run()).listeners


def uris_of(backend: Backend, listen: Listen) -> tuple[str, ...]:
    """The URIs by one listener."""
    (found,) = listeners_of(backend, listen)
    return found.uris


def test_devices_and_targets_are_told(backend: Backend) -> None:
    status = status_of(backend, HANDLERS, {})
    assert status.pid == os.getpid()
    assert status.devices == (
        DeviceStatus(
            name="d",
            handler="vdisk_nullio",
            size_bytes=1 << 20,
            block_size_bytes=512,
            is_read_only=False,
        ),
        DeviceStatus(
            name="r",
            handler="vdisk_nullio",
            size_bytes=2 << 20,
            block_size_bytes=4096,
            is_read_only=True,
        ),
    )
    # A LUN of a read-only device is read-only, whatever the LUN says.
    luns = (
        LunStatus(lun=0, device="d", is_read_only=True),
        LunStatus(lun=7, device="r", is_read_only=True),
    )
    writable = (LunStatus(lun=0, device="d", is_read_only=False),)
    assert status.targets == (
        TargetStatus(driver="nbd", name="t x", is_enabled=True, luns=luns),
        TargetStatus(driver="nbd", name="off", is_enabled=False, luns=writable),
        TargetStatus(driver="scst_local", name="local", is_enabled=False, luns=writable),
    )
    assert (status.sessions, status.listeners) == ((), ())


def test_device_groups_are_told_with_the_states_of_now(backend: Backend) -> None:
    assert status_of(backend, HANDLERS, {}).device_groups == ()
    group = backend.add_device_group("g")
    ports = (backend.target("nbd", "off"), RemotePort("far", 9))
    part = TargetGroup("tg", 5, ports, is_preferred=True)
    group.add_target_group(part)
    group.add_device(backend.devices["r"])
    group.set_state(part, AccessState.NONOPTIMIZED)
    targets = (
        GroupTargetStatus(name="off", driver="nbd", rel_tgt_id=2),
        GroupTargetStatus(name="far", driver=None, rel_tgt_id=9),
    )
    told = TargetGroupStatus(
        name="tg", group_id=5, state="nonoptimized", is_preferred=True, targets=targets
    )
    assert status_of(backend, HANDLERS, {}).device_groups == (
        DeviceGroupStatus(name="g", devices=("r",), target_groups=(told,)),
    )


def test_memory_kept_for_reuse_is_told(backend: Backend) -> None:
    assert status_of(backend, HANDLERS, {}).sgv_idle_bytes == 0
    backend.sgv.put(backend.sgv.get(1 << 20))
    assert status_of(backend, HANDLERS, {}).sgv_idle_bytes == 1 << 20


def test_listeners_have_a_uri_for_each_export_of_enabled_targets(backend: Backend) -> None:
    (found,) = listeners_of(backend, Listen(Address("192.0.2.1", 10809), max_connections=5))
    assert found == ListenerStatus(
        driver="nbd",
        address="192.0.2.1:10809",
        tls="off",
        connections=0,
        max_connections=5,
        uris=("nbd://192.0.2.1:10809/t%20x", "nbd://192.0.2.1:10809/t%20x/7"),
    )


@pytest.mark.parametrize("mode", [TlsMode.ON, TlsMode.REQUIRE])
def test_uris_say_where_tls_is_to_be_had(backend: Backend, mode: TlsMode) -> None:
    assert uris_of(backend, Listen(Address("::1", 1), mode))[0] == "nbds://[::1]:1/t%20x"
    unix = uris_of(backend, Listen(Address(path="/a b"), mode))
    assert unix[0] == "nbds+unix:///t%20x?socket=/a%20b"
    vsock = uris_of(backend, Listen(Address(cid=5, port=1), mode))
    assert vsock[0] == "nbds+vsock://5:1/t%20x"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_wildcard_address_is_told_by_the_hosts_name(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "server.example.org")
    uri = uris_of(backend, Listen(Address(host, 10809)))[0]
    assert uri == "nbd://server.example.org:10809/t%20x"


def test_a_wildcard_context_id_is_told_by_the_hosts_own(backend: Backend) -> None:
    uri = uris_of(backend, Listen(Address(cid=0xFFFFFFFF, port=10809)))[0]
    scheme, _, rest = uri.partition("://")
    cid, _, tail = rest.partition(":")
    assert (scheme, tail) == ("nbd+vsock", "10809/t%20x")
    # 0 is the hypervisor, 1 leads back here; 2 is a host.
    assert 2 <= int(cid) < 0xFFFFFFFF


def test_a_connection_that_was_passed_has_no_uri(backend: Backend) -> None:
    assert uris_of(backend, Listen(Address(inherited="stdio"))) == ()


def test_exports_of_groups_have_a_uri_once_each(backend: Backend) -> None:
    target = backend.target("nbd", "t x")
    entry = target.luns[0]
    luns: tuple[dict[int, LunEntry], ...] = ({0: entry, 2: entry}, {2: entry, 7: entry, 9: entry})
    target.configure(groups=[group(f"g{n}", "*", each) for n, each in enumerate(luns)])
    uris = uris_of(backend, Listen(Address("::1", 1)))
    assert [each.rpartition("t%20x")[2] for each in uris] == ["", "/2", "/7", "/9"]
    target.configure(luns={})
    uris = uris_of(backend, Listen(Address("::1", 1)))
    assert [each.rpartition("t%20x")[2] for each in uris] == ["", "/2", "/7", "/9"]


def test_groups_are_told_in_their_order_and_who_is_in_them(backend: Backend) -> None:
    target = backend.target("nbd", "t x")
    entry = target.luns[0]
    groups = [group("z", "10.0.0.0/8 tls:*", {3: entry}), group("a", "ANY*", {})]
    target.configure(groups=groups)
    target.open_session("anybody", ip_address("10.9.9.9"))
    target.open_session("nobody", ip_address("::1"))
    with pytest.raises(TargetError):
        target.open_session("anybody")
    status = status_of(backend, HANDLERS, {})
    luns = (LunStatus(lun=3, device="d", is_read_only=True),)
    assert status.targets[0].groups == (
        GroupStatus(name="z", initiators=("10.0.0.0/8", "tls:*"), luns=luns),
        GroupStatus(name="a", initiators=("ANY*",), luns=()),
    )
    assert [each.groups for each in status.targets[1:]] == [(), ()]
    found = [(each.initiator, each.host, each.group) for each in status.sessions]
    assert found == [("anybody", "10.9.9.9", "z"), ("nobody", "::1", None)]
    assert Status.model_validate_json(status.model_dump_json()) == status


def test_other_drivers_have_no_uris(backend: Backend) -> None:
    async def run() -> Status:
        server = server_at(Listen(Address(path="/s")))
        return status_of(backend, HANDLERS, {"scst_local": [server], "aoe": [object()]})

    (found,) = asyncio.run(run()).listeners
    assert (found.driver, found.address, found.uris) == ("scst_local", "unix:/s", ())


def test_connections_are_counted_by_session_where_that_is_known(backend: Backend) -> None:
    nbd, local = backend.target("nbd", "t x"), backend.target("scst_local", "local")
    local.is_enabled = True

    async def run() -> tuple[Status, Status]:
        server = server_at()
        ends = []
        for _ in range(2):
            ours, theirs = socket.socketpair()
            server.adopt(ours, Listen(Address(inherited="stdio")), lambda: None)
            ends.append(theirs)
        nbd.open_session(ME)
        nbd.open_session("192.0.2.1")
        local.open_session(ME)
        once = status_of(backend, HANDLERS, {"nbd": [server], "scst_local": []})
        second = nbd.open_session(ME)
        twice = status_of(backend, HANDLERS, {"nbd": [server], "scst_local": []})
        second.close()
        for each in ends:
            each.close()
        await server.stop()
        return once, twice

    once, twice = asyncio.run(run())
    assert once.sessions == (
        SessionStatus(driver="nbd", target="t x", initiator=ME, connections=2),
        SessionStatus(driver="nbd", target="t x", initiator="192.0.2.1", connections=None),
        SessionStatus(driver="scst_local", target="local", initiator=ME, connections=None),
    )
    assert [each.connections for each in once.listeners] == [1, 1]
    # With two logins nobody knows which connection belongs to which.
    assert [each.connections for each in twice.sessions if each.initiator == ME] == [None] * 3


def test_interfaces_of_aoe_are_told_with_the_frames_that_have_come(backend: Backend) -> None:
    async def run(network: Network) -> tuple[InterfaceStatus, ...]:
        loop = asyncio.get_running_loop()
        with network.target.entered():
            server = AoeServer(loop, ["t0"], [Export(target)], Spinner())
            server.start()
            with network.client.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
                sock.bind((network.client.interface, 0))
                frame = network.target.mac + network.client.mac + b"\x88\xa2\x10"
                sock.send(frame.ljust(60, b"\0"))
            found = status_of(backend, HANDLERS, {"aoe": [server]}).interfaces
            await server.stop()
        return found

    scsi_target = backend.add_target("aoe", "e1.1")
    scsi_target.add_lun(0, LunEntry(next(iter(backend.devices.values()))))
    target = AoeTarget(parse_address("e1.1"), scsi_target, ManualClock())
    with veth_network() as network:
        mac = network.target.mac.hex(":")
        assert asyncio.run(run(network)) == (
            InterfaceStatus(
                name="t0",
                mac=mac,
                mtu=1500,
                is_running=True,
                sector_count=2,
                buffer_count=2048,
                has_ring=True,
                frames=1,
                dropped=0,
            ),
        )


def test_kernel_disks_are_told_while_they_are_served() -> None:
    found: list[tuple[KernelDiskStatus, ...]] = []

    async def visit(made: House) -> None:
        server = await made.started()
        handlers = dict.fromkeys("ab", "vdisk_nullio")
        for act in (None, server.stop):
            if act is not None:
                await act()
            status = status_of(made.backend, handlers, {"scst_local": [server]})
            found.append(status.kernel_disks)

    run_house(visit)
    assert found == [
        tuple(
            KernelDiskStatus(
                target="t0",
                lun=lun,
                device=device,
                block=f"/dev/sd0{lun}",
                generic=f"/dev/sg0{lun}",
            )
            for lun, device in enumerate("ab")
        ),
        (),
    ]


def test_a_status_survives_json(backend: Backend) -> None:
    status = status_of(backend, HANDLERS, {})
    assert Status.model_validate_json(status.model_dump_json()) == status
