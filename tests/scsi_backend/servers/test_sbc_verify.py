# SPDX-License-Identifier: GPL-2.0-or-later
"""VERIFY and WRITE AND VERIFY in all widths, and BYTCHK."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.io.engine import Done
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

WIDTHS = [10, 12, 16, 32]
COMPARE = 0x02
COMPARE_EACH = 0x06
MIB = 1 << 20


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.mark.parametrize(
    "cdb", ["2f0200000003000002 00", "af020000000300000002 0000", "8f02" + "00" * 7 + "0300000002"]
)
def test_verify_compares_with_the_data_sent(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str
) -> None:
    content = vdisk.fill()
    assert initiator.good(cdbs.raw(cdb), content[3 * 512 : 5 * 512]) == b""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("offset_bytes", [0, 511, 512, 1023])
def test_miscompare_names_the_first_byte_that_differs(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, offset_bytes: int
) -> None:
    content = vdisk.fill()
    sent = bytearray(content[3 * 512 : 5 * 512])
    for position in {offset_bytes, 1023}:
        sent[position] ^= 0x01
    cdb = cdbs.block(cdbs.VERIFY, width, 3, 2, COMPARE)
    assert_check_condition(initiator.send(cdb, bytes(sent)), "0E/1D/00", information=offset_bytes)


@pytest.mark.parametrize("width", WIDTHS)
def test_verify_without_bytchk_reads_and_compares_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    cdb = cdbs.block(cdbs.VERIFY, width, 3, 2)
    assert initiator.good(cdb) == b""
    assert vdisk.log == [("read", 1536, 1024)]
    assert initiator.good(cdb, b"\xaa" * 1024) == b""


@pytest.mark.parametrize("width", WIDTHS)
def test_bytchk_11b_compares_each_block_with_the_one_sent(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    block = bytes(range(256)) * 2
    vdisk.data[3 * 512 : 6 * 512] = block * 3
    cdb = cdbs.block(cdbs.VERIFY, width, 3, 3, COMPARE_EACH)
    assert initiator.good(cdb, block) == b""
    vdisk.data[5 * 512 + 7] ^= 0xFF
    assert_check_condition(initiator.send(cdb, block), "0E/1D/00", information=1024 + 7)


def test_bytchk_11b_compares_beyond_its_first_piece() -> None:
    vdisk = FaultyVdisk(blocks=3 * 2048 + 1)
    block = bytes(range(256)) * 2
    vdisk.data[:] = block * vdisk.block_count
    initiator = connect(vdisk)
    cdb = cdbs.block(cdbs.VERIFY, 16, 0, vdisk.block_count, COMPARE_EACH)
    assert initiator.good(cdb, block) == b""
    vdisk.data[-1] ^= 0xFF
    outcome = initiator.send(cdb, block)
    assert_check_condition(outcome, "0E/1D/00", information=3 * MIB + 511)


def test_bytchk_01b_compares_beyond_its_first_piece() -> None:
    vdisk = FaultyVdisk(blocks=2 * 2048 + 1)
    content = vdisk.fill()
    initiator = connect(vdisk)
    cdb = cdbs.block(cdbs.VERIFY, 16, 0, vdisk.block_count, COMPARE)
    assert initiator.good(cdb, content) == b""
    vdisk.data[2 * MIB + 3] ^= 0xFF
    assert_check_condition(initiator.send(cdb, content), "0E/1D/00", information=2 * MIB + 3)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flags", [0, COMPARE, COMPARE_EACH])
def test_verify_of_no_blocks_is_good_and_reads_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, flags: int
) -> None:
    assert initiator.good(cdbs.block(cdbs.VERIFY, width, 1024, 0, flags)) == b""
    assert vdisk.log == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flags", [0, COMPARE, COMPARE_EACH])
def test_range_past_the_end_is_refused(initiator: Initiator, width: int, flags: int) -> None:
    outcome = initiator.send(cdbs.block(cdbs.VERIFY, width, 1020, 5, flags), bytes(5 * 512))
    assert_check_condition(outcome, "05/21/00", at=cdbs.LBA_AT[width], information=1024)


@pytest.mark.parametrize("width", WIDTHS)
def test_bytchk_10b_is_reserved(initiator: Initiator, width: int) -> None:
    outcome = initiator.send(cdbs.block(cdbs.VERIFY, width, 0, 1, 0x04), bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], 2))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("protect", range(1, 8))
def test_protection_information_is_refused(initiator: Initiator, width: int, protect: int) -> None:
    outcome = initiator.send(cdbs.block(cdbs.VERIFY, width, 0, 1, protect << 5))
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], 7))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("flags", "needed"), [(COMPARE, 1024), (COMPARE_EACH, 512)])
def test_too_little_data_out_is_a_data_phase_error(
    initiator: Initiator, width: int, flags: int, needed: int
) -> None:
    cdb = cdbs.block(cdbs.VERIFY, width, 0, 2, flags)
    assert initiator.good(cdb, bytes(needed)) == b""
    assert_check_condition(initiator.send(cdb, bytes(needed - 1)), "0B/4B/00")
    assert_check_condition(initiator.send(cdb), "0B/4B/00")


def test_every_range_is_bounded_by_the_maximum_transfer() -> None:
    initiator = connect(VdiskNullio("n", NullioAttributes(size_mb=64)))
    assert initiator.good(cdbs.block(cdbs.VERIFY, 16, 0, 65536)) == b""
    for flags in (0, COMPARE, COMPARE_EACH):
        cdb = cdbs.block(cdbs.VERIFY, 16, 0, 65537, flags)
        assert_check_condition(initiator.send(cdb, bytes(512)), "05/24/00", at=(10, 7))


def test_pieces_that_finish_later_end_the_command_after_the_last() -> None:
    vdisk = FaultyVdisk(blocks=3 * 2048)
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.block(cdbs.VERIFY, 16, 0, 3 * 2048))
    for _ in range(3):
        assert not pending.is_done
        vdisk.release()
    assert pending.outcome.status == Status.GOOD


def test_unreadable_medium_names_its_lba(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.faults.errno_of["read"] = errno.EIO
    outcome = initiator.send(cdbs.block(cdbs.VERIFY, 16, 3, 4))
    assert_check_condition(outcome, "03/11/00", information=3)


@pytest.mark.parametrize("flags", [0, COMPARE, COMPARE_EACH])
def test_backing_store_cut_short_names_the_first_missing_lba(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int
) -> None:
    vdisk.faults.stored_bytes = 5 * 512 + 1
    outcome = initiator.send(cdbs.block(cdbs.VERIFY, 16, 3, 4, flags), bytes(2048))
    assert_check_condition(outcome, "03/11/00", information=5)


def test_failure_in_a_later_piece_names_its_lba() -> None:
    vdisk = FaultyVdisk(blocks=4 * 2048)
    vdisk.faults.errno_at[5000] = errno.EIO
    initiator = connect(vdisk)
    outcome = initiator.send(cdbs.block(cdbs.VERIFY, 16, 100, 8000))
    # The piece of 1 MiB that begins 2 MiB after LBA 100.
    assert_check_condition(outcome, "03/11/00", information=100 + 4096)
    assert vdisk.log[-1] == ("read", (100 + 4096) * 512, MIB)


@pytest.mark.parametrize(
    "cdb",
    [
        "2e000000000300000200",
        "ae00000000030000000200 00",
        "8e000000000000000003 00000002 0000",
        "7f00000000000018 000c 0000 0000000000000003 0000000000000000 00000002",
    ],
)
def test_written_blocks_are_stable_before_they_are_read_from_the_medium(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str
) -> None:
    before, data = vdisk.fill(), b"\xaa" * 512 + b"\xbb" * 512
    assert initiator.good(cdbs.raw(cdb), data) == b""
    assert vdisk.data == before[: 3 * 512] + data + before[5 * 512 :]
    assert vdisk.log == [("write", 1536, 1024), ("sync", 0, 0), ("read_medium", 1536, 1024)]


class ForgetfulVdisk(FaultyVdisk):
    """Inverts a byte of what it is told to keep."""

    def sync(self, done: Done) -> None:
        """See ``Vdisk.sync``."""
        self.data[4 * 512 + 7] ^= 0xFF
        super().sync(done)


@pytest.mark.parametrize("width", WIDTHS)
def test_write_and_verify_compares_only_with_bytchk_01b(width: int) -> None:
    initiator = connect(ForgetfulVdisk())
    data = b"\xaa" * 1024
    assert initiator.good(cdbs.block(cdbs.WRITE_AND_VERIFY, width, 3, 2), data) == b""
    outcome = initiator.send(cdbs.block(cdbs.WRITE_AND_VERIFY, width, 3, 2, COMPARE), data)
    assert_check_condition(outcome, "0E/1D/00", information=512 + 7)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flags", [0x04, COMPARE_EACH])
def test_write_and_verify_has_no_other_bytchk(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, flags: int
) -> None:
    outcome = initiator.send(cdbs.block(cdbs.WRITE_AND_VERIFY, width, 0, 1, flags), bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], 2))
    assert vdisk.log == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("protect", [1, 7])
def test_write_and_verify_refuses_protection_information(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, protect: int
) -> None:
    cdb = cdbs.block(cdbs.WRITE_AND_VERIFY, width, 0, 1, protect << 5)
    outcome = initiator.send(cdb, bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], 7))
    assert vdisk.log == []


@pytest.mark.parametrize("width", WIDTHS)
def test_write_and_verify_past_the_end_writes_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    outcome = initiator.send(cdbs.block(cdbs.WRITE_AND_VERIFY, width, 1023, 2), bytes(1024))
    assert_check_condition(outcome, "05/21/00", at=cdbs.LBA_AT[width], information=1024)
    assert initiator.good(cdbs.block(cdbs.WRITE_AND_VERIFY, width, 1024, 0)) == b""
    assert vdisk.log == []


@pytest.mark.parametrize("width", WIDTHS)
def test_write_and_verify_wants_all_of_its_data(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    cdb = cdbs.block(cdbs.WRITE_AND_VERIFY, width, 0, 2)
    assert_check_condition(initiator.send(cdb, bytes(1023)), "0B/4B/00")
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("operation", "code", "expected", "information"),
    [
        ("write", errno.ENOSPC, "07/27/07", None),
        ("sync", errno.EIO, "03/03/00", 3),
        ("read_medium", errno.EIO, "03/11/00", 3),
    ],
)
def test_each_step_of_write_and_verify_can_fail(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    operation: str,
    code: int,
    expected: str,
    information: int | None,
) -> None:
    vdisk.faults.errno_of[operation] = code
    outcome = initiator.send(cdbs.block(cdbs.WRITE_AND_VERIFY, 16, 3, 2, COMPARE), bytes(1024))
    assert_check_condition(outcome, expected, information=information)
    assert vdisk.names[-1] == operation


def test_write_and_verify_is_bounded_by_the_maximum_transfer() -> None:
    initiator = connect(VdiskNullio("n", NullioAttributes(size_mb=64)))
    outcome = initiator.send(cdbs.block(cdbs.WRITE_AND_VERIFY, 16, 0, 65537), bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(10, 7))


def test_write_and_verify_on_a_real_file(open_fileio: OpenFileio) -> None:
    initiator = connect(open_fileio(64 * 512))
    data = bytes(range(256)) * 6
    initiator.good(cdbs.block(cdbs.WRITE_AND_VERIFY, 10, 5, 3, COMPARE), data)
    assert initiator.good(cdbs.block(cdbs.READ, 10, 5, 3), None, len(data)) == data
