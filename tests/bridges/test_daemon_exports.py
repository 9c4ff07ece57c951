# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers that are given their targets: other ones, and the same with other attributes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridges.aoe.server import AoeServer
from bridges.local.tcmu.server import KernelServer
from bridges.scst_conf import ConfigError
from tests.bridges.daemon_process import BLOCK_BYTES, NbdDisk, connect
from tests.bridges.nbd import proto
from tests.bridges.site import Led, Site, lead, target


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def aoe(site: Site, *targets: str) -> str:
    """Disks, and AoE on interfaces that nobody has."""
    lines = f"interface no-such-*\nstate_directory {site.folder}\n"
    return site.disks("d", "e") + f"TARGET_DRIVER aoe {{\n{lines}{''.join(targets)}}}\n"


def aoe_server(led: Led) -> AoeServer:
    (server,) = led.doors.servers["aoe"]
    assert isinstance(server, AoeServer)
    return server


ONE = target("e1.1", "LUN 0 d")
TWO = target("e1.2", "LUN 0 e")


def test_aoe_targets_come_and_go(site: Site) -> None:
    async def visit(led: Led) -> None:
        (first,) = aoe_server(led).targets
        await led.apply(aoe(site, ONE, TWO))
        assert aoe_server(led).targets[0] is first
        assert [str(each.address) for each in aoe_server(led).targets] == ["e1.1", "e1.2"]
        await led.apply(aoe(site, TWO))
        assert [str(each.address) for each in aoe_server(led).targets] == ["e1.2"]

    lead(aoe(site, ONE), visit)


def test_an_aoe_target_with_other_attributes_keeps_what_frames_have_made_of_it(site: Site) -> None:
    path = site.folder / "e1.1.json"
    path.write_text('{"version": 1, "config_string": "6162", "mask_list": [], "reserve_list": []}')

    async def visit(led: Led) -> None:
        (before,) = aoe_server(led).targets
        # It was read when the target came, and is not read again.
        path.write_text("damaged")
        outcome = await led.apply(aoe(site, target("e1.1", "durable 0", "LUN 0 d")))
        assert outcome.lines == ("~ TARGET_DRIVER aoe TARGET e1.1 durable 1 -> 0",)
        (after,) = aoe_server(led).targets
        assert (before.durable, after.durable) == (True, False)

    lead(aoe(site, ONE), visit)


def test_an_aoe_target_whose_state_cannot_be_understood_is_not_added(site: Site) -> None:
    (site.folder / "e1.2.json").write_text("{}")

    async def visit(led: Led) -> None:
        text, status = led.text, led.status()
        with pytest.raises(ConfigError, match=r"new.conf:\d+: target e1.2: .*e1.2.json: expected"):
            await led.apply(aoe(site, ONE, target("e1.3", "LUN 0 e"), TWO))
        assert (led.text, led.status()) == (text, status)
        assert [str(each.address) for each in aoe_server(led).targets] == ["e1.1"]
        (site.folder / "e1.2.json").unlink()
        await led.apply(aoe(site, ONE, target("e1.3", "LUN 0 e"), TWO))
        assert len(aoe_server(led).targets) == 3

    lead(aoe(site, ONE), visit)


def test_targets_become_disks_of_this_host_and_are_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is to be loaded into the kernel of whoever runs this.
    monkeypatch.setenv("PATH", str(site.folder))

    def local(*lines: str) -> str:
        driver = f"TARGET_DRIVER scst_local {{\nsocket {site.folder}/s\n{target('t', *lines)}}}\n"
        return site.disks("d") + driver

    async def visit(led: Led) -> None:
        (server,) = (
            each for each in led.doors.servers["scst_local"] if isinstance(each, KernelServer)
        )
        await led.apply(local("LUN 0 d", "kernel 1"))
        (session,) = led.backend.target("scst_local", "t").sessions
        assert session.initiator_name == "scst_local_host"
        await led.apply(local("LUN 0 d", "kernel 1", "session_name other"))
        (session,) = led.backend.target("scst_local", "t").sessions
        assert session.initiator_name == "other"
        await led.apply(local("LUN 0 d"))
        assert led.backend.target("scst_local", "t").sessions == ()
        with pytest.raises(KeyError):
            server.remove_export(led.backend.target("scst_local", "t"))

    lead(local("LUN 0 d"), visit)


def test_aoe_targets_that_were_made_in_vain_keep_nothing_reserved(site: Site) -> None:
    lists = '"mask_list": [], "reserve_list": ["02:00:00:00:00:01"]'
    for name in ("e1.1", "e1.3"):
        path = site.folder / f"{name}.json"
        path.write_text(f'{{"version": 1, "config_string": "", {lists}}}')
    (site.folder / "e1.2.json").write_text("{}")
    nbd = site.driver(target("t", "LUN 0 d", "LUN 1 e"))

    def may_write(lun: int) -> bool:
        disk = NbdDisk(connect(str(site.nbd)), f"t/{lun}" if lun else "t")
        error, _ = disk.client.call(proto.WRITE, 0, BLOCK_BYTES, bytes(BLOCK_BYTES))
        disk.close()
        return error == 0

    async def visit(led: Led) -> None:
        with pytest.raises(ConfigError, match=r"target e1.2: .*e1.2.json: expected"):
            await led.apply(aoe(site, ONE, TWO) + nbd)
        assert await asyncio.to_thread(may_write, 0)
        await led.apply(aoe(site, ONE) + nbd)
        assert not await asyncio.to_thread(may_write, 0)
        with pytest.raises(ConfigError, match=r"target e1.2: .*e1.2.json: expected"):
            await led.apply(aoe(site, ONE, target("e1.3", "LUN 0 e"), TWO) + nbd)
        assert not await asyncio.to_thread(may_write, 0)
        assert await asyncio.to_thread(may_write, 1)
        # With other attributes it has the list still.
        await led.apply(aoe(site, target("e1.1", "LUN 0 d", "durable 0")) + nbd)
        assert not await asyncio.to_thread(may_write, 0)
        await led.apply(site.disks("d", "e") + nbd)
        assert await asyncio.to_thread(may_write, 0)

    lead(site.disks("d", "e") + nbd, visit)
