# SPDX-License-Identifier: GPL-2.0-or-later
"""The house plan: every module has its test file, and imports point downwards only.

The tables below are the plan. A module of ``bridges/`` that ``COMPOSITION`` does not name is shared
plumbing, which knows no protocol.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bridges", "scsi_backend")

# From the ground up; a module may import its own layer and those below it. First match wins.
LAYERS = (
    ("scsi_backend.t10*", 0),
    ("scsi_backend.io*", 1),
    ("scsi_backend.handlers*", 2),
    ("scsi_backend.servers*", 3),
    ("scsi_backend.target*", 4),
    ("scsi_backend", 0),
    ("bridges.nbd*", 6),
    ("bridges.aoe*", 6),
    ("bridges.local*", 6),
    ("bridges", 0),
)
PLUMBING = 5
COMPOSITION = 7
COMPOSITION_MODULES = (
    "bridges.__main__",
    "bridges.cli*",
    "bridges.config*",
    "bridges.control*",
    "bridges.daemon*",
    "bridges.demo*",
    # The drivers' part of the configuration.
    "bridges.driver_attributes",
    "bridges.nbdkit*",
)

# Front-ends are strangers to one another.
FRONT_ENDS = ("bridges.nbd", "bridges.aoe", "bridges.local")
# nbdkit with the Python plugin is a client of the local bridge.
ALLOWED = {
    ("bridges.nbd.plugin_sources", "bridges.local.client"),
    ("bridges.nbd.plugin_sources", "bridges.local.wire"),
}


def module_name(path: Path) -> str:
    """The dotted name of a file."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


SOURCES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
PACKAGE_NAMES = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
TWINNED = sorted(set(SOURCES) - PACKAGE_NAMES)


def layer_of(module: str) -> int:
    """How high a module stands."""
    for pattern, layer in LAYERS:
        if fnmatchcase(module, pattern):
            return layer
    if any(fnmatchcase(module, pattern) for pattern in COMPOSITION_MODULES):
        return COMPOSITION
    return PLUMBING


def front_end_of(module: str) -> str | None:
    """The front-end that a module belongs to."""
    return next((each for each in FRONT_ENDS if f"{module}.".startswith(f"{each}.")), None)


def imports_of(module: str, source: str) -> Iterator[str]:
    """The modules of this repository that a source imports, wherever in it the import stands."""
    inner = f"{module}.__init__" if module in PACKAGE_NAMES else module
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (known_part(alias.name) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = inner.split(".")[: -node.level]
                base = ".".join([*parents, *([base] if base else [])])
            if is_ours(base):
                yield from (known_part(f"{base}.{alias.name}") for alias in node.names)


def is_ours(name: str) -> bool:
    """Whether a module belongs to this repository's packages."""
    return name.split(".")[0] in (*PACKAGES, "tests")


def known_part(name: str) -> str:
    """The module of a dotted name that may end in something the module defines."""
    while name not in SOURCES and "." in name:
        name = name.rpartition(".")[0]
    return name


def faults_of(module: str, imported: str) -> list[str]:
    """What is wrong with one import."""
    faults = []
    if imported == "tests":
        faults.append("product code imports no tests")
    if module.startswith("scsi_backend") and imported.startswith("bridges"):
        faults.append("scsi_backend imports no bridges")
    if layer_of(imported) > layer_of(module):
        faults.append(f"layer {layer_of(module)} imports layer {layer_of(imported)}")
    one, other = front_end_of(module), front_end_of(imported)
    if one and other and one != other and (module, imported) not in ALLOWED:
        faults.append("front-ends do not import one another")
    return [f"{module} imports {imported}: {fault}" for fault in faults]


@pytest.mark.parametrize("module", TWINNED)
def test_every_module_has_its_test_file(module: str) -> None:
    path = SOURCES[module].relative_to(ROOT)
    twin = Path("tests", path.parent, f"test_{path.name}")
    assert (ROOT / twin).is_file(), f"{path} has no {twin}"


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_point_downwards(module: str) -> None:
    source = SOURCES[module].read_text()
    faults = [fault for name in imports_of(module, source) for fault in faults_of(module, name)]
    assert faults == []


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import scsi_backend.t10.cdb", ["scsi_backend.t10.cdb"]),
        ("from scsi_backend.t10 import cdb, x", ["scsi_backend.t10.cdb", "scsi_backend.t10"]),
        ("from scsi_backend.t10.cdb import Field", ["scsi_backend.t10.cdb"]),
        ("def f():\n    from bridges import scst_conf", ["bridges.scst_conf"]),
        ("from . import engine", ["scsi_backend.io.engine"]),
        ("from .engine import Done", ["scsi_backend.io.engine"]),
        ("from ..t10 import cdb", ["scsi_backend.t10.cdb"]),
        ("from tests.scsi_backend import fakes", ["tests"]),
        ("import os, asyncio", []),
    ],
)
def test_imports_are_found(source: str, imported: list[str]) -> None:
    assert list(imports_of("scsi_backend.io.file", source)) == imported


@pytest.mark.parametrize(
    ("module", "imported", "is_allowed"),
    [
        ("scsi_backend.t10.cdb", "scsi_backend.t10.sense", True),
        ("scsi_backend.t10.cdb", "scsi_backend.io.engine", False),
        ("scsi_backend.io.file", "scsi_backend.handlers.vdisk", False),
        ("scsi_backend.handlers.vdisk", "scsi_backend.io.file", True),
        ("scsi_backend.handlers.vdisk", "scsi_backend.servers.command", False),
        ("scsi_backend.servers.spc", "scsi_backend.target.nexus", False),
        ("scsi_backend.target.nexus", "scsi_backend.servers.command", True),
        ("scsi_backend.target.nexus", "bridges.stream", False),
        ("scsi_backend.target.nexus", "bridges", False),
        ("bridges.stream", "scsi_backend.target.backend", True),
        ("bridges.stream", "bridges.lun", True),
        ("bridges.stream", "bridges.nbd.wire", False),
        ("bridges.lun", "bridges.cli", False),
        ("bridges.nbd.server", "bridges.stream", True),
        ("bridges.nbd.server", "bridges.nbd.wire", True),
        ("bridges.nbd.server", "bridges.daemon", False),
        ("bridges.nbd.server", "bridges.aoe.wire", False),
        ("bridges.aoe.server", "bridges.local.client", False),
        ("bridges.local.client", "bridges.nbd", False),
        ("bridges.nbd.plugin_sources", "bridges.local.client", True),
        ("bridges.nbd.plugin_sources", "bridges.local.server", False),
        ("bridges.cli", "bridges.nbd.server", True),
        ("bridges.cli", "bridges.daemon", True),
        ("bridges.cli", "tests", False),
    ],
)
def test_rules_allow_and_forbid(module: str, imported: str, is_allowed: bool) -> None:
    assert (faults_of(module, imported) == []) is is_allowed
