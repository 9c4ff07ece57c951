# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts in two groups of one AoE target, as the bridge's own client sees it from each.

The hosts are two interfaces of a network namespace: AoE knows hosts by their MAC addresses alone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

from bridges.aoe.address import Address
from bridges.aoe.server import AoeServer, Export
from bridges.aoe.target import AoeTarget
from bridges.spin import Spinner
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.aoe.wired import Client
from tests.interop.doors import program
from tests.interop.netns import Host, Network, veth_network
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.reserving import CONFLICT, sign_in

_SMALL, _LARGE = 1024, 4096
_TIMEOUT_S = 60


@pytest.fixture
def networks() -> Iterator[tuple[Network, Network]]:
    """Two Ethernets from the target's host to two hosts."""
    with veth_network() as first:
        target, client = first.target.namespace, first.client.namespace
        second = Network(Host(target, "t1"), Host(client, "c1"))
        second.connect()
        yield first, second


class _House:
    """A target of two groups, one for each host."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.small, self.large = _unit("small", _SMALL), _unit("large", _LARGE)
        self.hosts = hosts
        self.target = Target("aoe", "e1.1", 1)
        self.target.is_enabled = True

    def show(self, *units: LogicalUnit | None) -> None:
        """Show each host a device, or nothing."""
        self.target.configure(
            groups=[
                InitiatorGroup(
                    host.interface,
                    (InitiatorPattern.parse(host.mac.hex(":")),),
                    {} if unit is None else {0: LunEntry(unit)},
                )
                for host, unit in zip(self.hosts, units, strict=True)
            ]
        )

    async def serve(self, test: Coroutine[Any, Any, None]) -> None:
        """Serve the target while a test runs."""
        loop = asyncio.get_running_loop()
        aoe = AoeTarget(Address(1, 1), self.target, loop)
        server = AoeServer(loop, ["t*"], [Export(aoe)], Spinner())
        server.start()
        try:
            await test
        finally:
            await server.stop()


def _unit(name: str, blocks: int) -> LogicalUnit:
    vdisk = FaultyVdisk(blocks)
    vdisk.name = name
    vdisk.fill()
    return disk(vdisk)


@contextmanager
def _listening(network: Network) -> Iterator[Client]:
    client = Client(network.client, network.target.mac)
    try:
        yield client
    finally:
        client.close()


async def _aoe(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of the bridge's client commands on a host, while the server goes on."""
    command = host.command(program(), "aoe", words[0], host.interface, *words[1:])
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=_TIMEOUT_S
    )


async def _capacity(host: Host) -> int | None:
    """What IDENTIFY says to a host, in sectors; None if the target is silent or refuses."""
    done = await _aoe(host, "identify", "e1.1", "--timeout", "2", "--json")
    if done.returncode:
        return None
    return int(json.loads(done.stdout)["sectors"])


def _serve(networks: tuple[Network, Network], house: _House, test: Any) -> None:
    with (
        networks[0].target.entered(),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(house.serve(test()))


def test_each_host_sees_the_device_of_its_group_and_follows_a_regrouping(
    networks: tuple[Network, Network],
) -> None:
    hosts = [network.client for network in networks]
    house = _House(hosts)
    house.show(house.small, house.large)

    async def test() -> None:
        assert [await _capacity(host) for host in hosts] == [_SMALL, _LARGE]
        with _listening(networks[1]) as listener:
            house.show(house.small, house.small)
            announcement = bytes(await listener.receive())
        assert (announcement[:6], announcement[19]) == (hosts[1].mac, 1)
        assert [await _capacity(host) for host in hosts] == [_SMALL, _SMALL]
        house.show(None, house.large)
        refused = await _aoe(hosts[0], "discover", "--timeout", "1")
        assert (refused.returncode, "no target answered" in refused.stderr) == (1, True)
        with _listening(networks[0]) as listener:
            # It was a client, which hears at once that its disk is gone.
            reply = bytes(await listener.exchange(listener.ata(0x24, 7)))
        assert (reply[14], reply[19], reply[27]) == (0x18, 0, 0x41)
        assert await _capacity(hosts[1]) == _LARGE

    _serve(networks, house, test)


def test_a_reserve_list_of_one_host_keeps_other_doors_out_of_both_devices(
    networks: tuple[Network, Network],
) -> None:
    hosts = [network.client for network in networks]
    house = _House(hosts)
    house.show(house.small, house.large)
    local = [sign_in(unit, "local", 2) for unit in (house.small, house.large)]
    read = cdbs.block(cdbs.READ, 16, 0, 1)

    async def test() -> None:
        done = await _aoe(hosts[0], "reserve", "e1.1", "set", "self")
        assert (done.returncode, done.stdout) == (0, f"{hosts[0].mac.hex(':')}\n")
        assert [each.send(read, None, 512) for each in local] == [CONFLICT] * 2
        refused = await _aoe(hosts[1], "reserve", "e1.1", "set", "self")
        assert refused.returncode == 2
        assert "target is reserved (AoE error 6)" in refused.stderr
        done = await _aoe(hosts[0], "reserve", "e1.1", "release")
        assert done.returncode == 0
        assert CONFLICT not in [each.send(read, None, 512) for each in local]

    _serve(networks, house, test)
