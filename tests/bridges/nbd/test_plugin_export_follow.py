# SPDX-License-Identifier: GPL-2.0-or-later
"""The nbdkit plugin's export of a daemon's LUN that is mapped anew meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.exchange import Request
from bridges.nbd.plugin_export import PluginExport
from bridges.nbd.plugin_sources import DaemonSource, PluginError
from bridges.nbd.wire import Error, ExtentFlag
from bridges.recovery import Reply
from scsi_backend.handlers.vdisk import Extent
from scsi_backend.servers.disk import disk
from scsi_backend.t10.sense import Sense
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.local.site import Site
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
READ_CAPACITY_16 = 0x9E
CAPACITY_CHANGED = Reply(2, Sense(6, 0x2A09), 0)
BECOMING_READY_NEVER = Reply(2, Sense(2, 0x0403), 0)


def vdisk_of(first: int, blocks: int = 64, block_size: int = BLOCK) -> FaultyVdisk:
    """A thin disk whose blocks hold the pattern of a number of their own."""
    vdisk = FaultyVdisk(blocks, block_size, is_thin=True)
    vdisk.data[:] = b"".join(pattern(first + lba, block_size) for lba in range(blocks))
    vdisk.runs = [Extent(blocks * block_size, True)]
    return vdisk


class House:
    """A daemon whose target leads to disk ``a``, and an export of it."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.a, self.b = vdisk_of(0), vdisk_of(1000)
        self.big = vdisk_of(0, 64, 4096)
        self.target = self.site.add_target("disk", self.a)
        self.units = {id(self.a): self.target.luns[0].unit}
        self.site.start()
        self.door = DaemonSource("", self.site.path).open("")
        self.replies: list[Reply] = []
        self.looks = 0
        self.export = PluginExport(self)

    def execute(self, request: Request) -> Reply:
        """See ``Door.execute``; an answer of the test's comes first, to READ CAPACITY only."""
        if request.cdb[0] == READ_CAPACITY_16:
            self.looks += 1
            if self.replies:
                return self.replies.pop()
        return self.door.execute(request)

    def close(self) -> None:
        """See ``Door.close``."""
        self.door.close()

    def map(self, vdisk: FaultyVdisk | None, *, is_read_only: bool = False) -> None:
        """Let the LUN lead to a disk, or nowhere."""
        luns = {}
        if vdisk is not None:
            unit = self.units.setdefault(id(vdisk), disk(vdisk))
            luns[0] = LunEntry(unit, is_read_only)
        self.site.call(lambda: self.target.configure(luns=luns))

    def read(self, lba: int) -> bytes:
        buffer = bytearray(BLOCK)
        self.export.read(memoryview(buffer), lba * BLOCK)
        return bytes(buffer)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.export.close()
    house.site.close()


REQUESTS: dict[str, Callable[[PluginExport], object]] = {
    "read": lambda export: export.read(memoryview(bytearray(BLOCK)), BLOCK),
    "read_part": lambda export: export.read(memoryview(bytearray(10)), BLOCK + 1),
    "write": lambda export: export.write(memoryview(bytes(BLOCK)), BLOCK, fua=True),
    "write_part": lambda export: export.write(memoryview(bytes(10)), BLOCK + 1, fua=False),
    "flush": lambda export: export.flush(),
    "trim": lambda export: export.trim(BLOCK, BLOCK, fua=False),
    "zero": lambda export: export.zero(BLOCK, BLOCK, fua=False, may_trim=True),
    "cache": lambda export: export.cache(BLOCK, BLOCK),
    "extents": lambda export: export.extents(BLOCK, BLOCK, is_one=False),
}
each_request = pytest.mark.parametrize("request_name", REQUESTS)


def code_of(call: Callable[[], object]) -> Error:
    with pytest.raises(PluginError) as caught:
        call()
    return caught.value.error


@each_request
def test_another_device_of_the_same_blocks_is_used_at_once(house: House, request_name: str) -> None:
    before = bytes(house.a.data)
    house.map(house.b)
    REQUESTS[request_name](house.export)
    assert house.read(3) == pattern(1003, BLOCK)
    assert bytes(house.a.data) == before


@each_request
@pytest.mark.parametrize("was_away", [False, True])
def test_no_request_reaches_a_device_with_other_blocks(
    house: House, request_name: str, was_away: bool
) -> None:
    before = bytes(house.big.data)
    if was_away:
        house.map(None)
    house.map(house.big)
    house.big.log.clear()
    for _ in range(3):
        assert code_of(lambda: REQUESTS[request_name](house.export)) is Error.ESHUTDOWN
    assert bytes(house.big.data) == before
    assert house.big.names == []
    # It does not come back either: what nbdkit was told of the disk is fixed.
    house.map(house.a)
    assert code_of(lambda: house.read(0)) is Error.ESHUTDOWN


def test_a_lost_lun_is_eio_until_it_is_back(house: House) -> None:
    house.map(None)
    for request_name in ("read", "write", "flush", "trim", "zero"):
        assert code_of(lambda name=request_name: REQUESTS[name](house.export)) is Error.EIO  # type: ignore[misc]
    house.map(house.a)
    assert house.read(3) == pattern(3, BLOCK)


def test_bounds_and_write_protection_are_those_of_the_device_that_is_there(house: House) -> None:
    house.map(vdisk_of(0, 32))
    assert house.read(31) == pattern(31, BLOCK)
    assert code_of(lambda: house.read(32)) is Error.EINVAL
    house.map(house.a, is_read_only=True)
    assert code_of(lambda: REQUESTS["write"](house.export)) is Error.EPERM
    house.map(house.a)
    REQUESTS["write"](house.export)
    assert house.read(1) == bytes(BLOCK)


def test_extents_are_those_of_the_device_that_is_there(house: House) -> None:
    house.a.runs = [Extent(64 * BLOCK, False)]
    hole = ExtentFlag.HOLE | ExtentFlag.ZERO
    assert house.export.extents(BLOCK, 0, is_one=True) == [(0, BLOCK, hole)]
    thick = FaultyVdisk(64)
    house.map(thick)
    assert house.export.extents(BLOCK, 0, is_one=True) == [(0, BLOCK, ExtentFlag(0))]


def test_a_device_that_could_not_be_looked_at_is_looked_at_by_the_next_request(
    house: House,
) -> None:
    before = bytes(house.big.data)
    house.map(house.big)
    house.replies = [BECOMING_READY_NEVER]
    assert code_of(lambda: REQUESTS["write"](house.export)) is Error.EIO
    assert code_of(lambda: REQUESTS["write"](house.export)) is Error.ESHUTDOWN
    assert bytes(house.big.data) == before


def test_a_device_that_changes_during_the_look_is_looked_at_again(house: House) -> None:
    house.map(house.b)
    house.replies = [CAPACITY_CHANGED]
    house.looks = 0
    assert house.read(3) == pattern(1003, BLOCK)
    assert house.looks == 3, "one failed, one was too early, one holds"


def test_a_device_that_changes_during_each_look_is_eio(house: House) -> None:
    house.map(house.b)
    house.replies = [CAPACITY_CHANGED] * 100
    assert code_of(lambda: house.read(3)) is Error.EIO
    house.replies.clear()
    assert house.read(3) == pattern(1003, BLOCK)
