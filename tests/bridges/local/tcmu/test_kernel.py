# SPDX-License-Identifier: GPL-2.0-or-later
"""What is missing in the kernel is named, in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridges.local.tcmu.configfs import KernelError
from bridges.local.tcmu.kernel import prepare, run
from bridges.local.tcmu.sysfs import Sysfs

MODULES = ("configfs", "target_core_mod", "target_core_user", "tcm_loop", "sd_mod", "sg")


class Host:
    """A machine: its modules, and the programs that would change it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[list[str]] = []
        self.problems: dict[str, str] = {}
        self.mounts = True

    @property
    def mount_point(self) -> Path:
        return self.folder / "config"

    def load(self, *modules: str) -> None:
        for module in modules:
            (self.folder / "sys" / "module" / module).mkdir(parents=True)

    def run(self, argv: Sequence[str]) -> str:
        self.commands.append(list(argv))
        if argv[0] == "mount" and self.mounts:
            (self.mount_point / "target" / "core").mkdir(parents=True)
        return self.problems.get(argv[1] if argv[0] == "modprobe" else "mount", "")

    def prepare(self) -> None:
        prepare(Sysfs(self.folder / "sys"), self.mount_point, self.run)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_nothing_is_done_where_all_is_there(host: Host) -> None:
    host.load(*MODULES)
    (host.mount_point / "target" / "core").mkdir(parents=True)
    host.prepare()
    assert host.commands == []


def test_what_is_missing_is_loaded_and_mounted(host: Host) -> None:
    host.load("configfs")
    host.prepare()
    assert host.commands == [
        *(["modprobe", module] for module in MODULES[1:]),
        ["mount", "-t", "configfs", "none", str(host.mount_point)],
    ]


@pytest.mark.parametrize("module", MODULES[:4])
def test_module_that_cannot_be_loaded_is_named(host: Host, module: str) -> None:
    host.problems[module] = "Module not found"
    message = f"^kernel module {module} is not loaded: .*Module not found"
    with pytest.raises(KernelError, match=message):
        host.prepare()


def test_disk_drivers_need_not_be_loaded(host: Host) -> None:
    host.problems.update({"sd_mod": "not found", "sg": "not found"})
    host.prepare()


def test_configfs_that_cannot_be_mounted_is_named(host: Host) -> None:
    host.load(*MODULES)
    host.mounts = False
    host.problems["mount"] = "mount: permission denied"
    message = f"configfs is not mounted at {host.mount_point}: mount: permission denied"
    with pytest.raises(KernelError, match=message):
        host.prepare()


def test_configfs_without_targets_is_named(host: Host) -> None:
    host.load(*MODULES)
    (host.mount_point / "target").mkdir(parents=True)
    with pytest.raises(KernelError, match=f"{host.mount_point}/target/core: expected a folder"):
        host.prepare()


def test_program_that_fails_says_why() -> None:
    assert run([sys.executable, "-c", "pass"]) == ""
    failing = "import sys; sys.exit('no such module')"
    assert run([sys.executable, "-c", failing]) == "no such module"
    assert run([sys.executable, "-c", "import sys; sys.exit(3)"]) == f"{sys.executable}: exit 3"
    assert run(["/no/such/program"]) == "/no/such/program: No such file or directory"
