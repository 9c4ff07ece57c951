# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that come and go: what is refused, what a removal waits for, and what it gives back."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import FileioAttributes, NullioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.t10.status import Status
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import TargetGroup
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import ManualEngine
from tests.scsi_backend.initiator import Initiator, assert_check_condition

NULLIO = NullioAttributes(size_mb=1)
WRITE = cdbs.block(cdbs.WRITE, 16, 0, 1)


def is_open(path: Path) -> bool:
    """Whether this process has a file open."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return str(path) in [os.readlink(link) for link in links if os.path.lexists(link)]


class Served:
    """A disk in a file, behind a target with one initiator."""

    def __init__(self, engine: ManualEngine | ThreadEngine, path: Path, blocks: int = 8) -> None:
        self.backend = Backend(engine, path / "pr")
        self.path = path / "disk"
        self.path.write_bytes(bytes(blocks * 512))
        attributes = FileioAttributes(filename=str(self.path))
        self.unit = self.backend.add_device("vdisk_fileio", "disk", attributes)
        self.target = self.backend.add_target("scst_local", "target")
        self.target.configure(luns={0: LunEntry(self.unit)}, is_enabled=True)
        self.initiator = Initiator(self.target.open_session("initiator"))
        self.initiator.send(cdbs.TEST_UNIT_READY)
        self.ends: list[bool] = []

    @property
    def is_open(self) -> bool:
        """Whether this process has the file open."""
        return is_open(self.path)

    def remove(self) -> None:
        """Take the LUN away, and then the device."""
        self.target.configure(luns={})
        self.backend.remove_device("disk", self.ends.append)


@pytest.fixture
def engine() -> ManualEngine:
    return ManualEngine()


@pytest.fixture
def served(engine: ManualEngine, tmp_path: Path) -> Served:
    return Served(engine, tmp_path)


def test_a_device_to_which_something_leads_is_not_removed(served: Served) -> None:
    backend = served.backend
    with pytest.raises(TargetError, match="device disk: target target leads to it"):
        backend.remove_device("disk")
    served.target.configure(luns={})
    backend.add_device_group("g").add_device(served.unit)
    with pytest.raises(TargetError, match="device disk is in a device group"):
        backend.remove_device("disk")
    with pytest.raises(TargetError, match="there is no device other"):
        backend.remove_device("other")
    assert list(backend.devices) == ["disk"]
    assert served.is_open


def test_a_removed_device_is_flushed_and_closed(served: Served, engine: ManualEngine) -> None:
    served.remove()
    assert list(served.backend.devices) == []
    assert len(engine.queued) == 1
    assert (served.is_open, served.ends) == (True, [])
    engine.run_all()
    assert (served.is_open, served.ends) == (False, [True])
    assert served.backend.close()


def test_a_removed_device_is_flushed_though_its_cache_counts_as_non_volatile(
    engine: ManualEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def record(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fdatasync", record)
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    backend = Backend(engine, None)
    attributes = FileioAttributes(filename=str(path), nv_cache=True)
    backend.add_device("vdisk_fileio", "disk", attributes)
    ends: list[bool] = []
    backend.remove_device("disk", ends.append)
    # The caller's thread would do it when it closes the last way to a block device.
    assert is_open(path)
    engine.run_all()
    assert (synced, ends, is_open(path)) == ([str(path)], [True], False)


def test_a_removal_waits_for_commands_under_way(served: Served, engine: ManualEngine) -> None:
    pending = served.initiator.start(WRITE, b"x" * 512)
    served.remove()
    # The one operation is the write.
    assert len(engine.queued) == 1
    engine.start()
    engine.finish()
    assert pending.outcome.status == Status.GOOD
    assert served.is_open
    engine.run_all()
    assert (served.is_open, served.ends) == (False, [True])
    assert served.path.read_bytes()[:512] == b"x" * 512


def test_a_removal_lets_an_operation_on_the_medium_fail_soon(
    engine: ManualEngine, tmp_path: Path
) -> None:
    served = Served(engine, tmp_path, (64 << 20) // 512)
    data = bytes.fromhex("01000001") + b"\x5a"
    pending = served.initiator.start(cdbs.sanitize(cdbs.OVERWRITE, len(data)), data)
    engine.start()
    engine.finish()
    served.remove()
    engine.run_all()
    assert_check_condition(pending.outcome, "03/31/03")
    assert (served.is_open, served.ends) == (False, [True])
    assert served.path.read_bytes()[(16 << 20) :] == bytes(48 << 20)


def test_a_flush_that_fails_is_told(
    served: Served,
    engine: ManualEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    served.remove()
    engine.run_all()
    assert (served.is_open, served.ends) == (False, [False])
    # To those whose LUN led there, and to who removed the device.
    assert caplog.messages == [
        "disk: the last flush for who left it failed: Input/output error",
        "disk: the last flush failed: Input/output error",
    ]


def test_name_and_state_files_are_free_when_a_device_is_closed(
    served: Served, engine: ManualEngine
) -> None:
    backend = served.backend
    served.remove()
    with pytest.raises(TargetError, match="device disk is being opened or closed"):
        backend.add_device("vdisk_nullio", "disk", NULLIO)
    shared = NullioAttributes(size_mb=1, pr_file_name=str(served.path.parent / "pr" / "disk"))
    with pytest.raises(OSError, match="expected a file of its own, not that of device disk"):
        backend.add_device("vdisk_nullio", "other", shared)
    engine.run_all()
    backend.add_device("vdisk_nullio", "other", shared)
    with pytest.raises(OSError, match="expected a file of its own, not that of device other"):
        backend.add_device("vdisk_nullio", "disk", NULLIO)


def test_closing_the_backend_closes_what_is_about_to_be_removed(
    served: Served, engine: ManualEngine
) -> None:
    pending = served.initiator.start(WRITE, b"x" * 512)
    served.remove()
    assert served.backend.close()
    assert pending.outcome.status == Status.GOOD
    assert (served.is_open, served.ends) == (False, [True])


def test_the_threads_of_a_removed_device_end(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        engine = ThreadEngine(loop.call_soon)
        loop.add_reader(engine.fileno(), engine.reap)
        served = Served(engine, tmp_path)
        before = threading.active_count()
        pending = served.initiator.start(WRITE, b"x" * 512)
        closed = asyncio.Event()
        served.target.configure(luns={})
        served.backend.remove_device("disk", lambda is_stable: closed.set())
        await asyncio.wait_for(closed.wait(), 20)
        assert pending.outcome.status == Status.GOOD
        assert not served.is_open
        assert threading.active_count() == before
        loop.remove_reader(engine.fileno())
        assert served.backend.close()

    asyncio.run(run())


def test_a_device_may_be_opened_on_another_thread(tmp_path: Path) -> None:
    backend = Backend(SyncEngine(), None)
    slot = backend.reserve_device("vdisk_nullio", "disk", NULLIO)
    with pytest.raises(TargetError, match="device disk is being opened or closed"):
        backend.add_device("vdisk_nullio", "disk", NULLIO)
    thread = threading.Thread(target=slot.open)
    thread.start()
    thread.join()
    assert list(backend.devices) == []
    assert backend.take_device(slot) is backend.devices["disk"]


def test_a_device_that_was_opened_in_vain_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    backend = Backend(SyncEngine(), None)
    slot = backend.reserve_device("vdisk_fileio", "d", FileioAttributes(filename=str(path)))
    slot.open()
    assert is_open(path)
    backend.abandon_device(slot)
    assert not is_open(path)
    backend.add_device("vdisk_fileio", "d", FileioAttributes(filename=str(path)))
    backend.close()


def test_a_removed_target_has_no_luns_for_its_sessions(served: Served) -> None:
    heard: list[bool] = []
    served.target.watch(lambda: heard.append(served.target.is_enabled))
    nexus = served.initiator.session.nexuses[0]
    assert served.backend.remove_target("scst_local", "target") == [nexus]
    assert heard == [False]
    assert served.backend.targets == ()
    assert list(served.initiator.session.nexuses) == []
    served.initiator.session.close()
    served.backend.remove_device("disk")


def test_a_target_of_a_target_group_is_not_removed(served: Served) -> None:
    backend = served.backend
    group = backend.add_device_group("g")
    group.add_target_group(TargetGroup("one", 1, [served.target]))
    with pytest.raises(TargetError, match="target target is in target group g/one"):
        backend.remove_target("scst_local", "target")
    assert served.target.is_enabled
    backend.remove_device_group("g")
    backend.remove_target("scst_local", "target")
    with pytest.raises(TargetError, match="there is no device group g"):
        backend.remove_device_group("g")


def test_a_target_may_have_the_number_of_one_that_it_replaces(served: Served) -> None:
    backend, old = served.backend, served.target
    with pytest.raises(TargetError, match="relative target port 1 is taken already"):
        backend.add_target("nbd", "other", 1)
    new = backend.add_target("nbd", "other", 1, instead_of=[old])
    assert isinstance(new, Target)
    assert new.relative_target_port == 1
