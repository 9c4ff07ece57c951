# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's NBD client (nbd.ko, nbd-client) on the daemon's server and on the nbdkit plugin.

What happens is in `guest/nbd_client.sh`, one boot for all tests; a test asks for the facts of its
step. The NBD protocol itself is tested in tests/bridges/nbd and tests/interop.
"""

from __future__ import annotations

import pytest

from tests.kernel.steps import Steps

# The first test waits for the boot, and for the kernel package on a new machine.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

EXT4 = ["fsck clean", "data equal after remount", "backing file equal"]


def test_daemon_opens_its_doors(nbd_client: Steps) -> None:
    assert nbd_client.facts("daemon_start") == ["daemon ready"]


def test_ext4_over_a_unix_socket_survives_remount(nbd_client: Steps) -> None:
    assert nbd_client.facts("unix_socket") == ["attached", *EXT4, "detached"]


def test_ext4_over_four_tcp_connections_survives_remount(nbd_client: Steps) -> None:
    facts = nbd_client.facts("four_tcp_connections")
    assert facts == ["attached", "4 connections", *EXT4, "detached"]


def test_fstrim_frees_space_and_the_rest_outlives_a_reconnect(nbd_client: Steps) -> None:
    assert nbd_client.facts("trim_and_reconnect") == [
        "attached",
        "space given back",
        "detached",
        "attached",
        "fsck clean after reconnect",
        "data equal after reconnect",
        "detached",
    ]


def test_vsock_is_a_way_in(nbd_client: Steps) -> None:
    assert nbd_client.facts("vsock") == ["size told over vsock"]


@pytest.mark.parametrize("step", ["plugin_embedded", "plugin_on_daemon"])
def test_ext4_through_the_nbdkit_plugin_survives_remount(nbd_client: Steps, step: str) -> None:
    assert nbd_client.facts(step) == ["attached", *EXT4, "detached", f"{step} ended"]


def test_daemon_ends_with_status_0_after_its_kernel_clients(nbd_client: Steps) -> None:
    assert nbd_client.facts("daemon_stop") == ["daemon ended"]
