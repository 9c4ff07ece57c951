# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor's watch on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from bridges.watch import Watch

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Watched:
    """A watched socket that is readable and writable at once, and what the watch has told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.send(b"x")
        self.told: list[str] = []
        self.watch = Watch(
            loop,
            self.ours.fileno(),
            lambda: self.told.append("readable"),
            lambda: self.told.append("writable"),
        )

    def turn(self) -> set[str]:
        """Let the loop look around; return what it told."""
        self.told.clear()
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        return set(self.told)

    @property
    def state(self) -> tuple[bool, bool]:
        return self.watch.is_reading, self.watch.is_writing


@pytest.fixture(params=LOOPS)
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    loop = LOOPS[request.param]()
    watched = Watched(loop)
    yield watched
    watched.watch.stop()
    watched.ours.close()
    watched.peer.close()
    loop.close()


def test_nothing_is_watched_at_first(watched: Watched) -> None:
    assert watched.state == (False, False)
    assert watched.turn() == set()


def test_each_direction_is_watched_by_itself(watched: Watched) -> None:
    watched.watch.start_reading()
    assert (watched.state, watched.turn()) == ((True, False), {"readable"})
    watched.watch.start_writing()
    assert (watched.state, watched.turn()) == ((True, True), {"readable", "writable"})
    watched.watch.stop_reading()
    assert (watched.state, watched.turn()) == ((False, True), {"writable"})
    watched.watch.stop_writing()
    assert (watched.state, watched.turn()) == ((False, False), set())


def test_starting_and_stopping_twice_is_once(watched: Watched) -> None:
    for _ in range(2):
        watched.watch.start_reading()
        watched.watch.start_writing()
    assert watched.turn() == {"readable", "writable"}
    for _ in range(2):
        watched.watch.stop()
        assert (watched.state, watched.turn()) == ((False, False), set())


def test_a_second_watch_follows_the_first(watched: Watched) -> None:
    watched.watch.start_reading()
    watched.turn()
    watched.watch.stop()
    told: list[int] = []
    second = Watch(watched.loop, watched.ours.fileno(), lambda: told.append(1), lambda: None)
    second.start_reading()
    assert watched.turn() == set()
    assert told
    second.stop()
