# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading and writing a tree that is laid out as configfs.

What the kernel does about it (files that come with a folder, links that scan a disk) is tested in
tests/kernel.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridges.local.tcmu.configfs import Configfs, DeviceSettings, FoundDevice, KernelError
from bridges.local.tcmu.naming import DeviceConfig, LunName, initiator_name

NAME = LunName("t0", 3)
CONFIG = DeviceConfig(NAME, "0123456789abcdef")
PORT = "naa.3ffd4b69fc82aa8c"
SETTINGS = DeviceSettings(CONFIG, 1 << 30, 4096, 32 << 20, "serial", 30)


def device_folder(root: Path, name: str = "t0.3", hba: str = "user_7077") -> Path:
    """A TCMU device's folder with the files that come with it."""
    folder = root / "core" / hba / name
    for part in ("attrib", "wwn", "action"):
        (folder / part).mkdir(parents=True)
    for file in ("control", "wwn/vpd_unit_serial", "action/reset_ring"):
        (folder / file).touch()
    (folder / "enable").write_text("0\n")
    (folder / "attrib" / "dev_config").write_text("\n")
    for attribute in ("pgr_support", "tmr_notification", "cmd_time_out", "dev_size"):
        (folder / "attrib" / attribute).touch()
    return folder


def port_folder(root: Path) -> Path:
    """The folder of t0's port."""
    folder = root / "loopback" / PORT / "tpgt_1"
    (folder / "lun").mkdir(parents=True)
    (folder / "nexus").touch()
    (folder / "address").write_text("5:0:1\n")
    return folder


def test_device_is_made_with_all_that_concerns_it(tmp_path: Path) -> None:
    folder = device_folder(tmp_path)
    found = Configfs(tmp_path).create_device(SETTINGS)
    assert found == FoundDevice(folder, CONFIG, is_enabled=True)
    assert (folder / "control").read_text() == (
        "dev_config=scst-bridge/t0/3/0123456789abcdef,dev_size=1073741824,hw_block_size=4096,"
        "hw_max_sectors=8192,max_data_area_mb=64,nl_reply_supported=-1"
    )
    assert (folder / "wwn" / "vpd_unit_serial").read_text() == "serial"
    assert (folder / "enable").read_text() == "1"
    attributes = {path.name: path.read_text() for path in (folder / "attrib").iterdir()}
    # This kernel has no alua_support.
    assert attributes == {
        "dev_config": "\n",
        "dev_size": "",
        "pgr_support": "0",
        "tmr_notification": "1",
        "cmd_time_out": "30",
    }


@pytest.mark.parametrize("was_there", [False, True])
def test_device_that_cannot_be_made_is_removed_unless_another_process_made_it(
    tmp_path: Path, was_there: bool
) -> None:
    folder = tmp_path / "core" / "user_7077" / "t0.3"
    if was_there:
        folder.mkdir(parents=True)
    with pytest.raises(KernelError):
        Configfs(tmp_path).create_device(SETTINGS)
    assert folder.exists() == was_there


def test_uio_name_has_the_number_of_the_hba(tmp_path: Path) -> None:
    found = FoundDevice(tmp_path / "core" / "user_12" / "t0.3", CONFIG, is_enabled=True)
    assert found.uio_name == "tcm-user/12/t0.3/scst-bridge/t0/3/0123456789abcdef"


def test_devices_of_ours_are_found_wherever_they_are(tmp_path: Path) -> None:
    ours = device_folder(tmp_path)
    (ours / "attrib" / "dev_config").write_text(f"{CONFIG}\n")
    (ours / "enable").write_text("1\n")
    half = device_folder(tmp_path, "half", "user_0")
    (half / "attrib" / "dev_config").write_text("scst-bridge/t%2F1/0/x")
    device_folder(tmp_path, "theirs", "user_0")
    (tmp_path / "core" / "fileio_0" / "x").mkdir(parents=True)
    assert Configfs(tmp_path).found() == [
        FoundDevice(half, DeviceConfig(LunName("t/1", 0), "x"), is_enabled=False),
        FoundDevice(ours, CONFIG, is_enabled=True),
    ]


def test_nothing_is_found_where_there_is_no_configfs(tmp_path: Path) -> None:
    assert Configfs(tmp_path / "gone").found() == []


def test_sizes_and_time_limits_are_read_and_written(tmp_path: Path) -> None:
    folder = device_folder(tmp_path)
    found = FoundDevice(folder, CONFIG, is_enabled=True)
    configfs = Configfs(tmp_path)
    configfs.resize(found, 4096)
    assert configfs.size_bytes(found) == 4096
    (folder / "attrib" / "cmd_time_out").write_text("9\n")
    assert configfs.cmd_time_out_s(found) == 9
    configfs.reset_ring(found)
    assert (folder / "action" / "reset_ring").read_text() == "1"


def test_nexus_is_made_once(tmp_path: Path) -> None:
    folder = port_folder(tmp_path)
    configfs = Configfs(tmp_path)
    configfs.create_port("t0", "session")
    first = (folder / "nexus").read_text()
    assert first == initiator_name("t0", "session")
    configfs.create_port("t0", "other")
    assert (folder / "nexus").read_text() == first


def test_lun_leads_to_its_device(tmp_path: Path) -> None:
    folder = device_folder(tmp_path)
    port = port_folder(tmp_path)
    found = FoundDevice(folder, CONFIG, is_enabled=True)
    other = FoundDevice(folder.parent / "other", CONFIG, is_enabled=True)
    configfs = Configfs(tmp_path)
    assert not configfs.is_mapped(NAME, found)
    configfs.map_lun(NAME, found)
    (link,) = (port / "lun" / "lun_3").iterdir()
    assert link.resolve() == folder
    assert configfs.is_mapped(NAME, found)
    assert not configfs.is_mapped(NAME, other)
    assert configfs.luns("t0") == [3]
    assert configfs.address(NAME) == "5:0:1:3"
    configfs.remove_port("t0")
    assert port.exists()
    configfs.unmap_lun(NAME)
    configfs.unmap_lun(NAME)
    assert configfs.luns("t0") == []


def test_device_and_its_hba_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "core" / "user_7077" / "t0.3"
    folder.mkdir(parents=True)
    (folder.parent / "other").mkdir()
    configfs = Configfs(tmp_path)
    configfs.remove_device(FoundDevice(folder, CONFIG, is_enabled=True))
    assert not folder.exists()
    other = FoundDevice(folder.parent / "other", CONFIG, is_enabled=True)
    configfs.remove_device(other)
    configfs.remove_device(other)
    assert list((tmp_path / "core").iterdir()) == []


def test_hba_and_fabric_are_removed_if_they_are_empty(tmp_path: Path) -> None:
    configfs = Configfs(tmp_path)
    (tmp_path / "loopback" / "naa.5").mkdir(parents=True)
    configfs.claim()
    configfs.claim()
    device = tmp_path / "core" / "user_7077" / "d"
    device.mkdir()
    configfs.release()
    assert device.exists()
    assert (tmp_path / "loopback" / "naa.5").exists()
    device.rmdir()
    (tmp_path / "loopback" / "naa.5").rmdir()
    configfs.release()
    configfs.release()
    assert list((tmp_path / "core").iterdir()) == []
    assert not (tmp_path / "loopback").exists()


def test_missing_rights_are_told(tmp_path: Path) -> None:
    # Nothing can be made below /proc, by root either.
    with pytest.raises(KernelError, match=r"^/proc/no/core/user_7077: No such file"):
        Configfs(Path("/proc/no")).claim()
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(KernelError, match="Permission denied: root is needed"):
            Configfs(tmp_path).claim()


def test_port_without_luns_is_removed(tmp_path: Path) -> None:
    (tmp_path / "loopback" / PORT / "tpgt_1").mkdir(parents=True)
    configfs = Configfs(tmp_path)
    configfs.remove_port("t0")
    configfs.remove_port("t0")
    assert list((tmp_path / "loopback").iterdir()) == []


def test_what_cannot_be_done_is_told_with_its_place(tmp_path: Path) -> None:
    configfs = Configfs(tmp_path)
    found = FoundDevice(tmp_path / "core" / "user_7077" / "t0.3", CONFIG, is_enabled=True)
    for act in (
        lambda: configfs.resize(found, 1),
        lambda: configfs.size_bytes(found),
        lambda: configfs.reset_ring(found),
        lambda: configfs.address(NAME),
        lambda: configfs.create_device(SETTINGS),
    ):
        # A folder has no files here.
        with pytest.raises(KernelError, match=f"^{tmp_path}/.*: No such file or directory$"):
            act()
    assert list((tmp_path / "core").iterdir()) == []
    (tmp_path / "loopback").write_text("")
    for act in (
        lambda: configfs.create_port("t0", "session"),
        lambda: configfs.map_lun(NAME, found),
    ):
        with pytest.raises(KernelError, match=r": Not a directory$"):
            act()


def test_folder_that_is_not_empty_stays(tmp_path: Path) -> None:
    folder = device_folder(tmp_path)
    with pytest.raises(KernelError, match="Directory not empty"):
        Configfs(tmp_path).remove_device(FoundDevice(folder, CONFIG, is_enabled=True))
