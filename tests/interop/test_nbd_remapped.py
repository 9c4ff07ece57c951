# SPDX-License-Identifier: GPL-2.0-or-later
"""libnbd and qemu as clients of a LUN that is taken away, brought back and mapped anew.

The server is in this process, so that a change is in force when the test goes on.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from shutil import which
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.nbd.serving import Serving
from tests.interop.doors import TOOL_TIMEOUT_S, Tools
from tests.scsi_backend.fakes import pattern

nbd = pytest.importorskip("nbd", reason="needs libnbd's Python module (python3-libnbd)")

MIB = 1 << 20
BLOCK = 4096
Open = Callable[[Backend], LogicalUnit]


class House:
    """A server whose export ``disk`` leads to a file, and other files to lead it to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.serving = Serving({"disk": self._file("a", 16)}, folder / "nbd.sock")
        (self.target,) = self.serving.targets
        backend = self.serving.backend
        self.a = self.target.luns[0].unit
        self.b, self.small, self.big_blocks = (
            self.serving.call(lambda each=each: each(backend))  # type: ignore[misc]
            for each in (self._file("b", 16), self._file("small", 8), self._file("big", 16, 4096))
        )

    def _file(self, name: str, mib: int, blocksize: int = 512) -> Open:
        path = self._folder / f"{name}.img"
        content = (pattern(number, BLOCK) for number in range(mib * MIB // BLOCK))
        path.write_bytes(b"".join(name.encode() + each[len(name) :] for each in content))
        words = {"filename": str(path), "blocksize": str(blocksize), "thin_provisioned": "1"}
        attributes = FileioAttributes.model_validate(words)
        return lambda backend: backend.add_device("vdisk_fileio", name, attributes)

    def map(self, unit: LogicalUnit | None, *, is_read_only: bool = False) -> None:
        """Let the export lead to a device, or nowhere."""
        luns = {} if unit is None else {0: LunEntry(unit, is_read_only)}
        self.serving.call(lambda: self.target.configure(luns=luns))

    def group(self, groups: Iterable[InitiatorGroup]) -> None:
        """Set the target's groups."""
        self.serving.call(lambda: self.target.configure(groups=groups))

    def connect(self, export: str = "disk") -> Any:
        """A libnbd handle that sends whatever it is told to."""
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.add_meta_context("base:allocation")
        handle.connect_uri(f"nbd+unix:///{export}?socket={self.serving.path}")
        return handle

    def exports(self, uri: str) -> list[str]:
        """The names that LIST gives."""
        handle = nbd.NBD()
        handle.set_opt_mode(True)
        handle.connect_uri(uri)
        found: list[str] = []
        handle.opt_list(lambda name, description: found.append(name))
        handle.opt_abort()
        return found

    def tcp_uri(self, export: str = "") -> str:
        """The export by TCP."""
        address = self.serving.server.addresses[0]
        return f"nbd://{address.host}:{address.port}/{export}"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.serving.close()


def block_of(name: str, number: int) -> bytes:
    """What a block of a file was at first."""
    return name.encode() + pattern(number, BLOCK)[len(name) :]


def fails(expected: str, call: Callable[..., object], *arguments: object) -> None:
    """The call fails with one errno."""
    with pytest.raises(nbd.Error) as caught:
        call(*arguments)
    assert caught.value.errno == expected


def test_a_lost_export_is_eio_and_works_again_when_it_is_back(house: House) -> None:
    handle = house.connect()
    assert handle.pread(BLOCK, 0) == bytearray(block_of("a", 0))
    house.map(None)
    fails("EIO", handle.pread, BLOCK, 0)
    fails("EIO", handle.pread, MIB, 0)
    fails("EIO", handle.pwrite, bytes(BLOCK), 0)
    fails("EIO", handle.flush)
    fails("EIO", handle.zero, BLOCK, 0)
    fails("EIO", handle.trim, BLOCK, 0)
    fails("EIO", handle.cache, BLOCK, 0)
    fails("EIO", handle.block_status, BLOCK, 0, lambda *extents: 0)
    assert handle.aio_is_ready()
    house.map(house.a)
    assert handle.pread(BLOCK, BLOCK) == bytearray(block_of("a", 1))
    handle.pwrite(bytes(BLOCK), 0)
    handle.flush()
    assert handle.pread(BLOCK, 0) == bytearray(BLOCK)
    handle.shutdown()


def test_another_device_of_the_same_blocks_is_seen_at_once(house: House) -> None:
    handle = house.connect()
    assert handle.pread(BLOCK, 0) == bytearray(block_of("a", 0))
    house.map(house.b)
    assert handle.pread(BLOCK, 0) == bytearray(block_of("b", 0))
    handle.pwrite(b"x" * BLOCK, 0)
    house.map(house.a)
    assert handle.pread(MIB, 0)[:BLOCK] == bytearray(block_of("a", 0))
    house.map(house.b)
    assert handle.pread(MIB, 0)[:BLOCK] == bytearray(b"x" * BLOCK)
    handle.shutdown()


def test_the_bounds_are_those_of_the_device_that_is_there(house: House) -> None:
    handle = house.connect()
    house.map(house.small)
    assert handle.pread(BLOCK, 0) == bytearray(block_of("small", 0))
    fails("EINVAL", handle.pread, BLOCK, 8 * MIB)
    fails("ENOSPC", handle.pwrite, bytes(BLOCK), 8 * MIB)
    assert house.connect().get_size() == 8 * MIB
    house.map(house.a)
    assert handle.pread(BLOCK, 0) == bytearray(block_of("a", 0))
    assert handle.pread(BLOCK, 8 * MIB) == bytearray(block_of("a", 2048))
    handle.shutdown()


def test_extents_are_those_of_the_device_that_is_there(house: House) -> None:
    handle = house.connect()
    found: list[list[int]] = []

    def extents() -> list[int]:
        found.clear()
        handle.block_status(MIB, 0, lambda name, offset, entries, error: found.append(entries))
        return found[0]

    handle.trim(MIB, 0)
    assert extents() == [MIB, 3]
    house.map(house.b)
    assert extents() == [MIB, 0]
    house.map(house.a)
    assert extents() == [MIB, 3]
    handle.shutdown()


def test_write_protection_is_eperm_while_it_lasts(house: House) -> None:
    handle = house.connect()
    handle.pwrite(bytes(BLOCK), 0)
    house.map(house.a, is_read_only=True)
    for _ in range(2):
        fails("EPERM", handle.pwrite, b"x" * BLOCK, 0)
    fails("EPERM", handle.trim, BLOCK, 0)
    assert handle.pread(BLOCK, 0) == bytearray(BLOCK)
    late = house.connect()
    assert late.is_read_only()
    house.map(house.a)
    handle.pwrite(b"x" * BLOCK, 0)
    assert late.pread(BLOCK, 0) == bytearray(b"x" * BLOCK)
    for each in (handle, late):
        each.shutdown()


def test_other_blocks_end_the_connection_and_a_new_one_knows_them(house: House) -> None:
    handle, other = house.connect(), house.connect()
    house.map(house.big_blocks)
    fails("ESHUTDOWN", handle.pwrite, b"x" * BLOCK, 0)
    house.serving.until(lambda: house.serving.server.connections == 1)
    with pytest.raises(nbd.Error):
        handle.pread(BLOCK, 0)
    late = house.connect()
    assert late.get_block_size(nbd.SIZE_MINIMUM) == 4096
    assert late.pread(BLOCK, 0) == bytearray(block_of("big", 0))
    # Who has asked for nothing since may stay if everything is as it was.
    house.map(house.a)
    assert other.pread(BLOCK, 0) == bytearray(block_of("a", 0))
    fails("ESHUTDOWN", late.pread, BLOCK, 0)
    other.shutdown()


def test_a_disabled_target_serves_nobody_until_it_is_enabled(house: House) -> None:
    handle = house.connect()
    house.serving.call(lambda: house.target.configure(is_enabled=False))
    fails("EIO", handle.pread, BLOCK, 0)
    with pytest.raises(nbd.Error):
        house.connect()
    house.serving.call(lambda: house.target.configure(is_enabled=True))
    assert handle.pread(BLOCK, 0) == bytearray(block_of("a", 0))
    handle.shutdown()


def group(name: str, pattern: str, luns: dict[int, LogicalUnit]) -> InitiatorGroup:
    entries = {lun: LunEntry(unit) for lun, unit in luns.items()}
    return InitiatorGroup(name, (InitiatorPattern.parse(pattern),), entries)


def test_each_initiator_lists_and_opens_its_own_exports(house: House) -> None:
    local, remote = f"nbd+unix:///?socket={house.serving.path}", house.tcp_uri()
    assert house.exports(local) == house.exports(remote) == ["disk"]
    users = group("users", "unix:uid=*", {0: house.b, 4: house.small})
    house.group([users, group("hosts", "127.0.0.0/8", {9: house.a})])
    assert house.exports(local) == ["disk", "disk/4"]
    assert house.exports(remote) == ["disk/9"]
    handle = house.connect("disk/4")
    assert handle.pread(BLOCK, 0) == bytearray(block_of("small", 0))
    stranger = nbd.NBD()
    with pytest.raises(nbd.Error):
        stranger.connect_uri(house.tcp_uri("disk/4"))
    host = nbd.NBD()
    host.connect_uri(house.tcp_uri("disk/9"))
    assert host.pread(BLOCK, 0) == bytearray(block_of("a", 0))
    hosts = {session.host for session in house.target.sessions}
    assert hosts == {None, IPv4Address("127.0.0.1")}
    # Another group, with the same LUN for one and without for the other.
    house.group([group("all", "*", {4: house.small})])
    assert handle.pread(BLOCK, BLOCK) == bytearray(block_of("small", 1))
    fails("EIO", host.pread, BLOCK, 0)
    house.group([])
    fails("EIO", handle.pread, BLOCK, 0)
    assert house.exports(local) == ["disk"]
    for each in (handle, host):
        each.shutdown()


def test_nbdinfo_lists_what_the_user_has(house: House, tools: Tools) -> None:
    house.group([group("users", "unix:*", {0: house.b, 2: house.small})])
    uri = f"nbd+unix:///?socket={house.serving.path}"
    listed = tools.run_json("nbdinfo", "--list", "--json", uri)
    sizes = {each["export-name"]: each["export-size"] for each in listed["exports"]}
    assert sizes == {"disk": 16 * MIB, "disk/2": 8 * MIB}


def read_with(qemu: subprocess.Popen[str], byte: int) -> str:
    """Have qemu-io read what must be that byte; return what it says."""
    assert qemu.stdin is not None
    assert qemu.stdout is not None
    qemu.stdin.write(f"read -P {byte} 0 64k\n")
    qemu.stdin.flush()
    answer = qemu.stdout.readline()
    if "failed" not in answer:
        # How long it took.
        qemu.stdout.readline()
    return answer


@pytest.mark.skipif(which("qemu-io") is None, reason="needs qemu-io (Debian package qemu-utils)")
def test_qemu_goes_on_with_the_device_that_is_there(house: House) -> None:
    for unit, byte in ((house.b, b"\x22"), (house.a, b"\x11")):
        house.map(unit)
        handle = house.connect()
        handle.pwrite(byte * MIB, 0)
        handle.shutdown()
    uri = f"nbd+unix:///disk?socket={house.serving.path}"
    command = ["qemu-io", "-f", "raw", uri]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True) as qemu:
        assert "read 65536/65536 bytes" in read_with(qemu, 0x11)
        house.map(house.b)
        assert "read 65536/65536 bytes" in read_with(qemu, 0x22)
        house.map(None)
        assert "read failed: Input/output error" in read_with(qemu, 0x22)
        house.map(house.a)
        assert "read 65536/65536 bytes" in read_with(qemu, 0x11)
        qemu.communicate("quit\n", timeout=TOOL_TIMEOUT_S)
        # One of its commands has failed.
        assert qemu.returncode == 1
