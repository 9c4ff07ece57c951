# SPDX-License-Identifier: GPL-2.0-or-later
"""stations.py: each server is checked and put under load for a moment; nothing is timed.

What a real server answers, real rings are filled with; generator.py's tests have made-up ones.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.aoe.cells import AoeCell, Pattern
from tests.bench.aoe.hosts import link
from tests.bench.aoe.servers import SERVERS, AoeServer, Place
from tests.bench.aoe.stations import Station, station
from tests.bench.client import LoadError
from tests.bench.processes import ServerError

BY_KEY = {server.key: server for server in SERVERS}
IMAGE_BYTES = 1 << 20
SECONDS = 0.05
READ = AoeCell("read", 2, 32, Pattern.PAGES)
WRITE = AoeCell("write", 16, 32, Pattern.RANDOM)


@contextmanager
def started(server: AoeServer, folder: Path, mtu: int, *, durable: bool) -> Iterator[Station]:
    """A server of an empty image; skips where the machine does not have what it takes."""
    image = folder / "image"
    image.write_bytes(bytes(IMAGE_BYTES))
    program = server.command(Place("t0", mtu, image, folder / "scst.conf", durable))[0]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    cpu = min(os.sched_getaffinity(0))
    try:
        with link(mtu) as network:
            place = Place(network.target.interface, mtu, image, folder / "scst.conf", durable)
            with station(server, place, network, folder / "log", cpu) as running:
                yield running
    except ServerError as error:
        if "needs" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("cell", [READ, WRITE], ids=lambda cell: cell.name)
@pytest.mark.parametrize("key", list(BY_KEY))
def test_server_answers_every_frame(tmp_path: Path, key: str, cell: AoeCell) -> None:
    with started(BY_KEY[key], tmp_path, cell.mtu, durable=False) as running:
        assert running.sectors >= cell.sectors
        assert running.disk_sectors == IMAGE_BYTES // 512
        for one in (cell, replace(cell, window=1)):
            measurement, cpu_us = running.measure(one, SECONDS)
            assert measurement.requests > 0
            assert cpu_us >= 0


@pytest.mark.parametrize("key", ["ours", "vblade"])
def test_durable_server_answers_every_frame(tmp_path: Path, key: str) -> None:
    cell = replace(WRITE, is_durable=True)
    with started(BY_KEY[key], tmp_path, cell.mtu, durable=True) as running:
        measurement, _ = running.measure(cell, SECONDS)
        assert measurement.requests > 0


def test_frame_that_the_server_does_not_take_is_not_sent(tmp_path: Path) -> None:
    with (
        started(BY_KEY["vblade"], tmp_path, 1500, durable=False) as running,
        pytest.raises(LoadError, match="takes 2 sectors in a frame, not 16"),
    ):
        running.measure(WRITE, SECONDS)


def test_server_that_ended_is_named_as_the_cause(tmp_path: Path) -> None:
    with started(BY_KEY["vblade"], tmp_path, 1500, durable=False) as running:
        (group,) = running.process.groups
        os.kill(group.pid, signal.SIGKILL)
        os.waitid(os.P_PID, group.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ServerError, match="ended with status -9"):
            running.measure(READ, SECONDS)


def test_server_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    broken = AoeServer("broken", "broken", lambda place: ("sh", "-c", "echo no disk >&2; exit 3"))
    with (
        pytest.raises(ServerError, match=r"^the server has ended: no disk$"),
        started(broken, tmp_path, 1500, durable=False),
    ):
        pass


def test_server_that_never_answers_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.aoe.stations.START_DEADLINE_S", 0.3)
    silent = AoeServer("silent", "silent", lambda place: ("sleep", "60"))
    with (
        pytest.raises(ServerError, match=r"^no answer to Query Config for 0.3 s"),
        started(silent, tmp_path, 1500, durable=False),
    ):
        pass
