# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses as words, listening and what stands in its way, accepting on an event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import cast

import pytest

from bridges.listeners import Address, Listener, peer_host, peer_name, remove_stale_socket

DEADLINE_S = 20
DEFAULT_PORT = 10809
WRONG = r"^expected HOST:PORT, \[IPv6\]:PORT, unix:/PATH, vsock:PORT, systemd or stdio$"
LONGEST_PATH = "/" + "p" * 106


@pytest.mark.parametrize(
    ("word", "host", "port", "text"),
    [
        ("localhost", "localhost", DEFAULT_PORT, "localhost:10809"),
        ("0.0.0.0", "0.0.0.0", DEFAULT_PORT, "0.0.0.0:10809"),
        ("127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
        ("nbd.example.org:65535", "nbd.example.org", 65535, "nbd.example.org:65535"),
        ("host:0", "host", 0, "host:0"),
        ("host:00080", "host", 80, "host:80"),
        ("[::1]", "::1", DEFAULT_PORT, "[::1]:10809"),
        ("[::]:10", "::", 10, "[::]:10"),
        ("[fe80::1%eth0]:10", "fe80::1%eth0", 10, "[fe80::1%eth0]:10"),
    ],
)
def test_a_host_and_port_are_read_and_written(word: str, host: str, port: int, text: str) -> None:
    address = Address.parse(word, DEFAULT_PORT)
    assert (address.host, address.port, address.path) == (host, port, "")
    assert str(address) == text
    assert Address.parse(text, 1) == address


@pytest.mark.parametrize("path", ["/run/nbd.sock", "/with blank", "/a:b", LONGEST_PATH, "/ü"])
def test_a_unix_path_is_read_and_written(path: str) -> None:
    address = Address.parse(f"unix:{path}", DEFAULT_PORT)
    assert (address.host, address.port, address.path) == ("", 0, path)
    assert str(address) == f"unix:{path}"


@pytest.mark.parametrize(
    "word",
    [
        "",
        ":10809",
        "host:",
        "host:x",
        "host:-1",
        "host:+1",
        "host: 1",
        "host:65536",
        "host:" + "9" * 5000,
        "host:\u0661",
        "host:1:2",
        "::1",
        "fe80::1:10809",
        "[]",
        "[]:1",
        "[::1",
        "[::1]x",
        "[::1]10809",
        "[::1]:",
        "h" * 64,
        "a..b:1",
        "systemd:",
        "systemd:a:b",
        "systemd:a b",
        "systemd:" + "n" * 256,
        "stdio:x",
    ],
)
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=WRONG):
        Address.parse(word, DEFAULT_PORT)


@pytest.mark.parametrize("path", ["", "relative", "./x", LONGEST_PATH + "p", "/" + "ü" * 54])
def test_unix_paths_that_no_socket_can_have_are_refused(path: str) -> None:
    message = "^expected unix: and an absolute path of at most 107 bytes$"
    with pytest.raises(ValueError, match=message):
        Address.parse(f"unix:{path}", DEFAULT_PORT)


@pytest.mark.parametrize(
    ("word", "cid", "port", "text"),
    [
        ("vsock:10809", 0xFFFFFFFF, 10809, "vsock:10809"),
        ("vsock:4294967295:10809", 0xFFFFFFFF, 10809, "vsock:10809"),
        ("vsock:2:1", 2, 1, "vsock:2:1"),
        ("vsock:0:4294967294", 0, 4294967294, "vsock:0:4294967294"),
    ],
)
def test_a_vsock_port_is_read_and_written(word: str, cid: int, port: int, text: str) -> None:
    address = Address.parse(word, DEFAULT_PORT)
    assert (address.host, address.path, address.cid, address.port) == ("", "", cid, port)
    assert str(address) == text
    assert Address.parse(text, DEFAULT_PORT) == address


@pytest.mark.parametrize(
    "word",
    [
        "vsock:",
        "vsock:x",
        "vsock:0",
        "vsock:-1",
        "vsock:4294967295",
        "vsock:4294967296:1",
        "vsock:1:",
        "vsock:1:2:3",
        "vsock:" + "9" * 5000,
    ],
)
def test_other_vsock_ports_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"^expected vsock:PORT or vsock:CID:PORT$"):
        Address.parse(word, DEFAULT_PORT)


@pytest.mark.parametrize("word", ["stdio", "systemd", "systemd:nbd", "systemd:a-b_c.socket"])
def test_sockets_that_are_passed_have_words_and_cannot_be_opened(word: str) -> None:
    address = Address.parse(word, DEFAULT_PORT)
    assert (address.inherited, str(address)) == (word, word)
    with pytest.raises(OSError, match=f"cannot listen on {word}: no socket of that name"):
        address.listen()


def test_a_vsock_port_is_listened_on(closing: ExitStack) -> None:
    try:
        closing.enter_context(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
    except OSError as error:
        pytest.skip(f"this kernel has no AF_VSOCK: {error}")
    sock = closing.enter_context(Address.parse("vsock:29809", DEFAULT_PORT).listen())
    assert not sock.getblocking()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert Address.of(sock) == Address(cid=0xFFFFFFFF, port=29809)
    with pytest.raises(OSError, match="cannot listen on vsock:29809: Address already in use"):
        Address.parse("vsock:29809", DEFAULT_PORT).listen()


def test_a_vsock_client_is_served_where_the_kernel_loops_back(closing: ExitStack) -> None:
    try:
        server = closing.enter_context(Address.parse("vsock:29810", DEFAULT_PORT).listen())
        client = closing.enter_context(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
        client.settimeout(1)
        # VMADDR_CID_LOCAL
        client.connect((1, 29810))
    except OSError as error:
        pytest.skip(f"no vsock loopback (module vsock_loopback): {error}")
    peer, _ = server.accept()
    closing.enter_context(peer)
    assert peer_name(peer) == "vsock:cid=1"


def test_a_kernel_without_vsock_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match="not supported") as caught:
        Address(cid=2, port=10809).listen()
    reason = "cannot listen on vsock:2:10809: Address family not supported by protocol"
    assert caught.value.strerror == reason


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connected(address: tuple[str, int] | str, closing: ExitStack) -> socket.socket:
    """A client's socket."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = closing.enter_context(socket.socket(family, socket.SOCK_STREAM))
    sock.settimeout(DEADLINE_S)
    sock.connect(address)
    return sock


def test_listening_on_port_0_gets_a_free_port(closing: ExitStack) -> None:
    sock = closing.enter_context(Address("127.0.0.1", 0).listen())
    assert sock.getsockname()[1] > 0
    assert not sock.getblocking()
    connected(sock.getsockname(), closing)
    peer, _ = sock.accept()
    peer.close()


def test_a_port_in_use_is_refused_by_name(closing: ExitStack) -> None:
    port = closing.enter_context(Address("127.0.0.1", 0).listen()).getsockname()[1]
    with pytest.raises(OSError, match="in use") as caught:
        Address("127.0.0.1", port).listen()
    assert caught.value.errno == errno.EADDRINUSE
    reason = f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert caught.value.strerror == reason


def test_a_port_can_be_had_again_right_after_its_connections(closing: ExitStack) -> None:
    first = Address("127.0.0.1", 0).listen()
    port = first.getsockname()[1]
    client = connected(("127.0.0.1", port), closing)
    peer, _ = first.accept()
    # The server's side closes first, so that its port goes to TIME_WAIT.
    peer.close()
    first.close()
    assert client.recv(1) == b""
    client.close()
    closing.enter_context(Address("127.0.0.1", port).listen())


@pytest.mark.parametrize("word", ["192.0.2.1:10809", "[fe80::1%no-such-if]:10809"])
def test_an_address_of_somebody_else_is_refused_by_name(word: str) -> None:
    with pytest.raises(OSError, match=f"] cannot listen on {re.escape(word)}: "):
        Address.parse(word, DEFAULT_PORT).listen()


def test_ipv6_is_listened_on(closing: ExitStack) -> None:
    try:
        sock = closing.enter_context(Address.parse("[::1]:0", DEFAULT_PORT).listen())
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert sock.family == socket.AF_INET6
    client = closing.enter_context(socket.create_connection(sock.getsockname()[:2], DEADLINE_S))
    peer, _ = sock.accept()
    closing.enter_context(peer)
    assert peer_name(peer) == "::1"
    assert peer_name(client) == "::1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_a_numeric_host_stands_for_itself_with_its_scope(host: str) -> None:
    if ":" in host and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    assert Address(host, 1).resolve() == [Address(host, 1)]


# In a network of its own: this machine may have no link-local address.
SCOPED = """\
import socket
from bridges.listeners import Address
(address,) = Address("fe80::1%lo", 0).resolve()
with address.listen() as sock, socket.socket(socket.AF_INET6) as client:
    client.connect(sock.getsockname())
    print("connected")
"""


def test_a_link_local_address_is_listened_on() -> None:
    network = "ip link set lo up && ip -6 address add fe80::1/64 dev lo nodad"
    if subprocess.run(["unshare", "-rn", "sh", "-c", network], capture_output=True).returncode:
        pytest.skip("needs to make a network namespace with IPv6 (unshare -rn)")
    words = ["unshare", "-rn", "sh", "-c", f'{network} && exec "$@"', "sh", sys.executable, "-c"]
    done = subprocess.run([*words, SCOPED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("connected\n", "")


def test_a_unix_socket_is_made_with_its_folders(tmp_path: Path, closing: ExitStack) -> None:
    path = tmp_path / "new" / "folder" / "s"
    sock = closing.enter_context(Address(path=str(path)).listen())
    # Whatever the umask, only the owner can connect.
    assert stat.filemode(path.stat().st_mode) == "srw-------"
    connected(str(path), closing)
    peer, _ = sock.accept()
    peer.close()


def test_a_stale_socket_is_replaced(tmp_path: Path, closing: ExitStack) -> None:
    path = tmp_path / "s"
    Address(path=str(path)).listen().close()
    assert path.exists()
    closing.enter_context(Address(path=str(path)).listen())
    connected(str(path), closing)


def test_a_live_socket_is_refused_and_keeps_working(tmp_path: Path, closing: ExitStack) -> None:
    path = tmp_path / "s"
    first = closing.enter_context(Address(path=str(path)).listen())
    with pytest.raises(OSError, match="another server listens there") as caught:
        Address(path=str(path)).listen()
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == f"cannot listen on unix:{path}: another server listens there"
    connected(str(path), closing)
    # The probe came first, then the client.
    for _ in range(2):
        peer, _ = first.accept()
        peer.close()


def test_a_file_that_is_no_socket_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError, match="exists and is no socket") as caught:
        Address(path=str(path)).listen()
    assert caught.value.errno == errno.EEXIST
    assert path.read_text() == "precious"


def test_a_folder_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "s"
    with pytest.raises(OSError, match=f"cannot listen on unix:{re.escape(str(path))}: "):
        Address(path=str(path)).listen()


def test_a_path_without_a_file_has_nothing_stale(tmp_path: Path) -> None:
    remove_stale_socket(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_the_peer_of_a_unix_socket_is_its_user(closing: ExitStack) -> None:
    for sock in socket.socketpair():
        closing.enter_context(sock)
        assert peer_name(sock) == f"unix:uid={os.getuid()}"
        assert peer_host(sock) is None


def test_the_peer_of_a_tcp_connection_is_its_host(closing: ExitStack) -> None:
    server = closing.enter_context(Address("127.0.0.1", 0).listen())
    client = connected(server.getsockname(), closing)
    peer, _ = server.accept()
    closing.enter_context(peer)
    assert peer_name(peer) == "127.0.0.1"
    assert peer_name(client) == "127.0.0.1"


class NamedPeer:
    """A connected socket, as far as its peer's name goes."""

    def __init__(self, family: socket.AddressFamily, name: tuple[object, ...]) -> None:
        self.family = family
        self._name = name

    def getpeername(self) -> tuple[object, ...]:
        """See ``socket``."""
        return self._name


@pytest.mark.parametrize(
    ("family", "name", "expected", "network"),
    [
        (socket.AF_VSOCK, (3, 1024), "vsock:cid=3", None),
        (socket.AF_INET, ("192.0.2.7", 1024), "192.0.2.7", "192.0.2.0/24"),
        (socket.AF_INET6, ("::ffff:192.0.2.7", 1024, 0, 0), "192.0.2.7", "192.0.2.0/24"),
        (socket.AF_INET6, ("fe80::1%eth0", 1024, 0, 2), "fe80::1%eth0", "fe80::/64"),
    ],
)
def test_peers_have_one_name_each_and_those_of_a_network_a_host(
    family: socket.AddressFamily, name: tuple[object, ...], expected: str, network: str | None
) -> None:
    sock = cast(socket.socket, NamedPeer(family, name))
    assert peer_name(sock) == expected
    host = peer_host(sock)
    assert (host is None) is (network is None)
    assert host is None or network is None or host in ip_network(network)


@pytest.mark.parametrize("word", ["127.0.0.1:0", "unix:{}/s", "unix:{}/a b"])
def test_a_socket_tells_where_it_listens(tmp_path: Path, closing: ExitStack, word: str) -> None:
    address = Address.parse(word.format(tmp_path), DEFAULT_PORT)
    sock = closing.enter_context(address.listen())
    port = 0 if address.path else sock.getsockname()[1]
    assert Address.of(sock) == Address(address.host, port, address.path)


def test_a_name_in_the_abstract_namespace_is_told_with_an_at_sign(closing: ExitStack) -> None:
    sock = closing.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(b"\0doors-test")
    assert str(Address.of(sock)) == "unix:@doors-test"


def test_the_peer_of_a_connection_that_is_gone_has_no_name(closing: ExitStack) -> None:
    sock = closing.enter_context(socket.socket())
    with pytest.raises(OSError, match="not connected"):
        peer_name(sock)
    with pytest.raises(OSError, match="not connected"):
        peer_host(sock)


class Doorman:
    """A listener on a running loop, and the connections it accepted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address) -> None:
        self.accepted: list[socket.socket] = []
        self.listener = Listener(loop, address, self.accepted.append)

    async def until(self, count: int) -> None:
        """Wait for that many connections."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.accepted) < count:
                await asyncio.sleep(0.001)


def at(address: Address, visit: Callable[[Doorman], Awaitable[None]]) -> None:
    """Start a listener, let ``visit`` do its work, stop and close everything."""

    async def run() -> None:
        doorman = Doorman(asyncio.get_running_loop(), address)
        doorman.listener.start()
        try:
            await visit(doorman)
        finally:
            doorman.listener.stop()
            for sock in doorman.accepted:
                sock.close()

    asyncio.run(run())


def test_a_listener_tells_the_port_that_it_got(closing: ExitStack) -> None:
    async def visit(doorman: Doorman) -> None:
        address = doorman.listener.address
        assert address.host == "127.0.0.1"
        assert address.port > 0
        connected((address.host, address.port), closing)
        await doorman.until(1)

    at(Address("127.0.0.1", 0), visit)


def test_more_connections_than_one_turn_takes_are_all_accepted(
    tmp_path: Path, closing: ExitStack
) -> None:
    path = str(tmp_path / "s")

    async def visit(doorman: Doorman) -> None:
        for number in range(150):
            connected(path, closing).sendall(number.to_bytes(2, "big"))
        await doorman.until(150)
        numbers = [int.from_bytes(sock.recv(2), "big") for sock in doorman.accepted]
        assert numbers == list(range(150))

    at(Address(path=path), visit)


def test_a_stopped_listener_takes_its_socket_away(tmp_path: Path, closing: ExitStack) -> None:
    path = tmp_path / "s"

    async def visit(doorman: Doorman) -> None:
        assert path.exists()
        doorman.listener.stop()
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            connected(str(path), closing)
        # Stopping twice does no harm.
        doorman.listener.stop()

    at(Address(path=str(path)), visit)


def test_a_stopped_listener_leaves_the_socket_of_its_successor(
    tmp_path: Path, closing: ExitStack
) -> None:
    path = tmp_path / "s"

    async def visit(doorman: Doorman) -> None:
        path.unlink()
        closing.enter_context(Address(path=str(path)).listen())
        doorman.listener.stop()
        connected(str(path), closing)

    at(Address(path=str(path)), visit)


def test_a_stopped_listener_frees_its_port(closing: ExitStack) -> None:
    async def visit(doorman: Doorman) -> None:
        port = doorman.listener.address.port
        doorman.listener.stop()
        with pytest.raises(ConnectionRefusedError):
            connected(("127.0.0.1", port), closing)

    at(Address("127.0.0.1", 0), visit)


def test_a_passed_socket_is_accepted_on_and_its_file_left_alone(
    tmp_path: Path, closing: ExitStack
) -> None:
    path = tmp_path / "s"
    passed = Address(path=str(path)).listen()

    async def run() -> None:
        accepted: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        listener = Listener(loop, Address.of(passed), accepted.append, (passed,))
        listener.start()
        connected(str(path), closing)
        async with asyncio.timeout(DEADLINE_S):
            while not accepted:
                await asyncio.sleep(0)
        listener.stop()
        accepted[0].close()

    asyncio.run(run())
    assert passed.fileno() == -1
    assert path.is_socket()


def test_stopping_a_listener_that_could_not_start_leaves_others_alone(
    tmp_path: Path, closing: ExitStack
) -> None:
    path = tmp_path / "s"
    closing.enter_context(Address(path=str(path)).listen())
    loop = asyncio.new_event_loop()
    closing.callback(loop.close)
    doorman = Doorman(loop, Address(path=str(path)))
    with pytest.raises(OSError, match="another server listens there"):
        doorman.listener.start()
    doorman.listener.stop()
    connected(str(path), closing)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let every attempt to open anything fail with EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(taken[0] if taken else highest)
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class ManualLoop:
    """Keeps readers and timers; the test calls them."""

    def __init__(self) -> None:
        self.readers: dict[object, Callable[[], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def add_reader(self, fd: object, callback: Callable[..., None], *args: object) -> None:
        """See asyncio."""
        self.readers[fd] = partial(callback, *args)

    def remove_reader(self, fd: object) -> None:
        """See asyncio; removing what is not there does no harm."""
        self.readers.pop(fd, None)

    def call_later(self, delay: float, callback: Callable[..., None], *args: object) -> None:
        """See asyncio."""
        self.timers.append((delay, partial(callback, *args)))


@pytest.mark.parametrize("is_stopped", [False, True])
def test_accepting_pauses_while_descriptors_have_run_out(
    tmp_path: Path, closing: ExitStack, caplog: pytest.LogCaptureFixture, is_stopped: bool
) -> None:
    path = str(tmp_path / "s")
    loop = ManualLoop()
    doorman = Doorman(cast(asyncio.AbstractEventLoop, loop), Address(path=path))
    doorman.listener.start()
    closing.callback(doorman.listener.stop)
    connected(path, closing)
    (readable,) = loop.readers.values()
    with caplog.at_level(logging.ERROR), no_descriptors_left():
        readable()
    assert caplog.messages == [f"unix:{path}: cannot accept: Too many open files"]
    # Until the pause is over a client that waits wakes nobody.
    assert not loop.readers
    ((delay_s, go_on),) = loop.timers
    assert 0.01 <= delay_s <= 1.0
    if is_stopped:
        doorman.listener.stop()
    go_on()
    assert len(loop.readers) == (0 if is_stopped else 1)
    for readable in loop.readers.values():
        readable()
    assert len(doorman.accepted) == (0 if is_stopped else 1)
    for sock in doorman.accepted:
        sock.close()
