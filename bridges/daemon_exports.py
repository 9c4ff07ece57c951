# SPDX-License-Identifier: GPL-2.0-or-later
"""How servers that are running get other targets.

Those of NBD and of the local socket look the targets up when somebody asks for one, and follow
their LUNs by themselves. Those of AoE and of the kernel's disks are given their targets, with
terms that hold as long as they have them: a target with other attributes is taken away and given
again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bridges.aoe.address import parse_address
from bridges.aoe.server import AoeServer, Export
from bridges.config import DriverConfig, TargetConfig
from bridges.daemon_servers import Parts, Server, aoe_export, kernel_exports
from bridges.local.tcmu.server import KernelServer


@dataclass(frozen=True, slots=True)
class ExportChange:
    """Targets of a driver that are to be taken away, and those that are to be given.

    One with other attributes is among both, each time as it is then.
    """

    driver: DriverConfig
    removed: Sequence[TargetConfig]
    added: Sequence[TargetConfig]


Ends = Sequence[Coroutine[Any, Any, object]]


def _no_ends() -> Ends:
    return ()


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Exports:
    """What is prepared: first ``remove``, then ``add``, neither of which fails; or ``undo``.

    What ``remove`` returns ends with what is under way.
    """

    remove: Callable[[], Ends] = _no_ends
    add: Callable[[], object] = _nothing
    undo: Callable[[], object] = _nothing


def exports_of(parts: Parts, servers: Sequence[Server], change: ExportChange) -> Exports:
    """Prepare a change of a driver's targets, which the backend has; raises ConfigError."""
    prepare = _EXPORTS.get(change.driver.name)
    return Exports() if prepare is None else prepare(parts, servers, change)


def _aoe(parts: Parts, servers: Sequence[Server], change: ExportChange) -> Exports:
    (server,) = (each for each in servers if isinstance(each, AoeServer))
    names = {section.name for section in change.removed}
    addresses = {parse_address(name) for name in names}
    old = [target for target in server.targets if target.address in addresses]
    new: list[Export] = []

    def undo() -> None:
        for export in new:
            export.target.end(_nothing)
        for section in change.added:
            if section.name not in names:
                parts.aoe_states.pop(section.name, None)

    try:
        for section in change.added:
            if section.name not in names:
                new.append(aoe_export(parts, change.driver, section))
    except BaseException:
        undo()
        raise

    def remove() -> Ends:
        return [server.remove_export(target) for target in old]

    def add() -> None:
        for section in change.added:
            if section.name in names:
                # With what frames have made of it: nothing is read again, so nothing can fail.
                new.append(aoe_export(parts, change.driver, section))
        for export in new:
            server.add_export(export)
        for name in names - {section.name for section in change.added}:
            parts.aoe_states.pop(name, None)

    return Exports(remove, add, undo)


def _kernel(parts: Parts, servers: Sequence[Server], change: ExportChange) -> Exports:
    (server,) = (each for each in servers if isinstance(each, KernelServer))
    old = list(kernel_exports(parts, change.driver, change.removed))
    new = list(kernel_exports(parts, change.driver, change.added))

    def remove() -> Ends:
        for export in old:
            server.remove_export(export.target)
        return ()

    def add() -> None:
        for export in new:
            server.add_export(export)

    return Exports(remove, add)


_EXPORTS: Mapping[str, Callable[[Parts, Sequence[Server], ExportChange], Exports]] = (
    MappingProxyType({"aoe": _aoe, "scst_local": _kernel})
)
