# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of saved mode parameters: its text, and what becomes of a damaged one."""

from __future__ import annotations

import errno
from pathlib import Path
from zlib import crc32

import pytest

from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.mode_pages_file import ModePagesFile
from scsi_backend.t10.mode_values import ModeValues
from tests.scsi_backend.fakes import ManualEngine

DEFAULT = ModeValues(wce=True)
VALUES = ModeValues(wce=False, d_sense=True, qerr=3)
BODY = """version 1
D_SENSE 1
QERR 3
QUEUE_ALGORITHM_MODIFIER 1
SWP 0
TAS 0
WCE 0
"""


def with_checksum(body: str) -> bytes:
    """The text with its last line."""
    data = body.encode()
    return data + b"crc32 %08x\n" % crc32(data)


def test_text_has_its_golden_lines_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "made" / "modes"
    file, results = ModePagesFile(path, SyncEngine()), list[int]()
    assert file.load(DEFAULT) is None
    file.save(VALUES, results.append)
    assert results == [0]
    assert path.read_bytes() == with_checksum(BODY)
    assert ModePagesFile(path, SyncEngine()).load(DEFAULT) == VALUES


def test_values_that_the_file_does_not_name_are_the_default(tmp_path: Path) -> None:
    path = tmp_path / "modes"
    path.write_bytes(with_checksum("version 1\nTAS 1\n"))
    assert ModePagesFile(path, SyncEngine()).load(DEFAULT) == ModeValues(wce=True, tas=True)


def test_saving_keeps_nobody_waiting_and_tells_when_it_is_done(tmp_path: Path) -> None:
    path, engine, results = tmp_path / "modes", ManualEngine(), list[int]()
    ModePagesFile(path, engine).save(VALUES, results.append)
    assert not path.exists()
    engine.start()
    assert path.read_bytes() == with_checksum(BODY)
    assert results == []
    engine.finish()
    assert results == [0]


def test_a_save_that_fails_is_told_and_logged_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, results = tmp_path / "gone" / "modes", list[int]()
    ModePagesFile(path, SyncEngine()).save(VALUES, results.append)
    assert results == [-errno.ENOENT]
    assert caplog.messages == [f"{path}: not saved: No such file or directory"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a checksum that fits"),
        (b"\xff\xfe\0", "expected a checksum that fits"),
        (BODY.encode(), "expected a checksum that fits"),
        (with_checksum(BODY)[:-1], "expected a checksum that fits"),
        (with_checksum(BODY).replace(b"WCE 0", b"WCE 1"), "expected a checksum that fits"),
        (with_checksum(BODY) + b"x", "expected a checksum that fits"),
        (with_checksum("version 2\nWCE 0\n"), "expected 'version 1' in the first line"),
        (with_checksum("version 1\nNACA 1\n"), "'NACA 1': expected each parameter once"),
        (with_checksum("version 1\nQERR 2\n"), "'QERR 2': expected one of [0, 1, 3]"),
        (with_checksum("version 1\nWÇE 1\n"), "'ascii' codec"),
    ],
)
def test_a_damaged_file_is_named_and_kept_aside_and_defaults_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, message: str
) -> None:
    path = tmp_path / "modes"
    path.write_bytes(data)
    assert ModePagesFile(path, SyncEngine()).load(DEFAULT) is None
    assert not path.exists()
    assert (tmp_path / "modes.damaged").read_bytes() == data
    (text,) = caplog.messages
    assert text.startswith(f"{path}: {message}")
    assert text.endswith(f": kept as {path}.damaged, not used")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        ModePagesFile(tmp_path, SyncEngine()).load(DEFAULT)
