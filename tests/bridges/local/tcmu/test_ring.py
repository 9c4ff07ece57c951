# SPDX-License-Identifier: GPL-2.0-or-later
"""The ring in plain memory: golden bytes, the order of slots, and entries that make no sense."""

from __future__ import annotations

import random
import struct

import pytest

from bridges.local.tcmu.ring import Ring
from bridges.local.tcmu.wire import RingError, TaskManagement
from scsi_backend.io.scatter import Buffer, ScatterList, contiguous
from tests.bridges.local.tcmu.kernel_side import RING_AT, KernelSide, Response, kernel_side

TEST_UNIT_READY = bytes(6)


class Recorder:
    """Keeps what comes out of the ring."""

    def __init__(self) -> None:
        self.commands: list[tuple[int, bytes, Buffer | None, Buffer | None]] = []
        self.events: list[TaskManagement] = []

    def command(
        self, command_id: int, cdb: bytes, data: Buffer | None, bidi: Buffer | None
    ) -> None:
        self.commands.append((command_id, cdb, data, bidi))

    def task_management(self, event: TaskManagement) -> None:
        self.events.append(event)

    @property
    def ids(self) -> list[int]:
        return [command[0] for command in self.commands]


def taken(ring: Ring) -> Recorder:
    """Everything that is in the ring."""
    recorder = Recorder()
    ring.receive(recorder)
    return recorder


def made(ring_bytes: int = 4096) -> tuple[KernelSide, Ring]:
    kernel = kernel_side(ring_bytes)
    return kernel, Ring(kernel.memory)


# A READ(10) of LBA 5, 8 blocks, id 0102h, its data at 1000h of the data area; ring of 4096 bytes.
GOLDEN_COMMAND = bytes.fromhex(
    "81000000 0201 00 00"  # len_op: 128 bytes, CMD; cmd_id; kflags; uflags
    "01000000 00000000 00000000 00000000"  # iov_cnt, iov_bidi_cnt, iov_dif_cnt
    "f000000000000000 0000000000000000 0000000000000000"  # cdb_off, padding
    "8020000000000000 0010000000000000" + "00" * 48 + "28000000000500000800 000000000000"  # the iov
)
SENSE = bytes.fromhex("70000500 0000000a 00000000 24000000")
GOLDEN_RESPONSE = bytes.fromhex(
    "81000000 0201 00 02"  # READ_LEN
    "02 000000 24000000"  # CHECK CONDITION, 36 bytes
    "70000500 0000000a 00000000 24000000"  # sense data
) + bytes(80)


def test_golden_command_is_read() -> None:
    kernel, ring = made()
    kernel.put(GOLDEN_COMMAND)
    kernel.memory[0x2080:0x2084] = b"data"
    recorder = taken(ring)
    ((command_id, cdb, data, bidi),) = recorder.commands
    assert (command_id, cdb, bidi) == (
        0x0102,
        bytes.fromhex("28000000000500000800") + bytes(6),
        None,
    )
    assert isinstance(data, memoryview)
    assert (len(data), bytes(data[:4])) == (0x1000, b"data")
    assert ring.open_slots == 1
    assert not ring.has_entries


def test_golden_response_is_written() -> None:
    kernel, ring = made()
    kernel.put(GOLDEN_COMMAND)
    taken(ring)
    ring.complete(0x0102, 2, 36, SENSE)
    assert kernel.tail == 0
    assert ring.publish()
    assert kernel.tail == 128
    assert bytes(kernel.memory[RING_AT : RING_AT + 112]) == GOLDEN_RESPONSE
    assert not ring.publish()


def test_task_management_is_read_and_given_back() -> None:
    kernel, ring = made()
    header = bytes.fromhex("2a000000 0000 00 00 01 000000 02000000") + bytes(16)
    kernel.put(header + bytes.fromhex("0700 0900 0000 0000"))
    recorder = taken(ring)
    assert recorder.events == [TaskManagement(1, (7, 9))]
    assert ring.publish()
    assert kernel.tail == 40


@pytest.mark.parametrize(
    ("cdb", "length"), [(bytes(6), 16), (bytes(10), 16), (bytes(12), 16), (bytes(16), 16)]
)
def test_cdb_has_at_least_sixteen_bytes(cdb: bytes, length: int) -> None:
    kernel, ring = made()
    kernel.command(1, cdb)
    assert len(taken(ring).commands[0][1]) == length


def test_variable_length_cdb_is_whole() -> None:
    kernel, ring = made()
    cdb = bytes([0x7F, *range(1, 32)])
    kernel.command(1, cdb)
    assert taken(ring).commands[0][1] == cdb


def test_command_without_data_has_none() -> None:
    kernel, ring = made()
    kernel.command(1, TEST_UNIT_READY)
    assert taken(ring).commands == [(1, bytes(16), None, None)]


def test_scattered_data_are_one_list() -> None:
    kernel, ring = made()
    kernel.data(0, 12)[:] = b"abcdefghijkl"
    kernel.command(1, bytes(10), [(8, 4), (0, 2), (4, 4)])
    data = taken(ring).commands[0][2]
    assert isinstance(data, ScatterList)
    assert (len(data), bytes(contiguous(data))) == (10, b"ijklabefgh")
    data[2:5] = b"XYZ"
    assert bytes(kernel.data(0, 12)) == b"ZbcdefghijXY"


def test_bidirectional_command_has_both() -> None:
    kernel, ring = made()
    kernel.command(1, bytes(10), [(0, 8)], [(16, 8), (32, 4)])
    _, _, data, bidi = taken(ring).commands[0]
    assert isinstance(data, memoryview)
    assert isinstance(bidi, ScatterList)
    assert (len(data), len(bidi)) == (8, 12)


def test_commands_are_taken_once_and_in_order() -> None:
    kernel, ring = made()
    for number in (3, 1, 2):
        kernel.command(number, TEST_UNIT_READY)
    assert taken(ring).ids == [3, 1, 2]
    assert taken(ring).ids == []
    kernel.command(4, TEST_UNIT_READY)
    assert ring.has_entries
    assert taken(ring).ids == [4]


def test_responses_go_into_the_oldest_entries() -> None:
    kernel, ring = made()
    for number in (1, 2, 3):
        kernel.command(number, TEST_UNIT_READY)
    taken(ring)
    ring.complete(3, 0, 0, b"")
    ring.complete(1, 8, 0, b"")
    ring.publish()
    assert kernel.tail == 2 * 120
    assert kernel.responses() == [
        Response(3, 0, 0, 0, b""),
        Response(1, 0, 8, 0, b""),
    ]
    ring.complete(2, 0, 0, b"")
    ring.publish()
    assert [response.command_id for response in kernel.responses()] == [2]
    assert kernel.pending == set()


def test_sense_data_are_cut_to_their_room_and_leave_nothing_behind() -> None:
    kernel, ring = made()
    kernel.command(1, bytes(10), [(0, 8)] * 6)
    kernel.command(2, bytes(10), [(0, 8)] * 6)
    taken(ring)
    ring.complete(1, 2, 0, bytes(range(1, 19)))
    ring.complete(2, 2, 0, b"\xaa" * 200)
    ring.publish()
    first, second = kernel.responses()
    assert first.sense == bytes(range(1, 19)) + bytes(78)
    assert second.sense == b"\xaa" * 96


def test_pad_is_given_back_with_what_follows() -> None:
    kernel, ring = made(ring_bytes=304)
    kernel.command(1, bytes(32))
    kernel.command(2, TEST_UNIT_READY)
    taken(ring)
    ring.complete(1, 0, 0, b"")
    ring.publish()
    assert len(kernel.responses()) == 1
    # 40 bytes are left before the end.
    kernel.command(3, TEST_UNIT_READY)
    assert kernel.head == 120
    assert taken(ring).ids == [3]
    ring.complete(3, 0, 0, b"")
    ring.publish()
    assert kernel.tail == 0
    assert [response.command_id for response in kernel.responses()] == [3]
    ring.complete(2, 0, 0, b"")
    ring.publish()
    assert [response.command_id for response in kernel.responses()] == [2]


def test_lone_pad_of_eight_bytes_at_the_end_of_the_mapping_is_skipped() -> None:
    kernel = KernelSide(memoryview(bytearray(RING_AT + 128)), 128)
    ring = Ring(kernel.memory)
    kernel.command(1, TEST_UNIT_READY)
    taken(ring)
    ring.complete(1, 0, 0, b"")
    ring.publish()
    kernel.responses()
    kernel.make_room(16)
    assert (kernel.head, taken(ring).ids) == (0, [])
    assert ring.publish()
    assert kernel.tail == 0


def test_unknown_entry_is_flagged_and_skipped() -> None:
    kernel, ring = made()
    kernel.put(struct.pack("<IHBB", 16 | 5, 9, 0, 0) + bytes(8))
    kernel.command(1, TEST_UNIT_READY)
    assert taken(ring).ids == [1]
    assert kernel.memory[RING_AT + 7] == 1
    ring.complete(1, 0, 0, b"")
    ring.publish()
    assert kernel.tail == kernel.head


@pytest.mark.parametrize(
    ("at", "value", "width"),
    [
        (24, 0, "<Q"),  # cdb_off at the mailbox
        (24, RING_AT + 40, "<Q"),  # in the iovs
        (24, RING_AT + 128, "<Q"),  # behind the entry
        (24, (1 << 64) - 1, "<Q"),
        (8, 1000, "<I"),  # more iovs than the entry has room for
        (8, 0xFFFFFFFF, "<I"),
        (12, 1000, "<I"),
        (48, 0, "<Q"),  # an iov over the mailbox
        (48, RING_AT, "<Q"),  # over the ring
        (48, (1 << 64) - 1, "<Q"),
        (56, 1 << 40, "<Q"),  # past the data area
        (56, (1 << 64) - 1, "<Q"),
    ],
)
@pytest.mark.parametrize("iovs", [1, 2])
def test_command_that_makes_no_sense_is_ended_as_unknown(
    at: int, value: int, width: str, iovs: int
) -> None:
    kernel, ring = made()
    kernel.command(7, bytes(10), [(0, 8)] * iovs)
    struct.pack_into(width, kernel.memory, RING_AT + at, value)
    assert taken(ring).ids == []
    ring.publish()
    assert kernel.responses() == [Response(7, 1, 0, 0, b"")]


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (12, 4096, "head 4096"),
        (12, 4, "head 4"),
        (RING_AT, 1, "entry of 0 bytes at 0"),
        (RING_AT, 4104 | 1, "entry of 4104 bytes at 0"),
        (RING_AT, 0xFFFFFFF8, "entry of 4294967288 bytes"),
    ],
)
def test_ring_without_a_next_entry_is_an_error(offset: int, value: int, reason: str) -> None:
    kernel, ring = made()
    kernel.command(1, TEST_UNIT_READY)
    struct.pack_into("<I", kernel.memory, offset, value)
    with pytest.raises(RingError, match=reason):
        taken(ring)


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_ring_that_is_reset_while_it_is_served_is_left_alone(answered: int) -> None:
    kernel, ring = made()
    kernel.command(1, TEST_UNIT_READY)
    kernel.command(2, TEST_UNIT_READY)
    assert taken(ring).ids == [1, 2]
    for number in range(answered):
        ring.complete(number + 1, 0, 0, b"")
    ring.publish()
    kernel.responses()
    kernel.reset()
    # The kernel gives out the same ids again, for other commands.
    kernel.command(2, TEST_UNIT_READY)
    recorder = Recorder()
    with pytest.raises(RingError, match="reset"):
        ring.receive(recorder)
    assert recorder.ids == []
    for number in range(answered, 2):
        ring.complete(number + 1, 0, 0, b"")
    assert not ring.publish()
    assert (kernel.tail, kernel.responses(), kernel.pending) == (0, [], {2})


@pytest.mark.parametrize("tail", [4096, 4])
def test_tail_outside_of_the_ring_is_an_error(tail: int) -> None:
    kernel = kernel_side()
    struct.pack_into("<I", kernel.memory, 64, tail)
    with pytest.raises(RingError, match=f"tail {tail}"):
        Ring(kernel.memory)


def test_taking_begins_at_the_tail() -> None:
    kernel = kernel_side()
    kernel.command(1, TEST_UNIT_READY)
    kernel.command(2, TEST_UNIT_READY)
    struct.pack_into("<I", kernel.memory, 64, 120)
    assert taken(Ring(kernel.memory)).ids == [2]


def test_command_that_fails_in_the_taker_is_not_handed_on_twice() -> None:
    class Failing(Recorder):
        def command(
            self, command_id: int, cdb: bytes, data: Buffer | None, bidi: Buffer | None
        ) -> None:
            super().command(command_id, cdb, data, bidi)
            raise LookupError

    kernel, ring = made()
    kernel.command(1, TEST_UNIT_READY)
    kernel.command(2, TEST_UNIT_READY)
    with pytest.raises(LookupError):
        ring.receive(Failing())
    assert taken(ring).ids == [2]


@pytest.mark.parametrize("seed", range(8))
def test_every_command_gets_its_own_response_in_any_order(seed: int) -> None:
    chooser = random.Random(seed)
    kernel, ring = made(ring_bytes=chooser.choice((1024, 1032, 2048, 4088)))
    recorder = Recorder()
    open_ids: list[int] = []
    number = 0
    expected: dict[int, int] = {}
    got: dict[int, int] = {}
    for _ in range(2000):
        used = (kernel.head - kernel.cleaned) % kernel.ring_bytes
        if chooser.random() < 0.5 and used < kernel.ring_bytes - 512:
            number += 1
            if chooser.random() < 0.1:
                kernel.task_management(5, range(chooser.randrange(20)))
            else:
                iovs = [(8 * each, 8) for each in range(chooser.randrange(6))]
                kernel.command(number, bytes(chooser.choice((6, 10, 16, 32))), iovs)
                open_ids.append(number)
        elif chooser.random() < 0.5:
            ring.receive(recorder)
            ring.publish()
        elif finished := [each for each in recorder.ids if each in open_ids]:
            command_id = chooser.choice(finished)
            open_ids.remove(command_id)
            expected[command_id] = chooser.randrange(256)
            ring.complete(command_id, expected[command_id], 0, b"")
            ring.publish()
        got |= {response.command_id: response.status for response in kernel.responses()}
    assert got == expected
    assert len(expected) > 100


@pytest.mark.parametrize("seed", range(20))
def test_spoilt_ring_gives_only_ring_errors(seed: int) -> None:
    chooser = random.Random(seed)
    for _ in range(300):
        kernel, ring = made(ring_bytes=512)
        kernel.command(1, bytes(10), [(0, 8)])
        kernel.task_management(1, [1])
        kernel.command(2, bytes(32), [(0, 8), (16, 8)])
        for _ in range(chooser.randrange(1, 6)):
            at = chooser.randrange(RING_AT, RING_AT + kernel.head)
            kernel.memory[at] = chooser.randrange(256)
        recorder = Recorder()
        try:
            ring.receive(recorder)
        except RingError:
            continue
        for command_id in recorder.ids:
            ring.complete(command_id, 0, 0, b"")
        ring.publish()
        assert (ring.open_slots, kernel.tail) == (0, kernel.head)
