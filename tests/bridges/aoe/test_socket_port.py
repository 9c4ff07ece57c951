# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the way without a ring; test_server.py runs all of its tests on it, too."""

from __future__ import annotations

from scsi_backend.servers.disk import disk
from tests.bridges.aoe.conftest import Run
from tests.bridges.aoe.wired import filled_disk, scsi_target, serving
from tests.interop.netns import Network
from tests.scsi_backend.fakes import pattern


def test_frames_are_served_without_a_ring(network: Network, run: Run) -> None:
    async def scenario() -> None:
        targets = {(1, 1): scsi_target(disk(filled_disk()))}
        async with serving(network, targets, wants_ring=False) as (server, client):
            (port,) = server.ports.values()
            assert not port.has_ring
            # What the Linux driver keeps under way at most.
            assert port.buffer_count == 64
            await client.receive()
            for number in range(200):
                await client.send(bytes(client.ata(0x24, number, 1, tag=number)))
            replies = [bytes(await client.receive()) for _ in range(200)]
            assert port.statistics.dropped == 0
            assert port.statistics.frames == 200
        assert [reply[36:] for reply in replies] == [pattern(n, 512) for n in range(200)]

    run(scenario())
