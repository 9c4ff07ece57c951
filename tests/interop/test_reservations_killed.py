# SPDX-License-Identifier: GPL-2.0-or-later
"""Reservations of a daemon that is killed at any moment, against a model that knows no code of it.

What the next daemon tells is what the last answered command has left, or what it would have been
with some of those under way: of one, all or nothing. Most daemons are forks, which start sooner.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


Clients = Mapping[Nexus, LocalInitiator]
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
            model = self._found(clients)
            for _ in range(self._random.randrange(5)):
                requests = self._ask(model, clients)
                before, start_s = model.after().view, time.monotonic()
                self._allowed = possible(model, self._exchange(clients, requests))
                took_s = time.monotonic() - start_s
                model = self._found(clients)
                if len(requests) == 1 and model.after().view != before:
                    self._seconds.append(took_s)
            self._kill(running, clients, model)

    def _found(self, clients: Clients) -> Model:
        for client in clients.values():
            client.take_attentions()
        found = view(next(iter(clients.values())))
        fitting = [model for model in self._allowed if model.view == found]
        assert fitting, f"{found}: expected one of {[model.view for model in self._allowed]}"
        return fitting[0]

    def _kill(self, running: Killable, clients: Clients, model: Model) -> None:
        requests = self._ask(model, clients)
        moment_s = self._random.random() * 1.2 * median(self._seconds)
        stamps = self._stamps()

        def kill() -> None:
            # No waiting for anything: any moment will do.
            time.sleep(moment_s)
            running.kill()

        asked = self._exchange(clients, requests, kill)
        self._allowed = [each.after() for each in possible(model, asked)]
        is_answered = all(answer is not None for _, answer in asked)
        self.outcomes["answered" if is_answered else self._hit(stamps)] += 1

    def _exchange(
        self,
        clients: Clients,
        requests: Sequence[Request],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[tuple[Request, str | None]]:
        """Send all at once; return how each ends, None without an answer."""
        tags = [clients[each.who].start(*each.command) for each in requests]
        meanwhile()
        ends = [clients[each.who].end(tag) for each, tag in zip(requests, tags, strict=True)]
        answers = [None if end is None else text(end) for end in ends]
        return list(zip(requests, answers, strict=True))

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

    def _ask(self, model: Model, clients: Clients) -> list[Request]:
        """A command of some clients, of which the first, if there is such, is to be stored."""
        who = self._random.sample(tuple(clients), self._random.choice((1, 1, 1, 2, 3)))
        asked = [self._ask_one(model, each, clients) for each in who]
        for _ in range(50):
            if model.after(asked[0]).view != model.after().view:
                break
            asked[0] = self._ask_one(model, who[0], clients)
        return asked

    def _ask_one(self, model: Model, who: Nexus, clients: Clients) -> Request:
        names = sorted({ABSENT, *(name for name, _ in clients)})
        heirs = [(name, port) for name in names for port in PORTS]
        request = ask(self._random, model, (who,), heirs)
        brings = request.action == REGISTER and self._random.random() < 0.2
        return replace(
            request,
            persists=self._random.random() < 0.9,
            on_all_ports=self._random.random() < 0.1,
            others=(ABSENT,) if brings else (),
        )


def possible(model: Model, asked: Sequence[tuple[Request, str | None]]) -> list[Model]:
    """What may have become of a model: commands end so in some order, some unanswered ones never.

    Aborted ones may have done what they were asked to; those that were told of a unit attention
    have not.
    """
    ends = [
        (request, None if answer == ABORTED else answer)
        for request, answer in asked
        if answer is None or not answer.startswith("06/")
    ]
    found = []
    for count in range(len(ends) + 1):
        for order in permutations(ends, count):
            copy = model.copy()
            fits = [answer in (None, copy.perform(request)) for request, answer in order]
            is_missing = any(end not in order and end[1] is not None for end in ends)
            if all(fits) and not is_missing:
                found.append(copy)
    assert found, f"{model.view}: no order of {asked}"
    return found


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
