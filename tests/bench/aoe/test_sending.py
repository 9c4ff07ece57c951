# SPDX-License-Identifier: GPL-2.0-or-later
"""sending.py: the frames that leave are those that were given."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.bench.aoe.sending import Batch

HEADS = [b"first", b"the second", b"3rd"]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        yield near, far


def test_each_frame_is_its_head_and_the_common_body(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    assert Batch(HEADS, b" body").send(ends[0], 0, 3) == 3
    assert [ends[1].recv(100) for _ in HEADS] == [head + b" body" for head in HEADS]


def test_frames_without_a_body_are_heads(ends: tuple[socket.socket, socket.socket]) -> None:
    assert Batch(HEADS, b"").send(ends[0], 0, 3) == 3
    assert [ends[1].recv(100) for _ in HEADS] == HEADS


def test_some_of_the_frames_are_sent_and_may_be_again(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    batch = Batch(HEADS, b"!")
    assert batch.send(ends[0], 1, 2) == 2
    assert batch.send(ends[0], 1, 1) == 1
    assert [ends[1].recv(100) for _ in range(3)] == [b"the second!", b"3rd!", b"the second!"]


def test_kernel_that_takes_none_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    batch = Batch(HEADS, b"")
    ends[1].close()
    with pytest.raises(ConnectionRefusedError):
        batch.send(ends[0], 0, 3)
