# SPDX-License-Identifier: GPL-2.0-or-later
"""LOG SENSE and LOG SELECT, byte for byte from SPC-5 6.7 and 6.8."""

from __future__ import annotations

import errno
import struct

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition
from tests.scsi_backend.locking import join

ROOM = 4096
CUMULATIVE, DEFAULT_CUMULATIVE = 1, 3
TOTAL_BYTES, UNCORRECTED = 5, 6


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(is_thin=True)


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.fixture
def initiator(unit: LogicalUnit) -> Initiator:
    return join(unit)


def log_sense(
    page: int,
    subpage: int = 0,
    *,
    control: int = CUMULATIVE,
    pointer: int = 0,
    allocation_length: int = ROOM,
    flags: int = 0,
) -> bytes:
    return struct.pack(
        ">BBBBxHHB", 0x4D, flags, control << 6 | page, subpage, pointer, allocation_length, 0
    ).ljust(16, b"\0")


def log_select(
    length: int = 0, *, page: int = 0, subpage: int = 0, control: int = 0, flags: int = 0
) -> bytes:
    return struct.pack(">BBBB3xHB", 0x4C, flags, control << 6 | page, subpage, length, 0).ljust(
        16, b"\0"
    )


PCR, SP = 0x02, 0x01


def counters(initiator: Initiator, page: int, **options: int) -> dict[int, int]:
    """The counters of one page by parameter code."""
    data = initiator.good(log_sense(page, **options), None, ROOM)
    found, position = {}, 4
    while position < len(data):
        code, control, length = struct.unpack_from(">HBB", data, position)
        assert control == 0x22
        found[code] = int.from_bytes(data[position + 4 : position + 12], "big")
        position += 4 + length
    return found


def use(initiator: Initiator) -> None:
    """Read three blocks with one command, and write two with another."""
    initiator.good(cdbs.block(cdbs.READ, 10, 0, 3), None, 3 * 512)
    initiator.good(cdbs.block(cdbs.WRITE, 10, 0, 2), bytes(2 * 512))


def test_supported_pages_are_listed(initiator: Initiator) -> None:
    data = initiator.good(log_sense(0), None, ROOM)
    assert data.hex() == "00000008" + "0002030c0d15192f"


def test_supported_subpages_are_listed(initiator: Initiator) -> None:
    data = initiator.good(log_sense(0, 0xFF), None, ROOM)
    assert data.hex() == "40ff0012" + "0000" + "00ff" + "020003000c000d00150019002f00"


def test_thick_disk_has_no_provisioning_page() -> None:
    thick = join(disk(FaultyVdisk()))
    assert thick.good(log_sense(0), None, ROOM).hex() == "00000007" + "0002030d15192f"
    assert_check_condition(thick.send(log_sense(0x0C), None, ROOM), "05/24/00", at=(2, 5))
    assert_check_condition(thick.send(log_select(page=0x0C, flags=PCR)), "05/24/00", at=(2, 5))


def test_write_error_counters_of_a_used_disk(initiator: Initiator) -> None:
    use(initiator)
    golden = "8200005400002208" + "00" * 8
    for code in (1, 2, 3, 4):
        golden += f"{code:04x}2208" + "00" * 8
    golden += "00052208" + f"{2 * 512:016x}" + "00062208" + "00" * 8
    assert initiator.good(log_sense(0x02), None, ROOM).hex() == golden


def test_read_error_counters_have_the_bytes_and_the_errors(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    use(initiator)
    vdisk.faults.errno_at[9] = errno.EIO
    vdisk.faults.errno_of["read"] = errno.EIO
    assert initiator.send(cdbs.block(cdbs.READ, 10, 9, 1), None, 512).sense is not None
    found = counters(initiator, 0x03)
    assert found == {0: 0, 1: 0, 2: 0, 3: 0, 4: 0, TOTAL_BYTES: 4 * 512, UNCORRECTED: 1}


def test_general_statistics_of_a_used_disk(initiator: Initiator) -> None:
    use(initiator)
    golden = "9900005c" + "00012240" + f"{1:016x}{1:016x}{2:016x}{3:016x}" + "00" * 32
    golden += "00022208" + "00" * 8 + "00030308" + "00" * 8
    assert initiator.good(log_sense(0x19), None, ROOM).hex() == golden


def test_provisioning_is_measured_in_blocks(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.space.used_bytes, vdisk.space.available_bytes = 3 * 512, 1 << 40
    data = initiator.good(log_sense(0x0C), None, ROOM)
    golden = "8c000018" + "00010308" + "8000000002000000" + "00020308" + "0000000301000000"
    assert data.hex() == golden
    assert vdisk.names == ["measure_space"]


def test_provisioning_is_measured_off_the_loop(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.is_held = True
    pending = initiator.start(log_sense(0x0C), None, ROOM)
    assert not pending.is_done
    vdisk.release()
    assert pending.outcome.sense is None


def test_space_that_cannot_be_measured_is_an_error(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_of["measure_space"] = errno.EIO
    outcome = initiator.send(log_sense(0x0C), None, ROOM)
    assert_check_condition(outcome, "04/44/00")


@pytest.mark.parametrize(
    ("page", "golden"),
    [
        (0x0D, "8d000006" + "00000302" + "00ff"),
        (0x15, "95000010" + "0000030c" + "00" * 12),
        (0x2F, "af000007" + "00000303" + "0000ff"),
    ],
)
def test_pages_without_news_are_told(initiator: Initiator, page: int, golden: str) -> None:
    for control in range(4):
        assert initiator.good(log_sense(page, control=control), None, ROOM).hex() == golden


def test_default_values_of_counters_are_zeros(initiator: Initiator) -> None:
    use(initiator)
    assert set(counters(initiator, 0x03, control=DEFAULT_CUMULATIVE).values()) == {0}
    data = initiator.good(log_sense(0x19, control=DEFAULT_CUMULATIVE), None, ROOM)
    golden = "9900005c" + "00012240" + "00" * 64 + "00022208" + "00" * 8 + "00030308" + "00" * 8
    assert data.hex() == golden


@pytest.mark.parametrize("page", [0x02, 0x03, 0x19])
@pytest.mark.parametrize("control", [0, 2])
def test_counters_have_no_thresholds(initiator: Initiator, page: int, control: int) -> None:
    outcome = initiator.send(log_sense(page, control=control), None, ROOM)
    assert_check_condition(outcome, "05/24/00", at=(2, 7))


def test_parameters_begin_where_the_pointer_says(initiator: Initiator) -> None:
    data = initiator.good(log_sense(0x03, pointer=6), None, ROOM)
    assert data.hex() == "8300000c" + "00062208" + "00" * 8
    assert list(counters(initiator, 0x03, pointer=5)) == [5, 6]


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        (log_sense(0x03, flags=0x02), (1, 1)),
        (log_sense(0x03, flags=0x01), (1, 0)),
        (log_sense(0x01), (2, 5)),
        (log_sense(0x3F), (2, 5)),
        (log_sense(0x03, 0x01), (3, 7)),
        (log_sense(0x03, 0xFF), (3, 7)),
        (log_sense(0x00, 0x01), (3, 7)),
        (log_sense(0x03, pointer=7), (5, 7)),
        (log_sense(0x0D, pointer=0xFFFF), (5, 7)),
        (log_sense(0x00, pointer=1), (5, 7)),
    ],
)
def test_what_log_sense_does_not_have_is_refused(
    initiator: Initiator, cdb: bytes, at: tuple[int, int]
) -> None:
    assert_check_condition(initiator.send(cdb, None, ROOM), "05/24/00", at=at)


@pytest.mark.parametrize("page", [0x00, 0x03, 0x0C, 0x19])
@pytest.mark.parametrize("allocation_length", [0, 3, 4, 9])
def test_page_is_cut_to_the_allocation_length(
    initiator: Initiator, page: int, allocation_length: int
) -> None:
    whole = initiator.good(log_sense(page), None, ROOM)
    cut = initiator.good(log_sense(page, allocation_length=allocation_length), None, ROOM)
    assert cut == whole[:allocation_length]


@pytest.mark.parametrize(
    "reset",
    [
        log_select(flags=PCR),
        log_select(flags=PCR, subpage=0xFF),
        log_select(control=DEFAULT_CUMULATIVE),
    ],
    ids=["PCR", "PCR with subpages", "default values"],
)
def test_reset_lets_all_counters_begin_again(
    unit: LogicalUnit, initiator: Initiator, reset: bytes
) -> None:
    other = join(unit)
    use(initiator)
    initiator.good(reset)
    for page in (0x02, 0x03):
        assert set(counters(initiator, page).values()) == {0}
    assert not any(initiator.good(log_sense(0x19), None, ROOM)[8 : 8 + 0x40])
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2a/02")
    use(initiator)
    assert counters(initiator, 0x03)[TOTAL_BYTES] == 3 * 512


def test_one_page_is_reset_alone(unit: LogicalUnit, initiator: Initiator) -> None:
    other = join(unit)
    use(initiator)
    initiator.good(log_select(flags=PCR, page=0x03))
    assert counters(initiator, 0x03)[TOTAL_BYTES] == 0
    assert counters(initiator, 0x02)[TOTAL_BYTES] == 2 * 512
    assert initiator.good(log_sense(0x19), None, ROOM)[8:16] == bytes(7) + b"\1"
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2a/02")


@pytest.mark.parametrize(
    "cdb",
    [
        log_select(),
        log_select(control=1),
        log_select(control=2),
        log_select(page=0x03),
        log_select(page=0x0D, flags=PCR),
    ],
)
def test_select_that_changes_nothing_is_told_to_nobody(
    unit: LogicalUnit, initiator: Initiator, cdb: bytes
) -> None:
    other = join(unit)
    use(initiator)
    initiator.good(cdb)
    assert counters(initiator, 0x03)[TOTAL_BYTES] == 3 * 512
    other.good(cdbs.TEST_UNIT_READY)


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        (log_select(flags=SP), (1, 0)),
        (log_select(flags=SP | PCR), (1, 0)),
        (log_select(4, flags=PCR), (7, 7)),
        (log_select(4, page=0x03), (2, 5)),
        (log_select(4, subpage=0xFF), (3, 7)),
        (log_select(page=0x01), (2, 5)),
        (log_select(page=0x03, subpage=0x01), (3, 7)),
        (log_select(subpage=0x01), (3, 7)),
    ],
)
def test_what_log_select_does_not_do_is_refused(
    initiator: Initiator, cdb: bytes, at: tuple[int, int]
) -> None:
    use(initiator)
    assert_check_condition(initiator.send(cdb, bytes.fromhex("03000000")), "05/24/00", at=at)
    assert counters(initiator, 0x03)[TOTAL_BYTES] == 3 * 512


def test_list_without_parameters_changes_nothing(initiator: Initiator) -> None:
    initiator.good(log_select(8), bytes.fromhex("0300000019000000"))


@pytest.mark.parametrize(
    ("parameters", "at"),
    [
        ("01000000", (0, 5)),
        ("00000000", (0, 5)),
        ("0300000002000000" + "21000000", (8, 5)),
        ("43010000", (1, 7)),
        ("03010000", (1, 7)),
        ("03000000" + "8200000c" + "00052208" + "00" * 8, (8, 7)),
    ],
)
def test_parameters_that_cannot_be_set_are_pointed_at(
    initiator: Initiator, parameters: str, at: tuple[int, int]
) -> None:
    data = bytes.fromhex(parameters)
    outcome = initiator.send(log_select(len(data)), data)
    assert_check_condition(outcome, "05/26/00", at=at, in_cdb=False)


@pytest.mark.parametrize(
    "parameters", ["03", "030000", "0300000003", "03000001ff", "03000003ffffff", "0300000c00052208"]
)
def test_list_cut_short_is_a_length_error(initiator: Initiator, parameters: str) -> None:
    data = bytes.fromhex(parameters)
    assert_check_condition(initiator.send(log_select(len(data)), data), "05/1a/00")


def test_list_that_does_not_come_is_a_data_phase_error(initiator: Initiator) -> None:
    assert_check_condition(initiator.send(log_select(0xFFFF), bytes(4)), "0b/4b/00")
