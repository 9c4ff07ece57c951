# SPDX-License-Identifier: GPL-2.0-or-later
"""How a client gets in, and what it makes of servers that share memory badly or not at all."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
from collections.abc import Callable

import pytest

from bridges.local.area import create_area
from bridges.local.hello_wire import HelloReply, HelloRequest, HelloStatus
from bridges.local.login import LocalError, Login, log_in
from bridges.local.shared_wire import AreaReply
from tests.bridges.local.fake_server import Script, ServeOne
from tests.bridges.local.peer import receive_to_end

AREA_BYTES = 1 << 20
REQUEST = bytes.fromhex("0000001c 04 000000 0000000000100000" + 16 * "00")


def hello(version: int) -> bytes:
    return HelloReply(HelloStatus.OK, version, 0, 1 << 20, "tester").serialize()


def get_in(path: str, shared_bytes: int = AREA_BYTES, timeout_s: float = 10.0) -> Login:
    return log_in(path, "disk", "test", shared_bytes, timeout_s)


def sealed() -> int:
    memory, descriptor = create_area(AREA_BYTES)
    memory.close()
    return descriptor


def unsealed() -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, AREA_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return descriptor


def small() -> int:
    memory, descriptor = create_area(AREA_BYTES // 2)
    memory.close()
    return descriptor


def granting(make: Callable[[], int], count: int = 1, reply: bytes = b"") -> Script:
    """A server that sends some descriptors with its reply."""

    def script(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(hello(2))
        assert sock.recv(4096) == REQUEST
        descriptors = [make() for _ in range(count)]
        socket.send_fds(sock, [reply or AreaReply(AREA_BYTES).serialize()], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        receive_to_end(sock)

    return script


class TestVersions:
    @pytest.mark.parametrize(("shared_bytes", "highest"), [(0, 1), (AREA_BYTES, 2)])
    def test_version_2_is_asked_for_with_an_area_only(
        self, serve_one: ServeOne, shared_bytes: int, highest: int
    ) -> None:
        seen: list[bytes] = []

        def script(sock: socket.socket) -> None:
            seen.append(sock.recv(4096))
            sock.sendall(hello(1))
            seen.append(receive_to_end(sock))

        path, thread = serve_one(script)
        login = get_in(path, shared_bytes)
        login.sock.close()
        thread.join()
        assert login.area is None
        assert seen == [HelloRequest("disk", "test", 1, highest).serialize(), b""]


class TestAreas:
    def test_granted_area_is_mapped_and_no_descriptor_stays(self, serve_one: ServeOne) -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        path, thread = serve_one(granting(sealed))
        login = get_in(path)
        assert login.area is not None
        assert login.area[:] == bytes(AREA_BYTES)
        login.sock.close()
        thread.join()
        # The listening socket, and the mapping's own.
        assert len(os.listdir("/proc/self/fd")) == before + 2
        login.area.close()
        assert len(os.listdir("/proc/self/fd")) == before + 1

    def test_refusal_is_taken(self, serve_one: ServeOne) -> None:
        path, _ = serve_one(granting(sealed, 0, AreaReply(0, "no memory").serialize()))
        login = get_in(path)
        login.sock.close()
        assert login.area is None

    @pytest.mark.parametrize(
        ("make", "count", "message"),
        [
            (sealed, 0, "0 descriptors came with the area: expected 1"),
            (sealed, 2, "2 descriptors came with the area: expected 1"),
            (unsealed, 1, "the area may change its size"),
            (small, 1, "the area is no file of 1048576 bytes"),
        ],
        ids=["none", "two", "unsealed", "small"],
    )
    def test_area_that_is_none_is_an_error_and_nothing_leaks(
        self, serve_one: ServeOne, make: Callable[[], int], count: int, message: str
    ) -> None:
        gc.collect()
        path, thread = serve_one(granting(make, count))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(LocalError, match=f"{path}: not a server of this protocol: {message}"):
            get_in(path)
        thread.join()
        # The listener's thread has closed its end.
        assert len(os.listdir("/proc/self/fd")) <= before

    def test_broken_reply_is_an_error(self, serve_one: ServeOne) -> None:
        path, _ = serve_one(granting(sealed, 1, b"\xff" * 16))
        with pytest.raises(LocalError, match="not a server of this protocol: reply to the area"):
            get_in(path)

    @pytest.mark.parametrize("length_bytes", [4096, 2 * AREA_BYTES])
    def test_area_of_another_size_is_an_error(self, serve_one: ServeOne, length_bytes: int) -> None:
        def make() -> int:
            area, descriptor = create_area(length_bytes)
            area.close()
            return descriptor

        path, _ = serve_one(granting(make, 1, AreaReply(length_bytes).serialize()))
        with pytest.raises(LocalError, match=f"area of {length_bytes} bytes: expected 1048576"):
            get_in(path)

    def test_reply_that_does_not_end_is_given_up(self, serve_one: ServeOne) -> None:
        path, _ = serve_one(granting(sealed, 1, AreaReply(AREA_BYTES).serialize()[:10]))
        with pytest.raises(LocalError, match=f"{path}: no answer within 1 s"):
            get_in(path, timeout_s=1.0)

    def test_server_that_ends_in_its_reply_is_an_error(self, serve_one: ServeOne) -> None:
        def script(sock: socket.socket) -> None:
            sock.recv(4096)
            sock.sendall(hello(2))
            sock.recv(4096)
            sock.sendall(AreaReply(AREA_BYTES).serialize()[:10])

        path, _ = serve_one(script)
        with pytest.raises(LocalError, match="cannot connect: the server closed the connection"):
            get_in(path)
