# SPDX-License-Identifier: GPL-2.0-or-later
"""hosts.py: signals wait while a network is made or removed, and networks do not stay."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType

import pytest

from tests.bench.aoe import hosts
from tests.bench.aoe.hosts import link, undisturbed
from tests.bench.processes import ServerError
from tests.interop.netns import Network


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt as it usually does; workers of pytest ignore it.

    They have other threads, too, so a test must send the signal to its own.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_signal_comes_when_the_block_is_left() -> None:
    reached = False

    def interrupted() -> None:
        nonlocal reached
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            reached = True

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


class Unavailable(AbstractContextManager[Network]):
    """A network that must not be made."""

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu

    def __enter__(self) -> Network:
        pytest.skip("needs root")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def test_network_that_is_not_allowed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "veth_network", Unavailable)
    with pytest.raises(ServerError, match="needs root"), link(1500):
        pass


@pytest.mark.usefixtures("interrupts")
def test_network_is_gone_after_an_interrupt() -> None:
    names: list[str] = []

    def interrupted() -> None:
        with link(9000) as network:
            names.extend(host.namespace for host in (network.target, network.client))
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    except ServerError as error:
        pytest.skip(str(error))
    assert len(names) == 2
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not set(names) & set(listed.stdout.split())
