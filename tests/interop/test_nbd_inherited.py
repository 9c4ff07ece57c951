# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that start the server themselves: by socket activation, and as their child on stdio."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridges.daemon_process import configure, nbd_section, until
from tests.interop.doors import MIB, Tools, program

PYTHON = "/usr/bin/python3"
SIZE = 4 * MIB
# Serves one client with the command of sys.argv[2:], by the call that sys.argv[1] names.
CLIENT = """\
import nbd, sys
handle = nbd.NBD()
getattr(handle, sys.argv[1])(sys.argv[2:])
handle.pwrite(b"libnbd!!" * 64, 4096)
handle.flush()
assert handle.pread(512, 4096) == b"libnbd!!" * 64
print(handle.get_size())
handle.shutdown()
del handle
"""
# Asks for the capacity by another door meanwhile.
BESIDES = """\
import nbd, subprocess, sys
handle = nbd.NBD()
handle.connect_command(sys.argv[3:])
words = [sys.argv[1], "cdb", sys.argv[2], "0", "9e 10", "0000000000000000", "00000020 0000"]
done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
print(done.stdout)
handle.shutdown()
"""
REFUSED = """\
import nbd, sys
handle = nbd.NBD()
try:
    handle.connect_command(sys.argv[1:])
except nbd.Error as error:
    print("refused")
"""


@pytest.fixture
def image(tools: Tools) -> Path:
    path = tools.path("disk.img")
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(autouse=True)
def _nothing_is_left(tools: Tools) -> Iterator[None]:
    """No process may outlive its client; each has a path of this folder in its command line."""
    yield
    until(lambda: not running(tools.folder), "every server has ended")


def running(folder: Path) -> list[str]:
    """The command lines that name this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in words:
            found.append(words)
    return found


def serve(folder: Path, *options: str, listen: str = "") -> list[str]:
    """The daemon's command line, with a configuration and a control socket in the folder."""
    conf = configure(folder, nbd_section(listen or f"unix:{folder}/own.sock"))
    return [program(), "serve", str(conf), "--control", str(folder / "control"), *options]


@pytest.fixture(scope="module", autouse=True)
def _has_libnbd() -> None:
    done = subprocess.run([PYTHON, "-c", "import nbd"], capture_output=True, timeout=30)
    if done.returncode:
        pytest.skip("needs libnbd's Python module (Debian package python3-libnbd)")


def test_nbdinfo_starts_the_daemon(tools: Tools, image: Path) -> None:
    shown = tools.run("nbdinfo", "--size", "--", "[", *serve(tools.folder), "]")
    assert shown == f"{SIZE}\n"
    assert not tools.path("own.sock").exists()


def test_nbdinfo_starts_the_daemon_on_the_terms_for_systemd(tools: Tools, image: Path) -> None:
    words = serve(tools.folder, listen="systemd")
    assert tools.run("nbdinfo", "--size", "--", "[", *words, "]") == f"{SIZE}\n"


def test_nbdinfo_starts_the_server_of_one_file_which_is_silent(tools: Tools, image: Path) -> None:
    words = ["nbdinfo", "--", "[", program(), "nbd", str(image), "rotational=0", "]"]
    done = tools.try_run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert {f"export-size: {SIZE} (4M)", "is_rotational: false", "can_trim: true"} <= set(lines)


def test_nbdcopy_starts_the_server_of_one_file(tools: Tools, image: Path) -> None:
    copy = tools.path("copy.img")
    words = [program(), "nbd", "-r", str(image)]
    tools.run("nbdcopy", "--", "[", *words, "]", str(copy))
    assert copy.read_bytes() == image.read_bytes()
    copy.write_bytes(bytes(SIZE))
    words = [program(), "nbd", str(copy)]
    tools.run("nbdcopy", "--", str(image), "[", *words, "]")
    assert copy.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("call", ["connect_systemd_socket_activation", "connect_command"])
def test_libnbd_starts_the_daemon_and_the_file_has_what_it_wrote(
    tools: Tools, image: Path, call: str
) -> None:
    options = ["--stdio"] if call == "connect_command" else []
    words = serve(tools.folder, *options)
    assert tools.run(PYTHON, "-c", CLIENT, call, *words) == f"{SIZE}\n"
    assert image.read_bytes()[4096:4608] == b"libnbd!!" * 64
    assert not tools.path("own.sock").exists()


@pytest.mark.parametrize("call", ["connect_systemd_socket_activation", "connect_command"])
def test_libnbd_starts_the_server_of_one_file(tools: Tools, image: Path, call: str) -> None:
    options = ["--stdio"] if call == "connect_command" else []
    words = [program(), "nbd", str(image), *options]
    assert tools.run(PYTHON, "-c", CLIENT, call, *words) == f"{SIZE}\n"
    assert image.read_bytes()[4096:4608] == b"libnbd!!" * 64


def test_systemd_passes_a_socket_by_name(tools: Tools, image: Path) -> None:
    activate = "systemd-socket-activate"
    if shutil.which(activate) is None:
        pytest.skip(f"needs {activate} (Debian package systemd)")
    path = tools.path("passed.sock")
    section = nbd_section("systemd:nbd").replace("nbd\n", f"nbd {{\nallow uid={os.getuid()}\n}}\n")
    words = [program(), "serve", str(configure(tools.folder, section))]
    words += ["--control", str(tools.path("control"))]
    with tools.path("log").open("w") as log:
        process = subprocess.Popen(
            [activate, "-l", str(path), "--fdname=nbd", *words],
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        until(lambda: path.is_socket() or process.poll() is not None, "systemd listens")
        uri = f"nbd+unix:///t?socket={path}"
        assert tools.run("nbdinfo", "--size", uri) == f"{SIZE}\n"
        # Once more, by the socket that the daemon has now.
        assert tools.run("nbdinfo", "--size", uri) == f"{SIZE}\n"
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    # It is systemd's.
    assert path.is_socket()


def test_other_drivers_are_served_beside_the_client_on_stdio(tools: Tools, image: Path) -> None:
    local = tools.path("local.sock")
    section = (
        f"TARGET_DRIVER scst_local {{\nsocket {local}\nTARGET l {{\nLUN 0 d\nenabled 1\n}}\n}}\n"
    )
    conf = configure(tools.folder, nbd_section("systemd"), section)
    words = [program(), "serve", "--stdio", str(conf)]
    shown = tools.run(PYTHON, "-c", BESIDES, program(), str(local), *words)
    assert shown.startswith("READ CAPACITY(16): GOOD")


def test_a_client_on_stdio_is_refused_by_the_rules_for_it(tools: Tools, image: Path) -> None:
    section = nbd_section("stdio").replace("listen stdio\n", "listen stdio {\nallow cid=3\n}\n")
    words = [program(), "serve", "--stdio", str(configure(tools.folder, section))]
    assert tools.run(PYTHON, "-c", REFUSED, *words) == "refused\n"


def test_a_client_that_is_killed_takes_the_server_on_stdio_with_it(
    tools: Tools, image: Path
) -> None:
    script = (
        "import nbd, os, sys\n"
        "handle = nbd.NBD()\n"
        "handle.connect_command(sys.argv[1:])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    words = [program(), "nbd", "--stdio", str(image)]
    assert tools.try_run(PYTHON, "-c", script, *words).returncode == -9


def test_the_server_of_one_file_listens_where_it_is_told(tools: Tools, image: Path) -> None:
    path = tools.path("a b.sock")
    log = tools.path("log")
    words = [program(), "nbd", str(image), "--listen", f"unix:{path}", "--export", "my disk"]
    with log.open("w") as errors:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        until(lambda: path.is_socket() or process.poll() is not None, "it listens")
        uri = f"nbd+unix:///my%20disk?socket={str(path).replace(' ', '%20')}"
        assert tools.run("nbdinfo", "--size", uri) == f"{SIZE}\n", log.read_text()
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert not path.exists()


def test_a_client_whose_server_has_only_standard_input_is_served(tools: Tools, image: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with ours:
        words = [program(), "nbd", str(image), "--stdio"]
        process = subprocess.Popen(
            words, stdin=theirs.fileno(), preexec_fn=lambda: os.closerange(1, 3)
        )
        theirs.close()
        assert ours.recv(16, socket.MSG_WAITALL) == b"NBDMAGICIHAVEOPT"
    assert process.wait(30) == 0
