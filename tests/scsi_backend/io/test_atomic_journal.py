# SPDX-License-Identifier: GPL-2.0-or-later
"""The undo journal: what is found when it is opened again, and what is not believed."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from scsi_backend.io.atomic_journal import CAPACITY_BYTES, AtomicJournal, Record, roll_back

SUBJECT = "/disk"
Opener = Callable[..., AtomicJournal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def open_journal(path: Path) -> Iterator[Opener]:
    """Open the journal, after closing the one that was open."""
    opened: list[AtomicJournal] = []

    def reopen(subject: str = SUBJECT) -> AtomicJournal:
        while opened:
            opened.pop().close()
        opened.append(AtomicJournal.open(str(path), subject))
        return opened[-1]

    yield reopen
    for journal in opened:
        journal.close()


def golden(offset_bytes: int, data: bytes) -> bytes:
    """A journal with a record, made from the description of the format."""
    fields = b"SCSTundo" + struct.pack("<QQI", offset_bytes, len(data), zlib.crc32(data))
    fields += sha256(SUBJECT.encode()).digest()
    return (fields + struct.pack("<I", zlib.crc32(fields))).ljust(4096, b"\0") + data


def test_new_journal_has_its_room_and_no_record(open_journal: Opener, path: Path) -> None:
    assert open_journal().pending() is None
    status = path.stat()
    assert status.st_size == 4096 + CAPACITY_BYTES
    assert status.st_blocks * 512 >= status.st_size
    assert status.st_mode & 0o777 == 0o600


def test_record_has_its_golden_bytes(open_journal: Opener, path: Path) -> None:
    data = os.urandom(1000)
    assert open_journal().record(0x123456789A, memoryview(data)) == 0
    assert path.read_bytes()[: 4096 + 1000] == golden(0x123456789A, data)


@pytest.mark.parametrize("length", [1, 512, CAPACITY_BYTES])
def test_record_is_found_when_the_journal_is_opened_again(
    open_journal: Opener, length: int
) -> None:
    data = os.urandom(length)
    open_journal().record(4096, memoryview(data))
    assert open_journal().pending() == Record(4096, data)


def test_cleared_record_is_not_found(open_journal: Opener) -> None:
    journal = open_journal()
    journal.record(0, memoryview(b"old"))
    assert journal.clear() == 0
    assert open_journal().pending() is None


def test_later_record_takes_the_place_of_an_earlier_one(open_journal: Opener) -> None:
    journal = open_journal()
    journal.record(0, memoryview(b"long record"))
    journal.record(8, memoryview(b"short"))
    assert open_journal().pending() == Record(8, b"short")


@pytest.mark.parametrize("at", [0, 7, 8, 16, 24, 28, 59, 60, 63, 4096, 4096 + 999])
def test_record_with_a_wrong_byte_is_not_believed(
    open_journal: Opener, path: Path, at: int
) -> None:
    image = bytearray(golden(4096, os.urandom(1000)))
    image[at] ^= 0x01
    path.write_bytes(image)
    assert open_journal().pending() is None


@pytest.mark.parametrize("length", [0, 63, 4096, 4097, 5095])
def test_record_that_was_cut_short_is_not_believed(
    open_journal: Opener, path: Path, length: int
) -> None:
    path.write_bytes(golden(4096, b"\xaa" * 1000)[:length])
    assert open_journal().pending() is None


def test_length_beyond_the_journals_is_not_believed(open_journal: Opener, path: Path) -> None:
    path.write_bytes(golden(0, bytes(CAPACITY_BYTES + 1)))
    assert open_journal().pending() is None


def test_record_of_another_file_is_an_error(open_journal: Opener) -> None:
    open_journal("/other").record(0, memoryview(b"old"))
    with pytest.raises(OSError, match="unfinished write of another file"):
        open_journal().pending()


def test_journal_is_not_shared(open_journal: Opener, path: Path) -> None:
    open_journal()
    with pytest.raises(OSError, match="in use by another device") as caught:
        AtomicJournal.open(str(path), SUBJECT)
    assert caught.value.errno == errno.EBUSY


def test_only_a_regular_file_is_a_journal() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        AtomicJournal.open("/dev/null", SUBJECT)


def test_roll_back_puts_the_bytes_back_and_clears(open_journal: Opener, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xbb" * 4096)
    open_journal().record(512, memoryview(b"\xaa" * 1024))
    with disk.open("r+b") as file:
        undone = roll_back(open_journal(), file.fileno(), 4096)
        assert roll_back(open_journal(), file.fileno(), 4096) is None
    assert undone == Record(512, b"\xaa" * 1024)
    assert disk.read_bytes() == b"\xbb" * 512 + b"\xaa" * 1024 + b"\xbb" * 2560


def test_roll_back_beyond_the_files_end_is_refused(open_journal: Opener, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xbb" * 1024)
    journal = open_journal()
    journal.record(512, memoryview(b"\xaa" * 1024))
    with disk.open("r+b") as file, pytest.raises(OSError, match="beyond the file's end"):
        roll_back(journal, file.fileno(), 1024)
    assert disk.read_bytes() == b"\xbb" * 1024
    assert journal.pending() is not None
