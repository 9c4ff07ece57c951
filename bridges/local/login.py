# SPDX-License-Identifier: GPL-2.0-or-later
"""How a client of the local bridge gets in: connecting, the hello, and asking for a shared area.

Blocking. Commands are the business of ``client``.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
from dataclasses import dataclass

from bridges.local import shared_wire
from bridges.local.area import map_area
from bridges.local.hello_wire import HelloReply, HelloRequest, HelloStatus
from bridges.local.shared_wire import AreaReply
from bridges.local.wire import (
    SHARED_VERSION,
    VERSION,
    FrameError,
)


class LocalError(Exception):
    """The server cannot be reached, refused, or broke off; names the socket and what failed."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a client has once it is in; ``area`` is None where the server has or gives none."""

    sock: socket.socket
    hello: HelloReply
    area: mmap.mmap | None


def log_in(path: str, name: str, label: str, shared_bytes: int, timeout_s: float) -> Login:
    """Connect and say hello, and ask for an area unless ``shared_bytes`` is 0; raises LocalError.

    ``timeout_s`` is for each answer.
    """
    highest = SHARED_VERSION if shared_bytes else VERSION
    try:
        request = HelloRequest(name, label, VERSION, highest).serialize()
    except ValueError as error:
        raise LocalError(f"{path}: {error}") from error
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return _converse(sock, path, request, shared_bytes, timeout_s)
    except TimeoutError as error:
        sock.close()
        raise LocalError(f"{path}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        sock.close()
        raise LocalError(f"{path}: cannot connect: {reason(error)}") from error
    except (FrameError, ValueError) as error:
        sock.close()
        raise LocalError(f"{path}: not a server of this protocol: {error}") from error
    except BaseException:
        sock.close()
        raise


def _converse(
    sock: socket.socket, path: str, request: bytes, shared_bytes: int, timeout_s: float
) -> Login:
    sock.settimeout(timeout_s)
    sock.connect(path)
    sock.sendall(request)
    hello = _receive_hello(sock)
    if hello.status != HelloStatus.OK:
        raise LocalError(f"{path}: the server refused: {hello.text}")
    area = None
    if shared_bytes and hello.version == SHARED_VERSION:
        sock.sendall(shared_wire.area_request(shared_bytes))
        area = _receive_area(sock, shared_bytes)
    sock.settimeout(None)
    return Login(sock, hello, area)


def _receive_hello(sock: socket.socket) -> HelloReply:
    """Receive the reply to a hello and nothing behind it; raises OSError and FrameError."""
    data = b""
    while (parsed := HelloReply.parse(data)) is None:
        piece = sock.recv(HelloReply.missing_bytes(data))
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        data += piece
    return parsed[0]


def _receive_area(sock: socket.socket, wanted_bytes: int) -> mmap.mmap | None:
    """Receive the reply to an area request; raises OSError, FrameError and ValueError."""
    descriptors: list[int] = []
    data = b""
    try:
        while (reply := AreaReply.parse(data)) is None:
            piece = _receive(sock, AreaReply.missing_bytes(data), descriptors)
            if not piece:
                raise ConnectionResetError("the server closed the connection")
            data += piece
        if reply.length_bytes == 0:
            return None
        if reply.length_bytes != wanted_bytes:
            raise FrameError(f"area of {reply.length_bytes} bytes: expected {wanted_bytes}")
        if len(descriptors) != 1:
            raise FrameError(f"{len(descriptors)} descriptors came with the area: expected 1")
        return map_area(descriptors[0], reply.length_bytes)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(sock: socket.socket, length_bytes: int, descriptors: list[int]) -> bytes:
    """Receive bytes, and add the descriptors that came with them."""
    room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
    # Not socket.recv_fds: it would let programs that this one starts inherit them.
    data, ancillary, _, _ = sock.recvmsg(length_bytes, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found = array.array("i")
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
            descriptors.extend(found)
    return data


def reason(error: OSError) -> str:
    """What an OSError says, without its number."""
    return error.strerror or str(error)
