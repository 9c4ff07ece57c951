# SPDX-License-Identifier: GPL-2.0-or-later
"""A state that cannot be stored changes nothing: not in the daemon, not in the file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.bridges.forked_daemon import Nursery
from tests.bridges.local_initiator import LocalInitiator
from tests.interop.reserved_disk import PORTS, ReservedDisk
from tests.scsi_backend import cdbs
from tests.scsi_backend.reservation_model import GOOD, Model, Nexus, Request, text, view
from tests.scsi_backend.reserving import (
    ABORT,
    CLEAR,
    EA,
    IGNORE,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
)

STORE_BYTES, MORE_BYTES = 64 << 10, 128 << 10
ABSENT = ("unix:uid=7", 1)
NOT_STORED = "04/44/00"
Broken = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The folder of the reservations: a file system of its own."""
    folder = tmp_path / "pr"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={STORE_BYTES}", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _mount(*words: str) -> None:
    try:
        subprocess.run(["mount", *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a tmpfs: {error}")


@contextmanager
def full(folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(MORE_BYTES))
    yield
    filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    _mount("-o", "remount,ro", str(folder))
    yield
    _mount("-o", "remount,rw", str(folder))


def changes(one: Nexus, other: Nexus) -> Iterator[Request]:
    """What changes the state in which ``one`` (key 1) has Exclusive Access, ``other`` key 2."""
    yield from (
        Request(one, REGISTER, 1, 3, 0, ABSENT, False, persists=True),
        Request(one, REGISTER, 1, 1, 0, ABSENT, False, persists=False),
        Request(one, IGNORE, 0, 0, 0, ABSENT, False, persists=True),
        Request(one, RELEASE, 1, 0, EA, ABSENT, False),
        Request(one, MOVE, 1, 9, EA, ABSENT, True, persists=True),
        Request(other, CLEAR, 2, 0, 0, ABSENT, False),
        Request(other, PREEMPT, 2, 1, EA, ABSENT, False),
        Request(other, ABORT, 2, 1, EA, ABSENT, False),
    )


@pytest.mark.parametrize("broken", [full, read_only])
def test_state_that_cannot_be_stored_changes_nothing(
    tmp_path: Path, nursery: Nursery, store: Path, broken: Broken
) -> None:
    disk = ReservedDisk(tmp_path)
    model = Model(PORTS)
    with nursery.daemon(disk.conf) as running, disk.clients() as clients:
        one, other, _ = clients
        for request in (
            Request(one, IGNORE, 0, 1, 0, ABSENT, False, persists=True),
            Request(other, IGNORE, 0, 2, 0, ABSENT, False, persists=True),
        ):
            perform(clients, model, request)
        with broken(store):
            refuse(clients, model, Request(one, RESERVE, 1, 0, EA, ABSENT, False))
        perform(clients, model, Request(one, RESERVE, 1, 0, EA, ABSENT, False))
        stored = disk.stored.read_bytes()
        with broken(store):
            for request in changes(one, other):
                refuse(clients, model, request)
            assert disk.stored.read_bytes() == stored
            running.kill()
    model.restart()
    with nursery.daemon(disk.conf), disk.clients() as clients:
        assert view(clients[one]) == model.view
        perform(clients, model, Request(other, ABORT, 2, 1, EA, ABSENT, False))


def perform(clients: dict[Nexus, LocalInitiator], model: Model, request: Request) -> None:
    assert model.perform(request) == GOOD
    assert text(clients[request.who].send(*request.command)) == GOOD
    assert view(clients[request.who]) == model.view


def refuse(clients: dict[Nexus, LocalInitiator], model: Model, request: Request) -> None:
    """What the model would do is refused, and nobody hears or sees anything of it."""
    assert model.copy().perform(request) == GOOD
    assert text(clients[request.who].send(*request.command)) == NOT_STORED, request
    for client in clients.values():
        assert text(client.send(cdbs.TEST_UNIT_READY)) == GOOD
        assert view(client) == model.view
