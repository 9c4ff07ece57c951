# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets that were passed: taking them, and which listen lines they have the terms of."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridges.access import AccessRules, parse_rule
from bridges.inherited import (
    NOTHING_INHERITED,
    Inherited,
    InheritedError,
    PassedSocket,
    listens_in_force,
    stdio_terms,
    take_passed_sockets,
)
from bridges.listen import Listen, TlsMode
from bridges.listeners import Address

DEFAULT = Listen(Address(), connection_memory_bytes=65536)
TCP = Listen(Address("127.0.0.1", 10809))


def line(word: str, tls: TlsMode = TlsMode.ON, access: AccessRules | None = None) -> Listen:
    """A listen line."""
    return Listen(Address.parse(word, 1), tls, access or AccessRules())


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def listening(tmp_path: Path, closing: ExitStack) -> Callable[[str], PassedSocket]:
    def make(name: str) -> PassedSocket:
        path = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        return PassedSocket(name, closing.enter_context(Address(path=str(path)).listen()))

    return make


Listening = Callable[[str], PassedSocket]


def passed(*sockets: PassedSocket) -> Inherited:
    return Inherited(listening=sockets)


def test_without_variables_nothing_is_passed() -> None:
    assert take_passed_sockets({}) == ()


def test_variables_of_another_process_are_cleared_and_not_followed() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", "HOME": "/"}
    assert take_passed_sockets(environ) == ()
    assert environ == {"HOME": "/"}


# Descriptors from 3 on are the test runner's: a process of its own looks at them.
TAKER = """\
import os, socket, sys
from bridges.inherited import InheritedError, take_passed_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    for passed in take_passed_sockets(os.environ):
        sock = passed.sock
        print(passed.name, sock.fileno(), sock.getsockname(), sock.getblocking(),
              sock.get_inheritable())
except InheritedError as error:
    print(error)
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def taken(fds: dict[int, int], **variables: str) -> list[str]:
    """Let a process have descriptors at these numbers, and take them; return what it says."""

    def place() -> None:
        # Out of one another's way first.
        spare = {number: os.dup2(fd, 100 + number) for number, fd in fds.items()}
        for number, fd in spare.items():
            os.dup2(fd, number)
            os.close(fd)

    done = subprocess.run(
        [sys.executable, "-c", TAKER],
        env={**os.environ, **variables},
        preexec_fn=place,
        close_fds=False,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, left = done.stdout.splitlines()
    assert left == "[]"
    return lines


def test_sockets_are_taken_with_their_names(listening: Listening) -> None:
    one, two = listening("x"), listening("y")
    fds = {3: one.sock.fileno(), 4: two.sock.fileno()}
    assert taken(fds, LISTEN_FDS="2", LISTEN_FDNAMES="nbd:other") == [
        f"nbd 3 {one.sock.getsockname()} False False",
        f"other 4 {two.sock.getsockname()} False False",
    ]


def test_sockets_without_names_are_called_unknown(listening: Listening) -> None:
    one = listening("x")
    name = one.sock.getsockname()
    assert taken({3: one.sock.fileno()}, LISTEN_FDS="1") == [f"unknown 3 {name} False False"]


def test_what_is_passed_must_be_a_listening_stream_socket(
    closing: ExitStack, tmp_path: Path
) -> None:
    connected, other = socket.socketpair()
    datagram = closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    file = closing.enter_context((tmp_path / "file").open("w"))
    for sock in (connected, other):
        closing.enter_context(sock)
    for fd, expected in (
        (connected.fileno(), "expected a listening socket"),
        (datagram.fileno(), "expected a stream socket"),
        (file.fileno(), "expected a socket"),
    ):
        lines = taken({3: fd}, LISTEN_FDS="1")
        assert lines == [f"descriptor 3 of LISTEN_FDS: {expected}"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LISTEN_FDS": "many"}, "LISTEN_FDS 'many': expected a number"),
        ({"LISTEN_FDS": ""}, "LISTEN_FDS '': expected a number"),
        (
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b:c"},
            "LISTEN_FDNAMES 'a:b:c': expected 2 names",
        ),
    ],
)
def test_variables_that_do_not_fit_are_told(variables: dict[str, str], message: str) -> None:
    with pytest.raises(InheritedError, match=message):
        take_passed_sockets({"LISTEN_PID": str(os.getpid()), **variables})


def test_without_sockets_the_lines_are_in_force() -> None:
    lines = (TCP, line("unix:/s"))
    assert listens_in_force(lines, NOTHING_INHERITED, DEFAULT) == lines


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("systemd", r"a socket, and none was passed \(LISTEN_FDS\)"),
        ("systemd:nbd", r"a socket, and none was passed \(LISTEN_FDS\)"),
        ("stdio", "--stdio"),
    ],
)
def test_a_line_for_what_was_not_passed_is_an_error(word: str, expected: str) -> None:
    with pytest.raises(InheritedError, match=f"^listen {word}: expected {expected}$"):
        listens_in_force((TCP, line(word)), NOTHING_INHERITED, DEFAULT)


def test_passed_sockets_replace_the_addresses_on_default_terms(listening: Listening) -> None:
    one, two = listening("a"), listening("b")
    found = listens_in_force((TCP, line("unix:/s")), passed(one, two), DEFAULT)
    assert found == (
        Listen(Address.of(one.sock), connection_memory_bytes=65536, passed=(one.sock,)),
        Listen(Address.of(two.sock), connection_memory_bytes=65536, passed=(two.sock,)),
    )


def test_passed_sockets_have_the_terms_of_their_name_or_of_any(listening: Listening) -> None:
    one, two, three = listening("a"), listening("b"), listening("a")
    lines = (TCP, line("systemd:a", TlsMode.REQUIRE), line("systemd", TlsMode.ON))
    found = listens_in_force(lines, passed(one, two, three), DEFAULT)
    modes = [listen.tls for listen in found]
    assert modes == [TlsMode.REQUIRE, TlsMode.ON, TlsMode.REQUIRE]
    assert [listen.passed for listen in found] == [(one.sock,), (two.sock,), (three.sock,)]


def test_a_socket_without_a_line_is_not_served_on_weaker_terms(listening: Listening) -> None:
    message = "^socket 'b' was passed: expected a line listen systemd:b$"
    with pytest.raises(InheritedError, match=message):
        listens_in_force((line("systemd:a"),), passed(listening("b")), DEFAULT)


def test_a_line_whose_socket_is_missing_is_an_error(listening: Listening) -> None:
    lines = (line("systemd"), line("systemd:a"))
    message = "^listen systemd:a: expected a socket, and none of that name was passed$"
    with pytest.raises(InheritedError, match=message):
        listens_in_force(lines, passed(listening("b")), DEFAULT)


def test_rules_must_look_at_what_peers_of_the_passed_socket_have(listening: Listening) -> None:
    rules = AccessRules(allow=(parse_rule("10.0.0.0/8"),))
    one = listening("a")
    message = f"^listen systemd: {Address.of(one.sock)}: allow 10.0.0.0/8: expected uid=N or gid=N$"
    with pytest.raises(InheritedError, match=message):
        listens_in_force((line("systemd", access=rules),), passed(one), DEFAULT)


def test_a_client_on_stdio_replaces_every_listener(closing: ExitStack) -> None:
    one, other = socket.socketpair()
    closing.enter_context(one)
    closing.enter_context(other)
    lines = (TCP, line("stdio", TlsMode.REQUIRE), line("systemd"))
    assert listens_in_force(lines, Inherited(stdio=one), DEFAULT) == ()
    assert stdio_terms(lines, DEFAULT) == lines[1]
    terms = stdio_terms((TCP,), DEFAULT)
    assert terms == Listen(Address(inherited="stdio"), connection_memory_bytes=65536)


STDIO = """\
import os, sys
from bridges.inherited import InheritedError, occupy_standard_descriptors, take_stdio
occupy_standard_descriptors()
try:
    sock = take_stdio()
except InheritedError as error:
    sys.stderr.write(str(error))
    sys.exit(1)
print("printed", flush=True)
sys.stderr.write("logged")
sys.stderr.flush()
sock.sendall(b"served")
sock.close()
# The connection has ended, although this process has not.
os.read(int(sys.argv[1]), 1)
"""


@pytest.mark.parametrize("is_stderr_too", [False, True])
def test_only_what_is_served_reaches_the_client_on_stdio(is_stderr_too: bool) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    ours.settimeout(30)
    with ours:
        process = subprocess.Popen(
            [sys.executable, "-c", STDIO, str(reader)],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno() if is_stderr_too else subprocess.PIPE,
            pass_fds=(reader,),
        )
        theirs.close()
        with ours.makefile("rb") as replies:
            assert replies.read() == b"served"
    for fd in (reader, writer):
        os.close(fd)
    _, errors = process.communicate(timeout=30)
    assert errors == (None if is_stderr_too else b"logged")
    assert process.returncode == 0


def test_a_standard_output_of_its_own_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    os.close(writer)
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", STDIO, str(reader)],
            stdin=theirs.fileno(),
            capture_output=True,
            pass_fds=(reader,),
            timeout=30,
        )
        assert (done.stdout, done.stderr) == (b"printed\n", b"logged")
        assert ours.recv(100) == b"served"
    os.close(reader)


# Says by its exit status whether a file opened later has the number of a standard stream.
CLOSED = """\
import os, sys
from bridges.inherited import InheritedError, occupy_standard_descriptors, take_stdio
occupy_standard_descriptors()
try:
    take_stdio().sendall(b"served")
except InheritedError:
    pass
sys.exit(os.open(os.devnull, os.O_RDONLY) < 3)
"""


@pytest.mark.parametrize(
    ("closed", "expected"),
    [((1,), b"served"), ((2,), b"served"), ((1, 2), b"served"), ((0,), b""), ((0, 1, 2), b"")],
)
def test_closed_standard_streams_are_nobodys(closed: tuple[int, ...], expected: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)

    def close() -> None:
        for fd in closed:
            os.close(fd)

    with ours:
        process = subprocess.Popen(
            [sys.executable, "-c", CLOSED], stdin=theirs.fileno(), preexec_fn=close
        )
        theirs.close()
        assert ours.recv(100) == expected
        assert process.wait(30) == 0


def test_a_standard_input_that_is_no_connection_is_refused(closing: ExitStack) -> None:
    listening = closing.enter_context(Address("127.0.0.1", 0).listen())
    datagram = closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    expected = "standard input: expected a socket, as inetd and libnbd's connect_command pass it"
    for stdin, text in (
        (subprocess.DEVNULL, expected),
        (listening.fileno(), f"{expected}; this one listens"),
        (datagram.fileno(), "standard input: expected a stream socket"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", STDIO, "0"],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", text)
