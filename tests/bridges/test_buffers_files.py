# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of files among replies in memory: their order, what they count for, and how they end."""

from __future__ import annotations

import os
import random
import tempfile

import pytest

from bridges.buffers import CHUNK_BYTES, FileSegment, Outgoing
from scsi_backend.io.located import FileRange, SharedDescriptor
from tests.bridges.sgv import CountingSgv
from tests.bridges.test_buffers import commit, queued

# No descriptor: nothing here is sent.
FD = 1000
MIB = 1 << 20


@pytest.fixture
def sgv() -> CountingSgv:
    return CountingSgv()


def where(file: FileSegment | None) -> tuple[int, int, int] | None:
    return None if file is None else (file.fd, file.start, file.end)


def commit_with_file(out: Outgoing, header: bytes, offset: int, length: int) -> None:
    commit(out, header)
    out.commit_file(FileRange(FD, offset), length)


def is_unused(out: Outgoing, sgv: CountingSgv) -> bool:
    """Whether nothing is queued or counted, and the first chunk is used from its front again."""
    return (out.queued_bytes, out.used_bytes, len(sgv.in_use)) == (0, 0, 1) and out.reserve(1) == 0


def test_a_file_comes_behind_its_header_and_before_what_follows(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit_with_file(out, b"head", 4096, 100)
    commit(out, b"next")
    assert out.queued_bytes == 108
    assert (out.file, queued(out)) == (None, [b"head"])
    out.sent(4)
    # What lies side by side in memory must not be sent past the file between.
    assert (where(out.file), queued(out)) == ((FD, 4096, 4196), [])
    out.sent(100)
    assert (out.file, queued(out)) == (None, [b"next"])
    out.sent(4)
    assert is_unused(out, sgv)


def test_a_reply_behind_a_file_joins_only_those_behind_it(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit(out, b"one")
    commit_with_file(out, b"two", 0, 10)
    commit(out, b"three")
    commit(out, b"four")
    assert queued(out) == [b"onetwo"]
    out.sent(6)
    out.sent(10)
    assert queued(out) == [b"threefour"]


def test_a_reply_behind_a_file_that_was_sent_joins_nothing_before_it(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit_with_file(out, b"head", 0, 10)
    out.sent(14)
    commit(out, b"next")
    assert queued(out) == [b"next"]
    assert out.queued_bytes == 4


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_piece_limit_holds_before_a_file(sgv: CountingSgv, limit: int) -> None:
    out = Outgoing(sgv)
    for data in (b"a", b"b"):
        # Reserved for more, so that they do not lie side by side.
        start = out.reserve(2)
        out.chunk.view[start : start + 1] = data
        out.commit(out.chunk, start, start + 1)
    out.commit_file(FileRange(FD, 0), 10)
    commit(out, b"c")
    assert queued(out, limit) == [b"a", b"b"][:limit]


def test_a_file_is_offered_from_where_sending_stopped(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit_with_file(out, b"head", 1000, 100)
    out.sent(4 + 30)
    assert (where(out.file), out.queued_bytes) == ((FD, 1030, 1100), 70)
    out.sent(69)
    assert (where(out.file), out.queued_bytes) == ((FD, 1099, 1100), 1)
    out.sent(1)
    assert is_unused(out, sgv)


def test_one_count_may_cover_memory_and_files(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    for index in range(3):
        commit_with_file(out, b"head", index * 1000, 100)
    out.sent(2)
    assert queued(out) == [b"ad"]
    out.sent(2 + 100 + 4 + 100 + 4 + 7)
    assert where(out.file) == (FD, 2007, 2100)
    out.sent(93)
    assert is_unused(out, sgv)


def test_files_side_by_side_stay_apart(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.commit_file(FileRange(FD, 0), 10)
    out.commit_file(FileRange(FD + 1, 10), 10)
    assert where(out.file) == (FD, 0, 10)
    out.sent(10)
    assert where(out.file) == (FD + 1, 10, 20)


def test_files_count_until_they_are_sent_and_for_an_eighth(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.commit_file(FileRange(FD, 0), 8 * MIB)
    out.commit_file(FileRange(FD, 0), 16 * MIB)
    assert (out.queued_bytes, out.used_bytes) == (24 * MIB, 3 * MIB)
    assert sgv.in_use_bytes == CHUNK_BYTES
    out.sent(8 * MIB - 1)
    assert out.used_bytes == 3 * MIB
    out.sent(1)
    assert out.used_bytes == 2 * MIB
    out.sent(16 * MIB)
    assert is_unused(out, sgv)


def test_a_reservation_given_up_while_a_file_is_queued_counts_until_all_is_sent(
    sgv: CountingSgv,
) -> None:
    out = Outgoing(sgv)
    out.commit_file(FileRange(FD, 0), 80)
    out.reserve(1000)
    out.cancel(out.chunk)
    assert where(out.file) == (FD, 0, 80)
    out.sent(80)
    assert is_unused(out, sgv)


def test_a_reservation_given_up_after_its_file_was_sent_leaves_nothing(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.reserve(1000)
    commit_with_file(out, b"head", 0, 80)
    out.sent(84)
    assert out.used_bytes == 1004
    out.cancel(out.chunk)
    assert is_unused(out, sgv)


def test_a_reservation_of_an_older_chunk_given_up_behind_a_file(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.reserve(1000)
    older = out.chunk
    out.commit_file(FileRange(FD, 0), 80)
    commit(out, b"b" * CHUNK_BYTES)
    assert (out.used_bytes, len(sgv.in_use)) == (1000 + 10 + CHUNK_BYTES, 2)
    out.cancel(older)
    assert (out.used_bytes, len(sgv.in_use)) == (10 + CHUNK_BYTES, 1)
    out.sent(80 + CHUNK_BYTES)
    assert is_unused(out, sgv)


def test_close_lets_go_of_files_and_memory(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit_with_file(out, b"head", 0, MIB)
    commit(out, b"a" * CHUNK_BYTES)
    commit_with_file(out, b"head", 0, MIB)
    out.sent(1000)
    out.close()
    assert (out.queued_bytes, out.used_bytes, len(sgv.in_use)) == (0, 0, 0)
    assert (out.file, queued(out)) == (None, [])


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_leaves_in_its_order_and_whole(sgv: CountingSgv, seed: int) -> None:
    chooser = random.Random(seed)
    content = random.Random(0).randbytes(MIB)
    out = Outgoing(sgv)
    expected, received = bytearray(), bytearray()
    reserved = []

    def queue() -> None:
        kind = chooser.randrange(4)
        length = chooser.choice((1, 16, 5000, 70_000, 300_000))
        offset = chooser.randrange(MIB - length)
        data = content[offset : offset + length]
        if kind == 0:
            out.commit_file(FileRange(FD, offset), length)
            expected.extend(data)
        elif kind == 1:
            commit(out, data)
            expected.extend(data)
        elif kind == 2:
            reserved.append((out.reserve(length), out.chunk, data))
        elif reserved:
            start, chunk, data = reserved.pop(chooser.randrange(len(reserved)))
            if chooser.random() < 0.3:
                out.cancel(chunk)
                return
            chunk.view[start : start + len(data)] = data
            out.commit(chunk, start, start + len(data))
            expected.extend(data)

    def send() -> None:
        file = out.file
        offered = b"".join(queued(out, 3)) if file is None else content[file.start : file.end]
        count = min(len(offered), chooser.choice((1, 1000, 100_000, MIB)))
        received.extend(offered[:count])
        out.sent(count)

    for _ in range(400):
        chooser.choice((queue, send))()
        assert out.queued_bytes == len(expected) - len(received)
    for _, chunk, _ in reserved:
        out.cancel(chunk)
    while out.queued_bytes:
        send()
    assert received == expected
    assert is_unused(out, sgv)


def test_a_descriptor_is_open_until_its_bytes_have_left(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    with tempfile.TemporaryFile() as file:
        descriptor = SharedDescriptor(os.dup(file.fileno()))
    where = FileRange(descriptor.fd, 0, descriptor)
    for _ in range(2):
        out.commit_file(where, 100)
    descriptor.release()
    for sent in (100, 60):
        out.sent(sent)
        os.fstat(descriptor.fd)
    out.sent(40)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor.fd)


def test_a_descriptor_is_let_go_of_when_its_bytes_are_not_wanted_any_more(
    sgv: CountingSgv,
) -> None:
    out = Outgoing(sgv)
    with tempfile.TemporaryFile() as file:
        descriptor = SharedDescriptor(os.dup(file.fileno()))
    out.commit_file(FileRange(descriptor.fd, 0, descriptor), 100)
    descriptor.release()
    os.fstat(descriptor.fd)
    out.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor.fd)
