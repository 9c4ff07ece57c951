# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands from a ring in plain memory to a disk, and their responses back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from bridges.local.tcmu.lun import RingLun
from bridges.local.tcmu.ring import Ring
from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense
from scsi_backend.t10.mode_values import ModeValues
from scsi_backend.t10.status import Status
from tests.bridges.local.doubles import Recorder, data_out
from tests.bridges.local.tcmu.kernel_side import Response, kernel_side
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect

READ_CAPACITY_10 = bytes.fromhex("25000000000000000000")
INQUIRY = bytes.fromhex("120000006000")
BLOCK = 512
STALE = 0xEE


class Bench:
    """A kernel, a ring and what serves it; ``submit`` stands for the session."""

    def __init__(self, submit: Callable[[int, Command], None], ring_bytes: int = 4096) -> None:
        self.kernel = kernel_side(ring_bytes, data_bytes=1 << 20)
        self.notified = 0
        self.scheduled: list[Callable[[], None]] = []
        self.events: list[tuple[int, Sequence[Command]]] = []
        self.lun = RingLun(
            Ring(self.kernel.memory),
            lambda command: submit(0, command),
            lambda function, commands: self.events.append((function, list(commands))),
            self._notify,
            self.scheduled.append,
        )

    def _notify(self) -> None:
        self.notified += 1

    def wake(self) -> list[Response]:
        """Handle what is in the ring; return the responses that came of it."""
        self.lun.wake()
        return self.kernel.responses()

    def run_scheduled(self) -> list[Response]:
        """Let the loop turn once."""
        calls, self.scheduled[:] = list(self.scheduled), []
        for call in calls:
            call()
        return self.kernel.responses()


def disk_bench(vdisk: FaultyVdisk) -> Bench:
    """A disk without a pending unit attention."""
    return Bench(connect(vdisk).session.submit)


def test_read_fills_the_data_area() -> None:
    vdisk = FaultyVdisk(8)
    stored = vdisk.fill()
    bench = disk_bench(vdisk)
    bench.kernel.command(1, cdbs.block(cdbs.READ, 10, 2, 3), [(4096, 3 * BLOCK)])
    assert bench.wake() == [Response(1, 0, 0, 0, b"")]
    assert bytes(bench.kernel.data(4096, 3 * BLOCK)) == stored[2 * BLOCK : 5 * BLOCK]
    assert bench.kernel.data(4096 + 3 * BLOCK, 1)[0] == STALE


def test_write_takes_the_data_area_in_the_order_of_its_iovs() -> None:
    vdisk = FaultyVdisk(8)
    bench = disk_bench(vdisk)
    bench.kernel.data(0, 2 * BLOCK)[:] = b"b" * BLOCK + b"a" * BLOCK
    bench.kernel.command(1, cdbs.block(cdbs.WRITE, 16, 1, 2), [(BLOCK, BLOCK), (0, BLOCK)])
    assert bench.wake() == [Response(1, 0, 0, 0, b"")]
    assert vdisk.blocks(1, 2) == b"a" * BLOCK + b"b" * BLOCK


@pytest.mark.parametrize("pieces", [2, 1100])
def test_data_in_many_pieces_are_read_and_written(pieces: int) -> None:
    vdisk = FaultyVdisk(pieces)
    stored = vdisk.fill()
    bench = Bench(connect(vdisk).session.submit, ring_bytes=64 << 10)
    # Backwards, so that no two places are neighbours.
    iovs = [((pieces - 1 - each) * BLOCK, BLOCK) for each in range(pieces)]
    bench.kernel.command(1, cdbs.block(cdbs.READ, 16, 0, pieces), iovs)
    assert bench.wake() == [Response(1, 0, 0, 0, b"")]
    read = b"".join(bytes(bench.kernel.data(*iov)) for iov in iovs)
    assert read == stored
    vdisk.data[:] = bytes(len(stored))
    bench.kernel.command(2, cdbs.block(cdbs.WRITE, 16, 0, pieces), iovs)
    assert bench.wake() == [Response(2, 0, 0, 0, b"")]
    assert bytes(vdisk.data) == stored


def test_short_data_in_tells_its_length_and_clears_the_rest() -> None:
    bench = disk_bench(FaultyVdisk(8))
    bench.kernel.command(1, READ_CAPACITY_10, [(0, 64)])
    assert bench.wake() == [Response(1, 2, 0, 8, b"")]
    assert bytes(bench.kernel.data(0, 64)) == bytes.fromhex("0000000700000200") + bytes(56)


def test_short_data_in_in_many_pieces_clears_the_rest() -> None:
    bench = Bench(connect(FaultyVdisk(8)).session.submit, ring_bytes=64 << 10)
    bench.kernel.command(1, READ_CAPACITY_10, [(2 * each, 1) for each in range(1100)])
    assert bench.wake() == [Response(1, 2, 0, 8, b"")]
    shown = bytes(bench.kernel.data(0, 2200))[::2]
    assert shown == bytes.fromhex("0000000700000200") + bytes(1092)


@pytest.mark.parametrize("status", [Status.GOOD, Status.BUSY, Status.RESERVATION_CONFLICT])
def test_nothing_stale_is_shown_where_nothing_was_read(status: Status) -> None:
    # The kernel takes a length of zero for no length, and hands all of the area on.
    bench = Bench(Recorder(lambda command: command.complete(status)).submit)
    bench.kernel.command(1, INQUIRY, [(0, 96)])
    assert bench.wake() == [Response(1, 0, status, 0, b"")]
    assert bytes(bench.kernel.data(0, 96)) == bytes(96)


def test_check_condition_brings_sense_data() -> None:
    bench = disk_bench(FaultyVdisk(8))
    bench.kernel.command(1, cdbs.block(cdbs.READ, 10, 8, 1), [(0, BLOCK)])
    (response,) = bench.wake()
    assert (response.status, response.flags, response.read_bytes) == (2, 0, 0)
    # ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE, fixed format.
    assert (response.sense[0] & 0x7F, response.sense[2], response.sense[12:14]) == (
        0x70,
        0x05,
        bytes.fromhex("2100"),
    )


def test_direction_comes_from_the_cdb() -> None:
    recorder = Recorder()
    bench = Bench(recorder.submit)
    bench.kernel.data(0, 4)[:] = b"list"
    bench.kernel.command(1, bytes.fromhex("42000000000000000400"), [(0, 4)])
    bench.kernel.command(2, INQUIRY, [(0, 4)])
    bench.kernel.command(3, bytes.fromhex("53000000000000000100"), [(0, 4)], [(8, 2)])
    bench.lun.wake()
    unmap, inquiry, both = (recorder.command(index) for index in range(3))
    assert (data_out(unmap), unmap.data_in) == (b"list", None)
    assert (inquiry.data_out, len(inquiry.data_in or b"")) == (None, 4)
    assert (data_out(both), len(both.data_in or b"")) == (b"list", 2)


def test_all_that_is_in_the_ring_is_answered_by_one_notification() -> None:
    bench = disk_bench(FaultyVdisk(8))
    for number in range(1, 11):
        bench.kernel.command(number, cdbs.TEST_UNIT_READY)
    assert [response.command_id for response in bench.wake()] == list(range(1, 11))
    assert (bench.notified, bench.scheduled) == (1, [])


def test_nothing_to_tell_is_not_told() -> None:
    bench = disk_bench(FaultyVdisk(8))
    assert bench.wake() == []
    assert bench.notified == 0


def test_late_commands_end_in_any_order_and_share_a_notification() -> None:
    recorder = Recorder()
    bench = Bench(recorder.submit)
    for number in (1, 2, 3):
        bench.kernel.command(number, cdbs.TEST_UNIT_READY)
    assert bench.wake() == []
    assert bench.lun.outstanding == 3
    recorder.command(2).complete()
    recorder.command(0).complete(Status.BUSY)
    assert (bench.notified, len(bench.scheduled), bench.kernel.responses()) == (0, 1, [])
    assert bench.run_scheduled() == [Response(3, 0, 0, 0, b""), Response(1, 0, 8, 0, b"")]
    recorder.command(1).complete()
    assert bench.run_scheduled() == [Response(2, 0, 0, 0, b"")]
    assert (bench.lun.outstanding, bench.notified) == (0, 2)


def test_late_command_keeps_its_data_area_while_its_entry_is_used_again() -> None:
    vdisk = FaultyVdisk(8)
    stored = vdisk.fill()
    vdisk.immediate_bytes, vdisk.is_held = -11, True
    bench = Bench(connect(vdisk).session.submit, ring_bytes=512)
    bench.kernel.command(1, cdbs.block(cdbs.READ, 10, 0, 1), [(0, BLOCK)])
    assert bench.wake() == []
    for number in range(2, 12):
        bench.kernel.command(number, cdbs.TEST_UNIT_READY)
        assert [response.command_id for response in bench.wake()] == [number]
    vdisk.release()
    assert bench.run_scheduled() == [Response(1, 0, 0, 0, b"")]
    assert bytes(bench.kernel.data(0, BLOCK)) == stored[:BLOCK]


def test_aborted_commands_are_named_to_task_management_while_under_way() -> None:
    recorder = Recorder()
    bench = Bench(recorder.submit)
    bench.kernel.command(4, cdbs.TEST_UNIT_READY)
    bench.kernel.command(5, cdbs.TEST_UNIT_READY)
    bench.lun.wake()
    recorder.command(1).complete()
    bench.kernel.task_management(1, [4, 5, 6])
    bench.kernel.task_management(5)
    assert [response.command_id for response in bench.wake()] == [5]
    assert bench.events == [(1, [recorder.command(0)]), (5, [])]


def test_sense_data_follow_the_format_in_force() -> None:
    initiator = connect(FaultyVdisk(8))
    initiator.session.nexuses[0].unit.modes.put(ModeValues(wce=True, d_sense=True))
    bench = Bench(initiator.session.submit)
    bench.kernel.command(1, bytes.fromhex("c0") + bytes(9))
    (response,) = bench.wake()
    # INVALID COMMAND OPERATION CODE in descriptor format.
    assert response.sense[:4] == bytes.fromhex("72052000")


def test_command_for_no_logical_unit_is_refused() -> None:
    bench = Bench(lambda lun, command: connect(FaultyVdisk(8)).session.submit(7, command))
    bench.kernel.command(1, cdbs.TEST_UNIT_READY)
    (response,) = bench.wake()
    expected = sense.LUN_NOT_SUPPORTED
    assert (response.sense[2], response.sense[12], response.sense[13]) == (
        expected.key,
        expected.asc,
        expected.ascq,
    )
