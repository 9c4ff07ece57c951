# SPDX-License-Identifier: GPL-2.0-or-later
"""Reservations of a daemon that is killed at any moment, against a model that knows no code of it.

What the next daemon tells is what the last answered command has left, or what it would have been
with some of those under way: of one, all or nothing. Most daemons are forks, which start sooner.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from random import Random
from statistics import median
from typing import Protocol

import pytest

from tests.bridges.daemon_process import daemon
from tests.bridges.forked_daemon import Nursery
from tests.bridges.local_initiator import LocalInitiator
from tests.interop.reserved_disk import PORTS, ReservedDisk
from tests.scsi_backend.reservation_model import ABORTED, Model, Nexus, Request, ask, text, view
from tests.scsi_backend.reserving import REGISTER

# An initiator of another door that never comes.
ABSENT = "unix:uid=7"
FORKED_KILLS, PROGRAM_KILLS = 50, 20


class Killable(Protocol):
    """A daemon."""

    def kill(self) -> None:
        """End it without warning."""


Start = Callable[[Path], AbstractContextManager[Killable]]


class Storm:
    """One device over the lives of many daemons; ``outcomes`` counts where the kills hit."""

    def __init__(self, folder: Path, start: Start, seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._disk = ReservedDisk(folder)
        self._start = start
        self._random = Random(seed)
        # What may be there when the next daemon starts.
        self._allowed = [Model(PORTS)]
        # How long commands took that had something to store.
        self._seconds = [0.005]

    def live(self) -> None:
        """Start a daemon, look what is there, change it, and kill the daemon."""
        with self._start(self._disk.conf) as running, self._disk.clients() as clients:
            model = self._found(next(iter(clients.values())))
            for _ in range(self._random.randrange(5)):
                self._perform(clients, model, self._ask(model, tuple(clients)))
            self._kill(running, clients, model)

    def _found(self, client: LocalInitiator) -> Model:
        found = view(client)
        fitting = [model for model in self._allowed if model.view == found]
        assert fitting, f"{found}: expected one of {[model.view for model in self._allowed]}"
        return fitting[0]

    def _perform(
        self, clients: dict[Nexus, LocalInitiator], model: Model, request: Request
    ) -> None:
        client, before = clients[request.who], model.after()
        expected = model.perform(request)
        start_s = time.monotonic()
        assert text(client.send(*request.command)) == expected, request
        if model.after().view != before.view:
            self._seconds.append(time.monotonic() - start_s)
        assert view(client) == model.view, request
        for each in clients.values():
            each.take_attentions()

    def _kill(self, running: Killable, clients: dict[Nexus, LocalInitiator], model: Model) -> None:
        count = self._random.choice((1, 1, 1, 2, 3))
        requests = self._telling(model, self._random.sample(tuple(clients), count))
        moment_s = self._random.random() * 1.2 * median(self._seconds)
        stamps = self._stamps()
        tags = [clients[each.who].start(*each.command) for each in requests]
        # Which is no waiting for anything: any moment will do.
        time.sleep(moment_s)
        running.kill()
        ends = [clients[each.who].end(tag) for each, tag in zip(requests, tags, strict=True)]
        answers = [None if end is None else text(end) for end in ends]
        self._allowed = list(possible(model, list(zip(requests, answers, strict=True))))
        self.outcomes[self._hit(stamps) if None in answers else "answered"] += 1

    def _stamps(self) -> list[int]:
        """Which files are in place: the one being written, and the one that counts."""
        stored = self._disk.stored
        paths = [stored.with_name(f".{stored.name}.new"), stored]
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]

    def _hit(self, before: list[int]) -> str:
        """Where the last command under way was, by what it has left."""
        new, stored = self._stamps()
        if new not in (0, before[0]):
            return "within"
        return "before" if stored == before[1] else "after"

    def _ask(self, model: Model, nexuses: Sequence[Nexus]) -> Request:
        names = {name for name, _ in nexuses}
        heirs = [(name, port) for name in (*names, ABSENT) for port in PORTS]
        request = ask(self._random, model, nexuses, heirs)
        brings = request.action == REGISTER and self._random.random() < 0.2
        return replace(
            request,
            persists=self._random.random() < 0.9,
            on_all_ports=self._random.random() < 0.1,
            others=(ABSENT,) if brings else (),
        )

    def _telling(self, model: Model, nexuses: Sequence[Nexus]) -> list[Request]:
        """A command of each, of which the first, if there is such, makes the file another."""
        first = self._ask(model, nexuses[:1])
        for _ in range(50):
            if model.after(first).view != model.after().view:
                break
            first = self._ask(model, nexuses[:1])
        return [first, *(self._ask(model, (nexus,)) for nexus in nexuses[1:])]


def possible(model: Model, asked: Iterable[tuple[Request, str | None]]) -> Iterator[Model]:
    """What a restart may find: answered commands have ended so, in any order with the others.

    Commands that were told a unit attention or were aborted have not been performed.
    """
    performable = [each for each in asked if not (each[1] or "").startswith((ABORTED, "06/"))]
    for count in range(len(performable) + 1):
        for order in permutations(performable, count):
            left = [each for each in performable if each not in order and each[1] is not None]
            copy = model.copy()
            ends = [(copy.perform(request), answer) for request, answer in order]
            if not left and all(answer in (None, end) for end, answer in ends):
                yield copy.after()


@pytest.mark.parametrize("seed", range(4))
def test_killed_daemon_has_stored_what_it_answered(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    storm = Storm(tmp_path, nursery.daemon, seed)
    for _ in range(FORKED_KILLS):
        storm.live()
    # Kills that hit only one side of the storing show little.
    assert storm.outcomes["answered"] + storm.outcomes["after"], storm.outcomes
    assert storm.outcomes["before"] + storm.outcomes["within"], storm.outcomes


def test_killed_program_has_stored_what_it_answered(tmp_path: Path) -> None:
    storm = Storm(tmp_path, daemon, seed=4)
    for _ in range(PROGRAM_KILLS):
        storm.live()
