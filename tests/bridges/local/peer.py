# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the local server that is only a socket, so that it can misbehave."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from bridges.local import wire
from bridges.local.hello_wire import HelloReply, HelloRequest
from bridges.local.wire import ResponseFrame
from tests.bridges.local.site import DEADLINE_S, Site


def connect(site: Site) -> socket.socket:
    """A socket connected to the server that has said nothing yet."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(DEADLINE_S)
    sock.connect(site.path)
    return sock


def receive_to_end(sock: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    try:
        while piece := sock.recv(1 << 20):
            data += piece
    except ConnectionResetError:
        # The server closed with bytes unread; what it had sent came before this.
        pass
    return data


def log_in(site: Site, name: str = "") -> socket.socket:
    """A socket behind the hello."""
    sock = connect(site)
    sock.sendall(HelloRequest(name).serialize())
    data = b""
    while (parsed := HelloReply.parse(data)) is None:
        data += sock.recv(4096)
    assert parsed[0].status == 0, parsed[0].text
    return sock


def frames(data: bytes) -> Iterator[tuple[ResponseFrame, bytes]]:
    """The whole frames in what a server sent: header and the rest."""
    position = 0
    while len(data) - position >= wire.RESPONSE.size:
        first = position + wire.RESPONSE.size
        frame = ResponseFrame.parse(data[position:first])
        position = first + frame.data_in_length + frame.sense_length
        if len(data) < position:
            return
        yield frame, data[first:position]
