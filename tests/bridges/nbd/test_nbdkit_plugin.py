# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions that nbdkit calls, with a stand-in for the module that only nbdkit has.

The stand-in has the constants of nbdkit 1.32 and keeps what is given to ``set_error``. nbdkit
itself runs the plugin in tests/interop.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridges.nbd.plugin_sources import PARAMETERS, PluginError
from bridges.nbd.translate import block_sizes
from tests.bridges.local.site import Site
from tests.bridges.nbd.proto import EINVAL, EIO, ENOSPC, ENOTSUP
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
DISK = 256 * BLOCK
ESHUTDOWN = 108
CONSTANTS = {
    "THREAD_MODEL_SERIALIZE_CONNECTIONS": 0,
    "THREAD_MODEL_SERIALIZE_ALL_REQUESTS": 1,
    "THREAD_MODEL_SERIALIZE_REQUESTS": 2,
    "THREAD_MODEL_PARALLEL": 3,
    "FLAG_MAY_TRIM": 1,
    "FLAG_FUA": 2,
    "FLAG_REQ_ONE": 4,
    "FLAG_FAST_ZERO": 8,
    "EXTENT_HOLE": 1,
    "EXTENT_ZERO": 2,
    "FUA_NONE": 0,
    "FUA_EMULATE": 1,
    "FUA_NATIVE": 2,
    "CACHE_NONE": 0,
    "CACHE_EMULATE": 1,
    "CACHE_NATIVE": 2,
}
CALLBACKS = ("pread", "pwrite", "flush", "trim", "zero", "cache", "extents", "open")


class StandIn(ModuleType):
    """The module ``nbdkit``."""

    def __init__(self) -> None:
        super().__init__("nbdkit")
        self.errors: list[int] = []
        self.name: str | UnicodeDecodeError = ""
        vars(self).update(CONSTANTS)

    def set_error(self, error: int) -> None:
        """See nbdkit-python-plugin(3)."""
        self.errors.append(error)

    def export_name(self) -> str:
        """See nbdkit-python-plugin(3); bytes that are no UTF-8 raise."""
        if isinstance(self.name, UnicodeDecodeError):
            raise self.name
        return self.name


@pytest.fixture
def nbdkit(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, in place of the module."""
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "nbdkit", stand_in)
    return stand_in


@pytest.fixture
def plugin(nbdkit: StandIn, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin as nbdkit loads it: once for each process."""
    monkeypatch.delitem(sys.modules, "bridges.nbd.nbdkit_plugin", raising=False)
    return importlib.import_module("bridges.nbd.nbdkit_plugin")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small disk."""
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(1, DISK))
    return path


@pytest.fixture
def start(plugin: Any, image: Path) -> Iterator[Callable[..., Any]]:
    """Configure the plugin with attributes, start it, and open a connection."""
    handles = []

    def open_connection(**attributes: str) -> Any:
        plugin.config("file", str(image))
        for key, value in attributes.items():
            plugin.config(key, value)
        plugin.config_complete()
        plugin.get_ready()
        handles.append(plugin.open(False))
        return handles[-1]

    yield open_connection
    for handle in handles:
        plugin.close(handle)
    plugin.cleanup()


def _fails(nbdkit: StandIn, call: Callable[[], object]) -> int:
    """The call raises, having told nbdkit one errno; what nbdkit will print is short."""
    nbdkit.errors.clear()
    with pytest.raises(PluginError) as caught:
        call()
    (error,) = nbdkit.errors
    # nbdkit gets the frame of its callback only. Here, the lambda's and this one's are before it.
    assert _frames(caught.value)[-1] in CALLBACKS
    assert len(_frames(caught.value)) <= 3
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return error


def _frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def _buffer(length: int) -> memoryview:
    return memoryview(bytearray(length))


def test_one_request_at_a_time(plugin: Any) -> None:
    assert plugin.API_VERSION == 2
    assert plugin.thread_model() == CONSTANTS["THREAD_MODEL_SERIALIZE_ALL_REQUESTS"]


def test_capabilities_of_a_thin_disk(plugin: Any, start: Callable[..., Any]) -> None:
    handle = start(thin_provisioned="1", rotational="0")
    assert plugin.get_size(handle) == DISK
    assert plugin.block_size(handle) == block_sizes(handle.info) == (512, 4096, 32 << 20)
    # nbdkit compares these by identity: a 1 would be False.
    for name in ("can_write", "can_flush", "can_trim", "can_zero", "can_multi_conn", "can_extents"):
        assert getattr(plugin, name)(handle) is True
    assert plugin.is_rotational(handle) is False
    assert plugin.can_fua(handle) == CONSTANTS["FUA_NATIVE"]
    assert plugin.can_cache(handle) == CONSTANTS["CACHE_NATIVE"]


def test_capabilities_of_a_read_only_disk(plugin: Any, start: Callable[..., Any]) -> None:
    handle = start(read_only="1")
    assert plugin.can_write(handle) is False
    assert plugin.can_trim(handle) is False
    assert plugin.is_rotational(handle) is True


@pytest.mark.parametrize("flags", ["FLAG_MAY_TRIM", "FLAG_FUA"])
def test_fast_zero_is_claimed_and_refused(
    plugin: Any, start: Callable[..., Any], nbdkit: StandIn, image: Path, flags: str
) -> None:
    handle = start()
    assert plugin.can_fast_zero(handle) is True
    plugin.zero(handle, BLOCK, 0, CONSTANTS["FLAG_FAST_ZERO"] | CONSTANTS[flags])
    # nbdkit looks for this errno after a return, too; an exception would be printed.
    assert nbdkit.errors == [ENOTSUP]
    assert image.read_bytes() == pattern(1, DISK)


def test_fast_zero_of_a_thin_disk_is_done(
    plugin: Any, start: Callable[..., Any], nbdkit: StandIn, image: Path
) -> None:
    handle = start(thin_provisioned="1")
    fast, may_trim = CONSTANTS["FLAG_FAST_ZERO"], CONSTANTS["FLAG_MAY_TRIM"]
    plugin.zero(handle, BLOCK, BLOCK, fast | may_trim)
    assert nbdkit.errors == []
    assert image.read_bytes()[BLOCK : 2 * BLOCK] == bytes(BLOCK)
    # Space that is to stay reserved has to be written.
    plugin.zero(handle, BLOCK, 0, fast)
    assert nbdkit.errors == [ENOTSUP]
    assert image.read_bytes()[:BLOCK] == pattern(1, BLOCK)


def test_extents_carry_nbdkit_s_types(plugin: Any, start: Callable[..., Any]) -> None:
    handle = start(thin_provisioned="1", blocksize="4096")
    hole = CONSTANTS["EXTENT_HOLE"] | CONSTANTS["EXTENT_ZERO"]
    plugin.trim(handle, 8192, 4096, 0)
    expected = [(100, 3996, 0), (4096, 8192, hole), (12288, 4096, 0)]
    assert plugin.extents(handle, 16384 - 100, 100, 0) == expected
    one = CONSTANTS["FLAG_REQ_ONE"]
    assert plugin.extents(handle, 16384 - 100, 100, one) == expected[:1]


def test_the_export_has_a_name_and_a_description(
    plugin: Any, start: Callable[..., Any], nbdkit: StandIn
) -> None:
    handle = start(usn="4711")
    assert plugin.export_description(handle) == "SCST_FIO disk0 4711"
    assert plugin.list_exports(False, False) == [("disk0", "SCST_FIO disk0 4711")]
    nbdkit.name = plugin.default_export(False, False)
    plugin.close(plugin.open(True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "no export named 'other': expected '' or 'disk0'"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "export name: .*0xff"),
    ],
)
def test_other_names_are_refused(
    plugin: Any,
    start: Callable[..., Any],
    nbdkit: StandIn,
    name: str | UnicodeDecodeError,
    message: str,
) -> None:
    start()
    nbdkit.name = name
    with pytest.raises(PluginError, match=message):
        plugin.open(False)


def test_a_daemon_that_is_not_there(plugin: Any, nbdkit: StandIn, tmp_path: Path) -> None:
    plugin.config("socket", str(tmp_path / "missing"))
    plugin.config("device", "disk")
    plugin.config_complete()
    # It may come later.
    plugin.get_ready()
    assert plugin.default_export(False, False) == "disk"
    assert _fails(nbdkit, lambda: plugin.open(False)) == EIO
    with pytest.raises(PluginError, match="cannot connect"):
        plugin.list_exports(False, False)
    plugin.cleanup()


def test_a_last_flush_that_fails_is_raised(
    plugin: Any, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.config("file", str(image))
    plugin.config_complete()
    plugin.get_ready()
    handle = plugin.open(False)
    plugin.pwrite(handle, _buffer(BLOCK), 0, 0)
    plugin.close(handle)

    def fail(fd: int) -> None:
        raise OSError(5, "it broke")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(PluginError, match="the last flush failed"):
        plugin.cleanup()


def test_a_file_that_is_not_there_is_found_missing_before_the_fork(
    plugin: Any, tmp_path: Path
) -> None:
    plugin.config("file", str(tmp_path / "missing"))
    plugin.config_complete()
    with pytest.raises(FileNotFoundError) as caught:
        plugin.get_ready()
    assert _frames(caught.value)[1:] == ["get_ready"]
    plugin.cleanup()


def test_what_the_plugin_is(plugin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plugin.dump_plugin()
    facts = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["scst_bridge"] == "emulated SCSI disk"
    assert facts["scst_bridge_version"] == version("scst-bridge")
    assert facts["scst_bridge_modes"] == "file socket"
    assert facts["scst_bridge_file_parameters"].split() == list(PARAMETERS["file"])
    assert facts["scst_bridge_socket_parameters"] == "socket device"


def test_modules_that_were_never_installed_have_no_version(
    plugin: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(plugin, "version", missing)
    # nbdkit would not survive an exception.
    plugin.dump_plugin()
    assert "scst_bridge_version=unknown\n" in capsys.readouterr().out


def test_data_goes_both_ways(plugin: Any, start: Callable[..., Any], image: Path) -> None:
    handle = start(thin_provisioned="1")
    fua, may_trim = CONSTANTS["FLAG_FUA"], CONSTANTS["FLAG_MAY_TRIM"]
    plugin.pwrite(handle, memoryview(bytes(BLOCK)), BLOCK, 0)
    plugin.pwrite(handle, memoryview(pattern(9, BLOCK)), 2 * BLOCK, fua)
    plugin.zero(handle, BLOCK, 3 * BLOCK, 0)
    plugin.zero(handle, BLOCK, 4 * BLOCK, may_trim | fua)
    plugin.trim(handle, BLOCK, 5 * BLOCK, fua)
    plugin.flush(handle, 0)
    plugin.cache(handle, BLOCK, 0, 0)
    expected = pattern(1, DISK)
    expected = expected[:BLOCK] + bytes(BLOCK) + pattern(9, BLOCK) + bytes(3 * BLOCK)
    expected += pattern(1, DISK)[6 * BLOCK :]
    assert image.read_bytes() == expected
    buffer = _buffer(DISK)
    plugin.pread(handle, buffer, 0, 0)
    assert buffer == expected


def test_errors_reach_nbdkit_before_the_exception(
    plugin: Any, start: Callable[..., Any], nbdkit: StandIn
) -> None:
    handle = start()
    past_the_end = DISK - BLOCK
    view = _buffer(2 * BLOCK)
    assert _fails(nbdkit, lambda: plugin.pread(handle, view, past_the_end, 0)) == EINVAL
    assert _fails(nbdkit, lambda: plugin.pwrite(handle, view, past_the_end, 0)) == ENOSPC
    assert _fails(nbdkit, lambda: plugin.zero(handle, 2 * BLOCK, past_the_end, 0)) == ENOSPC


@pytest.mark.parametrize("name", ["pread", "pwrite", "flush", "trim", "zero", "cache", "extents"])
def test_every_request_fails_where_the_way_to_the_lun_is_gone(
    plugin: Any, nbdkit: StandIn, tmp_path: Path, name: str
) -> None:
    site = Site(tmp_path)
    site.add_target("target", FaultyVdisk(64, is_thin=True))
    site.start()
    plugin.config("socket", site.path)
    plugin.config_complete()
    plugin.get_ready()
    handle = plugin.open(False)
    site.close()
    arguments: tuple[object, ...] = () if name == "flush" else (BLOCK, 0)
    if name in ("pread", "pwrite"):
        arguments = (_buffer(BLOCK), 0)
    call = getattr(plugin, name)
    assert _fails(nbdkit, lambda: call(handle, *arguments, 0)) == EIO
    assert _fails(nbdkit, lambda: call(handle, *arguments, 0)) == ESHUTDOWN
    plugin.close(handle)
    plugin.cleanup()


def test_relative_paths_are_those_of_the_command_line(
    plugin: Any, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    plugin.config("file", image.name)
    # nbdkit changes its folder when it goes into the background.
    monkeypatch.chdir("/")
    plugin.config_complete()
    plugin.get_ready()
    handle = plugin.open(True)
    assert plugin.get_size(handle) == DISK
    plugin.close(handle)
    plugin.cleanup()


def test_a_parameter_given_twice_is_an_error(plugin: Any) -> None:
    plugin.config("file", "/a")
    with pytest.raises(ValueError, match="file: given twice"):
        plugin.config("file", "/b")


def test_no_parameters_are_an_error_and_nothing_to_clean_up(plugin: Any) -> None:
    with pytest.raises(ValueError, match="expected either file=PATH or socket=PATH"):
        plugin.config_complete()
    plugin.cleanup()
