# SPDX-License-Identifier: GPL-2.0-or-later
"""READ and WRITE in all widths: data, limits, caching, and storage that is slow or fails.

VERIFY has a file of its own.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition, connect

WIDTHS = [6, 10, 12, 16, 32]
WIDE = [10, 12, 16, 32]
FUA = 0x08
DPO = 0x10


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.fixture
def huge() -> Initiator:
    """A disk larger than one transfer, of 4096-byte blocks so that 10-byte CDBs reach its limit."""
    return connect(VdiskNullio("n", NullioAttributes(size_mb=64, blocksize=4096, long_cdbs=True)))


@pytest.mark.parametrize(
    ("cdb", "lba", "blocks"),
    [
        ("080000030200", 3, 2),
        ("280000000003000002 00", 3, 2),
        ("a8000000000300000002 0000", 3, 2),
        ("88000000000000000003 00000002 0000", 3, 2),
        ("0800 03ff 01 00", 1023, 1),
    ],
)
def test_read_returns_the_blocks_at_its_lba(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str, lba: int, blocks: int
) -> None:
    content = vdisk.fill()
    data = initiator.good(cdbs.raw(cdb), None, blocks * 512)
    assert data == content[lba * 512 : (lba + blocks) * 512]


@pytest.mark.parametrize(
    ("cdb", "lba", "blocks"),
    [
        ("0a0000030200", 3, 2),
        ("2a0000000003000002 00", 3, 2),
        ("aa000000000300000002 0000", 3, 2),
        ("8a000000000000000003 00000002 0000", 3, 2),
        ("0a00 03ff 01 00", 1023, 1),
    ],
)
def test_write_stores_the_blocks_at_its_lba_and_nowhere_else(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str, lba: int, blocks: int
) -> None:
    content = vdisk.fill()
    data = b"\xaa" * 512 * blocks
    assert initiator.good(cdbs.raw(cdb), data) == b""
    assert vdisk.data == content[: lba * 512] + data + content[(lba + blocks) * 512 :]


@pytest.mark.parametrize("width", WIDTHS)
def test_blocks_of_4096_bytes_are_written_and_read_back(width: int) -> None:
    vdisk = FaultyVdisk(blocks=16, block_size_bytes=4096)
    initiator = connect(vdisk)
    data = pattern(77, 4096) + pattern(78, 4096)
    initiator.good(cdbs.block(cdbs.WRITE, width, 14, 2), data)
    assert vdisk.blocks(14, 2) == data
    assert initiator.good(cdbs.block(cdbs.READ, width, 14, 2), None, 8192) == data
    outcome = initiator.send(cdbs.block(cdbs.READ, width, 15, 2), None, 8192)
    assert_check_condition(outcome, "05/21/00", at=cdbs.LBA_AT[width], information=16)


def test_length_zero_of_the_6_byte_form_is_256_blocks(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    content = vdisk.fill()
    data = initiator.good(cdbs.raw("080000100000"), None, 256 * 512)
    assert data == content[16 * 512 : (16 + 256) * 512]
    initiator.good(cdbs.raw("0a0000100000"), b"\xaa" * 256 * 512)
    assert vdisk.blocks(15, 258) == pattern(15, 512) + b"\xaa" * 256 * 512 + pattern(272, 512)
    outcome = initiator.send(cdbs.raw("080003010000"), None, 256 * 512)
    assert_check_condition(outcome, "05/21/00", at=(1, 4), information=1024)


@pytest.mark.parametrize("width", WIDE)
@pytest.mark.parametrize("lba", [0, 1023, 1024])
def test_length_zero_moves_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, lba: int
) -> None:
    content = vdisk.fill()
    assert initiator.good(cdbs.block(cdbs.READ, width, lba, 0), None, 512) == b""
    assert initiator.good(cdbs.block(cdbs.READ, width, lba, 0)) == b""
    assert initiator.good(cdbs.block(cdbs.WRITE, width, lba, 0), b"\xaa" * 512) == b""
    assert initiator.good(cdbs.block(cdbs.WRITE, width, lba, 0)) == b""
    assert vdisk.data == content


@pytest.mark.parametrize("width", WIDE)
def test_length_zero_is_good_where_nothing_can_be_moved_at_once(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    vdisk.immediate_bytes = NOT_NOW
    assert initiator.good(cdbs.block(cdbs.READ, width, 0, 0), None, 0) == b""
    assert initiator.good(cdbs.block(cdbs.WRITE, width, 0, 0), b"") == b""


@pytest.mark.parametrize("opcodes", [cdbs.READ, cdbs.WRITE], ids=["read", "write"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("lba", "blocks", "information"),
    [(1023, 2, 1024), (1024, 1, 1024), (1000, 255, 1024), (5000, 1, 5000), (0x1FFFFF, 1, 0x1FFFFF)],
)
def test_range_past_the_end_names_the_first_lba_that_is_not_there(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    opcodes: dict[int, int],
    width: int,
    lba: int,
    blocks: int,
    information: int,
) -> None:
    content = vdisk.fill()
    cdb = cdbs.block(opcodes, width, lba, blocks)
    outcome = initiator.send(cdb, b"\xaa" * 512 * blocks, 512 * blocks)
    assert_check_condition(outcome, "05/21/00", at=cdbs.LBA_AT[width], information=information)
    assert vdisk.data == content


@pytest.mark.parametrize("opcode", ["88", "8a"])
@pytest.mark.parametrize("lba", ["0000000000000401", "ffffffffffffffff"])
def test_range_without_blocks_may_not_begin_past_the_end(
    initiator: Initiator, opcode: str, lba: str
) -> None:
    outcome = initiator.send(cdbs.raw(opcode + "00" + lba + "00000000"), b"", 0)
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=int(lba, 16))


@pytest.mark.parametrize("opcodes", [cdbs.READ, cdbs.WRITE], ids=["read", "write"])
@pytest.mark.parametrize("width", WIDE)
def test_transfer_beyond_the_maximum_is_an_invalid_length(
    huge: Initiator, opcodes: dict[int, int], width: int
) -> None:
    data = bytes(8193 * 4096)
    huge.good(cdbs.block(opcodes, width, 0, 8192), data[4096:], 8192 * 4096)
    outcome = huge.send(cdbs.block(opcodes, width, 0, 8193), data, len(data))
    assert_check_condition(outcome, "05/24/00", at=cdbs.LENGTH_AT[width])


@pytest.mark.parametrize("opcodes", [cdbs.READ, cdbs.WRITE], ids=["read", "write"])
@pytest.mark.parametrize("width", WIDE)
@pytest.mark.parametrize("protect", range(1, 8))
def test_protection_information_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, opcodes: dict[int, int], width: int, protect: int
) -> None:
    content = vdisk.fill()
    cdb = cdbs.block(opcodes, width, 0, 1, protect << 5)
    outcome = initiator.send(cdb, b"\xaa" * 512, 512)
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], 7))
    assert vdisk.data == content


@pytest.mark.parametrize("width", WIDE)
def test_dpo_and_fua_of_reads_change_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    content = vdisk.fill()
    cdb = cdbs.block(cdbs.READ, width, 5, 1, DPO | FUA)
    assert initiator.good(cdb, None, 512) == content[5 * 512 : 6 * 512]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("room_bytes", "moved"), [(0, 0), (100, 100), (1024, 1024), (2000, 1024)])
def test_read_fills_the_room_there_is(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, room_bytes: int, moved: int
) -> None:
    content = vdisk.fill()
    pending = initiator.start(cdbs.block(cdbs.READ, width, 5, 2), None, room_bytes)
    assert pending.outcome == Outcome(Status.GOOD, None, content[2560 : 2560 + moved])
    assert pending.buffer is not None
    assert pending.buffer[moved:] == bytes(room_bytes - moved)


def test_read_without_data_in_buffer_is_good(
    initiator: Initiator, open_fileio: OpenFileio, shm_path: Path
) -> None:
    on_file = connect(open_fileio(64 * 512))
    in_memory = connect(open_fileio(64 * 512, folder=shm_path))
    for each in (initiator, on_file, in_memory):
        assert each.good(cdbs.block(cdbs.READ, 16, 5, 2)) == b""
        assert each.good(cdbs.block(cdbs.READ, 16, 5, 0)) == b""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("data", [None, b"", b"\xaa" * 1023])
def test_too_little_data_out_is_a_data_phase_error_and_writes_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, data: bytes | None
) -> None:
    content = vdisk.fill()
    outcome = initiator.send(cdbs.block(cdbs.WRITE, width, 5, 2), data)
    assert_check_condition(outcome, "0B/4B/00")
    assert vdisk.data == content


@pytest.mark.parametrize("width", WIDTHS)
def test_data_out_beyond_the_transfer_length_is_not_written(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    vdisk.fill()
    initiator.good(cdbs.block(cdbs.WRITE, width, 5, 1), b"\xaa" * 1024)
    assert vdisk.blocks(5, 2) == b"\xaa" * 512 + pattern(6, 512)


@pytest.mark.parametrize("width", WIDTHS)
def test_read_that_is_not_cached_ends_when_the_storage_has_it(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    content = vdisk.fill()
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    pending = initiator.start(cdbs.block(cdbs.READ, width, 5, 2), None, 1024)
    nexus = initiator.session.nexuses[0]
    assert (pending.is_done, nexus.outstanding) == (False, {pending.command})
    vdisk.release()
    assert pending.outcome == Outcome(Status.GOOD, None, content[2560:3584])
    assert nexus.outstanding == set()


def test_commands_may_end_in_any_order(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    content = vdisk.fill()
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    first = initiator.start(cdbs.block(cdbs.READ, 16, 1, 1), None, 512)
    second = initiator.start(cdbs.block(cdbs.READ, 16, 2, 1), None, 512)
    vdisk.release(1)
    assert (first.is_done, second.outcome.data) == (False, content[1024:1536])
    vdisk.release()
    assert first.outcome.data == content[512:1024]


def test_rest_of_a_partly_cached_read_comes_from_the_storage(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    content = vdisk.fill()
    vdisk.immediate_bytes = 700
    assert initiator.good(cdbs.block(cdbs.READ, 16, 5, 2), None, 1024) == content[2560:3584]
    assert vdisk.log == [("read_now", 2560, 1024), ("read", 3260, 324)]


@pytest.mark.parametrize("immediate_bytes", [NOT_NOW, -errno.EIO])
def test_failed_read_is_a_medium_error(
    vdisk: FaultyVdisk, initiator: Initiator, immediate_bytes: int
) -> None:
    vdisk.immediate_bytes = immediate_bytes
    vdisk.faults.errno_at[5] = errno.EIO
    outcome = initiator.send(cdbs.block(cdbs.READ, 16, 5, 2), None, 1024)
    assert_check_condition(outcome, "03/11/00", information=5)
    initiator.good(cdbs.block(cdbs.READ, 16, 6, 2), None, 1024)


def test_failed_rest_of_a_read_names_the_lba_it_began_with(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_of["read"] = errno.EIO
    vdisk.immediate_bytes = 3 * 512
    outcome = initiator.send(cdbs.block(cdbs.READ, 16, 5, 8), None, 4096)
    assert_check_condition(outcome, "03/11/00", information=8)


@pytest.mark.parametrize("immediate_bytes", [None, NOT_NOW])
def test_read_of_a_backing_store_cut_short_names_the_first_lba_that_is_missing(
    vdisk: FaultyVdisk, initiator: Initiator, immediate_bytes: int | None
) -> None:
    vdisk.immediate_bytes = immediate_bytes
    vdisk.faults.stored_bytes = 7 * 512 + 100
    outcome = initiator.send(cdbs.block(cdbs.READ, 16, 5, 8), None, 4096)
    assert_check_condition(outcome, "03/11/00", information=7)


@pytest.mark.parametrize("immediate_bytes", [NOT_NOW, 700, None])
def test_write_reaches_the_storage_whatever_can_be_written_at_once(
    vdisk: FaultyVdisk, initiator: Initiator, immediate_bytes: int | None
) -> None:
    vdisk.immediate_bytes = immediate_bytes
    data = pattern(1, 512) + pattern(2, 512)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 5, 2), data)
    assert vdisk.blocks(5, 2) == data
    assert "sync" not in vdisk.names
