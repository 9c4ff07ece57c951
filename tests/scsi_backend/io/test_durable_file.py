# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are replaced as a whole: in which order, and what a failure leaves."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scsi_backend.io.durable_file import MAX_BYTES, DurableFile


def _file(folder: Path) -> DurableFile:
    return DurableFile(folder / "state")


def _break_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no folder be synced any more."""
    fsync = os.fsync

    def broken(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)


def test_contents_are_read_as_they_were_put(tmp_path: Path) -> None:
    file = _file(tmp_path)
    assert file.read() is None
    for contents in (b"old", b"new\0\xff"):
        file.replace(contents)
        assert (file.path.read_bytes(), file.read()) == (contents, contents)


def test_one_file_is_left_that_others_cannot_read(tmp_path: Path) -> None:
    file = _file(tmp_path)
    for _ in range(2):
        file.replace(b"contents")
    assert list(tmp_path.iterdir()) == [file.path]
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_the_new_contents_are_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(f"fsync {target.name}")
        assert target.is_dir() or target.read_bytes() == b"contents"
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> None:
        steps.append(f"rename {source.name} {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    _file(tmp_path).replace(b"contents")
    assert steps == ["fsync .state.new", "rename .state.new state", f"fsync {tmp_path.name}"]


def test_a_failure_on_the_way_leaves_the_old_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _file(tmp_path)
    file.replace(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            file.replace(b"failed")
    assert file.read() == b"old"
    file.replace(b"new")
    assert file.read() == b"new"


@pytest.mark.parametrize("before", [b"old", None], ids=["old contents", "no file"])
def test_contents_whose_name_is_not_on_the_disk_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    file = _file(tmp_path)
    if before is not None:
        file.replace(before)
    files = list(tmp_path.iterdir())
    _break_folders(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        file.replace(b"new")
    assert file.read() == before
    assert list(tmp_path.iterdir()) == files


def test_contents_that_were_taken_back_are_on_the_disk_if_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _file(tmp_path)
    file.replace(b"old")
    fsync = os.fsync
    # What is under the file's name each time that the folder is synced.
    synced: list[bytes | None] = []

    def broken_once(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            synced.append(file.read())
            if len(synced) == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken_once)
    with pytest.raises(OSError, match="Input/output error"):
        file.replace(b"new")
    assert synced == [b"new", b"old"]


def test_contents_that_cannot_be_taken_back_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = _file(tmp_path)
    _break_folders(monkeypatch)

    def full(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "unlink", full)
    with pytest.raises(OSError, match="Input/output error"):
        file.replace(b"new")
    assert caplog.messages == [
        f"{file.path}: has a change that was refused as it could not be made durable: "
        "Read-only file system"
    ]


def test_the_names_of_new_folders_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
    )
    _file(tmp_path / "a" / "b").make_folder()
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    _file(tmp_path / "a" / "b").make_folder()
    assert len(synced) == 2


def test_a_folder_that_cannot_be_synced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_folders(monkeypatch)
    with pytest.raises(OSError, match="Input/output error") as caught:
        _file(tmp_path / "a").make_folder()
    assert caught.value.filename == str(tmp_path)


def test_a_file_that_was_set_aside_is_kept_under_another_name(tmp_path: Path) -> None:
    file = _file(tmp_path)
    for contents in (b"first", b"second"):
        file.replace(contents)
        assert file.set_aside() == tmp_path / "state.damaged"
        assert file.read() is None
        assert (tmp_path / "state.damaged").read_bytes() == contents


def test_what_is_no_small_file_is_not_read(tmp_path: Path) -> None:
    fifo, disk = tmp_path / "fifo", tmp_path / "disk"
    os.mkfifo(fifo)
    disk.touch()
    os.truncate(disk, MAX_BYTES + 1)
    for path, message in (
        (tmp_path, "Is a directory"),
        (fifo, "Invalid argument"),
        (Path("/dev/zero"), "Invalid argument"),
        (disk, "File too large"),
    ):
        with pytest.raises(OSError, match=message) as caught:
            DurableFile(path).read()
        assert caught.value.filename == str(path)
    os.truncate(disk, MAX_BYTES)
    assert DurableFile(disk).read() == bytes(MAX_BYTES)
