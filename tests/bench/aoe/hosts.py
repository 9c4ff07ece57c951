# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of hosts for the benchmark: as tests/interop/netns.py makes them, and gone for certain."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.bench.processes import ServerError
from tests.interop.netns import Network, veth_network

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back, so that nothing is left half made or half removed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def link(mtu: int) -> Iterator[Network]:
    """Two hosts with a link between them, which go even if the program is interrupted.

    Raises ServerError where that is not allowed.
    """
    with ExitStack() as stack:
        with undisturbed():
            try:
                network = stack.enter_context(veth_network(mtu))
            # What a test would be skipped for.
            except pytest.skip.Exception as error:
                raise ServerError(str(error)) from error
        try:
            yield network
        finally:
            with undisturbed():
                stack.close()
