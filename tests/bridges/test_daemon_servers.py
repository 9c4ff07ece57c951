# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that a configuration asks for, with the sockets that were passed."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bridges.config import DriverConfig, load
from bridges.daemon_populate import populate
from bridges.daemon_servers import Parts, Server, servers_of, starting_order
from bridges.inherited import NOTHING_INHERITED, Inherited, PassedSocket
from bridges.listeners import Address
from bridges.local.server import LocalServer
from bridges.local.tcmu.server import KernelServer
from bridges.nbd.server import NbdServer
from bridges.scst_conf import ConfigError
from bridges.spin import Spinner
from scsi_backend.io.engine import SyncEngine
from scsi_backend.target.backend import Backend
from tests.bridges.nbd import proto

NULL = "HANDLER vdisk_nullio {\nDEVICE d\n}\n"
TARGET = "TARGET t {\nLUN 0 d\nenabled 1\n}\n"


def starting(
    folder: Path,
    driver: str,
    inherited: Inherited = NOTHING_INHERITED,
    visit: Callable[[list[Server]], None] = lambda servers: None,
) -> list[str]:
    """Start the servers of a driver's section; return what happened, in its order."""
    hooks: list[Callable[[], object]] = []
    path = folder / "scst.conf"
    path.write_text(f"{NULL}TARGET_DRIVER {driver}\n{TARGET}}}\n")
    config = load(str(path))
    (section,) = config.drivers.values()
    events: list[str] = []

    async def run(backend: Backend, section: DriverConfig) -> None:
        loop = asyncio.get_running_loop()
        parts = Parts(
            loop,
            backend,
            Spinner(),
            inherited,
            lambda: events.append("left"),
            hooks.append,
            SyncEngine(),
        )
        servers = list(servers_of(parts, section))
        visit(servers)
        for server in servers:
            if isinstance(server, KernelServer):
                await server.settled()
            await server.stop()

    backend = Backend(SyncEngine())
    try:
        populate(backend, config)
        asyncio.run(run(backend, section))
    finally:
        backend.close()
    return events


def test_nbd_has_one_server_with_its_limits(tmp_path: Path) -> None:
    def visit(servers: list[Server]) -> None:
        (server,) = servers
        assert isinstance(server, NbdServer)
        assert server.max_connections == 7
        assert [each.listen.max_connections for each in server.entrances] == [None, 2]
        assert [str(each.address) for each in server.entrances] == [
            f"unix:{tmp_path}/a",
            f"unix:{tmp_path}/b",
        ]

    terms = f"listen unix:{tmp_path}/b {{\nmax_connections 2\n}}"
    driver = f"nbd {{\nlisten unix:{tmp_path}/a\n{terms}\nmax_connections 7"
    assert starting(tmp_path, driver, visit=visit) == []


def test_nbd_with_tls_wants_certificates_that_can_be_read(tmp_path: Path) -> None:
    terms = f"listen unix:{tmp_path}/a {{\ntls on\n}}"
    driver = f"nbd {{\ntls_certificates {tmp_path}\n{terms}"
    message = f"scst.conf:4: driver nbd: tls_certificates: {tmp_path}/server-cert.pem: No such file"
    with pytest.raises(ConfigError, match=re.escape(message)):
        starting(tmp_path, driver)


def test_local_has_a_server_for_its_socket_and_one_for_the_kernel(tmp_path: Path) -> None:
    def visit(servers: list[Server]) -> None:
        assert [type(server) for server in servers] == [LocalServer, KernelServer]

    starting(tmp_path, f"scst_local {{\nsocket {tmp_path}/s", visit=visit)


def test_kernel_is_asked_for_disks_if_a_target_is_to_be_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is to be loaded into the kernel of whoever runs this.
    monkeypatch.setenv("PATH", str(tmp_path))
    driver = f"scst_local {{\nsocket {tmp_path}/s\nTARGET k {{\nLUN 0 d\nkernel 1\nenabled 1\n}}"
    starting(tmp_path, driver)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("no kernel disks for target k: kernel module ")


def test_kernel_is_not_asked_for_disks_of_a_target_that_is_disabled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    starting(tmp_path, f"scst_local {{\nsocket {tmp_path}/s\nTARGET k {{\nLUN 0 d\nkernel 1\n}}")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_aoe_has_a_server_for_its_interface(tmp_path: Path) -> None:
    path = tmp_path / "scst.conf"
    path.write_text(
        f"{NULL}TARGET_DRIVER aoe {{\ninterface no-such-if\nTARGET e1.1 {{\nLUN 0 d\n"
        "enabled 1\n}\n}\n"
    )
    config = load(str(path))
    backend = Backend(SyncEngine())
    populate(backend, config)
    hooks: list[Callable[[], object]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        parts = Parts(
            loop, backend, Spinner(), NOTHING_INHERITED, lambda: None, hooks.append, SyncEngine()
        )
        with pytest.raises(OSError, match="no-such-if"):
            list(servers_of(parts, config.drivers["aoe"]))

    asyncio.run(run())
    backend.close()
    assert [getattr(hook, "__name__", "") for hook in hooks] == ["look_at_sizes"]


def test_aoe_does_not_start_with_a_state_that_cannot_be_understood(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "e1.1.json").write_text("{}")
    path = tmp_path / "scst.conf"
    path.write_text(
        f"{NULL}TARGET_DRIVER aoe {{\ninterface no-such-if\nstate_directory {folder}\n"
        "TARGET e1.1 {\nLUN 0 d\nenabled 1\n}\n}\n"
    )
    config = load(str(path))
    backend = Backend(SyncEngine())
    populate(backend, config)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        parts = Parts(
            loop,
            backend,
            Spinner(),
            NOTHING_INHERITED,
            lambda: None,
            lambda hook: None,
            SyncEngine(),
        )
        list(servers_of(parts, config.drivers["aoe"]))

    message = f"{path}:7: target e1.1: {folder}/e1.1.json: expected an object with config_string"
    with pytest.raises(ConfigError, match=re.escape(message)):
        asyncio.run(run())
    backend.close()


def test_passed_sockets_are_served_in_place_of_the_addresses(tmp_path: Path) -> None:
    path = tmp_path / "passed"
    passed = PassedSocket("x", Address(path=str(path)).listen())

    def visit(servers: list[Server]) -> None:
        (server,) = servers
        assert isinstance(server, NbdServer)
        assert [str(each) for each in server.addresses] == [f"unix:{path}"]
        assert not (tmp_path / "own").exists()

    driver = f"nbd {{\nlisten unix:{tmp_path}/own"
    starting(tmp_path, driver, Inherited(listening=(passed,)), visit)
    # Whoever made it takes it away.
    assert path.is_socket()


def test_a_line_for_a_socket_that_was_not_passed_is_an_error_of_the_section(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as caught:
        starting(tmp_path, "nbd {\nlisten systemd:x")
    assert str(caught.value) == (
        f"{tmp_path}/scst.conf:4: driver nbd: listen systemd:x:"
        " expected a socket, and none was passed (LISTEN_FDS)"
    )


def test_the_client_on_stdio_is_greeted_and_its_leaving_is_told(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()

    def visit(servers: list[Server]) -> None:
        (server,) = servers
        assert isinstance(server, NbdServer)
        assert [str(each.address) for each in server.entrances] == ["stdio"]
        assert not (tmp_path / "own").exists()

    driver = f"nbd {{\nlisten unix:{tmp_path}/own"
    with theirs:
        assert starting(tmp_path, driver, Inherited(stdio=ours), visit) == ["left"]
        assert theirs.recv(len(proto.GREETING)) == proto.GREETING


def test_a_client_on_stdio_that_is_not_allowed_has_left(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    driver = "nbd {\nlisten stdio {\nallow cid=3\n}"
    with theirs:
        assert starting(tmp_path, driver, Inherited(stdio=ours)) == ["left"]
        assert theirs.recv(1) == b""


def test_the_doors_that_may_have_reserved_something_are_opened_first(tmp_path: Path) -> None:
    path = tmp_path / "scst.conf"
    path.write_text(
        f'{NULL}TARGET_DRIVER nbd {{\nlisten "unix:{tmp_path}/s"\n{TARGET}}}\n'
        "TARGET_DRIVER aoe {\ninterface t0\nTARGET e1.1 {\nLUN 0 d\n}\n}\n"
        f"TARGET_DRIVER scst_local {{\n{TARGET}}}\n"
    )
    drivers = load(str(path)).drivers
    assert [driver.name for driver in drivers.values()] == ["nbd", "aoe", "scst_local"]
    order = [driver.name for driver in starting_order(drivers.values())]
    assert order == ["aoe", "nbd", "scst_local"]
