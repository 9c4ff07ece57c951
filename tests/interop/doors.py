# SPDX-License-Identifier: GPL-2.0-or-later
"""What the NBD interop tests talk to, and the foreign programs with which they do.

Every program has a time limit; one that is not installed skips the test and says so.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pytest

from tests.bridges.daemon_process import until

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
MIB = 1 << 20
DISK_BYTES = 64 * MIB
TOOL_TIMEOUT_S = 60.0
# nbdkit with a serialized thread model ignores SIGTERM while a client is connected.
NBDKIT_GRACE_S = 5.0
# proc(5), /proc/net/unix: the flags of a socket that listens (__SO_ACCEPTCON of linux/net.h).
_ACCEPTS = "00010000"
# The daemon's exports, and the files behind them.
IMAGES = {
    "disk": "disk.img",
    "disk/7": "blocks4k.img",
    "frozen": "frozen.img",
    "sparse": "sparse.img",
}
DEBIAN_PACKAGES = {
    "certtool": "gnutls-bin",
    "fio": "fio",
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdkit": "nbdkit",
    "psktool": "gnutls-bin",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
}


@dataclass(frozen=True, slots=True)
class NbdDoor:
    """An export and the file behind it."""

    uri: str
    image: Path
    is_nbdkit: bool = False

    def export(self, name: str) -> NbdDoor:
        """Another export of the daemon."""
        assert not self.is_nbdkit, "its exports have no names"
        uri = self.uri.replace("/disk", f"/{name}", 1)
        return NbdDoor(uri, self.image.with_name(IMAGES[name]))


def program() -> str:
    """The bridge's own program."""
    path = Path(sys.executable).with_name("scst-bridge")
    if not path.exists():
        pytest.skip(f"needs the installed program {path}")
    return str(path)


class Tools:
    """Runs foreign programs in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """A file in the folder."""
        return self.folder / name

    def try_run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program, whose failure is for the test to judge."""
        if shutil.which(words[0]) is None:
            package = DEBIAN_PACKAGES.get(words[0])
            pytest.skip(f"needs {words[0]}" + (f" (Debian package {package})" if package else ""))
        return subprocess.run(
            words,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )

    def run(self, *words: str) -> str:
        """Run a program that must succeed; return its standard output."""
        done = self.try_run(*words)
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def run_module(self, name: str, *words: str) -> str:
        """Run a module of this package with Debian's own interpreter, which has libnbd."""
        return self.run("env", f"PYTHONPATH={ROOT}", PYTHON, "-m", f"tests.interop.{name}", *words)

    def run_json(self, *words: str) -> Any:
        """Run a program that must succeed and print JSON."""
        return json.loads(self.run(*words))


class NbdkitProcess:
    """``scst-bridge nbdkit -f`` with a unix socket.

    It must be alive when the tests are over, unless one of them waited for its end.
    """

    def __init__(self, path: Path, parameters: Sequence[str], options: Sequence[str] = ()) -> None:
        if shutil.which("nbdkit") is None:
            pytest.skip("needs nbdkit (Debian packages nbdkit, nbdkit-plugin-python)")
        self.path = path
        self.uri = f"nbd+unix:///?socket={quote(str(path))}"
        self._log = path.with_suffix(".log")
        self._has_ended = False
        words = [program(), "nbdkit", "-f", "-U", str(path), *options, "--", *parameters]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)

    def __enter__(self) -> NbdkitProcess:
        try:
            until(lambda: self._is_listening() or not self.is_alive, "nbdkit listens")
            assert self.is_alive, self.errors
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._has_ended:
            return
        was_alive = self.is_alive
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(NBDKIT_GRACE_S)
        finally:
            self._kill()
        assert was_alive, self.errors
        assert self.process.returncode == 0, self.errors

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def errors(self) -> str:
        """What the process has written."""
        return self._log.read_text(errors="replace")

    def wait_for_end(self) -> int:
        """Wait for the process to end by itself; return its exit status."""
        status = self.process.wait(TOOL_TIMEOUT_S)
        self._has_ended = True
        return status

    def connect(self) -> socket.socket:
        """Open a connection."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TOOL_TIMEOUT_S)
        try:
            sock.connect(str(self.path))
        except BaseException:
            sock.close()
            raise
        return sock

    def _is_listening(self) -> bool:
        # Without connecting: what nbdkit says of a client that leaves is not for its log.
        with open("/proc/net/unix") as sockets:
            lines = (line.split() for line in sockets)
            return any(line[-1] == str(self.path) and line[3] == _ACCEPTS for line in lines)

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()


def configuration(folder: Path, memory: Path, port: int) -> str:
    """The daemon's disks and doors; images lie in ``folder``, that of a sparse one in memory."""
    return f"""\
HANDLER vdisk_fileio {{
    DEVICE disk {{
        filename "{folder}/disk.img"
        thin_provisioned 1
        rotational 0
    }}
    DEVICE blocks4k {{
        filename "{folder}/blocks4k.img"
        blocksize 4096
    }}
    DEVICE frozen {{
        filename "{folder}/frozen.img"
        read_only 1
    }}
    DEVICE sparse {{
        filename "{memory}/sparse.img"
        thin_provisioned 1
    }}
}}
TARGET_DRIVER nbd {{
    listen "unix:{folder}/nbd.sock"
    listen 127.0.0.1:{port}
    TARGET disk {{
        LUN 0 disk
        LUN 7 blocks4k
        enabled 1
    }}
    TARGET frozen {{
        LUN 0 frozen
        enabled 1
    }}
    TARGET sparse {{
        LUN 0 sparse
        enabled 1
    }}
    TARGET hidden {{
        LUN 0 disk
        enabled 0
    }}
}}
TARGET_DRIVER scst_local {{
    socket "{folder}/local.sock"
    TARGET local {{
        LUN 0 disk
        enabled 1
    }}
}}
"""
