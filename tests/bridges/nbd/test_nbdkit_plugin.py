# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions that nbdkit calls, with a stand-in for the module that only nbdkit has.

The stand-in has the constants of nbdkit 1.32 and keeps what is given to ``set_error``. nbdkit
itself runs the plugin in tests/interop.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridges.nbd.plugin_export import PluginError
from bridges.nbd.translate import block_sizes
from tests.bridges.nbd.proto import EINVAL, ENOSPC, ENOTSUP
from tests.scsi_backend.fakes import pattern

BLOCK = 512
DISK = 256 * BLOCK
CONSTANTS = {
    "THREAD_MODEL_SERIALIZE_CONNECTIONS": 0,
    "THREAD_MODEL_SERIALIZE_ALL_REQUESTS": 1,
    "THREAD_MODEL_SERIALIZE_REQUESTS": 2,
    "THREAD_MODEL_PARALLEL": 3,
    "FLAG_MAY_TRIM": 1,
    "FLAG_FUA": 2,
    "FLAG_REQ_ONE": 4,
    "FLAG_FAST_ZERO": 8,
    "FUA_NONE": 0,
    "FUA_EMULATE": 1,
    "FUA_NATIVE": 2,
    "CACHE_NONE": 0,
    "CACHE_EMULATE": 1,
    "CACHE_NATIVE": 2,
}


class StandIn(ModuleType):
    """The module ``nbdkit``."""

    def __init__(self) -> None:
        super().__init__("nbdkit")
        self.errors: list[int] = []
        vars(self).update(CONSTANTS)

    def set_error(self, error: int) -> None:
        """See nbdkit-python-plugin(3)."""
        self.errors.append(error)


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
        plugin.after_fork()
        handles.append(plugin.open(False))
        return handles[-1]

    yield open_connection
    for handle in handles:
        plugin.close(handle)
    plugin.cleanup()


def _fails(nbdkit: StandIn, call: Callable[[], object]) -> int:
    """The call raises, and tells nbdkit one errno before."""
    nbdkit.errors.clear()
    with pytest.raises(PluginError):
        call()
    (error,) = nbdkit.errors
    return error


def test_one_request_at_a_time(plugin: Any) -> None:
    assert plugin.API_VERSION == 2
    assert plugin.thread_model() == CONSTANTS["THREAD_MODEL_SERIALIZE_ALL_REQUESTS"]


def test_capabilities_of_a_thin_disk(plugin: Any, start: Callable[..., Any]) -> None:
    handle = start(thin_provisioned="1", rotational="0")
    assert plugin.get_size(handle) == DISK
    assert plugin.block_size(handle) == block_sizes(handle.info) == (512, 4096, 32 << 20)
    # nbdkit compares these by identity: a 1 would be False.
    for name in ("can_write", "can_flush", "can_trim", "can_zero", "can_multi_conn"):
        assert getattr(plugin, name)(handle) is True
    assert plugin.is_rotational(handle) is False
    assert plugin.can_fua(handle) == CONSTANTS["FUA_NATIVE"]
    assert plugin.can_cache(handle) == CONSTANTS["CACHE_NATIVE"]


def test_capabilities_of_a_read_only_disk(plugin: Any, start: Callable[..., Any]) -> None:
    handle = start(read_only="1")
    assert plugin.can_write(handle) is False
    assert plugin.can_trim(handle) is False
    assert plugin.is_rotational(handle) is True


def test_fast_zero_is_claimed_and_refused(
    plugin: Any, start: Callable[..., Any], nbdkit: StandIn, image: Path
) -> None:
    handle = start()
    assert plugin.can_fast_zero(handle) is True
    flags = CONSTANTS["FLAG_FAST_ZERO"] | CONSTANTS["FLAG_MAY_TRIM"]
    assert _fails(nbdkit, lambda: plugin.zero(handle, BLOCK, 0, flags)) == ENOTSUP
    assert image.read_bytes() == pattern(1, DISK)


def test_data_goes_both_ways(plugin: Any, start: Callable[..., Any], image: Path) -> None:
    handle = start(thin_provisioned="1")
    fua, may_trim = CONSTANTS["FLAG_FUA"], CONSTANTS["FLAG_MAY_TRIM"]
    plugin.pwrite(handle, bytes(BLOCK), BLOCK, 0)
    plugin.pwrite(handle, bytearray(pattern(9, BLOCK)), 2 * BLOCK, fua)
    plugin.zero(handle, BLOCK, 3 * BLOCK, 0)
    plugin.zero(handle, BLOCK, 4 * BLOCK, may_trim | fua)
    plugin.trim(handle, BLOCK, 5 * BLOCK, fua)
    plugin.flush(handle, 0)
    plugin.cache(handle, BLOCK, 0, 0)
    expected = pattern(1, DISK)
    expected = expected[:BLOCK] + bytes(BLOCK) + pattern(9, BLOCK) + bytes(3 * BLOCK)
    expected += pattern(1, DISK)[6 * BLOCK :]
    assert image.read_bytes() == expected
    buffer = bytearray(DISK)
    plugin.pread(handle, buffer, 0, 0)
    assert buffer == expected


def test_errors_reach_nbdkit_before_the_exception(
    plugin: Any, start: Callable[..., Any], nbdkit: StandIn
) -> None:
    handle = start()
    past_the_end = DISK - BLOCK
    view = bytearray(2 * BLOCK)
    assert _fails(nbdkit, lambda: plugin.pread(handle, view, past_the_end, 0)) == EINVAL
    assert _fails(nbdkit, lambda: plugin.pwrite(handle, view, past_the_end, 0)) == ENOSPC
    assert _fails(nbdkit, lambda: plugin.zero(handle, 2 * BLOCK, past_the_end, 0)) == ENOSPC
    assert _fails(nbdkit, lambda: plugin.pread(handle, view, 1, 0)) == EINVAL


def test_relative_paths_are_those_of_the_command_line(
    plugin: Any, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    plugin.config("file", image.name)
    # nbdkit changes its folder when it goes into the background.
    monkeypatch.chdir("/")
    plugin.config_complete()
    plugin.after_fork()
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
