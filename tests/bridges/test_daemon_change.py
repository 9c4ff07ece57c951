# SPDX-License-Identifier: GPL-2.0-or-later
"""From one configuration to another: what takes effect, what is undone, and what is waited for."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bridges.daemon_change import Patience
from bridges.scst_conf import ConfigError
from tests.bridges.daemon_process import BLOCK_BYTES, DEADLINE_S, NbdDisk, connect, sockets
from tests.bridges.nbd import proto
from tests.bridges.site import Led, Site, lead, target
from tests.scsi_backend.fakes import pattern

ONE = target("t", "LUN 0 d")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def opened(site: Site, name: str = "t") -> NbdDisk:
    """An NBD client of an export."""
    return NbdDisk(connect(str(site.nbd)), name)


def test_a_device_and_a_group_come_while_a_client_writes(site: Site) -> None:
    before = site.disks("d") + site.driver(ONE)
    group = "GROUP others {\nLUN 0 e\nINITIATOR other*\n}"
    after = site.disks("d", "e") + site.driver(target("t", "LUN 0 d", "LUN 1 e", group))

    async def visit(led: Led) -> None:
        stopping = threading.Event()
        written: list[int] = []

        def write() -> None:
            disk = opened(site)
            while not stopping.is_set() or not written:
                disk.write(len(written) % 100, pattern(len(written), BLOCK_BYTES))
                written.append(len(written))
            disk.close()

        writing = asyncio.create_task(asyncio.to_thread(write))
        while not written:
            await asyncio.sleep(0)
        outcome = await led.apply(after)
        assert outcome.warnings == ()
        assert outcome.lines[0] == f"+ HANDLER vdisk_fileio DEVICE e filename {site.image('e')}"
        stopping.set()
        await writing
        other = await asyncio.to_thread(opened, site, "t/1")
        assert await asyncio.to_thread(other.read, 0, 1) == bytes(BLOCK_BYTES)
        other.close()

    lead(before, visit)


def test_applying_what_is_in_force_changes_nothing(site: Site) -> None:
    text = site.disks("d") + site.driver(ONE)

    async def visit(led: Led) -> None:
        for _ in range(2):
            outcome = await led.apply(text)
            assert (outcome.lines, outcome.warnings) == ((), ())

    lead(text, visit)


def test_a_dry_run_changes_nothing(site: Site) -> None:
    before = site.disks("d") + site.driver(ONE)
    after = site.disks("d", "e") + site.driver(target("t", "LUN 0 e"))

    async def visit(led: Led) -> None:
        text, status = led.text, led.status()
        told = await led.apply(after, dry_run=True)
        assert (led.text, led.status()) == (text, status)
        assert not site.is_open("e")
        assert (await led.apply(after)).lines == told.lines != ()

    lead(before, visit)


def missing_file(site: Site) -> tuple[str, str]:
    site.image("gone").unlink()
    text = site.disks("d", "e", "gone") + site.driver(ONE)
    site.image("gone").unlink()
    return text, f"new.conf:8: device gone: {site.folder}/gone.img: No such file or directory"


def empty_file(site: Site) -> tuple[str, str]:
    text = site.disks("d", "e", "empty") + site.driver(ONE)
    os.truncate(site.image("empty"), 0)
    return text, "new.conf:8: device empty: empty: expected at least one block of 512 bytes"


def state_file_of_another(site: Site) -> tuple[str, str]:
    path = site.folder / "modes"
    text = site.disks("d", "e", attributes=f"mode_pages_file {path}\n") + site.driver(ONE)
    # The first device had it before.
    text = text.replace(f"mode_pages_file {path}\n", "", 1).replace("DEVICE e", "DEVICE f", 1)
    second = f'}}\nDEVICE e {{\nfilename "{site.image("e")}"\nmode_pages_file {path}\n}}\n}}\n'
    text = text.replace("}\n}\n", second, 1)
    return text, (f"new.conf:9: device e: {path}: expected a file of its own, not that of device f")


def address_in_use(site: Site) -> tuple[str, str]:
    local = f'TARGET_DRIVER scst_local {{\nsocket "{site.folder}/plain"\n{ONE}}}\n'
    (site.folder / "plain").write_text("no socket")
    text = site.disks("d", "e") + site.driver(ONE, target("u", "LUN 0 e")) + local
    return text, f"cannot listen on unix:{site.folder}/plain: the file exists and is no socket"


def interface_that_is_missing(site: Site) -> tuple[str, str]:
    aoe = f"TARGET_DRIVER aoe {{\ninterface no-such-if\n{target('e1.1', 'LUN 0 e')}}}\n"
    return site.disks("d", "e") + site.driver(ONE) + aoe, "no-such-if"


@pytest.mark.parametrize(
    "spoil",
    [
        missing_file,
        empty_file,
        state_file_of_another,
        address_in_use,
        interface_that_is_missing,
    ],
)
def test_what_fails_leaves_everything_as_it_was(
    site: Site, spoil: Callable[[Site], tuple[str, str]]
) -> None:
    wanted, message = spoil(site)
    before = site.disks("d") + site.driver(ONE)

    async def visit(led: Led) -> None:
        text, status = led.text, led.status()
        files = os.listdir(site.folder)
        disk = await asyncio.to_thread(opened, site)
        with pytest.raises((ConfigError, OSError)) as caught:
            await led.apply(wanted)
        assert message in str(caught.value)
        await asyncio.to_thread(disk.write, 0, pattern(0, BLOCK_BYTES))
        await asyncio.to_thread(disk.close)
        while led.status() != status:
            # The client leaves.
            await asyncio.sleep(0)
        assert led.text == text
        assert os.listdir(site.folder) == files
        # The threads that opened devices in vain end soon.
        while site.is_open("e"):
            await asyncio.sleep(0)
        good = await led.apply(site.disks("d", "e") + site.driver(ONE))
        assert len(good.lines) == 1

    lead(before, visit)


def test_a_device_that_is_removed_is_flushed_and_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    datasync = os.fdatasync

    def recording(fd: int) -> None:
        synced.append(os.pread(fd, BLOCK_BYTES, 5 * BLOCK_BYTES))
        datasync(fd)

    monkeypatch.setattr(os, "fdatasync", recording)
    both = site.disks("d", "e") + site.driver(target("t", "LUN 0 d", "LUN 1 e"))
    one = site.disks("d") + site.driver(ONE)

    async def visit(led: Led) -> None:
        disk = await asyncio.to_thread(opened, site, "t/1")
        await asyncio.to_thread(disk.write, 5, pattern(5, BLOCK_BYTES))
        assert synced == []
        outcome = await led.apply(one)
        assert outcome.warnings == ()
        assert synced == [pattern(5, BLOCK_BYTES)]
        assert (site.is_open("d"), site.is_open("e")) == (True, False)
        disk.close()

    lead(both, visit)


def test_what_hangs_is_told_and_the_configuration_is_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()
    datasync = os.fdatasync

    def slow(fd: int) -> None:
        entered.set()
        assert gate.wait(DEADLINE_S)
        datasync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    both = site.disks("d", "e") + site.driver(target("t", "LUN 0 d", "LUN 1 e"))
    one = site.disks("d") + site.driver(ONE)

    async def visit(led: Led) -> None:
        disk = await asyncio.to_thread(opened, site, "t/1")
        disk.client.send(proto.request(proto.FLUSH, 77))
        assert await asyncio.to_thread(entered.wait, DEADLINE_S)
        outcome = await led.apply(one)
        assert outcome.warnings == (
            "device e: not closed yet: commands that are under way have not ended",
            "target t: commands that were under way have not ended yet",
        )
        assert [device["name"] for device in led.status()["devices"]] == ["d"]
        with pytest.raises(ConfigError, match="device e is being opened or closed"):
            await led.apply(both)
        gate.set()
        while site.is_open("e"):
            await asyncio.sleep(0)
        assert (await led.apply(both)).warnings == ()
        disk.close()

    lead(both, visit, Patience(end_s=0.0))


def test_storage_that_hangs_keeps_nothing_else_from_being_served(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, slow_path = threading.Event(), str(site.image("e"))
    real_stat = os.stat

    def slow(path: object, *words: object, **options: object) -> os.stat_result:
        if path == slow_path:
            assert gate.wait(DEADLINE_S)
        return real_stat(path, *words, **options)  # type: ignore[arg-type]

    before = site.disks("d") + site.driver(ONE)
    after = site.disks("d", "e") + site.driver(ONE)
    monkeypatch.setattr(os, "stat", slow)

    async def visit(led: Led) -> None:
        text, status = led.text, led.status()
        with pytest.raises(ConfigError, match="device e: not open after 0 s: given up"):
            await led.apply(after)
        assert (led.text, led.status()) == (text, status)
        with pytest.raises(ConfigError, match="device e is being opened or closed"):
            await led.apply(after)
        gate.set()

    lead(before, visit, Patience(open_s=0.0))


def test_drivers_come_and_go(site: Site) -> None:
    local = f'TARGET_DRIVER scst_local {{\nsocket "{site.folder}/local.sock"\n{ONE}}}\n'
    before = site.disks("d") + site.driver(ONE)

    async def visit(led: Led) -> None:
        await led.apply(site.disks("d") + local)
        assert sockets(site.folder) == ["local.sock"]
        assert [(each.driver, each.is_enabled) for each in led.backend.targets] == [
            ("scst_local", True)
        ]
        await led.apply(before)
        assert sockets(site.folder) == ["nbd.sock"]

    lead(before, visit)


def test_a_driver_that_is_still_being_closed_is_refused_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        entered.set()
        assert gate.wait(DEADLINE_S)

    monkeypatch.setattr(os, "fdatasync", slow)
    before = site.disks("d") + site.driver(ONE)
    other = before.replace("LUN 0 d", "LUN 1 d")

    async def visit(led: Led) -> None:
        disk = await asyncio.to_thread(opened, site)
        disk.client.send(proto.request(proto.FLUSH, 77))
        assert await asyncio.to_thread(entered.wait, DEADLINE_S)
        outcome = await led.apply(site.disks("d"))
        assert "driver nbd: its connections are still being closed" in outcome.warnings
        for text in (before, other):
            with pytest.raises(ConfigError, match="driver nbd: its connections are still being"):
                await led.apply(text)
            # Nobody has waited for what hangs.
            assert list(led.doors.servers) == ["nbd"]
        gate.set()
        await led.doors.close("nbd")
        await led.apply(other)
        disk.close()

    lead(before, visit, Patience(end_s=0.0))


def test_a_target_may_take_the_number_of_one_that_goes(site: Site) -> None:
    def text(name: str) -> str:
        return site.disks("d") + site.driver(target(name, "rel_tgt_id 7", "LUN 0 d"))

    async def visit(led: Led) -> None:
        await led.apply(text("other"))
        (port,) = led.backend.devices["d"].ports
        assert (port.relative_identifier, port.name) == (7, "nbd/other")

    lead(text("t"), visit)


def test_disabling_a_target_ends_its_sessions(site: Site) -> None:
    before = site.disks("d") + site.driver(ONE)
    after = site.disks("d") + site.driver(target("t", "LUN 0 d", is_enabled=False))

    async def visit(led: Led) -> None:
        disk = await asyncio.to_thread(opened, site)
        assert (await led.apply(after)).lines == ("~ TARGET_DRIVER nbd TARGET t enabled 1 -> 0",)
        nexuses = [session.nexuses for each in led.backend.targets for session in each.sessions]
        assert not any(nexuses)
        disk.close()
        await led.apply(before)
        again = await asyncio.to_thread(opened, site)
        assert await asyncio.to_thread(again.read, 0, 1) == bytes(BLOCK_BYTES)
        again.close()

    lead(before, visit)


def test_a_port_in_use_is_told_with_its_address(site: Site) -> None:
    async def visit(led: Led) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            text = led.text
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
                await led.apply(
                    site.disks("d") + f"TARGET_DRIVER nbd {{\nlisten 127.0.0.1:{port}\n{ONE}}}\n"
                )
            assert led.text == text

    lead(site.disks("d"), visit)


def test_a_last_flush_that_fails_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    both = site.disks("d", "e") + site.driver(ONE)

    async def visit(led: Led) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            outcome = await led.apply(site.disks("d") + site.driver(ONE))
        assert outcome.warnings == (
            "device e: the last flush failed: what was written last may be lost",
        )
        assert not site.is_open("e")

    lead(both, visit)
