# SPDX-License-Identifier: GPL-2.0-or-later
"""The nbdkit plugin's export: its requests, and how they fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.exchange import Request
from bridges.nbd.plugin_export import PluginExport
from bridges.nbd.plugin_sources import EmbeddedSource, PluginError
from bridges.nbd.wire import Error, ExtentFlag
from bridges.recovery import Reply
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.t10.sense import Sense
from tests.scsi_backend.fakes import pattern

BLOCK = 4096
DISK = 64 * BLOCK
MIB = 1 << 20
Answer = Callable[[Request], Reply]
BUSY = Reply(0x08, None, 0)
_PROBING = (0x00, 0x12, 0x5A, 0x9E)


def _check_condition(text: str) -> Reply:
    key, asc, ascq = bytes.fromhex(text.replace("/", ""))
    return Reply(0x02, Sense(key, asc << 8 | ascq), 0)


class RecordingDoor:
    """A door of an embedded LUN that keeps the CDBs, and answers in its place when told to."""

    def __init__(self, source: EmbeddedSource) -> None:
        self._door = source.open("")
        self.cdbs: list[str] = []
        self.replies: dict[int, list[Reply]] = {}
        self.is_closed = False

    def execute(self, request: Request) -> Reply:
        """See ``Door.execute``."""
        opcode = request.cdb[0]
        if opcode not in _PROBING:
            self.cdbs.append(request.cdb.hex())
        replies = self.replies.get(opcode)
        return replies.pop(0) if replies else self._door.execute(request)

    def close(self) -> None:
        """See ``Door.close``."""
        self._door.close()
        self.is_closed = True


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file of random bytes."""
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(1).randbytes(DISK))
    return path


@pytest.fixture
def open_source(image: Path) -> Iterator[Callable[..., EmbeddedSource]]:
    """Open the image with attributes of vdisk_fileio."""
    opened: list[EmbeddedSource] = []

    def make(**words: str) -> EmbeddedSource:
        values = {"filename": str(image), "blocksize": str(BLOCK), **words}
        opened.append(EmbeddedSource(FileioAttributes.model_validate(values)))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


@pytest.fixture
def door(open_source: Callable[..., EmbeddedSource]) -> RecordingDoor:
    """A door of a thin disk."""
    return RecordingDoor(open_source(thin_provisioned="1"))


@pytest.fixture
def export(door: RecordingDoor) -> Iterator[PluginExport]:
    """An export of a thin disk."""
    export = PluginExport(door)
    yield export
    export.close()
    assert door.is_closed


def _read(export: PluginExport, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    export.read(memoryview(buffer), offset)
    return bytes(buffer)


def test_reads_and_writes_reach_the_file(export: PluginExport, image: Path) -> None:
    assert _read(export, BLOCK, 2 * BLOCK) == image.read_bytes()[BLOCK : 3 * BLOCK]
    export.write(memoryview(pattern(7, BLOCK)), 5 * BLOCK, fua=False)
    assert image.read_bytes()[5 * BLOCK : 6 * BLOCK] == pattern(7, BLOCK)


def test_requests_are_the_same_cdbs_as_in_the_daemon(
    export: PluginExport, door: RecordingDoor
) -> None:
    _read(export, BLOCK, 2 * BLOCK)
    export.write(memoryview(bytes(BLOCK)), 3 * BLOCK, fua=False)
    export.write(memoryview(bytes(BLOCK)), 3 * BLOCK, fua=True)
    export.flush()
    export.trim(2 * BLOCK, 4 * BLOCK, fua=True)
    export.zero(2 * BLOCK, 8 * BLOCK, fua=False, may_trim=True)
    export.zero(2 * BLOCK, 8 * BLOCK, fua=True, may_trim=False)
    export.cache(3 * BLOCK, 9 * BLOCK)
    assert door.cdbs == [
        "88000000000000000001000000020000",
        "8a000000000000000003000000010000",
        "8a080000000000000003000000010000",
        "91000000000000000000000000000000",
        "42000000000000001800",
        "91000000000000000004000000020000",
        "93090000000000000008000000020000",
        "93010000000000000008000000020000",
        "91000000000000000008000000020000",
        "90020000000000000009000000030000",
    ]


def test_what_was_zeroed_or_trimmed_reads_as_zeros(export: PluginExport) -> None:
    export.trim(2 * BLOCK, BLOCK, fua=False)
    export.zero(2 * BLOCK, 4 * BLOCK, fua=False, may_trim=True)
    export.zero(2 * BLOCK, 7 * BLOCK, fua=False, may_trim=False)
    for offset in (1, 4, 7):
        assert _read(export, offset * BLOCK, 2 * BLOCK) == bytes(2 * BLOCK)


def test_trim_is_rounded_inward(export: PluginExport, image: Path) -> None:
    content = image.read_bytes()
    export.trim(3 * BLOCK - 2, BLOCK + 1, fua=False)
    expected = content[: 2 * BLOCK] + bytes(BLOCK) + content[3 * BLOCK :]
    assert image.read_bytes() == expected


def _error(call: Callable[[], object]) -> Error:
    with pytest.raises(PluginError) as caught:
        call()
    return caught.value.error


@pytest.mark.parametrize(("offset", "length"), [(1, BLOCK), (BLOCK, 512), (512, 512), (7, 3)])
def test_any_bytes_are_served_and_their_neighbours_stay(
    export: PluginExport, image: Path, offset: int, length: int
) -> None:
    # nbdkit tells clients the block size but does not hold them to it.
    content = bytearray(image.read_bytes())
    view = memoryview(bytearray(length))
    export.read(view, offset)
    assert view == content[offset : offset + length]
    data = bytes((0xEE,)) * length
    export.write(memoryview(data), offset, fua=True)
    content[offset : offset + length] = data
    assert image.read_bytes() == content
    export.zero(length, offset, fua=False, may_trim=True)
    content[offset : offset + length] = bytes(length)
    assert image.read_bytes() == content


def test_past_the_end_depends_on_the_request(export: PluginExport) -> None:
    view = memoryview(bytearray(2 * BLOCK))
    offset = DISK - BLOCK
    assert _error(lambda: export.read(view, offset)) == Error.EINVAL
    assert _error(lambda: export.write(view, offset, fua=False)) == Error.ENOSPC
    zero = lambda: export.zero(2 * BLOCK, offset, fua=False, may_trim=True)  # noqa: E731
    assert _error(zero) == Error.ENOSPC


def test_payloads_longer_than_32_mib_are_einval(
    open_source: Callable[..., EmbeddedSource], image: Path
) -> None:
    with image.open("r+b") as file:
        file.truncate(40 * MIB)
    door = RecordingDoor(open_source())
    export = PluginExport(door)
    view = memoryview(bytearray(32 * MIB + BLOCK))
    assert _error(lambda: export.read(view, 0)) == Error.EINVAL
    assert _error(lambda: export.write(view, 0, fua=False)) == Error.EINVAL
    assert door.cdbs == []
    export.read(view[: 32 * MIB], 0)
    export.zero(33 * MIB, 0, fua=False, may_trim=True)
    export.close()


def test_busy_and_unit_attention_are_tried_again(
    export: PluginExport, door: RecordingDoor, image: Path
) -> None:
    content = image.read_bytes()
    door.replies = {
        opcode: [BUSY, _check_condition("06/2A/09"), BUSY] for opcode in (0x88, 0x8A, 0x91, 0x93)
    }
    assert _read(export, 0, BLOCK) == content[:BLOCK]
    export.write(memoryview(pattern(1, BLOCK)), 0, fua=False)
    export.flush()
    export.zero(BLOCK, BLOCK, fua=False, may_trim=False)
    assert _read(export, 0, 2 * BLOCK) == pattern(1, BLOCK) + bytes(BLOCK)


@pytest.mark.parametrize(
    ("opcode", "text", "expected"),
    [
        (0x88, "03/11/00", Error.EIO),
        (0x8A, "07/27/07", Error.ENOSPC),
        (0x8A, "07/27/00", Error.EPERM),
        (0x91, "03/0C/00", Error.EIO),
        (0x42, "03/0C/00", Error.EIO),
        (0x93, "07/27/07", Error.ENOSPC),
    ],
)
def test_failures_carry_the_errno_of_their_sense(
    export: PluginExport, door: RecordingDoor, opcode: int, text: str, expected: Error
) -> None:
    door.replies[opcode] = [_check_condition(text)] * 2
    calls: dict[int, Callable[[], object]] = {
        0x88: lambda: _read(export, 0, BLOCK),
        0x8A: lambda: export.write(memoryview(bytes(BLOCK)), 0, fua=False),
        0x91: export.flush,
        0x42: lambda: export.trim(BLOCK, 0, fua=False),
        0x93: lambda: export.zero(BLOCK, 0, fua=False, may_trim=True),
    }
    assert _error(calls[opcode]) == expected


def _zero_fast(export: PluginExport, **flags: bool) -> Callable[[], None]:
    words = {"fua": False, "may_trim": True, **flags}
    return lambda: export.zero(2 * BLOCK, 8 * BLOCK, is_fast=True, **words)


def test_a_fast_zero_deallocates(export: PluginExport, door: RecordingDoor) -> None:
    _zero_fast(export)()
    _zero_fast(export, fua=True)()
    assert door.cdbs == [
        "93090000000000000008000000020000",
        "93090000000000000008000000020000",
        "91000000000000000008000000020000",
    ]
    assert _read(export, 8 * BLOCK, 2 * BLOCK) == bytes(2 * BLOCK)


def test_a_fast_zero_that_must_keep_its_space_is_refused(
    export: PluginExport, door: RecordingDoor
) -> None:
    assert _error(_zero_fast(export, may_trim=False)) == Error.ENOTSUP
    assert door.cdbs == []


def test_a_fast_zero_of_a_thick_disk_is_refused(open_source: Callable[..., EmbeddedSource]) -> None:
    door = RecordingDoor(open_source())
    export = PluginExport(door)
    assert _error(_zero_fast(export)) == Error.ENOTSUP
    assert door.cdbs == []
    export.close()


def test_extents_of_a_range(export: PluginExport) -> None:
    export.trim(2 * BLOCK, 4 * BLOCK, fua=False)
    whole = export.extents(8 * BLOCK, BLOCK, is_one=False)
    hole = ExtentFlag.HOLE | ExtentFlag.ZERO
    assert whole == [
        (BLOCK, 3 * BLOCK, ExtentFlag(0)),
        (4 * BLOCK, 2 * BLOCK, hole),
        (6 * BLOCK, 3 * BLOCK, ExtentFlag(0)),
    ]
    assert export.extents(8 * BLOCK, BLOCK, is_one=True) == whole[:1]
    assert export.extents(100, 5 * BLOCK + 3, is_one=True) == [(5 * BLOCK + 3, 100, hole)]


def test_extents_of_a_thick_disk(open_source: Callable[..., EmbeddedSource]) -> None:
    export = PluginExport(open_source().open(""))
    assert export.extents(DISK, 0, is_one=False) == [(0, DISK, ExtentFlag(0))]
    export.close()


def test_extents_that_the_device_fails_to_tell(export: PluginExport, door: RecordingDoor) -> None:
    door.replies[0x9E] = [Reply(2, Sense(3, 0x1100), 0)]
    assert _error(lambda: export.extents(DISK, 0, is_one=False)) == Error.EIO


def test_a_person_is_told_which_disk_it_is(open_source: Callable[..., EmbeddedSource]) -> None:
    export = PluginExport(open_source(prod_id="rescue", usn="4711").open(""))
    assert export.description == "SCST_FIO rescue 4711"
    export.close()


def test_a_lun_that_is_not_ready_lets_go_of_its_door(
    open_source: Callable[..., EmbeddedSource],
) -> None:
    door = RecordingDoor(open_source())
    door.replies[0x00] = [_check_condition("02/04/03")] * 3
    with pytest.raises(PluginError, match="NOT READY 04/03"):
        PluginExport(door)
    assert door.is_closed


def test_attributes_are_those_of_vdisk_fileio(open_source: Callable[..., EmbeddedSource]) -> None:
    info = PluginExport(open_source(read_only="1", rotational="0").open("")).info
    assert (info.is_read_only, info.is_rotational, info.can_unmap) == (True, False, False)
    assert (info.block_size_bytes, info.size_bytes) == (BLOCK, DISK)
