# SPDX-License-Identifier: GPL-2.0-or-later
"""buffers.py: packet sockets that are too small grow, and nothing else changes."""

from __future__ import annotations

import os
import socket

import pytest

from tests.bench.aoe.buffers import RECEIVE_BYTES, SO_RCVBUFFORCE, enlarge_receive_buffers


def room_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def packet_socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        pytest.skip("needs root to open packet sockets")


def test_only_packet_sockets_with_less_room_are_enlarged() -> None:
    near, far = socket.socketpair()
    with packet_socket() as small, packet_socket() as large, near, far:
        large.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 2 * RECEIVE_BYTES)
        before = room_of(small), room_of(large), room_of(near)
        assert before[0] < RECEIVE_BYTES
        open_before = len(os.listdir("/proc/self/fd"))
        assert enlarge_receive_buffers(os.getpid()) == 1
        assert room_of(small) >= RECEIVE_BYTES
        assert (room_of(large), room_of(near)) == before[1:]
        assert len(os.listdir("/proc/self/fd")) == open_before
        assert enlarge_receive_buffers(os.getpid()) == 0


def test_process_that_is_gone_is_an_error() -> None:
    child = os.posix_spawnp("true", ["true"], os.environ)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        enlarge_receive_buffers(child)
