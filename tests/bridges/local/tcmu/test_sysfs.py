# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking at a tree that is laid out as /sys."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bridges.local.tcmu.sysfs import Disk, Sysfs, UioNode

ADDRESS = "3:0:1:7"


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    for number, name in enumerate(("other", "tcm-user/7077/t.0/scst-bridge/t/0/x")):
        folder = tmp_path / "class" / "uio" / f"uio{number}"
        (folder / "maps" / "map0").mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "maps" / "map0" / "size").write_text("0x0000000004800000\n")
    device = tmp_path / "class" / "scsi_device" / ADDRESS / "device"
    (device / "block" / "sdq").mkdir(parents=True)
    (device / "scsi_generic" / "sg9").mkdir(parents=True)
    (tmp_path / "module" / "tcm_loop").mkdir(parents=True)
    return Sysfs(tmp_path, tmp_path / "dev")


def test_uio_device_is_found_by_its_name(sysfs: Sysfs, tmp_path: Path) -> None:
    found = sysfs.find_uio("tcm-user/7077/t.0/scst-bridge/t/0/x")
    assert found == UioNode(tmp_path / "dev" / "uio1", 0x4800000)
    assert sysfs.find_uio("tcm-user/7077/t.0") is None


@pytest.mark.parametrize("left", [[], ["name"]])
def test_uio_device_that_goes_meanwhile_is_not_found(tmp_path: Path, left: list[str]) -> None:
    folder = tmp_path / "class" / "uio" / "uio0"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("x\n")
    assert Sysfs(tmp_path, tmp_path).find_uio("x") is None


def test_disk_is_found_by_its_address(sysfs: Sysfs) -> None:
    assert sysfs.disk(ADDRESS) == Disk("sdq", "sg9")
    assert str(sysfs.disk(ADDRESS)) == "/dev/sdq and /dev/sg9"


def test_disk_that_is_not_there_yet_is_empty(sysfs: Sysfs) -> None:
    assert sysfs.disk("3:0:1:8") == Disk()
    assert str(Disk()) == "no device"
    assert str(Disk(generic="sg1")) == "/dev/sg1"


def test_rescan_and_queue_depth_are_written(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.rescan(ADDRESS)
    sysfs.set_queue_depth(ADDRESS, 64)
    device = tmp_path / "class" / "scsi_device" / ADDRESS / "device"
    assert (device / "rescan").read_text() == "1"
    assert (device / "queue_depth").read_text() == "64"


def test_missing_device_is_an_error_of_rescan(sysfs: Sysfs) -> None:
    with pytest.raises(OSError, match="No such file"):
        sysfs.rescan("9:0:1:0")


def test_modules_are_seen(sysfs: Sysfs) -> None:
    assert sysfs.has_module("tcm_loop")
    assert not sysfs.has_module("target_core_user")


def test_missing_node_is_not_in_use(sysfs: Sysfs) -> None:
    assert not sysfs.is_in_use(Disk("sdq"))
    assert not sysfs.is_in_use(Disk())


def test_free_node_is_not_in_use(sysfs: Sysfs, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "sdq").touch()
    assert not sysfs.is_in_use(Disk("sdq"))


def test_mapping_is_opened_and_closed(sysfs: Sysfs, tmp_path: Path) -> None:
    node = tmp_path / "uio0"
    node.write_bytes(bytes(8192))
    uio = sysfs.open_uio(UioNode(node, 8192))
    view = memoryview(uio.memory)
    view[0] = 7
    # Storage may still write there: only the descriptor goes.
    uio.close()
    view[1] = 8
    view.release()
    assert node.read_bytes()[:2] == bytes((7, 8))


def test_node_that_cannot_be_mapped_is_not_left_open(sysfs: Sysfs, tmp_path: Path) -> None:
    node = tmp_path / "uio0"
    node.write_bytes(bytes(10))
    with pytest.raises(ValueError, match="mmap length is greater"):
        sysfs.open_uio(UioNode(node, 8192))
    with pytest.raises(OSError, match="No such file") as caught:
        sysfs.open_uio(UioNode(tmp_path / "gone", 8192))
    assert caught.value.errno == errno.ENOENT
