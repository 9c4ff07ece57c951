# SPDX-License-Identifier: GPL-2.0-or-later
"""Any bytes of a disk that has only blocks: read, changed and written back without losing any."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from bridges.exchange import Exchange, Request, run_blocking
from bridges.lun import LunInfo
from bridges.nbd import translate
from bridges.recovery import Reply, ScsiError
from scsi_backend.t10.sense import Sense
from tests.bridges.nbd.test_translate import DISK, NO_LIMITS, REFUSALS, THICK, WRITE_FAILED
from tests.scsi_backend.fakes import pattern

READ, WRITE, COMPARE_AND_WRITE, WRITE_SAME, SYNC = 0x88, 0x8A, 0x89, 0x93, 0x91
FUA = 0x08
SIZE = 16
BLOCKS = 8
MISCOMPARE = Reply(2, Sense(0x0E, 0x1D00), 0)
READ_FAILED = Reply(2, Sense(3, 0x1100, information=0), 0)
# Blocks of 16 bytes make every case small enough to try them all.
INFO = replace(THICK, block_size_bytes=SIZE, block_count=BLOCKS, limits=NO_LIMITS)
NO_FUA = replace(INFO, has_fua=False)
UNCERTAIN = replace(DISK, provisioning=replace(DISK.provisioning, reads_zeros=False))
ONLY_UNMAP = replace(DISK, provisioning=replace(DISK.provisioning, has_write_same_16=False))

Rule = Callable[["Blocks", bytes], Reply | None]


@dataclass
class Blocks:
    """A disk in memory; a rule by operation code may answer first, or meddle."""

    data: bytearray = field(default_factory=lambda: bytearray(pattern(1, SIZE * BLOCKS)))
    rules: dict[int, Rule] = field(default_factory=dict)
    # Operation code, flags, LBA and number of blocks of each command.
    log: list[tuple[int, int, int, int]] = field(default_factory=list)

    def execute(self, request: Request) -> Reply:
        """Perform one command."""
        code, flags, lba, count = struct.unpack_from(">BBQI", request.cdb)
        if code == COMPARE_AND_WRITE:
            count = request.cdb[13]
        self.log.append((code, flags, lba, count))
        rule = self.rules.get(code)
        answer = None if rule is None else rule(self, request.cdb)
        if answer is not None:
            return answer
        start, end = lba * SIZE, (lba + count) * SIZE
        assert code == SYNC or end <= len(self.data)
        if code == READ:
            assert request.data_in is not None
            request.data_in[:] = self.data[start:end]
            return Reply(0, None, end - start)
        if code == SYNC:
            return Reply(0, None, 0)
        if code == WRITE_SAME:
            self.data[start:end] = bytes(end - start)
            return Reply(0, None, 0)
        assert request.data_out is not None
        data = bytes(request.data_out)
        if code == COMPARE_AND_WRITE:
            assert len(data) == 2 * (end - start)
            if self.data[start:end] != data[: end - start]:
                return MISCOMPARE
            data = data[end - start :]
        assert len(data) == end - start
        self.data[start:end] = data
        return Reply(0, None, 0)

    def run(self, exchange: Exchange[None]) -> list[tuple[int, int, int, int]]:
        """Run an exchange; return the commands that it took."""
        run_blocking(exchange, self.execute)
        return self.log


def _ranges() -> Iterator[tuple[int, int]]:
    for offset in range(2 * SIZE + 1):
        for length in (1, 2, 8, 15, 16, 17, 31, 32, 33, 48, 50):
            yield offset, length


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_any_bytes_are_read(limit: int) -> None:
    info = replace(INFO, limits=replace(NO_LIMITS, max_transfer=limit))
    for offset, length in _ranges():
        disk, found = Blocks(), bytearray(length)
        disk.run(translate.read(info, offset, memoryview(found)))
        assert found == disk.data[offset : offset + length]
        assert all(blocks <= (limit or BLOCKS) for _, _, _, blocks in disk.log)


@pytest.mark.parametrize("limit", [0, 1, 2])
@pytest.mark.parametrize("has_compare_and_write", [True, False])
def test_any_bytes_are_written_and_no_others(limit: int, has_compare_and_write: bool) -> None:
    info = replace(INFO, limits=replace(NO_LIMITS, max_transfer=limit))
    for offset, length in _ranges():
        disk = Blocks()
        if not has_compare_and_write:
            disk.rules[COMPARE_AND_WRITE] = lambda disk, cdb: REFUSALS[0]
        expected, payload = bytearray(disk.data), pattern(9, 64)[:length]
        expected[offset : offset + length] = payload
        disk.run(translate.write(info, offset, memoryview(payload), fua=False))
        assert disk.data == expected


def test_any_bytes_are_zeroed_and_no_others() -> None:
    for offset, length in _ranges():
        disk = Blocks()
        expected = bytearray(disk.data)
        expected[offset : offset + length] = bytes(length)
        disk.run(translate.write_zeroes(INFO, offset, length, fua=False, no_hole=True))
        assert disk.data == expected


def test_whole_blocks_in_the_middle_are_one_command() -> None:
    assert Blocks().run(translate.write(INFO, 3, memoryview(bytes(4 * SIZE)), fua=False)) == [
        (READ, 0, 0, 1),
        (COMPARE_AND_WRITE, 0, 0, 1),
        (WRITE, 0, 1, 3),
        (READ, 0, 4, 1),
        (COMPARE_AND_WRITE, 0, 4, 1),
    ]
    found = memoryview(bytearray(4 * SIZE))
    assert Blocks().run(translate.read(INFO, 3, found)) == [
        (READ, 0, 0, 1),
        (READ, 0, 1, 3),
        (READ, 0, 4, 1),
    ]


def test_fua_is_on_every_write() -> None:
    payload = memoryview(bytes(2 * SIZE))
    log = Blocks().run(translate.write(INFO, 3, payload, fua=True))
    assert [(code, flags) for code, flags, _, _ in log if code != READ] == [
        (COMPARE_AND_WRITE, FUA),
        (WRITE, FUA),
        (COMPARE_AND_WRITE, FUA),
    ]


def test_without_a_fua_bit_the_touched_blocks_are_synchronized() -> None:
    payload = memoryview(bytes(2 * SIZE))
    log = Blocks().run(translate.write(NO_FUA, 3, payload, fua=True))
    assert log[-1] == (SYNC, 0, 0, 3)
    assert {flags for _, flags, _, _ in log} == {0}
    assert SYNC not in [
        code for code, _, _, _ in Blocks().run(translate.write(NO_FUA, 3, payload, fua=False))
    ]
    write_through = replace(NO_FUA, has_volatile_cache=False)
    log = Blocks().run(translate.write(write_through, 3, payload, fua=True))
    assert log[-1] == (SYNC, 0, 0, 3)


def test_zeros_with_fua_synchronize_all_touched_blocks() -> None:
    log = Blocks().run(translate.write_zeroes(INFO, 3, 2 * SIZE, fua=True, no_hole=True))
    assert log[-1] == (SYNC, 0, 0, 3)


def _meddle(times: int) -> Rule:
    """Another initiator changes the block's last byte before each of the first comparisons."""
    left = [times]

    def rule(disk: Blocks, cdb: bytes) -> None:
        if left[0]:
            left[0] -= 1
            disk.data[SIZE - 1] = left[0] + 100

    return rule


@pytest.mark.parametrize("times", [1, 2, 50])
def test_what_others_write_meanwhile_is_kept(times: int) -> None:
    disk = Blocks(rules={COMPARE_AND_WRITE: _meddle(times)})
    log = disk.run(translate.write(INFO, 0, memoryview(b"mine"), fua=False))
    assert disk.data[:SIZE] == b"mine" + pattern(1, SIZE)[4:-1] + b"\x64"
    assert len(log) == 2 * (times + 1)


def test_somebody_who_never_stops_ends_in_an_error() -> None:
    disk = Blocks(rules={COMPARE_AND_WRITE: lambda disk, cdb: MISCOMPARE})
    with pytest.raises(ScsiError) as failure:
        disk.run(translate.write(INFO, 0, memoryview(b"mine"), fua=False))
    assert failure.value.reply is MISCOMPARE
    assert bytes(disk.data) == pattern(1, SIZE * BLOCKS)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_without_compare_and_write_the_block_is_written(refusal: Reply) -> None:
    disk = Blocks(rules={COMPARE_AND_WRITE: lambda disk, cdb: refusal})
    log = disk.run(translate.write(INFO, 5, memoryview(b"mine"), fua=True))
    assert log[-1] == (WRITE, FUA, 0, 1)


@pytest.mark.parametrize("code", [READ, COMPARE_AND_WRITE, WRITE])
def test_failures_end_the_write(code: int) -> None:
    disk = Blocks(rules={code: lambda disk, cdb: WRITE_FAILED})
    with pytest.raises(ScsiError):
        disk.run(translate.write(INFO, 3, memoryview(bytes(2 * SIZE)), fua=False))
    assert disk.log[-1][0] == code


def test_a_block_that_cannot_be_read_is_not_written() -> None:
    disk = Blocks(rules={READ: lambda disk, cdb: READ_FAILED})
    with pytest.raises(ScsiError):
        disk.run(translate.write(INFO, 3, memoryview(b"mine"), fua=False))
    assert bytes(disk.data) == pattern(1, SIZE * BLOCKS)


@pytest.mark.parametrize(("offset", "length"), [(0, 32), (3, 4)])
@pytest.mark.parametrize("missing", [1, 16])
def test_reads_that_end_early_are_errors(offset: int, length: int, missing: int) -> None:
    def short(disk: Blocks, cdb: bytes) -> Reply:
        return Reply(0, None, cdb[13] * SIZE - missing)

    disk = Blocks(rules={READ: short})
    with pytest.raises(ScsiError):
        disk.run(translate.read(INFO, offset, memoryview(bytearray(length))))
    with pytest.raises(ScsiError):
        disk.run(translate.write(INFO, 3, memoryview(b"mine"), fua=False))


@pytest.mark.parametrize(
    ("info", "offset", "length", "no_hole", "expected"),
    [
        (DISK, 0, 512, False, True),
        (DISK, 512, 1 << 45, False, True),
        (DISK, 0, 512, True, False),
        (DISK, 1, 512, False, False),
        (DISK, 0, 511, False, False),
        (THICK, 0, 512, False, False),
        (
            replace(DISK, provisioning=replace(DISK.provisioning, reads_zeros=False)),
            0,
            512,
            False,
            False,
        ),
        (
            replace(DISK, provisioning=replace(DISK.provisioning, has_write_same_16=False)),
            0,
            512,
            False,
            False,
        ),
    ],
)
def test_only_deallocating_whole_blocks_is_fast(
    info: LunInfo, offset: int, length: int, no_hole: bool, expected: bool
) -> None:
    assert translate.is_fast_zero(info, offset, length, no_hole=no_hole) is expected
