# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to a target that is removed, or disabled, while they are open."""

from __future__ import annotations

from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.conftest import Serve
from tests.bridges.nbd.proto import EIO, FLUSH, READ
from tests.bridges.nbd.serving import Serving
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern

BLOCK = 512


def start(serve: Serve, vdisk: FaultyVdisk) -> Serving:
    """Serve one disk in memory, and another one beside it."""
    return serve(disk=lambda backend: disk(vdisk), other=lambda backend: disk(FaultyVdisk()))


def test_connections_end_when_what_was_under_way_is_answered(serve: Serve) -> None:
    vdisk = FaultyVdisk()
    serving = start(serve, vdisk)
    with (
        Client(serving.tcp()).begin("disk") as busy,
        Client(serving.unix()).begin("disk") as idle,
        Client(serving.unix()).begin("other") as other,
    ):
        vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
        busy.send(proto.write(1, 0, pattern(5, BLOCK)), proto.request(READ, 2, 0, BLOCK))
        serving.until(lambda: len(vdisk.held) == 2)
        serving.call(lambda: serving.backend.remove_target("nbd", "disk"))
        assert idle.is_ended()
        serving.call(vdisk.release_all)
        assert busy.reply() == (1, 0, b"")
        assert busy.reply(BLOCK) == (2, 0, pattern(5, BLOCK))
        assert busy.is_ended()
        assert other.call(FLUSH) == (0, b"")
        serving.until(lambda: serving.sessions == 1)


def test_a_target_of_the_same_name_is_another_one(serve: Serve) -> None:
    serving = start(serve, FaultyVdisk())

    def replace() -> None:
        serving.backend.remove_target("nbd", "disk")
        target = serving.backend.add_target("nbd", "disk")
        target.configure(luns={0: LunEntry(disk(FaultyVdisk(64)))}, is_enabled=True)
        serving.targets.append(target)

    with Client(serving.unix()).begin("disk") as client:
        serving.call(replace)
        assert client.is_ended()
    with Client(serving.unix()).begin("disk") as client:
        assert client.size_bytes == 64 * BLOCK


def test_connections_outlast_that_their_target_is_disabled(serve: Serve) -> None:
    serving = start(serve, FaultyVdisk())
    (target, _) = serving.targets

    def enable(is_enabled: bool) -> None:
        target.is_enabled = is_enabled

    with Client(serving.unix()).begin("disk") as client:
        serving.call(lambda: enable(False))
        assert client.call(READ, 0, BLOCK) == (EIO, b"")
        serving.call(lambda: enable(True))
        assert client.read(0, BLOCK) == bytes(BLOCK)


def test_who_has_not_chosen_yet_finds_no_export_of_it(serve: Serve) -> None:
    serving = start(serve, FaultyVdisk())
    with Client(serving.unix()) as client:
        client.greet()
        serving.call(lambda: serving.backend.remove_target("nbd", "disk"))
        client.send(proto.go("disk"))
        assert client.option_reply() == (proto.ERR_UNKNOWN, b"no export named 'disk'")
        client.send(proto.go("other"))
        assert client.option_reply()[0] == proto.REP_INFO
