# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``status`` command: what the daemon is serving at this moment, as a record."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pydantic import BaseModel, ConfigDict

from bridges.aoe.server import AoeServer
from bridges.listen import TlsMode
from bridges.listeners import Address
from bridges.local.tcmu.server import KernelServer
from bridges.nbd import exports, uri
from bridges.stream_server import Entrance, StreamServer
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import TargetGroup
from scsi_backend.target.initiator_group import group_of
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target

_WILDCARDS = ("0.0.0.0", "::")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeviceStatus(_Record):
    """A device; its size is that of its whole blocks."""

    name: str
    handler: str
    size_bytes: int
    block_size_bytes: int
    is_read_only: bool


class LunStatus(_Record):
    """A LUN of a target or of a group."""

    lun: int
    device: str
    is_read_only: bool


class GroupStatus(_Record):
    """A security group: the patterns of whom it is for, and the LUNs that these have."""

    name: str
    initiators: tuple[str, ...]
    luns: tuple[LunStatus, ...]


class TargetStatus(_Record):
    """A target, the LUNs of who is in no group, and the groups in the order of their matching."""

    driver: str
    name: str
    is_enabled: bool
    luns: tuple[LunStatus, ...]
    groups: tuple[GroupStatus, ...] = ()


class GroupTargetStatus(_Record):
    """A target of a target group; ``driver`` is None for one of another machine."""

    name: str
    driver: str | None
    rel_tgt_id: int


class TargetGroupStatus(_Record):
    """A target group; ``state`` is SCST's word for it."""

    name: str
    group_id: int
    state: str
    is_preferred: bool
    targets: tuple[GroupTargetStatus, ...]


class DeviceGroupStatus(_Record):
    """A device group."""

    name: str
    devices: tuple[str, ...]
    target_groups: tuple[TargetGroupStatus, ...]


class SessionStatus(_Record):
    """An initiator that is logged in; ``connections`` is None where they are not known apart.

    ``host`` is where it comes from, if from a network; ``group`` is whose LUNs it has, None for
    those of the target.
    """

    driver: str
    target: str
    initiator: str
    connections: int | None
    host: str | None = None
    group: str | None = None


class ListenerStatus(_Record):
    """One way in; ``uris`` has one for each NBD export, whoever has it."""

    driver: str
    address: str
    tls: str
    connections: int
    max_connections: int | None
    uris: tuple[str, ...]


class InterfaceStatus(_Record):
    """A network interface that AoE is served on.

    ``frames`` and ``dropped`` are the kernel's counts of requests since it is; ``has_ring`` tells
    whether they come through shared memory.
    """

    name: str
    mac: str
    mtu: int
    is_running: bool
    sector_count: int
    buffer_count: int
    has_ring: bool
    frames: int
    dropped: int


class KernelDiskStatus(_Record):
    """A LUN that is a SCSI disk of this host; ``block`` and ``generic`` are its device nodes."""

    target: str
    lun: int
    device: str
    block: str
    generic: str


class Status(_Record):
    """Everything."""

    pid: int
    devices: tuple[DeviceStatus, ...]
    targets: tuple[TargetStatus, ...]
    sessions: tuple[SessionStatus, ...]
    listeners: tuple[ListenerStatus, ...]
    interfaces: tuple[InterfaceStatus, ...]
    device_groups: tuple[DeviceGroupStatus, ...]
    kernel_disks: tuple[KernelDiskStatus, ...]
    sgv_idle_bytes: int


def status_of(
    backend: Backend, handlers: Mapping[str, str], servers: Mapping[str, Iterable[object]]
) -> Status:
    """Look at everything; ``handlers`` is by device, ``servers`` by driver."""
    stream_servers = {
        driver: [server for server in each if isinstance(server, StreamServer)]
        for driver, each in servers.items()
    }
    return Status(
        pid=os.getpid(),
        devices=tuple(_devices(backend, handlers)),
        targets=tuple(_targets(backend)),
        sessions=tuple(_sessions(backend, stream_servers)),
        listeners=tuple(_listeners(backend, stream_servers)),
        interfaces=tuple(_interfaces(server for each in servers.values() for server in each)),
        device_groups=tuple(_device_groups(backend)),
        kernel_disks=tuple(_kernel_disks(server for each in servers.values() for server in each)),
        sgv_idle_bytes=backend.sgv.idle_bytes,
    )


def _devices(backend: Backend, handlers: Mapping[str, str]) -> Iterator[DeviceStatus]:
    for name, unit in backend.devices.items():
        block_size = unit.vdisk.block_size_bytes
        yield DeviceStatus(
            name=name,
            handler=handlers[name],
            size_bytes=unit.block_count * block_size,
            block_size_bytes=block_size,
            is_read_only=unit.vdisk.is_read_only,
        )


def _targets(backend: Backend) -> Iterator[TargetStatus]:
    for target in backend.targets:
        yield TargetStatus(
            driver=target.driver,
            name=target.name,
            is_enabled=target.is_enabled,
            luns=tuple(_luns(target.luns)),
            groups=tuple(
                GroupStatus(
                    name=group.name,
                    initiators=tuple(pattern.text for pattern in group.patterns),
                    luns=tuple(_luns(group.luns)),
                )
                for group in target.groups.values()
            ),
        )


def _luns(luns: Mapping[int, LunEntry]) -> Iterator[LunStatus]:
    for lun, entry in sorted(luns.items()):
        yield LunStatus(
            lun=lun,
            device=entry.unit.name,
            is_read_only=entry.is_read_only or entry.unit.vdisk.is_read_only,
        )


def _device_groups(backend: Backend) -> Iterator[DeviceGroupStatus]:
    for group in backend.device_groups.values():
        yield DeviceGroupStatus(
            name=group.name,
            devices=tuple(unit.name for unit in group.devices),
            target_groups=tuple(_target_group(each) for each in group.target_groups.values()),
        )


def _target_group(group: TargetGroup) -> TargetGroupStatus:
    return TargetGroupStatus(
        name=group.name,
        group_id=group.group_id,
        state=group.state.name.lower(),
        is_preferred=group.is_preferred,
        targets=tuple(
            GroupTargetStatus(
                name=port.name,
                driver=port.driver if isinstance(port, Target) else None,
                rel_tgt_id=port.relative_target_port,
            )
            for port in group.ports
        ),
    )


def _sessions(
    backend: Backend, servers: Mapping[str, Iterable[StreamServer]]
) -> Iterator[SessionStatus]:
    peers: Counter[tuple[str, str]] = Counter()
    for driver, each in servers.items():
        for server in each:
            for name, connections in server.peers.items():
                peers[driver, name] += connections
    sessions = [(target, session) for target in backend.targets for session in target.sessions]
    logins = Counter((target.driver, session.initiator_name) for target, session in sessions)
    for target, session in sessions:
        who = (target.driver, session.initiator_name)
        # An initiator that is logged in to several targets may come by any of its connections.
        is_known = logins[who] == 1 and who in peers
        group = group_of(target.groups.values(), session.initiator_name, session.host)
        yield SessionStatus(
            driver=target.driver,
            target=target.name,
            initiator=session.initiator_name,
            connections=peers[who] if is_known else None,
            host=None if session.host is None else str(session.host),
            group=None if group is None else group.name,
        )


def _listeners(
    backend: Backend, servers: Mapping[str, Iterable[StreamServer]]
) -> Iterator[ListenerStatus]:
    names = [
        exports.export_name(target, lun)
        for target in backend.targets_of(exports.DRIVER)
        if target.is_enabled
        for lun in sorted(_lun_numbers(target))
    ]
    for driver, each in servers.items():
        for server in each:
            for entrance in server.entrances:
                has_uris = driver == exports.DRIVER
                yield ListenerStatus(
                    driver=driver,
                    address=str(entrance.address),
                    tls=entrance.listen.tls.value,
                    connections=entrance.connections,
                    max_connections=entrance.listen.max_connections,
                    uris=tuple(_uris(entrance, names)) if has_uris else (),
                )


def _lun_numbers(target: Target) -> set[int]:
    """The LUNs that anybody has."""
    return {*target.luns}.union(*(group.luns for group in target.groups.values()))


def _interfaces(servers: Iterable[object]) -> Iterator[InterfaceStatus]:
    for server in servers:
        if isinstance(server, AoeServer):
            for name, port in server.ports.items():
                statistics = port.statistics
                yield InterfaceStatus(
                    name=name,
                    mac=port.mac.hex(":"),
                    mtu=port.mtu,
                    is_running=port.link.is_running,
                    sector_count=port.sector_count,
                    buffer_count=port.buffer_count,
                    has_ring=port.has_ring,
                    frames=statistics.frames,
                    dropped=statistics.dropped,
                )


def _kernel_disks(servers: Iterable[object]) -> Iterator[KernelDiskStatus]:
    for server in servers:
        if isinstance(server, KernelServer):
            for disk in server.disks:
                yield KernelDiskStatus(
                    target=disk.name.target,
                    lun=disk.name.lun,
                    device=disk.device_name,
                    block=_node(disk.disk.block),
                    generic=_node(disk.disk.generic),
                )


def _node(name: str) -> str:
    return f"/dev/{name}" if name else ""


def _uris(entrance: Entrance, names: Iterable[str]) -> Iterator[str]:
    address = entrance.address
    has_tls = entrance.listen.tls is not TlsMode.OFF
    for name in names:
        if address.path:
            yield uri.unix_uri(address.path, name, has_tls=has_tls)
        elif address.cid is not None:
            yield uri.vsock_uri(_reachable_cid(address.cid), address.port, name, has_tls=has_tls)
        elif address.is_internet:
            yield uri.tcp_uri(_reachable_host(address), address.port, name, has_tls=has_tls)


def _reachable_host(address: Address) -> str:
    """A name by which clients find this machine."""
    return socket.gethostname() if address.host in _WILDCARDS else address.host


def _reachable_cid(cid: int) -> int:
    """The context ID by which clients find this machine."""
    if cid != socket.VMADDR_CID_ANY:
        return cid
    own = array.array("I", [socket.VMADDR_CID_HOST])
    with suppress(OSError), open("/dev/vsock", "rb") as device:
        fcntl.ioctl(device, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, own)
    # A host that is nobody's guest is called so by its guests.
    return own[0] if own[0] != socket.VMADDR_CID_ANY else socket.VMADDR_CID_HOST
