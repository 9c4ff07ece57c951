# SPDX-License-Identifier: GPL-2.0-or-later
"""The backend as a whole: names, one unit behind several targets, and an orderly end."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import FileioAttributes, NullioAttributes
from scsi_backend.io.engine import Done, Operation, SyncEngine
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.t10.mode_values import ModeValues
from scsi_backend.t10.status import Status
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import TargetError
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import ManualEngine, pattern
from tests.scsi_backend.initiator import Initiator, assert_check_condition
from tests.scsi_backend.reserving import register, sign_in

NULLIO = NullioAttributes(size_mb=1)


@pytest.fixture
def backend() -> Backend:
    return Backend(SyncEngine())


def file_of(tmp_path: Path, blocks: int) -> FileioAttributes:
    """Attributes of a disk in a new file."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(blocks * 512))
    return FileioAttributes(filename=str(path))


def test_devices_are_found_by_name(backend: Backend) -> None:
    first = backend.add_device("vdisk_nullio", "first", NULLIO)
    second = backend.add_device("vdisk_nullio", "second", NULLIO)
    assert dict(backend.devices) == {"first": first, "second": second}


def test_device_name_is_used_once(backend: Backend, tmp_path: Path) -> None:
    backend.add_device("vdisk_nullio", "disk", NULLIO)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TargetError, match="device disk exists already"):
        backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, 1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_device_without_its_file_raises(backend: Backend) -> None:
    with pytest.raises(FileNotFoundError):
        backend.add_device("vdisk_fileio", "disk", FileioAttributes(filename="/nowhere/at/all"))
    assert dict(backend.devices) == {}


def test_device_with_a_mode_pages_file_keeps_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "modes"
    attributes = NullioAttributes(size_mb=1, mode_pages_file=str(path))
    for saved in (False, True):
        engine = ThreadEngine(lambda kick: kick())
        backend = Backend(engine)
        unit = backend.add_device("vdisk_nullio", "disk", attributes)
        assert unit.control == ModeValues(wce=False, tas=saved)
        target = backend.add_target("scst_local", "disk")
        target.add_lun(0, LunEntry(unit))
        target.is_enabled = True
        initiator = Initiator(target.open_session("initiator"))
        initiator.send(cdbs.TEST_UNIT_READY)
        page = bytes.fromhex("00000000" + "0a0a" + "201000400000" + "ffff0000")
        pending = initiator.start(cdbs.raw("151100001000"), page)
        engine.drain()
        assert pending.outcome.status == Status.GOOD
        assert path.exists()
        assert backend.close()


def test_device_whose_mode_pages_file_cannot_be_read_is_not_opened(
    backend: Backend, tmp_path: Path
) -> None:
    attributes = file_of(tmp_path, 1).model_copy(update={"mode_pages_file": str(tmp_path)})
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IsADirectoryError):
        backend.add_device("vdisk_fileio", "disk", attributes)
    assert len(os.listdir("/proc/self/fd")) == before
    assert dict(backend.devices) == {}


def test_mode_pages_file_is_used_by_one_device(backend: Backend, tmp_path: Path) -> None:
    attributes = NullioAttributes(size_mb=1, mode_pages_file=str(tmp_path / "modes"))
    backend.add_device("vdisk_nullio", "first", attributes)
    elsewhere = f"{tmp_path}/../{tmp_path.name}/modes"
    attributes = NullioAttributes(size_mb=1, mode_pages_file=elsewhere)
    with pytest.raises(OSError, match="expected a file of its own, not that of device f") as caught:
        backend.add_device("vdisk_nullio", "second", attributes)
    assert caught.value.filename == f"{tmp_path}/modes"
    assert list(backend.devices) == ["first"]


def test_targets_are_numbered_and_found_by_driver(backend: Backend) -> None:
    nbd = backend.add_target("nbd", "disk")
    aoe = backend.add_target("aoe", "disk")
    other = backend.add_target("nbd", "other")
    assert backend.targets == (nbd, aoe, other)
    assert backend.targets_of("nbd") == (nbd, other)
    assert backend.targets_of("scst_local") == ()
    assert [target.relative_target_port for target in backend.targets] == [1, 2, 3]


def test_a_target_may_be_given_its_number_and_the_others_go_around_it(backend: Backend) -> None:
    numbers = [None, 3, None, None]
    targets = [backend.add_target("nbd", str(i), number) for i, number in enumerate(numbers)]
    assert [target.relative_target_port for target in targets] == [1, 3, 2, 4]
    with pytest.raises(TargetError, match="relative target port 2 is taken already"):
        backend.add_target("nbd", "other", 2)


def test_device_groups_are_found_by_name(backend: Backend) -> None:
    groups = {name: backend.add_device_group(name) for name in ("a", "b")}
    assert dict(backend.device_groups) == groups
    with pytest.raises(TargetError, match="device group a exists already"):
        backend.add_device_group("a")
    backend.close()
    assert dict(backend.device_groups) == {}


def test_target_is_found_by_driver_and_name(backend: Backend) -> None:
    nbd = backend.add_target("nbd", "disk")
    aoe = backend.add_target("aoe", "disk")
    assert (backend.target("nbd", "disk"), backend.target("aoe", "disk")) == (nbd, aoe)
    with pytest.raises(KeyError):
        backend.target("nbd", "other")


def test_target_name_is_used_once_for_each_driver(backend: Backend) -> None:
    backend.add_target("nbd", "disk")
    with pytest.raises(TargetError, match="target disk of driver nbd exists already"):
        backend.add_target("nbd", "disk")


def test_device_behind_two_targets_is_one_logical_unit(backend: Backend, tmp_path: Path) -> None:
    unit = backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, 64))
    initiators = []
    for driver in ("nbd", "aoe"):
        target = backend.add_target(driver, "disk")
        target.add_lun(0, LunEntry(unit))
        target.is_enabled = True
        initiators.append(Initiator(target.open_session(driver)))
    for initiator in initiators:
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/29/00")
    initiators[0].good(cdbs.block(cdbs.WRITE, 16, 3, 1), pattern(3, 512))
    data = initiators[1].good(cdbs.block(cdbs.READ, 16, 3, 1), None, 512)
    assert data == pattern(3, 512)
    os.truncate(tmp_path / "disk", 128 * 512)
    assert unit.resync_size()
    for initiator in initiators:
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/2A/09")
    backend.close()


def test_close_flushes_closes_the_engine_and_then_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ManualEngine()
    backend = Backend(engine)
    backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, 1))
    backend.add_device("vdisk_nullio", "null", NULLIO)
    backend.add_target("nbd", "disk")
    before = len(os.listdir("/proc/self/fd"))
    assert backend.close()
    assert engine.is_closed
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert (dict(backend.devices), backend.targets, caplog.text) == ({}, (), "")


class FlushFailure(SyncEngine):
    """Every operation that is neither a read nor a write fails, so each flush does."""

    def call(self, operation: Operation, done: Done) -> None:
        """See ``Engine.call``."""
        operation()
        done(-errno.EIO)


def test_close_reports_a_flush_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(FlushFailure())
    backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, 1))
    backend.add_device("vdisk_nullio", "null", NULLIO)
    with caplog.at_level(logging.ERROR):
        assert not backend.close()
    assert "disk: the last flush failed: Input/output error" in caplog.text


def test_commands_through_worker_threads_all_end_exactly_once(tmp_path: Path) -> None:
    soon: list[object] = []
    engine = ThreadEngine(soon.append)
    backend = Backend(engine)
    unit = backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, 256))
    target = backend.add_target("scst_local", "disk")
    target.add_lun(0, LunEntry(unit))
    target.is_enabled = True
    initiator = Initiator(target.open_session("initiator"))
    initiator.send(cdbs.TEST_UNIT_READY)
    fua = [0x08 if lba % 16 == 0 else 0 for lba in range(256)]
    writes = [
        initiator.start(cdbs.block(cdbs.WRITE, 16, lba, 1, fua[lba]), pattern(lba, 512))
        for lba in range(256)
    ]
    flush = initiator.start(cdbs.block(cdbs.SYNCHRONIZE_CACHE, 16, 0, 0))
    engine.drain()
    assert [one.outcome.status for one in (*writes, flush)] == [Status.GOOD] * 257
    reads = [initiator.start(cdbs.block(cdbs.READ, 16, lba, 1), None, 512) for lba in range(256)]
    engine.drain()
    assert [one.outcome.data for one in reads] == [pattern(lba, 512) for lba in range(256)]
    assert initiator.session.nexuses[0].outstanding == set()
    backend.close()


def test_close_does_not_wait_until_a_medium_is_sanitized(tmp_path: Path) -> None:
    engine = ManualEngine()
    backend = Backend(engine)
    unit = backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, (64 << 20) // 512))
    target = backend.add_target("scst_local", "disk")
    target.add_lun(0, LunEntry(unit))
    target.is_enabled = True
    initiator = Initiator(target.open_session("initiator"))
    initiator.send(cdbs.TEST_UNIT_READY)
    data = bytes.fromhex("01000001") + b"\x5a"
    pending = initiator.start(cdbs.sanitize(cdbs.OVERWRITE, len(data)), data)
    engine.start()
    engine.finish()
    assert not pending.is_done
    assert backend.close()
    assert_check_condition(pending.outcome, "03/31/03")
    written = (tmp_path / "disk").read_bytes()
    assert written == b"\x5a" * (16 << 20) + bytes(48 << 20)


class HangingEngine(SyncEngine):
    """Flushes begin and never end."""

    def call(self, operation: Operation, done: Done) -> None:
        """See ``Engine.call``."""

    def close(self, timeout_s: float | None = None) -> bool:
        """See ``WholeEngine.close``."""
        return False


def test_close_names_a_device_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(HangingEngine())
    backend.add_device("vdisk_fileio", "disk", file_of(tmp_path, 1))
    backend.add_device("vdisk_nullio", "null", NULLIO)
    assert not backend.close(0.1)
    assert caplog.messages == ["disk: hangs: given up without a last flush"]


def test_device_keeps_reservations_that_are_to_persist(tmp_path: Path) -> None:
    attributes = NullioAttributes(size_mb=1, pr_file_name=str(tmp_path / "pr" / "disk"))
    for key in (0xA, 0xB):
        backend = Backend(SyncEngine())
        unit = backend.add_device("vdisk_nullio", "disk", attributes)
        assert set(unit.reservations.state.registrants.values()) == {key - 1} - {0x9}
        register(sign_in(unit, "a"), key, flags=0x01)
        backend.close()


def test_reservations_are_kept_in_a_file_of_the_devices_name(tmp_path: Path) -> None:
    backend = Backend(SyncEngine(), pr_folder=tmp_path)
    for name in ("disk", "/up/../disk"):
        unit = backend.add_device("vdisk_nullio", name, NullioAttributes(size_mb=1))
        register(sign_in(unit, "a"), 0xA, flags=0x01)
    assert {each.name for each in tmp_path.iterdir()} == {"disk", "!up!..!disk"}


def test_without_a_folder_nothing_persists(tmp_path: Path) -> None:
    backend = Backend(SyncEngine(), pr_folder=None)
    unit = backend.add_device("vdisk_nullio", "disk", NullioAttributes(size_mb=1))
    assert unit.reservations.store is None
    attributes = NullioAttributes(size_mb=1, pr_file_name=str(tmp_path / "pr"))
    unit = backend.add_device("vdisk_nullio", "other", attributes)
    register(sign_in(unit, "a"), 0xA, flags=0x01)
    assert (tmp_path / "pr").exists()


@pytest.mark.parametrize("key", ["pr_file_name", "mode_pages_file"])
def test_file_of_reservations_is_one_devices(tmp_path: Path, key: str) -> None:
    backend = Backend(SyncEngine())
    for name, path in (("first", "a"), ("second", "b")):
        attributes = NullioAttributes(size_mb=1, pr_file_name=str(tmp_path / path))
        backend.add_device("vdisk_nullio", name, attributes)
    given = {"pr_file_name": str(tmp_path / "c"), key: f"{tmp_path}/./b"}
    with pytest.raises(OSError, match="expected a file of its own, not that of device second"):
        backend.add_device("vdisk_nullio", "third", NullioAttributes(size_mb=1, **given))


def test_reservations_and_mode_pages_are_not_in_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    attributes = NullioAttributes(size_mb=1, pr_file_name=path, mode_pages_file=path)
    with pytest.raises(OSError, match="expected a file of its own"):
        Backend(SyncEngine()).add_device("vdisk_nullio", "disk", attributes)


def test_device_whose_reservations_cannot_be_read_is_not_opened(tmp_path: Path) -> None:
    attributes = NullioAttributes(size_mb=1, pr_file_name=str(tmp_path))
    with pytest.raises(OSError, match=str(tmp_path)):
        Backend(SyncEngine()).add_device("vdisk_nullio", "disk", attributes)
