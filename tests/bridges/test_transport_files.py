# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plain transport sends besides bytes in memory: those of files, and descriptors."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.transport import PlainTransport

Plain = tuple[PlainTransport, socket.socket]


@pytest.fixture
def plain() -> Iterator[Plain]:
    """A transport and its peer, which blocks."""
    ours, peer = socket.socketpair()
    yield PlainTransport(ours), peer
    ours.close()
    peer.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file of three MiB."""
    path = tmp_path / "file"
    path.write_bytes(random.Random(4).randbytes(3 << 20))
    with path.open("r+b") as file:
        yield file.fileno()


def test_over_tcp_sending_from_a_file_pays_later() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as sock,
    ):
        assert PlainTransport(sock).send_file_from_bytes == 256 << 10


def test_bytes_of_a_file_leave_from_where_they_are(plain: Plain, file: int) -> None:
    transport, peer = plain
    assert transport.send_file is not None
    os.lseek(file, 7, os.SEEK_SET)
    assert transport.send_file(file, 5000, 100) == 100
    assert peer.recv(1000) == os.pread(file, 100, 5000)
    assert os.lseek(file, 0, os.SEEK_CUR) == 7


def test_full_socket_takes_a_part_of_a_file_and_then_blocks(plain: Plain, file: int) -> None:
    transport, peer = plain
    assert transport.send_file is not None
    sent = received = 0
    content = os.pread(file, 3 << 20, 0)
    blocked = 0
    while sent < len(content):
        try:
            sent += transport.send_file(file, sent, len(content) - sent)
        except BlockingIOError:
            blocked += 1
            piece = peer.recv(100_000)
            assert piece == content[received : received + len(piece)]
            received += len(piece)
    assert blocked


def test_bytes_behind_the_end_of_a_file_are_an_error_and_no_end(plain: Plain, file: int) -> None:
    transport, peer = plain
    assert transport.send_file is not None
    os.ftruncate(file, 1000)
    assert transport.send_file(file, 900, 200) == 100
    with pytest.raises(OSError, match="the file has become shorter") as failure:
        transport.send_file(file, 1000, 100)
    assert not isinstance(failure.value, BlockingIOError)
    assert len(peer.recv(1000)) == 100


def test_peer_that_is_gone_is_an_error(plain: Plain, file: int) -> None:
    transport, peer = plain
    assert transport.send_file is not None
    peer.close()
    with pytest.raises(BrokenPipeError):
        transport.send_file(file, 0, 100)
    transport.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        transport.send_file(file, 0, 100)


def test_a_descriptor_comes_with_its_bytes(plain: Plain, file: int) -> None:
    transport, peer = plain
    assert transport.send_descriptor(b"take this", file) == 9
    data, [found], _, _ = socket.recv_fds(peer, 100, 1)
    assert data == b"take this"
    assert os.path.sameopenfile(found, file)
    os.close(found)


def test_a_descriptor_waits_for_room_like_anything_else(plain: Plain, file: int) -> None:
    transport, _ = plain
    transport.send([memoryview(bytes(8 << 20))])
    with pytest.raises(BlockingIOError):
        transport.send_descriptor(b"take this", file)
