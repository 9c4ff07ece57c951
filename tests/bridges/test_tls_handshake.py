# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS handshakes on both event loops, good and bad, and what the log says of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from bridges.tls import TlsCredentials
from bridges.tls_handshake import TlsHandshake, reason_of
from bridges.transport import Certificate, PlainTransport
from tests.bridges.certificates import (
    DAY,
    Authority,
    client_context,
    write_client,
    write_server,
)

DEADLINE_S = 20.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Meeting:
    """The server's handshake on a loop, and the client's socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext) -> None:
        self.loop = loop
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.certificates: list[Certificate | None] = []
        self.failures = 0
        self.handshake = TlsHandshake(
            loop, context, "somebody", self.certificates.append, self._failed
        )
        assert not self.handshake.has_begun
        self.transport = self.handshake.begin(PlainTransport(ours))
        assert self.handshake.has_begun

    def _failed(self) -> None:
        self.failures += 1

    def turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))

    def until_ended(self) -> None:
        """Turn the loop, and the client's handshake, until the server's is over."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not (self.certificates or self.failures):
            assert time.monotonic() < deadline_s, "the handshake does not end"
            self.turn()
            self._step_peer()
        assert len(self.certificates) + self.failures == 1

    def _step_peer(self) -> None:
        if isinstance(self.peer, ssl.SSLSocket):
            try:
                self.peer.do_handshake()
            except OSError:
                # To be continued, or the client has found something wrong itself.
                return

    def secure_peer(self, context: ssl.SSLContext) -> None:
        context.check_hostname = False
        self.peer = context.wrap_socket(self.peer, do_handshake_on_connect=False)

    def close(self) -> None:
        self.handshake.cancel()
        self.transport.close()
        self.peer.close()


Meet = Callable[..., Meeting]


@pytest.fixture(params=LOOPS)
def meet(request: pytest.FixtureRequest) -> Iterator[Meet]:
    loop = LOOPS[request.param]()
    meetings: list[Meeting] = []

    def begin(context: ssl.SSLContext) -> Meeting:
        meetings.append(Meeting(loop, context))
        return meetings[-1]

    yield begin
    for meeting in meetings:
        meeting.close()
    loop.close()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> ssl.SSLContext:
    """A server that asks for certificates."""
    folder = write_server(tmp_path / "server", authority)
    return TlsCredentials.load(folder, verify_peer=True).context()


def test_client_with_a_certificate_is_let_in(
    meet: Meet, server: ssl.SSLContext, authority: Authority, tmp_path: Path
) -> None:
    meeting = meet(server)
    meeting.secure_peer(client_context(write_client(tmp_path, authority, authority.client())))
    meeting.until_ended()
    (certificate,) = meeting.certificates
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "alice"),),)


def test_client_that_is_not_asked_for_a_certificate_has_none(
    meet: Meet, authority: Authority, tmp_path: Path
) -> None:
    credentials = TlsCredentials.load(write_server(tmp_path, authority), verify_peer=False)
    meeting = meet(credentials.context())
    meeting.secure_peer(client_context(write_client(tmp_path, authority, authority.client())))
    meeting.until_ended()
    assert meeting.certificates == [None]


def _no_certificate(authority: Authority, folder: Path) -> ssl.SSLContext:
    return client_context(write_client(folder, authority))


def _expired(authority: Authority, folder: Path) -> ssl.SSLContext:
    return client_context(write_client(folder, authority, authority.client("old", -DAY)))


def _stranger(authority: Authority, folder: Path) -> ssl.SSLContext:
    return client_context(write_client(folder, authority, Authority("another").client()))


def _server_as_client(authority: Authority, folder: Path) -> ssl.SSLContext:
    return client_context(write_client(folder, authority, authority.server()))


def _distrustful(authority: Authority, folder: Path) -> ssl.SSLContext:
    return client_context(write_client(folder, Authority("another"), authority.client()))


def _without_cipher(authority: Authority, folder: Path) -> ssl.SSLContext:
    context = client_context(write_client(folder, authority, authority.client()))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # The server's key is an elliptic one.
    context.set_ciphers("AES256-GCM-SHA384")
    return context


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_no_certificate, "no client certificate"),
        (_expired, "client certificate: certificate has expired"),
        (_stranger, "client certificate of an unknown CA (unable to get local issuer certificate)"),
        (_distrustful, "the client does not know the CA of this server's certificate"),
        (_without_cipher, "no cipher in common"),
    ],
)
def test_bad_client_is_refused_with_one_clear_line(
    meet: Meet,
    server: ssl.SSLContext,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Authority, Path], ssl.SSLContext],
    reason: str,
) -> None:
    meeting = meet(server)
    meeting.secure_peer(make(authority, tmp_path))
    meeting.until_ended()
    assert meeting.failures == 1
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines == [f"somebody: TLS handshake failed: {reason}"]


def test_certificate_for_another_purpose_is_refused(
    meet: Meet,
    server: ssl.SSLContext,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    meeting = meet(server)
    meeting.secure_peer(_server_as_client(authority, tmp_path))
    meeting.until_ended()
    assert meeting.failures == 1
    # OpenSSL 3.0 and 3.2 spell it differently.
    assert "client certificate: unsuit" in caplog.text


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"IHAVEOPT\0\0\0\7\0\0\0\0", "plaintext or wrong version number"),
        (b"GET / HTTP/1.1\r\n\r\n", "plaintext: an HTTP request"),
    ],
)
def test_plaintext_is_refused(
    meet: Meet,
    server: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    reason: str,
) -> None:
    meeting = meet(server)
    meeting.peer.send(sent)
    meeting.until_ended()
    assert meeting.failures == 1
    assert f"somebody: TLS handshake failed: {reason}" in caplog.text


def test_client_that_hangs_up_is_noticed(
    meet: Meet, server: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    meeting = meet(server)
    # The beginning of a record that announces more.
    meeting.peer.send(b"\x16\x03\x01\x02\x00\x01")
    meeting.turn()
    meeting.peer.close()
    meeting.until_ended()
    assert meeting.failures == 1
    assert "TLS handshake failed: the client hung up" in caplog.text


def test_cancelled_handshake_calls_nobody(
    meet: Meet, server: ssl.SSLContext, authority: Authority, tmp_path: Path
) -> None:
    meeting = meet(server)
    meeting.handshake.cancel()
    meeting.peer.send(b"IHAVEOPT\0\0\0\7\0\0\0\0")
    for _ in range(5):
        meeting.turn()
    assert (meeting.certificates, meeting.failures) == ([], 0)


def test_handshake_that_waits_for_room_to_send_goes_on(
    meet: Meet, authority: Authority, tmp_path: Path
) -> None:
    # A chain far longer than the smallest socket buffers.
    folder = write_server(tmp_path, authority)
    others = (authority.server(f"host{number}").certificate_pem for number in range(150))
    with (folder / "server-cert.pem").open("ab") as file:
        file.writelines(others)
    context = TlsCredentials.load(folder, verify_peer=False).context()
    meeting = meet(context)
    for end in (meeting.peer.fileno(), meeting.transport.fileno()):
        with socket.socket(fileno=end) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sock.detach()
    meeting.secure_peer(client_context(write_client(folder, authority)))
    meeting.until_ended()
    assert meeting.certificates == [None]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(113, "No route to host"), "No route to host"),
        (ConnectionResetError(104, "Connection reset by peer"), "the client hung up"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "the client hung up"),
        (OSError("something"), "something"),
    ],
)
def test_other_failures_keep_their_words(error: OSError, words: str) -> None:
    assert reason_of(error) == words
