# SPDX-License-Identifier: GPL-2.0-or-later
"""READ BUFFER and WRITE BUFFER, byte for byte from SPC-5 6.21 and 6.49."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition
from tests.scsi_backend.locking import join

CAPACITY = 0x10000
ECHO_CAPACITY = 0x1000


@pytest.fixture
def unit() -> LogicalUnit:
    return disk(FaultyVdisk())


@pytest.fixture
def initiator(unit: LogicalUnit) -> Initiator:
    return join(unit)


def write_buffer(mode: int, offset: int, length: int, buffer_id: int = 0) -> bytes:
    return cdbs.raw(f"3b{mode:02x}{buffer_id:02x}{offset:06x}{length:06x}00")


def read_buffer(mode: int, offset: int, length: int, buffer_id: int = 0) -> bytes:
    return cdbs.raw(f"3c{mode:02x}{buffer_id:02x}{offset:06x}{length:06x}00")


def test_data_are_read_back_by_whoever_asks(unit: LogicalUnit, initiator: Initiator) -> None:
    initiator.good(write_buffer(2, 0x1234, 4), b"\1\2\3\4")
    assert join(unit).good(read_buffer(2, 0x1233, 6), None, 100) == b"\0\1\2\3\4\0"


def test_data_end_with_the_buffer(initiator: Initiator) -> None:
    initiator.good(write_buffer(2, CAPACITY - 2, 2), b"\1\2")
    assert initiator.good(read_buffer(2, CAPACITY - 3, 0xFFFFFF), None, 100) == b"\0\1\2"
    assert initiator.good(read_buffer(2, CAPACITY, 8), None, 8) == b""


def test_whole_data_buffer_can_be_written(initiator: Initiator) -> None:
    data = bytes(range(256)) * 256
    initiator.good(write_buffer(2, 0, CAPACITY), data)
    assert initiator.good(read_buffer(2, 0, CAPACITY), None, CAPACITY) == data


@pytest.mark.parametrize(
    ("cdb", "descriptor"),
    [
        (read_buffer(3, 0, 4), "00010000"),
        (read_buffer(3, 0, 3), "000100"),
        (read_buffer(3, 0, 4, buffer_id=1), "00000000"),
        (read_buffer(0x0B, 0, 4), "01001000"),
        (read_buffer(0x0B, 0, 0xFFFFFF), "01001000"),
    ],
)
def test_descriptors_tell_the_capacity(initiator: Initiator, cdb: bytes, descriptor: str) -> None:
    assert initiator.good(cdb, None, 100).hex() == descriptor


def test_echo_is_the_nexuss_own(unit: LogicalUnit, initiator: Initiator) -> None:
    other = join(unit)
    initiator.good(write_buffer(0x0A, 0, 3), b"one")
    other.good(write_buffer(0x0A, 0, 5), b"other")
    assert initiator.good(read_buffer(0x0A, 0, 100), None, 100) == b"one"
    assert other.good(read_buffer(0x0A, 0, 2), None, 100) == b"ot"


def test_echo_comes_back_as_long_as_it_was_written_last(initiator: Initiator) -> None:
    initiator.good(write_buffer(0x0A, 0, ECHO_CAPACITY), b"\xaa" * ECHO_CAPACITY)
    assert initiator.good(read_buffer(0x0A, 0, 0xFFFF), None, 0xFFFF) == b"\xaa" * ECHO_CAPACITY
    # Buffer and offset are not looked at.
    initiator.good(write_buffer(0x0A, 7, 1, buffer_id=9), b"\xbb")
    assert initiator.good(read_buffer(0x0A, 7, 100, buffer_id=9), None, 100) == b"\xbb"


def test_echo_that_nobody_wrote_is_a_command_sequence_error(initiator: Initiator) -> None:
    assert_check_condition(initiator.send(read_buffer(0x0A, 0, 8), None, 8), "05/2c/00")


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        (write_buffer(2, 0, 4, buffer_id=1), (2, 7)),
        (write_buffer(2, CAPACITY + 1, 0), (3, 7)),
        (write_buffer(2, CAPACITY - 3, 4), (6, 7)),
        (write_buffer(2, 0, 0xFFFFFF), (6, 7)),
        (write_buffer(0x0A, 0, ECHO_CAPACITY + 1), (6, 7)),
        (read_buffer(2, 0, 4, buffer_id=1), (2, 7)),
        (read_buffer(2, CAPACITY + 1, 4), (3, 7)),
    ],
)
def test_what_lies_outside_of_the_buffers_is_refused(
    initiator: Initiator, cdb: bytes, at: tuple[int, int]
) -> None:
    assert_check_condition(initiator.send(cdb, bytes(8), 8), "05/24/00", at=at)


@pytest.mark.parametrize("mode", range(32))
def test_other_modes_are_refused(initiator: Initiator, mode: int) -> None:
    initiator.good(write_buffer(0x0A, 0, 4), bytes(4))
    for cdb, modes in (
        (write_buffer(mode, 0, 4), {0x02, 0x0A}),
        (read_buffer(mode, 0, 4), {0x02, 0x03, 0x0A, 0x0B}),
    ):
        outcome = initiator.send(cdb, bytes(4), 4)
        if mode in modes:
            assert outcome.sense is None
        else:
            assert_check_condition(outcome, "05/24/00", at=(1, 4))


def test_too_little_data_changes_nothing(initiator: Initiator) -> None:
    initiator.good(write_buffer(0x0A, 0, 4), b"echo")
    for mode in (0x02, 0x0A):
        assert_check_condition(initiator.send(write_buffer(mode, 0, 5), b"1234"), "0b/4b/00")
    assert initiator.good(read_buffer(0x02, 0, 5), None, 5) == bytes(5)
    assert initiator.good(read_buffer(0x0A, 0, 5), None, 5) == b"echo"
