# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for tests on a real Ethernet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import uvloop

from bridges.aoe.server import AoeServer
from tests.bridges.aoe.bench import read_ext, write_ext
from tests.bridges.aoe.ringed import MakeBench, RingBench
from tests.bridges.aoe.wired import Client, serving
from tests.interop.netns import Network, veth_network
from tests.scsi_backend.fakes import pattern

Run = Callable[[Coroutine[Any, Any, None]], None]
Serve = Callable[..., AbstractAsyncContextManager[tuple[AoeServer, Client]]]


@pytest.fixture
def network() -> Iterator[Network]:
    with veth_network() as network:
        yield network


@pytest.fixture(params=["ring", "plain"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """``serving``, once with the ring and once as where the kernel refuses one."""
    return partial(serving, wants_ring=request.param == "ring")


@pytest.fixture
def run() -> Run:
    """Run a coroutine on an event loop of the daemon's kind."""

    def run_on_loop(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test)

    return run_on_loop


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    """Makes benches with a ring, at each of which an initiator has logged in."""
    benches: list[RingBench] = []

    def make() -> RingBench:
        bench = RingBench()
        benches.append(bench)
        # The first frame opens the session, the second finds the flow made.
        bench.exchange(read_ext(0, 2), write_ext(0, pattern(0, 512) + pattern(1, 512)))
        bench.lun.cdbs.clear()
        return bench

    yield make
    for bench in benches:
        bench.close()
