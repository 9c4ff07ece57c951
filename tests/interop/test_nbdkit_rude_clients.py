# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that end nbdkit 1.32 with other plugins, and do not with ours: the process lives on.

A hang-up with reads queued aborts nbdkit's parallel thread model. A fast zero from a client to
which none was offered aborts any model, so the plugin offers it, and refuses it where it must.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.bridges.daemon_process import LocalDoor, configure, daemon, until
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.proto import EIO, ENOTSUP, EPERM, FAST_ZERO, NO_HOLE, READ, WRITE_ZEROES
from tests.interop.doors import NbdkitProcess, Tools
from tests.scsi_backend.fakes import pattern

PYTHON = "/usr/bin/python3"
BLOCK = 512
MIB = 1 << 20
HANG_UPS = 60
QUEUED = 100
# Close with a reset instead of an orderly end.
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk of 16 MiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(1, 16 * MIB))
    return path


@pytest.fixture(params=["file", "socket"])
def nbdkit(request: pytest.FixtureRequest, tmp_path: Path, image: Path) -> Iterator[NbdkitProcess]:
    """nbdkit, embedded and as a client of the daemon; it must be alive at the end."""
    with ExitStack() as stack:
        parameters = [str(image)]
        if request.param == "socket":
            door = LocalDoor()
            stack.enter_context(daemon(configure(tmp_path, door.section(tmp_path), image=image)))
            parameters = [f"socket={door.path(tmp_path)}", "device=d"]
        yield stack.enter_context(NbdkitProcess(tmp_path / "p.sock", parameters))


@contextmanager
def _client(process: NbdkitProcess, name: str = "") -> Iterator[Client]:
    with Client(process.connect()) as client:
        yield client.begin(name)


def _serves_another(process: NbdkitProcess) -> bool:
    with _client(process) as client:
        client.write(0, b"alive!!!" * 64)
        return client.read(0, BLOCK) == b"alive!!!" * 64


@pytest.mark.parametrize("ending", ["orderly", "reset", "half"])
def test_hanging_up_with_reads_queued(nbdkit: NbdkitProcess, ending: str) -> None:
    reads = [proto.request(READ, n, n * 4096, 65536) for n in range(QUEUED)]
    for number in range(HANG_UPS):
        with _client(nbdkit) as client:
            client.send(*reads)
            if number % 2:
                # The first replies are on their way.
                client.receive(1)
            if ending == "reset":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif ending == "half":
                client.sock.shutdown(socket.SHUT_RD)
    assert _serves_another(nbdkit)
    assert nbdkit.is_alive


def test_hanging_up_while_another_client_works(nbdkit: NbdkitProcess) -> None:
    reads = [proto.request(READ, n, n * 4096, 65536) for n in range(QUEUED)]
    with _client(nbdkit) as worker:
        for number in range(HANG_UPS):
            with _client(nbdkit) as client:
                client.send(*reads)
            data = pattern(number, 4096)
            worker.write(number * 4096, data)
            assert worker.read(number * 4096, 4096) == data
    assert nbdkit.is_alive


@pytest.mark.parametrize("flags", [FAST_ZERO, FAST_ZERO | NO_HOLE])
def test_a_fast_zero_of_a_thick_disk(nbdkit: NbdkitProcess, image: Path, flags: int) -> None:
    with _client(nbdkit) as client:
        for length in (BLOCK, MIB):
            assert client.call(WRITE_ZEROES, 0, length, flags=flags) == (ENOTSUP, b"")
        # Without the flag it is done.
        assert client.call(WRITE_ZEROES, 0, BLOCK) == (0, b"")
    expected = bytes(BLOCK) + pattern(1, 16 * MIB)[BLOCK:]
    assert image.read_bytes() == expected
    assert _serves_another(nbdkit)
    assert "Traceback" not in nbdkit.errors


def test_a_fast_zero_of_a_thin_disk(tmp_path: Path, image: Path) -> None:
    with NbdkitProcess(tmp_path / "p.sock", [str(image), "thin_provisioned=1"]) as nbdkit:
        with _client(nbdkit) as client:
            assert client.call(WRITE_ZEROES, 0, MIB, flags=FAST_ZERO) == (0, b"")
            assert client.read(0, MIB) == bytes(MIB)
            # Space that is to stay reserved has to be written.
            refused = client.call(WRITE_ZEROES, MIB, MIB, flags=FAST_ZERO | NO_HOLE)
            assert refused == (ENOTSUP, b"")
        assert _serves_another(nbdkit)
    # The hole is one: all but its first block, which was written since.
    assert image.read_bytes()[MIB:] == pattern(1, 16 * MIB)[MIB:]
    assert image.stat().st_blocks * BLOCK <= 15 * MIB + 65536


@pytest.mark.parametrize("flags", [0, FAST_ZERO])
def test_zeros_for_a_read_only_disk(tmp_path: Path, image: Path, flags: int) -> None:
    parameters = [str(image), "read_only=1"]
    with NbdkitProcess(tmp_path / "p.sock", parameters) as nbdkit:
        for _ in range(2):
            with _client(nbdkit) as client:
                assert client.call(WRITE_ZEROES, 0, BLOCK, flags=flags) == (EPERM, b"")
        assert nbdkit.is_alive
    assert image.read_bytes() == pattern(1, 16 * MIB)


_ASK_FOR_EXTENTS = """
import sys, nbd
h = nbd.NBD()
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
for length in (2**32 - 1, 2**32 - 2, 2**32 - 512):
    for offset in (0, 1, 6 << 30):
        for flags in (0, nbd.CMD_FLAG_REQ_ONE):
            found = []
            h.block_status(length, offset, lambda name, at, all, error: found.extend(all), flags)
            print(length, found[0])
"""


def test_the_extents_of_nearly_4_gib(tmp_path: Path, tools: Tools) -> None:
    # nbdkit 1.32 aborts if a plugin's extent goes further than was asked for (CVE-2025-47711).
    if tools.try_run(PYTHON, "-c", "import nbd").returncode:
        pytest.skip("needs libnbd's Python module (Debian package python3-libnbd)")
    with (tmp_path / "big.img").open("wb") as file:
        file.truncate(12 << 30)
    parameters = [str(tmp_path / "big.img"), "thin_provisioned=1"]
    with NbdkitProcess(tmp_path / "p.sock", parameters) as nbdkit:
        shown = tools.run(PYTHON, "-c", _ASK_FOR_EXTENTS, nbdkit.uri)
        pairs = [line.split() for line in shown.splitlines()]
        assert len(pairs) == 18
        assert all(asked == found for asked, found in pairs)
        assert nbdkit.is_alive


def test_an_export_name_of_any_bytes(nbdkit: NbdkitProcess) -> None:
    for name in (b"\xff\xfe", b"x" * 4096, b"/", b"disk\0", b"\xed\xa0\x80"):
        with Client(nbdkit.connect()) as client:
            client.greet()
            client.send(proto.option(proto.GO, struct.pack(">I", len(name)) + name + b"\0\0"))
            try:
                kind, _ = client.option_reply()
            except (EOFError, ConnectionResetError):
                continue
            assert kind & 1 << 31
    assert _serves_another(nbdkit)


def test_an_error_is_a_few_lines_in_the_log(nbdkit: NbdkitProcess, image: Path) -> None:
    with _client(nbdkit) as client:
        before = len(nbdkit.errors.splitlines())
        os.truncate(image, 0)
        assert client.call(READ, 0, BLOCK) == (EIO, b"")
        until(lambda: "PluginError: READ(16): MEDIUM ERROR" in nbdkit.errors, "logged")
        assert len(nbdkit.errors.splitlines()) - before <= 5


def test_sigterm_is_obeyed_when_the_clients_have_left(nbdkit: NbdkitProcess, image: Path) -> None:
    with _client(nbdkit) as client:
        client.write(0, bytes(BLOCK))
        # nbdkit 1.32 may wait for the client, which does not know of this.
        nbdkit.process.send_signal(signal.SIGTERM)
    assert nbdkit.wait_for_end() == 0
    assert image.read_bytes()[:BLOCK] == bytes(BLOCK)
