# SPDX-License-Identifier: GPL-2.0-or-later
"""A small file that is replaced as a whole, and is on the disk before that is told.

A crash leaves the old or the new contents, never a mixture. Contents that could not be made durable
are taken back, since what depends on them is refused. What they mean is the caller's business, who
may not wait on the loop's thread: everything here may block for as long as the disk likes.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

_MODE: Final = 0o600
# Whoever names a disk here by mistake shall not have it read into memory.
MAX_BYTES: Final = 1 << 20


class DurableFile:
    """The file of one path, which nobody else writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(f".{path.name}.new")

    def make_folder(self) -> None:
        """Make the file's folder and those above it, durably; raises OSError that names one."""
        folder = self.path.parent
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in reversed(missing):
            _sync_folder(each.parent)

    def read(self) -> bytes | None:
        """Return the contents, None without a file.

        Raises OSError, also for what such a file cannot be: a device, or too large.
        """
        try:
            # Opening a FIFO would wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            self._check(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_BYTES)
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result) -> None:
        error = 0
        if stat.S_ISDIR(status.st_mode):
            error = errno.EISDIR
        elif not stat.S_ISREG(status.st_mode):
            error = errno.EINVAL
        elif status.st_size > MAX_BYTES:
            error = errno.EFBIG
        if error:
            raise OSError(error, os.strerror(error), str(self.path))

    def replace(self, data: bytes) -> None:
        """Put other contents in place of the old, durably; raises OSError."""
        before = self.read()
        self._put(data)
        try:
            # The new name is on the disk only when the folder is.
            _sync_folder(self.path.parent)
        except OSError:
            self._take_back(before)
            raise

    def set_aside(self) -> Path:
        """Give the file another name, which is returned; raises OSError.

        One that was set aside before is lost.
        """
        aside = self.path.with_name(f"{self.path.name}.damaged")
        os.rename(self.path, aside)
        _sync_folder(self.path.parent)
        return aside

    def _put(self, data: bytes) -> None:
        descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(self._new, self.path)

    def _take_back(self, before: bytes | None) -> None:
        try:
            if before is None:
                os.unlink(self.path)
            else:
                self._put(before)
        except OSError as error:
            _log.error(
                "%s: has a change that was refused as it could not be made durable: %s",
                self.path,
                error.strerror,
            )
        # The caller has the error that counts.
        with suppress(OSError):
            _sync_folder(self.path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        os.close(descriptor)
