# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the nbdkit plugin's exports come from, which names they have, and how they go away."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.nbd.plugin_export import PluginExport
from bridges.nbd.plugin_sources import (
    PARAMETERS,
    DaemonSource,
    EmbeddedSource,
    PluginError,
    choose_source,
)
from bridges.nbd.wire import Error
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.faulty_lun import FaultyLun, check_condition
from tests.bridges.local.site import Site
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
MIB = 1 << 20
DISK = 64 * 4096


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small disk."""
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(1, DISK))
    return path


def _read(export: PluginExport, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    export.read(memoryview(buffer), offset)
    return bytes(buffer)


def _error(call: Callable[[], object]) -> Error:
    with pytest.raises(PluginError) as caught:
        call()
    return caught.value.error


def test_file_and_its_attributes_choose_the_embedded_backend(image: Path) -> None:
    source = choose_source({"file": str(image), "blocksize": "512", "write_through": "1"})()
    assert isinstance(source, EmbeddedSource)
    info = PluginExport(source.open("")).info
    assert (info.block_size_bytes, info.has_volatile_cache) == (512, False)
    source.close()


WRONG_PARAMETERS = [
    ({}, "expected either file=PATH or socket=PATH"),
    ({"file": "/a", "socket": "/b"}, "expected either file=PATH or socket=PATH"),
    ({"socket": "/b", "blocksize": "512"}, "blocksize: with socket= expected only device="),
    ({"file": "/a", "device": "disk"}, "device"),
    ({"file": "/a", "blocksize": "1000"}, "blocksize=1000: expected 512 or 4096"),
    ({"file": "/a", "read_only": "yes"}, "read_only=yes: expected 0 or 1"),
    ({"file": "/a", "read_only": "1", "nv_cache": "1"}, "read_only excludes"),
    ({"file": "a"}, "filename=a: expected an absolute path"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG_PARAMETERS)
def test_wrong_parameters_say_what_was_expected(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_source(parameters)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    open_missing = choose_source({"file": str(tmp_path / "missing")})
    with pytest.raises(FileNotFoundError):
        open_missing()


def test_every_attribute_of_vdisk_fileio_is_a_parameter() -> None:
    assert set(PARAMETERS["file"]) == {*FileioAttributes.model_fields, "file"} - {"filename"}
    assert PARAMETERS["socket"] == ("socket", "device")


def test_the_file_is_one_export_with_two_names(image: Path) -> None:
    source = choose_source({"file": str(image), "usn": "4711"})()
    assert source.default_export == "disk0"
    assert source.exports() == [("disk0", "SCST_FIO disk0 4711")]
    for name in ("", "disk0"):
        export = PluginExport(source.open(name))
        assert _read(export, 0, BLOCK) == pattern(1, DISK)[:BLOCK]
        export.close()
    source.close()


@pytest.mark.parametrize("name", ["disk1", "disk0/0", "DISK0", " "])
def test_other_names_for_the_file_are_refused(image: Path, name: str) -> None:
    source = choose_source({"file": str(image)})()
    with pytest.raises(PluginError, match=f"no export named '{name}': expected '' or 'disk0'"):
        source.open(name)
    source.close()


def test_a_last_flush_that_fails_is_told(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = choose_source({"file": str(image)})()
    export = PluginExport(source.open(""))
    export.write(memoryview(bytes(BLOCK)), 0, fua=False)
    export.close()

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "it broke")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(PluginError, match=r"disk\.img: the last flush failed"):
        source.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A daemon's local door to a disk in memory."""
    site = Site(tmp_path)
    yield site
    site.close()


def test_the_daemon_s_lun_over_its_socket(site: Site) -> None:
    vdisk = FaultyVdisk(80 * MIB // 512)
    site.add_target("target", vdisk)
    site.start()
    source = choose_source({"socket": site.path, "device": "target"})()
    assert isinstance(source, DaemonSource)
    export = PluginExport(source.open(""))
    payload = pattern(3, 32 * MIB)
    export.write(memoryview(payload), MIB, fua=True)
    assert _read(export, MIB, 32 * MIB) == payload
    export.zero(MIB, 2 * MIB, fua=False, may_trim=False)
    assert vdisk.blocks(2048, 6144) == payload[:MIB] + bytes(MIB) + payload[2 * MIB : 3 * MIB]
    view = memoryview(bytearray(33 * MIB))
    assert _error(lambda: export.read(view, 0)) == Error.EINVAL
    vdisk.faults.errno_at[0] = 5
    assert _error(lambda: _read(export, 0, 512)) == Error.EIO
    export.close()
    source.close()
    site.wait_for_no_sessions()


def test_a_daemon_that_is_not_there_says_so(tmp_path: Path) -> None:
    source = choose_source({"socket": str(tmp_path / "missing"), "device": "target"})()
    for call in (lambda: source.open(""), source.exports):
        with pytest.raises(PluginError, match="missing: cannot connect"):
            call()


def _disk(name: str) -> FaultyVdisk:
    vdisk = FaultyVdisk(64)
    vdisk.data[: len(name)] = name.encode()
    return vdisk


def _content(source: DaemonSource | EmbeddedSource, name: str) -> bytes:
    export = PluginExport(source.open(name))
    data = _read(export, 0, BLOCK)
    export.close()
    return data.rstrip(b"\0")


@pytest.fixture
def alone(site: Site) -> Site:
    """A daemon with one enabled target of three LUNs, and one that is not enabled."""
    target = site.add_target("only", _disk("zero"), _disk("one"))
    target.add_lun(300, LunEntry(disk(_disk("flat"))))
    site.add_target("off", _disk("off"), is_enabled=False)
    site.start()
    return site


def test_without_a_device_the_luns_of_the_only_target_are_listed(alone: Site) -> None:
    source = choose_source({"socket": alone.path})()
    assert source.default_export == ""
    listed = source.exports()
    assert [name for name, _ in listed] == ["", "/1", "/300"]
    assert all(text.startswith("SCST_FIO faulty ") for _, text in listed)
    assert [_content(source, name) for name, _ in listed] == [b"zero", b"one", b"flat"]
    alone.wait_for_no_sessions()


def test_a_lun_without_a_disk_to_tell_of_is_listed_with_its_answer(site: Site) -> None:
    lun = FaultyLun()
    lun.answer(0x00, [check_condition("02/04/03")] * 3)
    target = site.add_target("only", _disk("zero"))
    target.add_lun(7, LunEntry(lun.unit))
    site.start()
    listed = choose_source({"socket": site.path})().exports()
    assert [name for name, _ in listed] == ["", "/7"]
    assert listed[1][1].startswith("TEST UNIT READY: ")
    assert "NOT READY" in listed[1][1]


def test_a_target_that_does_not_tell_its_luns_has_no_list(site: Site) -> None:
    lun = FaultyLun()
    lun.answer(0xA0, [check_condition("04/44/00")])
    site.add_target("only").add_lun(0, LunEntry(lun.unit))
    site.start()
    with pytest.raises(PluginError, match="REPORT LUNS: HARDWARE ERROR"):
        choose_source({"socket": site.path})().exports()


@pytest.fixture
def crowded(site: Site) -> Site:
    """A daemon with two enabled targets."""
    site.add_target("left", _disk("left0"), _disk("left1"))
    site.add_file_target("right", 1 << 16)
    site.start()
    return site


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left", b"left0"),
        ("left/0", b"left0"),
        ("left/1", b"left1"),
        ("right", b""),
        ("right-disk", b""),
    ],
)
def test_without_a_device_the_export_s_name_chooses(
    crowded: Site, name: str, expected: bytes
) -> None:
    assert _content(choose_source({"socket": crowded.path})(), name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no target named; targets with LUNs for .*,nbdkit are: left, right"),
        ("/1", "no target named; targets with LUNs for .*,nbdkit are: left, right"),
        ("none", "no target and no mapped device is named 'none'"),
        ("none/1", "no target and no mapped device is named 'none'"),
        # No LUN has such a number, so these are names.
        ("left/16384", "is named 'left/16384'"),
        ("left/01", "is named 'left/01'"),
        ("left/", "is named 'left/'"),
        ("x" * 5000, "name"),
    ],
)
def test_names_that_lead_nowhere_are_refused(crowded: Site, name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        choose_source({"socket": crowded.path})().open(name)


def test_a_lun_that_is_not_there_is_refused(crowded: Site) -> None:
    source = choose_source({"socket": crowded.path})()
    door = source.open("left/2")
    with pytest.raises(PluginError, match="25/00"):
        PluginExport(door)
    crowded.wait_for_no_sessions()


def test_several_targets_have_no_list_but_names(crowded: Site) -> None:
    with pytest.raises(PluginError, match=r"targets with LUNs for .* are: left, right"):
        choose_source({"socket": crowded.path})().exports()


@pytest.mark.parametrize("device", ["right", "right-disk"])
def test_with_a_device_there_is_one_export(crowded: Site, device: str) -> None:
    source = choose_source({"socket": crowded.path, "device": device})()
    assert source.default_export == device
    ((name, text),) = source.exports()
    assert name == device
    assert text.startswith("SCST_FIO right-disk ")
    assert _content(source, "") == _content(source, device) == b""
    for other in ("left", f"{device}/0", "/0"):
        with pytest.raises(PluginError, match=f"expected '' or '{device}'"):
            source.open(other)


def test_a_daemon_that_goes_away_is_told_once_and_then_shut(site: Site) -> None:
    site.add_target("only", _disk("zero"))
    site.start()
    source = choose_source({"socket": site.path})()
    export = PluginExport(source.open(""))
    site.begin_stop().result(30)
    view = memoryview(bytearray(BLOCK))
    # The request under way may have been done; for those behind it there is no server.
    assert _error(lambda: export.read(view, 0)) == Error.EIO
    assert _error(lambda: export.write(view, 0, fua=False)) == Error.ESHUTDOWN
    assert _error(export.flush) == Error.ESHUTDOWN
    export.close()
