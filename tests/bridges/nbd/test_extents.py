# SPDX-License-Identifier: GPL-2.0-or-later
"""GET LBA STATUS to NBD's extents, against devices that answer well, badly, and with malice."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.exchange import Request, run_blocking
from bridges.lun import LunInfo
from bridges.nbd.extents import extents
from bridges.nbd.plugin_sources import EmbeddedSource, probe_lun
from bridges.recovery import Reply, ScsiError
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.vpd import BlockLimits, Provisioning

BLOCK = 512
BLOCKS = 1000
DISK = BLOCKS * BLOCK
DATA, HOLE, ZERO = 0, 1, 2
MAPPED, DEALLOCATED, ANCHORED = 0, 1, 2

Descriptor = tuple[int, int, int]

THIN = LunInfo(
    block_size_bytes=BLOCK,
    block_count=BLOCKS,
    physical_block_exponent=3,
    is_read_only=False,
    has_fua=True,
    has_volatile_cache=True,
    is_rotational=False,
    is_removable=False,
    is_thin_provisioned=True,
    limits=BlockLimits(0, 0, 0, 0, 0, 0, 0, is_write_same_non_zero=False),
    provisioning=Provisioning(
        has_unmap=True,
        has_write_same_16=True,
        has_write_same_10=True,
        reads_zeros=True,
        is_thin=True,
    ),
    vendor="SCST_FIO",
    product="disk0",
    revision="0100",
    serial="1",
    naa_id=None,
)
READS_ANYTHING = replace(THIN, provisioning=replace(THIN.provisioning, reads_zeros=False))
THICK = replace(THIN, is_thin_provisioned=False)


def parameter_data(descriptors: Sequence[Descriptor], length: int | None = None) -> bytes:
    """GET LBA STATUS parameter data (SBC-4 table 81), perhaps with a length that is a lie."""
    body = b"".join(struct.pack(">QIBBH", *each, 0, 0) for each in descriptors)
    claimed = len(body) + 4 if length is None else length
    return struct.pack(">II", claimed, 0) + body


@dataclass
class Device:
    """Answers GET LBA STATUS as the function says, which gets the LBA; keeps the CDBs."""

    answer: Callable[[int], bytes | Reply]
    cdbs: list[str] = field(default_factory=list)

    def execute(self, request: Request) -> Reply:
        """Answer one command, no longer than there is room."""
        self.cdbs.append(request.cdb.hex())
        answer = self.answer(int.from_bytes(request.cdb[2:10], "big"))
        if isinstance(answer, Reply):
            return answer
        assert request.data_in is not None
        allocation = int.from_bytes(request.cdb[10:14], "big")
        assert allocation == len(request.data_in)
        data = answer[:allocation]
        request.data_in[: len(data)] = data
        return Reply(0, None, len(data))

    def extents(
        self, offset: int, length: int, limit: int = 100, info: LunInfo = THIN
    ) -> list[tuple[int, int]]:
        """Run the exchange; the flags as numbers."""
        found = run_blocking(extents(info, offset, length, limit), self.execute)
        return [(length, int(flags)) for length, flags in found]


def _layout(*runs: Descriptor) -> Device:
    """A device that answers truly, beginning with the block that was asked for."""

    def answer(lba: int) -> bytes:
        rest = [(max(start, lba), start + blocks, status) for start, blocks, status in runs]
        return parameter_data(
            [(start, end - start, what) for start, end, what in rest if end > lba]
        )

    return Device(answer)


@pytest.fixture
def device() -> Device:
    """Mapped, deallocated, anchored, mapped."""
    return _layout((0, 10, MAPPED), (10, 20, DEALLOCATED), (30, 5, ANCHORED), (35, 965, MAPPED))


def test_one_command_tells_of_a_range(device: Device) -> None:
    assert device.extents(0, 40 * BLOCK, limit=4) == [
        (10 * BLOCK, DATA),
        (20 * BLOCK, HOLE | ZERO),
        (5 * BLOCK, ZERO),
        (5 * BLOCK, DATA),
    ]
    # GET LBA STATUS, LBA 0, room for four descriptors of 16 bytes behind a header of 8.
    assert device.cdbs == ["9e120000000000000000000000480000"]


def test_blocks_that_read_as_anything_are_no_zeros(device: Device) -> None:
    assert device.extents(0, 40 * BLOCK, info=READS_ANYTHING) == [
        (10 * BLOCK, DATA),
        (20 * BLOCK, HOLE),
        (10 * BLOCK, DATA),
    ]


@pytest.mark.parametrize("status", [0, 3, 4, 5, 15])
def test_mapped_unknown_and_reserved_are_data(status: int) -> None:
    assert _layout((0, BLOCKS, status)).extents(0, DISK) == [(DISK, DATA)]


def test_only_the_low_half_of_the_byte_is_the_status() -> None:
    assert _layout((0, BLOCKS, 0xF1)).extents(0, DISK) == [(DISK, HOLE | ZERO)]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (1, 10 * BLOCK, [(10 * BLOCK - 1, DATA), (1, HOLE | ZERO)]),
        (10 * BLOCK - 1, 2, [(1, DATA), (1, HOLE | ZERO)]),
        (15 * BLOCK + 7, 100, [(100, HOLE | ZERO)]),
        (DISK - 1, 1, [(1, DATA)]),
    ],
)
def test_offsets_and_lengths_may_be_inside_blocks(
    device: Device, offset: int, length: int, expected: list[tuple[int, int]]
) -> None:
    assert device.extents(offset, length) == expected
    assert [int(cdb[4:20], 16) for cdb in device.cdbs] == [offset // BLOCK]


def test_extents_end_with_the_disk(device: Device) -> None:
    assert device.extents(DISK - BLOCK, 10 * BLOCK) == [(BLOCK, DATA)]


def test_a_device_whose_last_extent_passes_its_end_is_cut_short() -> None:
    device = Device(lambda lba: parameter_data([(0, 0xFFFFFFFF, DEALLOCATED)]))
    assert device.extents(0, DISK) == [(DISK, HOLE | ZERO)]


def test_a_fully_provisioned_unit_is_data_and_is_not_asked(device: Device) -> None:
    assert device.extents(3, 5 * BLOCK, info=THICK) == [(5 * BLOCK, DATA)]
    assert device.extents(DISK - 2, 5 * BLOCK, info=THICK) == [(2, DATA)]
    assert device.cdbs == []


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_limit_ends_the_answer_early(device: Device, limit: int) -> None:
    whole = device.extents(0, 40 * BLOCK)
    assert device.extents(0, 40 * BLOCK, limit) == whole[:limit]


def test_a_single_extent_ends_with_the_request() -> None:
    assert _layout((0, BLOCKS, DEALLOCATED)).extents(7, 1000, limit=1) == [(1000, HOLE | ZERO)]


def test_equal_neighbours_become_one() -> None:
    device = _layout((0, 5, MAPPED), (5, 5, 3), (10, 5, DEALLOCATED), (15, 985, DEALLOCATED))
    assert device.extents(0, 20 * BLOCK, limit=2) == [(10 * BLOCK, DATA), (10 * BLOCK, HOLE | ZERO)]


def test_an_extent_may_begin_before_the_block_that_was_asked_for() -> None:
    device = Device(lambda lba: parameter_data([(2, 10, DEALLOCATED), (12, 988, MAPPED)]))
    assert device.extents(8 * BLOCK, 8 * BLOCK) == [(4 * BLOCK, HOLE | ZERO), (4 * BLOCK, DATA)]


def test_it_is_asked_again_behind_what_was_told() -> None:
    # Some devices answer with one descriptor at a time.
    device = Device(lambda lba: parameter_data([(lba, 1, lba % 2)]))
    assert device.extents(0, 4 * BLOCK) == [
        (BLOCK, DATA),
        (BLOCK, HOLE | ZERO),
        (BLOCK, DATA),
        (BLOCK, HOLE | ZERO),
    ]
    assert [int(cdb[4:20], 16) for cdb in device.cdbs] == [0, 1, 2, 3]


def test_as_many_replies_are_taken_as_extents_are_wanted() -> None:
    device = Device(lambda lba: parameter_data([(lba, 1, lba % 2)]))
    assert len(device.extents(0, DISK, limit=900)) == 900
    assert len(device.cdbs) == 900


def test_extents_go_on_from_one_reply_to_the_next() -> None:
    device = Device(lambda lba: parameter_data([(lba, 40, DEALLOCATED)]))
    assert device.extents(BLOCK, 100 * BLOCK) == [(100 * BLOCK, HOLE | ZERO)]
    assert len(device.cdbs) == 3


@pytest.mark.parametrize("sense", [0x2000, 0x2400, 0x2600])
def test_a_device_without_the_command_has_only_data(sense: int) -> None:
    device = Device(lambda lba: Reply(2, Sense(5, sense), 0))
    assert device.extents(1, DISK - 1) == [(DISK - 1, DATA)]
    assert len(device.cdbs) == 1


def test_a_refusal_half_way_leaves_what_was_told() -> None:
    refusal = Reply(2, Sense(5, 0x2400), 0)
    device = Device(lambda lba: refusal if lba else parameter_data([(0, 8, DEALLOCATED)]))
    assert device.extents(0, 20 * BLOCK) == [(8 * BLOCK, HOLE | ZERO), (12 * BLOCK, DATA)]


@pytest.mark.parametrize(("key", "code"), [(3, 0x1100), (5, 0x2500), (5, 0x2100), (4, 0x4400)])
def test_other_failures_are_failures(key: int, code: int) -> None:
    device = Device(lambda lba: Reply(2, Sense(key, code), 0))
    with pytest.raises(ScsiError, match="GET LBA STATUS"):
        device.extents(0, BLOCK)


HOSTILE = {
    "nothing at all": b"",
    "half a header": b"\0\0\0",
    "no descriptors": parameter_data([]),
    "half a descriptor": parameter_data([(10, 5, DEALLOCATED)])[:20],
    "a length of zero": parameter_data([(10, 5, DEALLOCATED)], length=0),
    "a length inside a descriptor": parameter_data([(10, 5, DEALLOCATED)], length=19),
    "no blocks": parameter_data([(10, 0, DEALLOCATED), (10, 5, DEALLOCATED)]),
    "before the block": parameter_data([(0, 10, DEALLOCATED)]),
    "behind the block": parameter_data([(11, 100, DEALLOCATED)]),
    "at the end of all numbers": parameter_data([(0xFFFFFFFFFFFFFFFF, 1, DEALLOCATED)]),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_cannot_be_makes_everything_data(data: bytes) -> None:
    device = Device(lambda lba: data)
    assert device.extents(10 * BLOCK, 50 * BLOCK) == [(50 * BLOCK, DATA)]
    assert len(device.cdbs) == 1


SPOILT = {
    "a gap": (16, 10, DEALLOCATED),
    "an overlap": (14, 10, DEALLOCATED),
    "going backwards": (0, 15, DEALLOCATED),
    "the same again": (10, 5, DEALLOCATED),
    "no blocks": (15, 0, DEALLOCATED),
}


@pytest.mark.parametrize("second", SPOILT.values(), ids=SPOILT.keys())
def test_what_came_before_something_impossible_is_kept(second: Descriptor) -> None:
    device = Device(lambda lba: parameter_data([(10, 5, DEALLOCATED), second]))
    assert device.extents(10 * BLOCK, 50 * BLOCK) == [(5 * BLOCK, HOLE | ZERO), (45 * BLOCK, DATA)]
    assert len(device.cdbs) == 1


def test_a_length_that_promises_more_than_came_is_no_harm() -> None:
    data = parameter_data([(0, 5, DEALLOCATED), (5, 995, MAPPED)], length=0xFFFFFFFF)
    assert Device(lambda lba: data).extents(0, 10 * BLOCK) == [
        (5 * BLOCK, HOLE | ZERO),
        (5 * BLOCK, DATA),
    ]


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_endless_tiny_extents_come_to_an_end(limit: int) -> None:
    device = Device(lambda lba: parameter_data([(lba, 1, DEALLOCATED)]))
    found = device.extents(0, DISK, limit)
    if limit == 1:
        assert found == [(BLOCK, HOLE | ZERO)]
    else:
        blocks = limit + 64
        assert found == [(blocks * BLOCK, HOLE | ZERO), (DISK - blocks * BLOCK, DATA)]
        assert len(device.cdbs) == blocks


@given(
    replies=st.lists(st.lists(st.tuples(*[st.integers(0, 40)] * 2, st.integers(0, 255)))),
    offset=st.integers(0, 30 * BLOCK),
    length=st.integers(1, 30 * BLOCK),
    limit=st.integers(1, 20),
)
def test_whatever_a_device_says_extents_are_in_order(
    replies: list[list[Descriptor]], offset: int, length: int, limit: int
) -> None:
    answers = iter(replies)
    device = Device(lambda lba: parameter_data(next(answers, [(lba, 1, lba)])))
    found = device.extents(offset, length, limit)
    assert 1 <= len(found) <= limit
    assert all(piece > 0 for piece, _ in found)
    assert all(one[1] != other[1] for one, other in pairwise(found))
    total = sum(piece for piece, _ in found)
    assert total <= length
    assert total == length or len(found) == limit
    assert len(device.cdbs) <= limit + 64


def test_the_holes_of_a_file(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(1 << 20)
        file.seek(128 << 10)
        file.write(b"x" * 4096)
    source = EmbeddedSource(
        FileioAttributes.model_validate({"filename": str(image), "thin_provisioned": "1"})
    )
    door = source.open("")
    info = probe_lun(door.execute)
    found = run_blocking(extents(info, 1000, (1 << 20) - 1000, 10), door.execute)
    # The file system may keep more than was written.
    assert [int(flags) for _, flags in found] == [HOLE | ZERO, DATA, HOLE | ZERO]
    assert found[0][0] <= (128 << 10) - 1000
    assert sum(length for length, _ in found) == (1 << 20) - 1000
    door.close()
    source.close()
