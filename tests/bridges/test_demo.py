# SPDX-License-Identifier: GPL-2.0-or-later
"""The embedded default: the disk, its configuration, and what the user is told."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bridges import demo
from bridges.config import load
from bridges.driver_attributes import AoeAttributes, LocalAttributes, NbdAttributes
from bridges.listen import Listen
from bridges.listeners import Address
from bridges.scst_conf import ConfigError
from scsi_backend.handlers.attributes import FileioAttributes

AWKWARD = 'a #"quoted" \\ folder {'


def test_the_disk_is_one_sparse_gibibyte(tmp_path: Path) -> None:
    demo.prepare(tmp_path, None)
    status = (tmp_path / "disk0.img").stat()
    assert status.st_size == 1 << 30
    assert status.st_blocks * 512 < 1 << 20
    assert sorted(os.listdir(tmp_path)) == ["disk0.img", "scst.conf"]


def test_the_disk_is_kept(tmp_path: Path) -> None:
    demo.prepare(tmp_path, None)
    image = tmp_path / "disk0.img"
    with image.open("r+b") as file:
        file.write(b"precious")
    before = image.stat()
    demo.prepare(tmp_path, None)
    after = image.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with image.open("rb") as file:
        assert file.read(8) == b"precious"


def test_a_disk_of_another_size_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "disk0.img").write_bytes(b"x" * 4096)
    demo.prepare(tmp_path, None)
    assert (tmp_path / "disk0.img").read_bytes() == b"x" * 4096


def test_a_half_made_disk_of_an_earlier_start_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "disk0.new").write_bytes(b"half")
    demo.prepare(tmp_path, None)
    with (tmp_path / "disk0.img").open("rb") as file:
        assert file.read(4) == bytes(4)
    assert not (tmp_path / "disk0.new").exists()


def test_the_configuration_opens_every_door(tmp_path: Path) -> None:
    config = load(str(demo.prepare(tmp_path, "eth0")))
    (device,) = config.devices
    assert (device.name, device.handler) == ("disk0", "vdisk_fileio")
    assert isinstance(device.attributes, FileioAttributes)
    assert device.attributes.filename == str(tmp_path / "disk0.img")
    assert (device.attributes.thin_provisioned, device.attributes.rotational) == (True, False)
    assert list(config.drivers) == ["nbd", "scst_local", "aoe"]
    for driver, name in (("nbd", "disk0"), ("scst_local", "local"), ("aoe", "e0.0")):
        (target,) = config.drivers[driver].targets
        assert target.attributes.enabled
        assert [(lun.number, lun.device, lun.is_read_only) for lun in target.luns] == [
            (0, "disk0", False)
        ], name
    nbd, local, aoe = (driver.attributes for driver in config.drivers.values())
    assert isinstance(nbd, NbdAttributes)
    assert nbd.listen == (
        Listen(Address("127.0.0.1", 10809)),
        Listen(Address(path=str(tmp_path / "nbd.sock"))),
    )
    assert isinstance(local, LocalAttributes)
    assert local.socket == str(tmp_path / "local.sock")
    assert isinstance(aoe, AoeAttributes)
    assert aoe.interface == ("eth0",)
    assert aoe.state_directory == str(tmp_path / "aoe")


def test_without_an_interface_there_is_no_aoe(tmp_path: Path) -> None:
    config = load(str(demo.prepare(tmp_path, None)))
    assert list(config.drivers) == ["nbd", "scst_local"]


def test_folders_are_made_and_relative_ones_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conf = demo.prepare(Path("new/folder"), None)
    assert conf == tmp_path / "new" / "folder" / "scst.conf"
    attributes = load(str(conf)).devices[0].attributes
    assert isinstance(attributes, FileioAttributes)
    assert attributes.filename == str(tmp_path / "new" / "folder" / "disk0.img")


def test_a_path_may_hold_blanks_and_other_special_characters(tmp_path: Path) -> None:
    folder = tmp_path / AWKWARD
    config = load(str(demo.prepare(folder, None)))
    attributes = config.devices[0].attributes
    assert isinstance(attributes, FileioAttributes)
    assert Path(attributes.filename) == folder / "disk0.img"
    assert Path(attributes.filename).exists()


def test_a_path_that_no_configuration_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"character U\+000A"):
        demo.prepare(tmp_path / "two\nlines", None)


def test_a_path_too_long_for_a_socket_is_refused_by_its_line(tmp_path: Path) -> None:
    conf = demo.prepare(tmp_path / ("d" * 100), None)
    with pytest.raises(ConfigError, match="absolute path of at most 107 bytes") as caught:
        load(str(conf))
    line = conf.read_text().splitlines()[caught.value.line - 1]
    assert line.strip() == f"listen unix:{conf.parent / 'nbd.sock'}"


def test_the_instructions_name_every_door(tmp_path: Path) -> None:
    text = demo.instructions(tmp_path, "eth7")
    assert "eth7" not in demo.instructions(tmp_path, None)
    assert f"Serving {tmp_path / 'disk0.img'} " in text
    assert "nbdinfo nbd://127.0.0.1:10809/disk0" in text
    assert f"socket={tmp_path}/nbd.sock" in text
    assert f" cdb {tmp_path}/local.sock 0 " in text
    assert "eth7" in text


def test_the_instructions_can_be_typed_whatever_the_path(tmp_path: Path) -> None:
    folder = tmp_path / AWKWARD
    commands = demo.instructions(folder, None).splitlines()
    (uri,) = [shlex.split(line)[1] for line in commands if "nbd+unix" in line]
    assert parse_qs(urlsplit(uri).query) == {"socket": [str(folder / "nbd.sock")]}
    (words,) = [shlex.split(line) for line in commands if " cdb " in line]
    assert words[2] == str(folder / "local.sock")
    (words,) = [shlex.split(line) for line in commands if " status " in line]
    assert words[-1] == str(demo.control_path(folder)) == str(folder / "control.sock")
