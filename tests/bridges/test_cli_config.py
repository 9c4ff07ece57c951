# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``config``, and verbs, in front of a daemon of its own process."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridges import cli
from tests.bridges.daemon_process import BLOCK_BYTES, DaemonProcess, NbdDisk, connect, daemon
from tests.bridges.nbd import proto
from tests.bridges.site import Site, target
from tests.scsi_backend.fakes import pattern


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def run(*words: str, control: Path | None = None) -> Result:
    """Run a command in this process."""
    at = [] if control is None else ["--control", str(control)]
    environment = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}
    return CliRunner().invoke(cli.app, [*words, *at], env=environment)


def good(served: DaemonProcess, *words: str) -> str:
    """Run a command that does what it shall, and says nothing else."""
    result = run(*words, control=served.control)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def bad(served: DaemonProcess, *words: str) -> str:
    """Run a command that does not, and return why."""
    result = run(*words, control=served.control)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


def write(site: Site, text: str) -> Path:
    """A configuration file."""
    path = site.folder / "scst.conf"
    path.write_text(text)
    return path


def base(site: Site) -> str:
    """One disk at an NBD door."""
    return site.disks("d") + site.driver(target("t", "LUN 0 d"))


def status(served: DaemonProcess) -> object:
    """What the daemon tells of itself, but for memory that it keeps for later."""
    found = json.loads(good(served, "status", "--json"))
    del found["sgv_idle_bytes"]
    return found


def open_files(served: DaemonProcess) -> list[str]:
    """What a daemon has open."""
    folder = Path(f"/proc/{served.process.pid}/fd")
    return [os.readlink(folder / name) for name in os.listdir(folder)]


def test_a_device_is_added_while_a_client_writes_and_removed_again(site: Site) -> None:
    with daemon(write(site, base(site))) as served:
        stopping = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                disk = NbdDisk(connect(str(site.nbd)), "t")
                number = 0
                while not stopping.is_set():
                    data = pattern(number, BLOCK_BYTES)
                    disk.write(number % 64, data)
                    assert disk.read(number % 64, 1) == data
                    number += 1
                disk.close()
            except BaseException as error:
                failures.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            shown = good(served, "open-dev", "vdisk_fileio", "e", f"filename={site.image('e')}")
            assert shown == f"+ HANDLER vdisk_fileio DEVICE e filename {site.image('e')}\n"
            good(served, "add-group", "t", "db")
            good(served, "add-initiator", "t", "db", "db-host*")
            good(served, "add-lun", "t", "0", "e", "--group", "db")
            shown = good(served, "add-lun", "t", "5", "e")
            assert shown == "+ TARGET_DRIVER nbd TARGET t LUN 5 e\n"
            other = NbdDisk(connect(str(site.nbd)), "t/5")
            other.write(9, pattern(9, BLOCK_BYTES))
            message = bad(served, "close-dev", "e")
            assert message.startswith(f"{served.control}: device e: LUN ")
            good(served, "rem-lun", "t", "5")
            good(served, "rem-group", "t", "db")
            assert str(site.image("e")) in open_files(served)
            good(served, "close-dev", "e")
            assert str(site.image("e")) not in open_files(served)
            other.close()
        finally:
            stopping.set()
            worker.join()
        assert failures == []
        assert site.image("e").read_bytes()[9 * BLOCK_BYTES :][:BLOCK_BYTES] == pattern(
            9, BLOCK_BYTES
        )
        assert served.stop(signal.SIGTERM) == 0


def test_apply_shows_first_does_it_once_and_says_what_is_wrong(site: Site) -> None:
    conf = write(site, base(site))
    with daemon(conf) as served:
        before = status(served), good(served, "config", "write")
        conf.write_text(base(site).replace("LUN 0 d", "LUN 0 d\nLUN 1 d"))
        expected = "+ TARGET_DRIVER nbd TARGET t LUN 1 d\n"
        assert good(served, "config", "apply", str(conf), "--dry-run") == expected
        assert (status(served), good(served, "config", "write")) == before
        assert good(served, "config", "apply", str(conf)) == expected
        assert good(served, "config", "apply", str(conf)) == "nothing to change\n"
        after = status(served), good(served, "config", "write")
        conf.write_text(base(site).replace("LUN 0 d", "LUN 0 x"))
        message = bad(served, "config", "apply", str(conf))
        assert message == f"{conf}:9: LUN 0: unknown device 'x': expected d\n"
        conf.write_text(base(site).replace("nbd.sock", "x.sock"))
        message = bad(served, "config", "apply", str(conf))
        assert message.startswith(
            f"{served.control}: {conf}:7: driver nbd: listen unix:{site.folder}/x.sock: cannot be"
        )
        conf.unlink()
        message = bad(served, "config", "apply", str(conf))
        assert message == f"{conf}: No such file or directory\n"
        assert (status(served), good(served, "config", "write")) == after


def test_what_is_written_is_served_by_the_next_daemon(site: Site) -> None:
    conf = write(site, base(site))
    out = site.folder / "written.conf"
    with daemon(conf) as served:
        good(served, "open-dev", "vdisk_nullio", "n", "size_mb=1")
        good(served, "add-target", "nbd", "before all others")
        good(served, "add-lun", "before all others", "3", "n", "--read-only")
        good(served, "add-group", "before all others", "g")
        good(served, "enable-target", "before all others")
        shown = good(served, "config", "write")
        assert good(served, "config", "write", "--output", str(out)) == ""
        assert out.read_text() == shown
        ports = json.loads(good(served, "status", "--json"))["targets"]
        assert served.stop(signal.SIGTERM) == 0
    checked = run("check", str(out))
    assert checked.stdout == f"{out}: ok: 2 devices, 2 targets\n"
    with daemon(out) as served:
        assert good(served, "config", "write") == shown
        assert json.loads(good(served, "status", "--json"))["targets"] == ports


def test_a_written_file_replaces_another_as_a_whole(site: Site) -> None:
    conf = write(site, base(site))
    conf.chmod(0o640)
    link = site.folder / "link.conf"
    link.symlink_to(conf)
    with daemon(conf) as served:
        good(served, "add-lun", "t", "1", "d")
        good(served, "config", "write", "-o", str(link))
        assert "LUN 1 d" in conf.read_text()
        assert (link.is_symlink(), conf.stat().st_mode & 0o777) == (True, 0o640)
        assert bad(served, "config", "write", "-o", f"{site.folder}/none/x") == (
            f"{site.folder}/none/x: No such file or directory\n"
        )
    assert sorted(path.name for path in site.folder.glob("*.conf*")) == ["link.conf", "scst.conf"]


def test_a_written_file_keeps_its_owner_and_what_is_no_file_is_not_replaced(site: Site) -> None:
    out, pipe, folder = (site.folder / name for name in ("out.conf", "pipe", "folder"))
    out.touch()
    os.mkfifo(pipe)
    folder.mkdir()
    with suppress(PermissionError):
        os.chown(out, 1234, 1234)
    owner = out.stat().st_uid
    conf = write(site, base(site))
    with daemon(conf) as served:
        # What somebody else has put where a new file might be.
        (site.folder / ".out.conf.new").symlink_to(conf)
        shown = good(served, "config", "write")
        good(served, "config", "write", "-o", str(out))
        assert (out.read_text(), out.stat().st_uid) == (shown, owner)
        assert conf.read_text() == base(site)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        good(served, "config", "write", "-o", str(pipe))
        assert os.read(reader, len(shown) + 1).decode() == shown
        os.close(reader)
        assert bad(served, "config", "write", "-o", str(folder)) == f"{folder}: Is a directory\n"
        files = set(os.listdir(site.folder))
        assert not {name for name in files if name.startswith(".")} - {".out.conf.new"}


def test_a_target_is_disabled_and_enabled(site: Site) -> None:
    with daemon(write(site, base(site))) as served:
        disk = NbdDisk(connect(str(site.nbd)), "t")
        disk.write(0, pattern(0, BLOCK_BYTES))
        assert (
            good(served, "disable-target", "t") == "~ TARGET_DRIVER nbd TARGET t enabled 1 -> 0\n"
        )
        assert disk.client.call(proto.READ, 0, BLOCK_BYTES) == (proto.EIO, b"")
        good(served, "enable-target", "t")
        # It was not told to go, and may go on.
        assert disk.read(0, 1) == pattern(0, BLOCK_BYTES)
        good(served, "rem-target", "t")
        assert disk.is_ended()
        good(served, "close-dev", "d")
        assert str(site.image("d")) not in open_files(served)
        disk.close()
        assert site.image("d").read_bytes()[:BLOCK_BYTES] == pattern(0, BLOCK_BYTES)


def test_a_client_follows_its_group(site: Site) -> None:
    text = site.disks("d", "e") + site.driver(target("t", "LUN 0 d"))
    with daemon(write(site, text)) as served:
        disk = NbdDisk(connect(str(site.nbd)), "t")
        disk.write(0, pattern(1, BLOCK_BYTES))
        good(served, "add-group", "t", "mine")
        good(served, "add-lun", "t", "0", "e", "--group", "mine")
        good(served, "add-initiator", "t", "mine", "unix:*")
        disk.write(0, pattern(2, BLOCK_BYTES))
        good(served, "clear-initiators", "t", "mine")
        assert disk.read(0, 1) == pattern(1, BLOCK_BYTES)
        disk.close()
    assert site.image("e").read_bytes()[:BLOCK_BYTES] == pattern(2, BLOCK_BYTES)


def test_states_of_target_groups_are_part_of_what_is_written(site: Site) -> None:
    group = "DEVICE_GROUP g {\nDEVICE d\nTARGET_GROUP one {\ngroup_id 1\nTARGET t\n}\n}\n"
    with daemon(write(site, base(site) + group)) as served:
        assert good(served, "alua", "set", "g", "one", "state", "nonoptimized") == ""
        assert good(served, "alua", "set", "g", "one", "preferred", "1") == ""
        written = good(served, "config", "write")
        assert "state nonoptimized" in written
        assert "preferred 1" in written
        shown = good(served, "set-target-group-state", "g", "one", "active")
        assert shown == "~ DEVICE_GROUP g TARGET_GROUP one state nonoptimized -> active\n"
        (found,) = json.loads(good(served, "status", "--json"))["device_groups"]
        assert found["target_groups"][0]["state"] == "active"


def test_help_has_the_commands_the_exit_statuses_and_examples() -> None:
    shown = " ".join(run("config", "--help").stdout.split())
    for text in (" apply ", " write ", "0 done; 1 nothing is changed", "config apply /etc/scst"):
        assert text in shown
    for command, text in (("apply", "whole or not at all"), ("write", "Comments of the file")):
        assert text in " ".join(run("config", command, "--help").stdout.split())


def test_no_daemon_is_told_with_exit_status_1(site: Site) -> None:
    conf, path = write(site, base(site)), site.folder / "none"
    for words in (("apply", str(conf)), ("write",)):
        result = run("config", *words, control=path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"{path}: no daemon answers: No such file or directory\n"
