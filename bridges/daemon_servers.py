# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that the sections of a configuration ask for, one builder for each target driver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from bridges.aoe.acl import AccessList
from bridges.aoe.address import parse_address
from bridges.aoe.policy import Policy
from bridges.aoe.server import AoeServer, Export
from bridges.aoe.state import KeptState
from bridges.aoe.state_file import StateFile, StateFileError, in_background
from bridges.aoe.target import AoeTarget
from bridges.aoe.views import AoeTargetError
from bridges.config import DriverConfig, TargetConfig
from bridges.driver_attributes import (
    AoeAttributes,
    AoeTargetAttributes,
    LocalAttributes,
    LocalTargetAttributes,
    NbdAttributes,
)
from bridges.inherited import Inherited, InheritedError, listens_in_force, stdio_terms
from bridges.listen import Listen
from bridges.listeners import Address
from bridges.local.server import LocalServer
from bridges.local.tcmu.port import KernelExport
from bridges.local.tcmu.server import KernelServer
from bridges.nbd.server import NbdServer
from bridges.scst_conf import ConfigError
from bridges.spin import Spinner
from bridges.tls import CredentialsError, TlsCredentials
from scsi_backend.io.engine import Engine
from scsi_backend.target.backend import Backend

_log = logging.getLogger(__name__)


class Server(Protocol):
    """A front-end with its sockets."""

    def start(self) -> None:
        """Open the doors; raises OSError."""

    async def stop(self) -> None:
        """Close them once everything under way is answered."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What servers are made from.

    ``client_left`` is told when the client on stdio has left, ``on_reload`` what else is to be
    read again when the daemon is asked to. ``engine`` is for files that the servers keep, and
    ``aoe_states`` for what they have of them in mind, by target.
    """

    loop: asyncio.AbstractEventLoop
    backend: Backend
    spinner: Spinner
    inherited: Inherited
    client_left: Callable[[], None]
    on_reload: Callable[[Callable[[], object]], None]
    engine: Engine
    aoe_states: dict[str, KeptState] = field(default_factory=dict)


def starting_order(drivers: Iterable[DriverConfig]) -> list[DriverConfig]:
    """Those first whose targets may have devices reserved as they begin: no other door is open."""
    return sorted(drivers, key=lambda driver: driver.name != "aoe")


def servers_of(parts: Parts, driver: DriverConfig) -> Iterable[Server]:
    """Make the servers of a section, and start each; raises ConfigError or OSError."""
    for server in _SERVERS[driver.name](parts, driver):
        server.start()
        yield server
        if isinstance(server, NbdServer) and parts.inherited.stdio is not None:
            assert isinstance(driver.attributes, NbdAttributes)
            terms = stdio_terms(driver.attributes.listen, _default_terms(driver.attributes))
            server.adopt(parts.inherited.stdio, terms, parts.client_left)


def _nbd(parts: Parts, driver: DriverConfig) -> Iterable[Server]:
    attributes = driver.attributes
    assert isinstance(attributes, NbdAttributes)
    try:
        listens = listens_in_force(attributes.listen, parts.inherited, _default_terms(attributes))
    except InheritedError as error:
        raise ConfigError(driver.location, f"driver nbd: {error}") from error
    server = NbdServer(
        parts.loop,
        parts.backend,
        listens,
        parts.spinner,
        credentials=_credentials(parts, driver, attributes),
    )
    server.max_connections = attributes.max_connections
    yield server


def _default_terms(attributes: NbdAttributes) -> Listen:
    return Listen(Address(), connection_memory_bytes=attributes.connection_memory)


def _credentials(
    parts: Parts, driver: DriverConfig, attributes: NbdAttributes
) -> TlsCredentials | None:
    if attributes.tls_certificates is None:
        return None
    folder = Path(attributes.tls_certificates)
    try:
        credentials = TlsCredentials.load(folder, attributes.tls_verify_peer)
    except CredentialsError as error:
        raise ConfigError(driver.location, f"driver nbd: tls_certificates: {error}") from error
    parts.on_reload(credentials.reload)
    return credentials


def _local(parts: Parts, driver: DriverConfig) -> Iterable[Server]:
    assert isinstance(driver.attributes, LocalAttributes)
    yield LocalServer(parts.loop, parts.backend, driver.attributes.socket, parts.spinner)
    # Without disks, too: a daemon that was killed may have left some, and others may come later.
    server = KernelServer(parts.loop, kernel_exports(parts, driver, driver.targets), parts.spinner)
    parts.on_reload(server.look_at_sizes)
    yield server


def kernel_exports(
    parts: Parts, driver: DriverConfig, sections: Iterable[TargetConfig]
) -> Iterable[KernelExport]:
    """Those of a driver's targets whose LUNs are to be disks of this host."""
    for section in sections:
        attributes = section.attributes
        assert isinstance(attributes, LocalTargetAttributes)
        if attributes.kernel:
            target = parts.backend.target(driver.name, section.name)
            yield KernelExport(target, attributes.session_name, attributes.cmd_time_out)


def _aoe(parts: Parts, driver: DriverConfig) -> Iterable[Server]:
    attributes = driver.attributes
    assert isinstance(attributes, AoeAttributes)
    exports = [aoe_export(parts, driver, section) for section in driver.targets]
    server = AoeServer(parts.loop, attributes.interface, exports, parts.spinner)
    parts.on_reload(server.look_at_sizes)
    yield server


def aoe_export(parts: Parts, driver: DriverConfig, section: TargetConfig) -> Export:
    """Make what an AoE server serves of a target; raises ConfigError."""
    assert isinstance(section.attributes, AoeTargetAttributes)
    return Export(_aoe_target(parts, driver, section), section.attributes.interface or ("*",))


def _aoe_target(parts: Parts, driver: DriverConfig, section: TargetConfig) -> AoeTarget:
    assert isinstance(driver.attributes, AoeAttributes)
    assert isinstance(section.attributes, AoeTargetAttributes)
    backend_target = parts.backend.target(driver.name, section.name)
    policy = _aoe_policy(driver.attributes, section.attributes)
    try:
        state = _aoe_state(parts, driver.attributes.state_directory, section)
        target = AoeTarget(parse_address(section.name), backend_target, parts.loop, policy, state)
    except AoeTargetError as error:
        raise ConfigError(section.location, f"target {error}") from error
    except StateFileError as error:
        raise ConfigError(section.location, f"target {section.name}: {error}") from error
    target.durable = section.attributes.durable
    if not target.durable:
        _log.warning(
            "target %s: durable 0: a power failure loses writes that were acknowledged,"
            " and Linux's aoe driver never asks for a flush",
            section.name,
        )
    return target


def _aoe_policy(driver: AoeAttributes, target: AoeTargetAttributes) -> Policy:
    return Policy(
        access=AccessList(frozenset(target.allow), frozenset(target.deny)),
        in_band_editing=target.in_band_editing,
        write_cache_control=target.write_cache_control,
        reservation_conflict=target.reservation_conflict,
        idle_timeout_s=driver.idle_timeout,
    )


def _aoe_state(parts: Parts, folder: str | None, section: TargetConfig) -> KeptState:
    """What frames have made of the target; raises StateFileError."""
    state = parts.aoe_states.get(section.name)
    if state is None:
        state = KeptState()
        if folder is not None:
            file = StateFile(Path(folder), parse_address(section.name))
            state = KeptState(file.load(), in_background(file, parts.engine))
        parts.aoe_states[section.name] = state
    return state


_SERVERS: Mapping[str, Callable[[Parts, DriverConfig], Iterable[Server]]] = MappingProxyType(
    {"nbd": _nbd, "scst_local": _local, "aoe": _aoe}
)
