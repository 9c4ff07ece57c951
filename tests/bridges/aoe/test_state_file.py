# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of a target's state: what it holds, how it is replaced, and what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bridges.aoe.address import Address
from bridges.aoe.state import TargetState
from bridges.aoe.state_file import StateFile, StateFileError, in_background
from tests.scsi_backend.fakes import ManualEngine

_A, _B = bytes.fromhex("020000000001"), bytes.fromhex("0200deadbeef")
_STATE = TargetState(b"\0name\xff", (_A, _B), (_B, _B))
_TEXT = {
    "version": 1,
    "config_string": "006e616d65ff",
    "mask_list": ["02:00:00:00:00:01", "02:00:de:ad:be:ef"],
    "reserve_list": ["02:00:de:ad:be:ef", "02:00:de:ad:be:ef"],
}


def _file(folder: Path) -> StateFile:
    return StateFile(folder, Address(1, 2))


def test_a_state_is_read_as_it_was_stored(tmp_path: Path) -> None:
    file = _file(tmp_path)
    file.store(_STATE)
    assert file.path == tmp_path / "e1.2.json"
    assert json.loads(file.path.read_text()) == _TEXT
    assert _file(tmp_path).load() == _STATE


def test_any_address_in_a_list_is_read_again(tmp_path: Path) -> None:
    state = TargetState(mask_list=(b"\xff" * 6, bytes(6)))
    _file(tmp_path).store(state)
    assert _file(tmp_path).load() == state


def test_without_a_file_there_is_no_state_and_the_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert _file(folder).load() == TargetState()
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_targets_have_files_of_their_own(tmp_path: Path) -> None:
    _file(tmp_path).store(_STATE)
    assert StateFile(tmp_path, Address(1, 3)).load() == TargetState()


def test_storing_leaves_one_file_that_others_cannot_read(tmp_path: Path) -> None:
    file = _file(tmp_path)
    for _ in range(2):
        file.store(_STATE)
    assert list(tmp_path.iterdir()) == [file.path]
    assert file.path.stat().st_mode & 0o777 == 0o600


def _break_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no folder be synced any more."""
    fsync = os.fsync

    def broken(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)


def test_a_state_that_could_not_be_made_durable_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _file(tmp_path)
    file.store(_STATE)
    _break_folders(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        file.store(TargetState(b"new"))
    assert file.load() == _STATE


_LONG = "00" * 1025
_MANY = ["02:00:00:00:00:01"] * 256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Expecting value"),
        (b'{"version": 1', "Expecting ',' delimiter: line 1 column 14"),
        (b"\xff\xfe", "expected ASCII"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "expected an object with config_string, mask_list, reserve_list, version"),
        (b"{}", "expected an object with"),
        (json.dumps(_TEXT | {"more": 1}).encode(), "expected an object with"),
        (json.dumps(_TEXT | {"version": 2}).encode(), "version 2: expected 1"),
        (json.dumps(_TEXT | {"config_string": 5}).encode(), "config_string: expected at most"),
        (json.dumps(_TEXT | {"config_string": "0g"}).encode(), "config_string: expected at most"),
        (json.dumps(_TEXT | {"config_string": _LONG}).encode(), "config_string: expected at most"),
        (json.dumps(_TEXT | {"mask_list": "x"}).encode(), "mask_list: expected a list of at most"),
        (json.dumps(_TEXT | {"mask_list": _MANY}).encode(), "mask_list: expected a list of at"),
        (json.dumps(_TEXT | {"mask_list": ["x"]}).encode(), "mask_list: expected a MAC address"),
        (json.dumps(_TEXT | {"reserve_list": [1]}).encode(), "reserve_list: expected a MAC"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, text: bytes, message: str
) -> None:
    file = _file(tmp_path)
    file.path.write_bytes(text)
    with pytest.raises(StateFileError) as caught:
        file.load()
    assert str(caught.value).startswith(f"{file.path}: ")
    assert message in str(caught.value)
    assert file.path.read_bytes() == text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = _file(tmp_path)
    file.path.mkdir()
    with pytest.raises(StateFileError, match=r"e1\.2\.json: Is a directory"):
        file.load()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateFileError, match=r"file: File exists"):
        _file(tmp_path / "file").load()


def test_a_folder_that_nothing_can_be_made_in_is_named() -> None:
    # What the kernel says of /proc is ENOENT.
    with pytest.raises(StateFileError, match=r"/proc/nothing.*: No such file or directory"):
        _file(Path("/proc/nothing/here")).load()


def test_a_new_folder_that_cannot_be_synced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_folders(monkeypatch)
    with pytest.raises(StateFileError, match=f"{tmp_path}: Input/output error"):
        _file(tmp_path / "a").load()


def test_storing_in_the_background_tells_when_it_is_done(tmp_path: Path) -> None:
    engine, file, outcomes = ManualEngine(), _file(tmp_path), list[OSError | None]()
    in_background(file, engine)(_STATE, outcomes.append)
    assert outcomes == []
    assert not file.path.exists()
    engine.start()
    assert file.load() == _STATE
    assert outcomes == []
    engine.finish()
    assert outcomes == [None]


def test_storing_in_the_background_tells_what_went_wrong(tmp_path: Path) -> None:
    engine, file, outcomes = ManualEngine(), _file(tmp_path / "gone"), list[OSError | None]()
    in_background(file, engine)(_STATE, outcomes.append)
    engine.run_all()
    (error,) = outcomes
    assert error is not None
    assert (error.errno, error.filename) == (errno.ENOENT, str(file.path))
