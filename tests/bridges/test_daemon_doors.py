# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers of a daemon by driver: opened and closed one driver at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridges.scst_conf import ConfigError
from tests.bridges.certificates import Authority, write_server
from tests.bridges.daemon_process import connect, sockets
from tests.bridges.site import Led, Site, lead, read, target


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_driver_is_closed_once_and_can_be_opened_again(site: Site) -> None:
    text = site.disks("d") + site.driver(target("t", "LUN 0 d"))

    async def visit(led: Led) -> None:
        assert list(led.doors.servers) == ["nbd"]
        await asyncio.gather(led.doors.close("nbd"), led.doors.close("nbd"))
        await led.doors.close("nbd")
        assert (dict(led.doors.servers), sockets(site.folder)) == ({}, [])
        led.doors.open(read(text).drivers["nbd"])
        assert sockets(site.folder) == ["nbd.sock"]

    lead(text, visit)


def test_a_driver_is_not_opened_while_it_is_being_closed(site: Site) -> None:
    text = site.disks("d") + site.driver(target("t", "LUN 0 d"))

    async def visit(led: Led) -> None:
        sock = connect(str(site.nbd))
        # Greeted, so the server knows it.
        await asyncio.to_thread(sock.recv, 1)
        closing = asyncio.create_task(led.doors.close("nbd"))
        while sockets(site.folder):
            await asyncio.sleep(0)
        driver = read(text).drivers["nbd"]
        if not closing.done():
            with pytest.raises(ConfigError, match="driver nbd: its connections are still being"):
                led.doors.open(driver)
        sock.close()
        await closing
        led.doors.open(driver)

    lead(text, visit)


def test_what_was_opened_before_a_failure_is_closed(site: Site) -> None:
    (site.folder / "plain").write_text("no socket")
    local = f'TARGET_DRIVER scst_local {{\nsocket "{site.folder}/plain"\n}}\n'

    async def visit(led: Led) -> None:
        with pytest.raises(OSError, match="the file exists and is no socket"):
            led.doors.open(read(local).drivers["scst_local"])
        await led.doors.close("scst_local")
        assert dict(led.doors.servers) == {}

    lead(site.disks("d"), visit)


def test_only_servers_that_are_open_read_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bridges.tls")
    pki = site.folder / "pki"
    write_server(pki, Authority())
    listen = f"listen unix:{site.nbd} {{\ntls on\n}}\ntls_certificates {pki}\n"
    text = site.disks("d") + f"TARGET_DRIVER nbd {{\n{listen}{target('t', 'LUN 0 d')}}}\n"

    async def visit(led: Led) -> None:
        led.doors.reload()
        await led.doors.close("nbd")
        led.doors.reload()
        await led.doors.settled()

    lead(text, visit)
    assert [record.message for record in caplog.records if record.name == "bridges.tls"] == [
        f"{pki}: TLS credentials read again"
    ]
