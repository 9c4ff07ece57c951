# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups change under NBD clients at work: who keeps a LUN notices nothing, who loses it does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import pytest

from bridges.control import ask
from bridges.exchange import Request
from bridges.local.client import LocalClient
from tests.bridges.daemon_process import DEADLINE_S, DaemonProcess, daemon
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.interop.doors import MIB
from tests.scsi_backend import cdbs

REGROUPINGS = 100
JOBS = 4
JOB_MIB = 4
FIO_S = 8
INITIATOR = f"unix:uid={os.getuid()}"
CONF = """\
HANDLER vdisk_fileio {{
    DEVICE kept {{
        filename {folder}/kept.img
    }}
    DEVICE first {{
        filename {folder}/first.img
    }}
    DEVICE second {{
        filename {folder}/second.img
    }}
}}
TARGET_DRIVER nbd {{
    listen unix:{folder}/nbd.sock
    TARGET disk {{
        LUN 0 kept
        LUN 1 first
        GROUP one {{
            LUN 0 kept
            LUN 2 first
        }}
        GROUP two {{
            LUN 0 kept
            LUN 1 second
        }}
        enabled 1
    }}
}}
TARGET_DRIVER scst_local {{
    socket {folder}/local.sock
    TARGET local {{
        LUN 0 kept
        enabled 1
    }}
}}
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[DaemonProcess]:
    for name, mib in (("kept", JOBS * JOB_MIB), ("first", 1), ("second", 1)):
        with (tmp_path / f"{name}.img").open("wb") as image:
            image.write(name.encode().ljust(512))
            image.truncate(mib * MIB)
    conf = tmp_path / "scst.conf"
    conf.write_text(CONF.format(folder=tmp_path))
    with daemon(conf) as process:
        yield process


def edit(served: DaemonProcess, verb: str, **arguments: str) -> None:
    """Change the running configuration."""
    wanted = {"verb": verb, "arguments": {"target": "disk", "driver": "nbd", **arguments}}
    ask(str(served.control), "config_edit", wanted)


def regroupings(served: DaemonProcess) -> Iterator[None]:
    """Put the initiator into each group and out of them again, without end."""
    for group, other in cycle((("one", "two"), ("two", "one"))):
        edit(served, "add-initiator", group=group, initiator=INITIATOR)
        yield
        edit(served, "move-initiator", group=group, to=other, initiator=INITIATOR)
        yield
        edit(served, "rem-initiator", group=other, initiator=INITIATOR)
        yield


def verifying_fio(folder: Path) -> subprocess.Popen[str]:
    """Four connections that write and read back with checksums."""
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed: apt-get install fio")
    words = (
        *(
            "fio",
            "--name=job",
            "--ioengine=nbd",
            f"--uri=nbd+unix:///disk?socket={folder}/nbd.sock",
        ),
        *("--rw=randwrite", "--bs=4k", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1"),
        *(f"--numjobs={JOBS}", "--thread", f"--size={JOB_MIB}m", f"--offset_increment={JOB_MIB}m"),
        *("--time_based", f"--runtime={FIO_S}", "--group_reporting", "--output-format=normal"),
    )
    # It leaves files where it runs.
    return subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_writers_that_keep_their_lun_see_no_error(served: DaemonProcess, tmp_path: Path) -> None:
    fio = verifying_fio(tmp_path)
    count = 0
    try:
        for _ in regroupings(served):
            count += 1
            if fio.poll() is not None:
                break
        shown = fio.communicate(timeout=DEADLINE_S)[0]
    finally:
        fio.kill()
        fio.wait()
    assert fio.returncode == 0, shown
    assert "err= 0" in shown
    assert "verify:" not in shown
    # What each pass over the disk has written, it reads back.
    assert "READ:" in shown
    assert count >= REGROUPINGS


@contextmanager
def client_of(folder: Path, export: str) -> Iterator[Client]:
    """An NBD client that has opened an export."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(str(folder / "nbd.sock"))
    with Client(sock) as client:
        yield client.begin(export)


def test_who_loses_a_lun_gets_errors_until_it_is_back(
    served: DaemonProcess, tmp_path: Path
) -> None:
    with client_of(tmp_path, "disk/1") as client:
        assert client.read(0, 512).startswith(b"first ")
        edit(served, "add-initiator", group="one", initiator=INITIATOR)
        for _ in range(3):
            assert client.call(proto.READ, 0, 512)[0] != 0
            assert client.call(proto.WRITE, 0, 512, bytes(512))[0] != 0
            assert client.call(proto.FLUSH)[0] != 0
        edit(served, "move-initiator", group="one", to="two", initiator=INITIATOR)
        assert client.read(0, 512).startswith(b"second ")
        edit(served, "rem-initiator", group="two", initiator=INITIATOR)
        assert client.read(0, 512).startswith(b"first ")


def test_reservation_outlasts_regroupings_that_leave_its_lun_alone(
    served: DaemonProcess, tmp_path: Path
) -> None:
    reserve, release = (Request(cdbs.raw(f"{opcode}0000000000")) for opcode in ("16", "17"))
    with (
        LocalClient.connect(str(tmp_path / "local.sock"), "local") as holder,
        client_of(tmp_path, "disk") as client,
    ):
        holder.execute(Request(cdbs.TEST_UNIT_READY))
        assert holder.execute(reserve).is_success
        for _ in islice(regroupings(served), 6):
            assert client.call(proto.WRITE, 0, 512, bytes(512))[0] == proto.EPERM
        assert holder.execute(release).is_success
        client.write(0, bytes(512))
