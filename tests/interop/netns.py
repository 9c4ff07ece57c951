# SPDX-License-Identifier: GPL-2.0-or-later
"""Two network namespaces with a veth pair between them: an Ethernet of two hosts.

AoE has no loopback, since a host does not receive the frames that it sends. Names are unique, so
that runs in parallel do not meet; the namespaces go when the context ends, and the pair with them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = count()


@dataclass(frozen=True, slots=True)
class Host:
    """One end: a namespace, and its interface."""

    namespace: str
    interface: str

    @property
    def mac(self) -> bytes:
        """The interface's MAC address."""
        shown = self.run("cat", f"/sys/class/net/{self.interface}/address")
        return bytes.fromhex(shown.strip().replace(":", ""))

    def command(self, *words: str) -> list[str]:
        """A command line that runs in this host's namespace."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def run(self, *words: str) -> str:
        """Run a command in this host's namespace; return its standard output."""
        done = subprocess.run(
            self.command(*words), check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout

    @property
    def is_running(self) -> bool:
        """Whether the kernel has found the link usable, a moment after it came up."""
        return self.run("cat", f"/sys/class/net/{self.interface}/operstate").strip() == "up"

    def set_link(self, *words: str) -> None:
        """Change the interface: ``ip link set dev INTERFACE words``."""
        _ip("-n", self.namespace, "link", "set", "dev", self.interface, *words)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into this host; sockets opened meanwhile stay there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inside = os.open(Path("/run/netns", self.namespace), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(inside)
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(before)
            os.close(inside)


@dataclass(frozen=True, slots=True)
class Network:
    """The Ethernet's two hosts."""

    target: Host
    client: Host

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU at both ends."""
        for host in (self.target, self.client):
            host.set_link("mtu", str(mtu))

    def connect(self, mtu: int = 1500) -> None:
        """Make the link between the hosts, and wait until it carries frames."""
        _ip(
            *("link", "add", self.target.interface, "netns", self.target.namespace),
            *("type", "veth"),
            *("peer", "name", self.client.interface, "netns", self.client.namespace),
        )
        self.set_mtu(mtu)
        hosts = (self.target, self.client)
        for host in hosts:
            host.set_link("up")
        # Until then, frames are lost without a word.
        wait_until(lambda: all(host.is_running for host in hosts))

    def disconnect(self) -> None:
        """Delete the link; both interfaces go with it."""
        _ip("-n", self.target.namespace, "link", "del", self.target.interface)


@contextmanager
def veth_network(mtu: int = 1500) -> Iterator[Network]:
    """Make a network whose two links are up; skips the test where that is not allowed."""
    name = f"aoe-test-{os.getpid()}-{next(_numbers)}"
    network = Network(Host(f"{name}-t", "t0"), Host(f"{name}-c", "c0"))
    hosts = (network.target, network.client)
    made: list[Host] = []
    try:
        for host in hosts:
            _add_namespace(host.namespace)
            made.append(host)
        network.connect(mtu)
        yield network
    finally:
        for host in made:
            _ip("netns", "del", host.namespace)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return as soon as a condition holds; fails the test if it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {timeout_s} s"
        time.sleep(0.01)


def _add_namespace(name: str) -> None:
    try:
        _ip("netns", "add", name)
    except FileNotFoundError:
        pytest.skip("needs iproute2's ip")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs root to make network namespaces: {error.stderr.strip()}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
