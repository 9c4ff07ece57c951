# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration in force: by which ways it changes, and that they keep out of each other."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from bridges.config import Config
from bridges.config_edit_tree import EditError
from bridges.daemon_running import ChangeRefusedError, Running
from tests.bridges.daemon_process import DEADLINE_S
from tests.bridges.site import Led, Site, lead, read, target

NOTE = {"target": "t", "attribute": "rel_tgt_id", "value": "1"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_cannot_be_changed_is_refused_as_a_whole(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))
    other = before.replace("DEVICE d {", "DEVICE d {\nrotational 0").replace("nbd.sock", "x.sock")
    wanted = other.replace("LUN 0 d", "LUN 5 d")

    async def visit(led: Led) -> None:
        text, status = led.text, led.status()
        for dry_run in (True, False):
            with pytest.raises(ChangeRefusedError) as caught:
                await led.apply(wanted, dry_run=dry_run)
            first, second = str(caught.value).splitlines()
            assert first.startswith("new.conf:3: device d: rotational 0: cannot be changed")
            assert second.startswith(f"new.conf:8: driver nbd: listen unix:{site.folder}/x.sock:")
        assert (led.text, led.status()) == (text, status)

    lead(before, visit)


def test_targets_keep_their_numbers_whatever_comes_before_them(site: Site) -> None:
    t, u, new = (target(name, "LUN 0 d") for name in ("t", "u", "new"))
    before = site.disks("d") + site.driver(t, u)
    after = site.disks("d") + site.driver(new, u)

    async def visit(led: Led) -> None:
        await led.apply(after)
        numbers = {each.name: each.relative_target_port for each in led.backend.targets}
        assert numbers == {"u": 2, "new": 1}
        # A daemon that is started with what is written has the same.
        ports = read(led.text).relative_target_ports()
        assert ports == {("nbd", "new"): 1, ("nbd", "u"): 2}
        assert (await led.apply(after)).lines == ()

    lead(before, visit)


def test_numbers_are_kept_where_keeping_one_moves_another(site: Site) -> None:
    t, u, new = (target(name, "LUN 0 d") for name in ("t", "u", "new"))

    async def visit(led: Led) -> None:
        await led.apply(site.disks("d") + site.driver(new, u, t))
        numbers = {each.name: each.relative_target_port for each in led.backend.targets}
        assert numbers == {"t": 1, "u": 2, "new": 3}

    lead(site.disks("d") + site.driver(t, u), visit)


def test_verbs_go_on_from_one_another(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))
    attributes = {"filename": str(site.image("e"))}

    async def visit(led: Led) -> None:
        edit = led.running.edit
        opened = {"handler": "vdisk_fileio", "device": "e", "attributes": attributes}
        lines = (await edit("open-dev", opened)).lines
        assert lines == (f"+ HANDLER vdisk_fileio DEVICE e filename {site.image('e')}",)
        await edit("add-lun", {"target": "t", "lun": 1, "device": "e"})
        assert list(led.backend.target("nbd", "t").luns) == [0, 1]
        with pytest.raises(EditError, match="LUN 1 of target t of driver nbd leads to it"):
            await edit("close-dev", {"device": "e"})
        await edit("rem-lun", {"target": "t", "lun": 1})
        await edit("close-dev", {"device": "e"})
        assert not site.is_open("e")
        assert (await led.apply(before)).lines == ()

    lead(before, visit)


def test_an_enabled_target_without_luns_is_warned_of_once(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))

    async def visit(led: Led) -> None:
        outcome = await led.running.edit("clear-luns", {"target": "t"})
        (warning,) = outcome.warnings
        assert warning.endswith("target t is enabled without a LUN: nobody can log in")
        outcome = await led.running.edit("add-group", {"target": "t", "group": "g"})
        assert outcome.warnings == ()

    lead(before, visit)


def test_changes_come_one_after_the_other(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))

    async def visit(led: Led) -> None:
        attributes = {"filename": str(site.image("e"))}
        opened = {"handler": "vdisk_fileio", "device": "e", "attributes": attributes}
        # The second one would not know the device if it did not wait.
        outcomes = await asyncio.gather(
            led.running.edit("open-dev", opened),
            led.running.edit("add-lun", {"target": "t", "lun": 1, "device": "e"}),
            led.running.note("set-target-attribute", NOTE),
        )
        assert [outcome.warnings for outcome in outcomes if outcome] == [(), ()]
        assert "LUN 1 e" in led.text
        assert "rel_tgt_id 1" in led.text

    lead(before, visit)


def test_nothing_changes_after_the_end(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))

    async def visit(led: Led) -> None:
        await led.running.end()
        with pytest.raises(ChangeRefusedError, match="the daemon is stopping"):
            await led.running.edit("disable-target", {"target": "t"})

    lead(before, visit)


def test_what_waits_for_its_turn_at_the_end_does_not_get_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate, slow_path = threading.Event(), threading.Event(), str(site.image("e"))
    real_stat = os.stat

    def slow(path: object, *words: object, **options: object) -> os.stat_result:
        if path == slow_path:
            entered.set()
            assert gate.wait(DEADLINE_S)
        return real_stat(path, *words, **options)  # type: ignore[arg-type]

    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))
    after = site.disks("d", "e") + site.driver(target("t", "LUN 0 d"))
    monkeypatch.setattr(os, "stat", slow)

    async def visit(led: Led) -> None:
        begun = asyncio.create_task(led.apply(after))
        assert await asyncio.to_thread(entered.wait, DEADLINE_S)
        waiting = asyncio.create_task(led.apply(before))
        await asyncio.sleep(0)
        ending = asyncio.create_task(led.running.end())
        await asyncio.sleep(0)
        assert not ending.done()
        gate.set()
        await ending
        assert len((await begun).lines) == 1
        with pytest.raises(ChangeRefusedError, match="the daemon is stopping"):
            await waiting

    lead(before, visit)


def test_what_else_speaks_against_it_is_asked_before_and_others_hear_after(site: Site) -> None:
    before = site.disks("d") + site.driver(target("t", "LUN 0 d"))
    after = before.replace("LUN 0 d", "LUN 1 d")

    async def visit(led: Led) -> None:
        heard: list[str] = []

        def check(config: Config) -> None:
            heard.append("asked")
            if not config.drivers:
                raise ChangeRefusedError("no")

        loop, config = asyncio.get_running_loop(), led.running.config

        def changed() -> None:
            heard.append("told")

        running = Running(loop, led.backend, led.doors, config, check=check, changed=changed)
        await running.apply(read(after))
        assert heard == ["asked", "told"]
        with pytest.raises(ChangeRefusedError, match="no"):
            await running.apply(read(site.disks("d")))
        assert heard == ["asked", "told", "asked"]

    lead(before, visit)
