# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for tests on a real Ethernet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.interop.netns import Network, veth_network

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def network() -> Iterator[Network]:
    with veth_network() as network:
        yield network


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on an event loop of each kind."""
    uvloop = pytest.importorskip("uvloop")
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_on_loop(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(test)

    return run_on_loop
