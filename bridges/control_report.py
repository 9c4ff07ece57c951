# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge status`` and ``reservations``: what a daemon has, as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pydantic import ByteSize
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from bridges.control_reservations import AllReservations, DeviceReservations, NexusRecord
from bridges.control_status import GroupTargetStatus, Status

# Nobody looks at the width of a pipe.
_PIPE_WIDTH = 1000


def print_report(status: Status, console: Console | None = None) -> None:
    """Print everything there is to see, by default to standard output."""
    console = console or _console()
    console.print(_report(status), crop=False)


def print_device_groups(status: Status, console: Console | None = None) -> None:
    """Print the access states of target groups."""
    tables = tuple(_device_groups(status)) or (Text("no device groups"),)
    (console or _console()).print(Group(*tables), crop=False)


def print_reservations(found: AllReservations, console: Console | None = None) -> None:
    """Print what devices are reserved, and who has registered."""
    tables = (_reservations(found), *_registrants(found))
    (console or _console()).print(Group(*tables), crop=False)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _report(status: Status) -> RenderableType:
    devices = _table("Devices", "name", "handler", ">size", ">block", "access")
    for device in status.devices:
        devices.add_row(
            _text(device.name),
            device.handler,
            _size(device.size_bytes),
            str(device.block_size_bytes),
            _access(device.is_read_only),
        )
    footer = f"SGV cache: {_size(status.sgv_idle_bytes)} idle; process {status.pid}"
    tables = (
        devices,
        _targets(status),
        *_groups(status),
        _sessions(status),
        *_listeners(status),
        *_interfaces(status),
        *_device_groups(status),
        *_kernel_disks(status),
    )
    return Group(*tables, Text(footer))


def _targets(status: Status) -> Table:
    table = _table("Targets", "driver", "target", "group", ">LUN", "device", "access", "enabled")
    for target in status.targets:
        name, enabled = _text(target.name), "yes" if target.is_enabled else "no"
        maps = [("", target.luns), *((group.name, group.luns) for group in target.groups)]
        for group, luns in maps:
            place = (target.driver, name, _text(group))
            for lun in luns:
                access = _access(lun.is_read_only)
                table.add_row(*place, str(lun.lun), _text(lun.device), access, enabled)
            if not luns:
                table.add_row(*place, "", "", "", enabled)
    return table


def _groups(status: Status) -> Iterable[RenderableType]:
    if not any(target.groups for target in status.targets):
        return
    table = _table("Groups", "driver", "target", "group", "initiators")
    for target in status.targets:
        for group in target.groups:
            names = (_text(target.name), _text(group.name), _text(" ".join(group.initiators)))
            table.add_row(target.driver, *names)
    yield table


def _sessions(status: Status) -> Table:
    table = _table("Sessions", "driver", "target", "group", "initiator", "host", ">connections")
    for session in status.sessions:
        known = "" if session.connections is None else str(session.connections)
        names = (session.target, session.group or "", session.initiator, session.host or "")
        table.add_row(session.driver, *map(_text, names), known)
    return table


def _listeners(status: Status) -> Iterable[RenderableType]:
    table = _table("Listeners", "driver", "address", "TLS", ">connections", ">at most")
    for listener in status.listeners:
        limit = "" if listener.max_connections is None else str(listener.max_connections)
        connections = str(listener.connections)
        table.add_row(listener.driver, _text(listener.address), listener.tls, connections, limit)
    yield table
    for listener in status.listeners:
        # Outside the table, which would break them to its width.
        yield from (Text(f"  {uri}", no_wrap=True, overflow="ignore") for uri in listener.uris)


def _interfaces(status: Status) -> Iterable[RenderableType]:
    if not status.interfaces:
        return
    columns = ("name", "MAC", ">MTU", "link", ">sectors", ">buffers", "ring", ">frames", ">dropped")
    table = _table("Interfaces", *columns)
    for interface in status.interfaces:
        table.add_row(
            _text(interface.name),
            _text(interface.mac),
            str(interface.mtu),
            "up" if interface.is_running else "down",
            str(interface.sector_count),
            str(interface.buffer_count),
            "yes" if interface.has_ring else "no",
            str(interface.frames),
            str(interface.dropped),
        )
    yield table


def _device_groups(status: Status) -> Iterable[RenderableType]:
    if not status.device_groups:
        return
    columns = ("group", "devices", "target group", ">id", "state", "preferred", "targets")
    table = _table("Device groups", *columns)
    for group in status.device_groups:
        devices = _text(", ".join(group.devices))
        for part in group.target_groups:
            table.add_row(
                _text(group.name),
                devices,
                _text(part.name),
                str(part.group_id),
                part.state,
                "yes" if part.is_preferred else "no",
                _text(", ".join(_group_target(target) for target in part.targets)),
            )
    yield table


def _group_target(target: GroupTargetStatus) -> str:
    place = "" if target.driver is not None else f" (remote {target.rel_tgt_id})"
    return target.name + place


def _reservations(found: AllReservations) -> Table:
    columns = ("device", ">generation", "APTPL", "reservation", "held by", "SPC-2 holder")
    table = _table("Reservations", *columns)
    for device in found.devices:
        reserved = device.reservation
        table.add_row(
            _text(device.device),
            str(device.generation),
            "yes" if device.has_aptpl else "no",
            "" if reserved is None else f"{reserved.type_text}, {reserved.scope}",
            _text(_holders(device)),
            _text(", ".join(map(_nexus, _legacy_holders(device)))),
        )
    return table


def _holders(device: DeviceReservations) -> str:
    holders = [each for each in device.registrants if each.is_holder]
    return _nexus(holders[0]) if len(holders) == 1 else "all registrants" if holders else ""


def _legacy_holders(device: DeviceReservations) -> tuple[NexusRecord, ...]:
    """Who has reserved by SPC-2's RESERVE, or as by it."""
    legacy = device.legacy_holder
    return device.kept_for if legacy is None else (legacy, *device.kept_for)


def _nexus(nexus: NexusRecord) -> str:
    return f"{nexus.initiator} at {nexus.target or f'port {nexus.rel_tgt_id}'}"


def _registrants(found: AllReservations) -> Iterable[RenderableType]:
    if not any(device.registrants for device in found.devices):
        yield Text("no registrants")
        return
    columns = ("device", "initiator", "target", ">port", ">key", "holder", "session")
    table = _table("Registrants", *columns)
    for device in found.devices:
        for each in device.registrants:
            table.add_row(
                _text(device.device),
                _text(each.initiator),
                _text(each.target or ""),
                str(each.rel_tgt_id),
                each.key,
                "yes" if each.is_holder else "no",
                "yes" if each.has_session else "no",
            )
    yield table


def _kernel_disks(status: Status) -> Iterable[RenderableType]:
    if not status.kernel_disks:
        return
    table = _table("Kernel disks", "target", ">LUN", "device", "disk", "generic")
    for disk in status.kernel_disks:
        name, device = _text(disk.target), _text(disk.device)
        table.add_row(name, str(disk.lun), device, disk.block, disk.generic)
    yield table


def _table(title: str, *columns: str) -> Table:
    """An empty table; a column that begins with ``>`` is aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=True)
    for column in columns:
        justify: JustifyMethod = "right" if column[0] == ">" else "left"
        table.add_column(column.lstrip(">"), justify=justify, overflow="fold")
    return table


def _text(name: str) -> Text:
    """A name from outside, in which nothing is markup."""
    return Text(name)


def _size(size_bytes: int) -> str:
    return ByteSize(size_bytes).human_readable(separator=" ")


def _access(is_read_only: bool) -> str:
    return "read-only" if is_read_only else "read-write"
