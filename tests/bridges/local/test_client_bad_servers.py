# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client against servers that misbehave, break off, or are something else."""

from __future__ import annotations

import socket
from contextlib import closing, suppress

import pytest

from bridges.exchange import Request
from bridges.local import wire
from bridges.local.client import LocalClient, LocalError
from bridges.local.hello_wire import HelloReply, HelloStatus
from bridges.local.wire import (
    CommandFrame,
    FrameType,
    ResponseFrame,
    error_frame,
)
from bridges.recovery import Reply
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.cdb import write_16
from scsi_backend.t10.status import Status
from tests.bridges.local.fake_server import Script, ServeOne
from tests.bridges.local.site import DEADLINE_S
from tests.scsi_backend.cdbs import TEST_UNIT_READY


def view(size_bytes: int) -> memoryview:
    return memoryview(bytearray(size_bytes))


HELLO = HelloReply(HelloStatus.OK, 1, 0, 1 << 20, "tester").serialize()


def replying(*answers: bytes) -> Script:
    """A server that says hello, reads the first command's header, and sends these bytes."""

    def script(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(HELLO)
        sock.recv(wire.COMMAND.size)
        for answer in answers:
            sock.sendall(answer)
        # What else the client sends is read, so that closing does not reset the connection.
        sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while sock.recv(1 << 20):
                pass

    return script


class TestBadServers:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "cannot connect: the server closed the connection"),
            (HELLO[:20], "cannot connect: the server closed the connection"),
            (b"NBDMAGIC" + bytes(100), "not a server of this protocol: .*SCSTLOCL"),
            (HelloReply(7, text="go away").serialize(), "the server refused: go away"),
        ],
    )
    def test_bad_hello_is_reported(self, serve_one: ServeOne, data: bytes, message: str) -> None:
        def script(sock: socket.socket) -> None:
            sock.recv(4096)
            sock.sendall(data)

        path, _ = serve_one(script)
        with pytest.raises(LocalError, match=f"{path}: {message}"):
            LocalClient.connect(path)

    def test_server_that_says_nothing_is_given_up(self, serve_one: ServeOne) -> None:
        def script(sock: socket.socket) -> None:
            while sock.recv(4096):
                pass

        path, _ = serve_one(script)
        with pytest.raises(LocalError, match=f"{path}: no answer within 0.05 s"):
            LocalClient.connect(path, timeout_s=0.05)

    def test_hello_in_pieces_is_put_together(self, serve_one: ServeOne) -> None:
        def script(sock: socket.socket) -> None:
            sock.recv(4096)
            for index in range(len(HELLO)):
                sock.sendall(HELLO[index : index + 1])
            sock.recv(1)

        path, _ = serve_one(script)
        with LocalClient.connect(path) as client:
            assert client.initiator_name == "tester"

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (b"", "the server closed the connection"),
            (ResponseFrame(1, 0).serialize()[:-1], "the server closed the connection"),
            (ResponseFrame(1, 0, 4).serialize() + b"abc", "the server closed the connection"),
            (ResponseFrame(2, 0).serialize(), "the server broke the protocol: tag 2"),
            (ResponseFrame(1, 0, 5).serialize(), "the server broke the protocol: tag 1"),
            (CommandFrame(1, 0, bytes(6)).serialize(), "broke the protocol: frame type 1"),
            (
                ResponseFrame(1, 2, 0, 253).serialize(),
                "the server broke the protocol: sense data of 253 bytes",
            ),
            (
                ResponseFrame(1, 0, 0xFFFFFF00).serialize(),
                "the server broke the protocol: tag 1",
            ),
            (error_frame("you are wrong"), "the server refused: you are wrong"),
            (
                ResponseFrame(0, 0, 2, kind=FrameType.ERROR).serialize() + b"\xff!",
                "the server refused: \ufffd!",
            ),
        ],
    )
    def test_bad_answer_ends_the_session_and_is_remembered(
        self, serve_one: ServeOne, answer: bytes, message: str
    ) -> None:
        path, _ = serve_one(replying(answer))
        with LocalClient.connect(path) as client:
            tag = client.submit(0, TEST_UNIT_READY, view(4))
            for _ in range(2):
                with pytest.raises(LocalError, match=f"^{path}: .*{message}"):
                    client.wait(tag)
            with pytest.raises(LocalError, match=f"^{path}: .*{message}"):
                client.submit(0, TEST_UNIT_READY)

    def test_answer_in_pieces_is_put_together(self, serve_one: ServeOne) -> None:
        sense = sense_data.RESET_OCCURRED.encode()
        answer = ResponseFrame(1, Status.CHECK_CONDITION, 4, len(sense)).serialize()
        answer += b"data" + sense
        path, _ = serve_one(replying(*(answer[i : i + 1] for i in range(len(answer)))))
        with LocalClient.connect(path) as client:
            buffer = view(10)
            reply = client.execute(Request(TEST_UNIT_READY, buffer))
        assert reply == Reply(Status.CHECK_CONDITION, sense_data.RESET_OCCURRED, 4)
        assert bytes(buffer[:4]) == b"data"

    def test_answers_before_the_end_are_kept(self, serve_one: ServeOne) -> None:
        first, second = ResponseFrame(1, 0).serialize(), ResponseFrame(2, 8).serialize()
        path, _ = serve_one(replying(second + first))
        with LocalClient.connect(path) as client:
            tags = [client.submit(0, TEST_UNIT_READY) for _ in range(3)]
            assert client.wait(tags[0]).status == Status.GOOD
            with pytest.raises(LocalError, match="the server closed the connection"):
                client.wait(tags[2])
            assert client.wait(tags[1]).status == Status.BUSY

    def test_what_the_server_said_last_explains_why_sending_failed(
        self, serve_one: ServeOne
    ) -> None:
        def script(sock: socket.socket) -> None:
            sock.recv(4096)
            sock.sendall(HELLO + error_frame("shutting down"))

        path, thread = serve_one(script)
        with closing(LocalClient.connect(path)) as client:
            thread.join(DEADLINE_S)
            with pytest.raises(LocalError, match=f"{path}: the server refused: shutting down"):
                client.submit(0, TEST_UNIT_READY, None, view(1 << 20))

    def test_server_that_dies_while_data_out_is_sent_is_reported(self, serve_one: ServeOne) -> None:
        def script(sock: socket.socket) -> None:
            sock.recv(4096)
            sock.sendall(HELLO)
            sock.recv(1000)

        path, _ = serve_one(script)
        with (
            LocalClient.connect(path) as client,
            pytest.raises(LocalError, match=f"{path}: (receive failed|the server closed)"),
        ):
            client.execute(Request(write_16(0, 2048), None, view(1 << 20)))
