# SPDX-License-Identifier: GPL-2.0-or-later
"""An undo journal of one write: what a range held, kept in a file until the range is whole again.

The record is stable before the range is touched, and gone (stably) before anybody is told of the
outcome. So a record that is found when the file is opened belongs to a write that nobody was told
of, and putting its bytes back makes it one that never began.

File: a block of 4096 bytes with the header, then the bytes. A record that was cut short fails its
checksum, and was not yet needed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from scsi_backend.io.engine import write_fully

CAPACITY_BYTES: Final = 1 << 20
_HEADER_BYTES: Final = 4096
_MAGIC: Final = b"SCSTundo"
# magic, offset in bytes, length in bytes, CRC-32 of the bytes, SHA-256 of the subject; CRC-32.
_HEADER = struct.Struct("<8sQQI32s")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Record:
    """What a range held before a write that did not end."""

    offset_bytes: int
    data: bytes


class AtomicJournal:
    """An open journal; ``subject`` names the file whose ranges it keeps.

    All methods block; they are for an engine's thread, but for ``open`` and ``close``.
    """

    def __init__(self, fd: int, subject: str) -> None:
        self._fd = fd
        self._subject = hashlib.sha256(subject.encode()).digest()

    @classmethod
    def open(cls, path: str, subject: str) -> AtomicJournal:
        """Open or create the file, with all the room that it will need; raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(errno.EBUSY, "in use by another device", path) from None
            os.posix_fallocate(fd, 0, _HEADER_BYTES + CAPACITY_BYTES)
            os.fsync(fd)
            _sync_folder(path)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, subject)

    def pending(self) -> Record | None:
        """Return the record that is there; raises OSError, also for one of another subject."""
        header = os.pread(self._fd, _HEADER.size + _CHECKSUM.size, 0)
        fields, checksum = header[: _HEADER.size], header[_HEADER.size :]
        if len(header) < _HEADER.size + _CHECKSUM.size:
            return None
        magic, offset_bytes, length_bytes, data_checksum, subject = _HEADER.unpack(fields)
        is_whole = _CHECKSUM.pack(zlib.crc32(fields)) == checksum and magic == _MAGIC
        if not is_whole or length_bytes > CAPACITY_BYTES:
            return None
        data = os.pread(self._fd, length_bytes, _HEADER_BYTES)
        if len(data) < length_bytes or zlib.crc32(data) != data_checksum:
            return None
        if subject != self._subject:
            raise OSError(errno.EINVAL, "the journal holds an unfinished write of another file")
        return Record(offset_bytes, data)

    def record(self, offset_bytes: int, data: memoryview) -> int:
        """Keep what a range holds; return zero, raise OSError."""
        fields = _HEADER.pack(_MAGIC, offset_bytes, len(data), zlib.crc32(data), self._subject)
        self._write(data, _HEADER_BYTES)
        self._write(memoryview(fields + _CHECKSUM.pack(zlib.crc32(fields))), 0)
        os.fdatasync(self._fd)
        return 0

    def clear(self) -> int:
        """Forget the record; return zero, raise OSError."""
        self._write(memoryview(bytes(_HEADER_BYTES)), 0)
        os.fdatasync(self._fd)
        return 0

    def _write(self, data: memoryview, offset_bytes: int) -> None:
        result = write_fully(self._fd, data, offset_bytes)
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def close(self) -> None:
        """Close the file; no operation may be outstanding."""
        os.close(self._fd)


def roll_back(journal: AtomicJournal, fd: int, size_bytes: int) -> Record | None:
    """Undo the write that a journal tells of, if any, in the file of ``size_bytes``.

    Return what was put back. Blocks; raises OSError.
    """
    record = journal.pending()
    if record is None:
        return None
    if record.offset_bytes + len(record.data) > size_bytes:
        raise OSError(errno.EINVAL, "the journal holds an unfinished write beyond the file's end")
    result = write_fully(fd, memoryview(record.data), record.offset_bytes)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    os.fdatasync(fd)
    journal.clear()
    return record


def _sync_folder(path: str) -> None:
    """Make a new file's name survive a power failure."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
