# SPDX-License-Identifier: GPL-2.0-or-later
"""Server processes: starting a plan, waiting for its sockets, CPU time used, certain death.

Owns every process but fio. Each program leads a process group of its own, so a Ctrl-C at
the terminal reaches only the benchmark, which then ends the groups. CPU time is proc(5)'s
utime + stime + cutime + cstime over the tree below each group's leader.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client import LoadError, run_to_end
from tests.bench.servers import Launch, Plan

PR_SET_CHILD_SUBREAPER = 36
START_DEADLINE_S = 20.0
FILL_DEADLINE_S = 120.0
# nbdkit with a serialized thread model ignores SIGTERM while a client is connected.
STOP_GRACE_S = 2.0
POLL_INTERVAL_S = 0.01
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# NBDMAGIC, IHAVEOPT, u16 handshake flags (NBD proto.md, "Fixed newstyle negotiation").
NBD_GREETING_LENGTH = 18
# Client flag FIXED_NEWSTYLE; then IHAVEOPT, NBD_OPT_ABORT, length 0.
NBD_LEAVE = struct.pack(">I8sII", 1, b"IHAVEOPT", 2, 0)


class ServerError(Exception):
    """A server that did not start, or that is gone; the text ends with its last log line."""


@dataclass(frozen=True, slots=True)
class ProcStat:
    """The part of /proc/PID/stat that CPU accounting needs; `ticks` in 1/SC_CLK_TCK s."""

    pid: int
    parent: int
    ticks: int


def parse_stat(text: str) -> ProcStat:
    """Read one /proc/PID/stat line (proc(5)); the command name in it may hold any character."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(")")[2].split()
    # Fields 14 to 17: utime, stime, and the same of children that were waited for.
    return ProcStat(int(pid), int(fields[1]), sum(map(int, fields[11:15])))


def tree_ticks(table: Iterable[ProcStat], roots: Collection[int]) -> int:
    """Ticks used by the processes `roots` and all below them."""
    by_parent: dict[int, list[ProcStat]] = {}
    pending: list[ProcStat] = []
    for stat in table:
        by_parent.setdefault(stat.parent, []).append(stat)
        if stat.pid in roots:
            pending.append(stat)
    ticks = 0
    while pending:
        stat = pending.pop()
        ticks += stat.ticks
        pending += by_parent.get(stat.pid, [])
    return ticks


def process_table() -> list[ProcStat]:
    """All processes that live now."""
    table = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # A process may end between the listing and the reading.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                table.append(parse_stat(Path("/proc", entry, "stat").read_text()))
    return table


def adopt_orphans() -> None:
    """Become the parent of daemons that leave their own (PR_SET_CHILD_SUBREAPER of prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def kill_children() -> None:
    """The last net: kill and reap whatever is still our child, adopted daemons included."""
    while children := [stat.pid for stat in process_table() if stat.parent == os.getpid()]:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def poll(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Wait until `condition` holds; False when it does not within `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def accepts(path: Path, speaks_nbd: bool) -> bool:
    """Whether a server listens on the unix socket `path`.

    An NBD server is left politely: one that was hung up on would log an error, which could then
    be taken for the reason of a later failure. Raises OSError when it does not answer.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        if speaks_nbd:
            probe.settimeout(START_DEADLINE_S)
            probe.recv(NBD_GREETING_LENGTH, socket.MSG_WAITALL)
            # nbd-server resets the connection where others close it.
            with contextlib.suppress(ConnectionError):
                probe.sendall(NBD_LEAVE)
                while probe.recv(1024):
                    pass
    return True


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """A child of ours that leads a process group; it stays unreaped until `stop`."""

    pid: int

    def exit_status(self) -> int | None:
        """None while it runs, else its exit status or, negative, the signal that killed it."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        result = os.waitid(os.P_PID, self.pid, options)
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def has_exited(self) -> bool:
        return self.exit_status() is not None

    def stop(self) -> None:
        """End the whole group, by SIGKILL if SIGTERM does not do it in time, and reap it."""
        try:
            os.killpg(self.pid, signal.SIGTERM)
            poll(self.has_exited, STOP_GRACE_S)
        finally:
            # The unreaped leader keeps the group id from being given to strangers.
            os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-self.pid, 0)


def spawn(command: tuple[str, ...], log: Path) -> ProcessGroup:
    """Start a program in a new process group, its output appended to `log`."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setpgroup=0,
        # Python ignores these two, and a child would inherit that.
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
    )
    return ProcessGroup(pid)


def last_line(log: Path) -> str:
    """The last line a server logged, or a phrase saying that there is none."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it logged nothing")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The processes of one started plan."""

    uri: str
    groups: tuple[ProcessGroup, ...]
    log: Path

    def cpu_s(self) -> float:
        """CPU seconds that the server's process trees have used so far."""
        roots = {group.pid for group in self.groups}
        return tree_ticks(process_table(), roots) / TICKS_PER_S

    def check(self) -> None:
        """Raises ServerError when one of the server's programs has ended."""
        for group in self.groups:
            status = group.exit_status()
            if status is not None:
                raise ServerError(f"ended with status {status}: {last_line(self.log)}")


def _await_daemon(launcher: ProcessGroup, pid_file: Path) -> ProcessGroup:
    """The daemon that `launcher` leaves behind; adopt_orphans() has made it our child."""
    if not poll(launcher.has_exited, START_DEADLINE_S):
        raise ServerError("did not go to the background")
    status = launcher.exit_status()
    if status != 0:
        raise ServerError(f"ended with status {status}")
    if not poll(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), 1.0):
        raise ServerError(f"wrote no process id to {pid_file.name}")
    return ProcessGroup(int(pid_file.read_text()))


def _start(launch: Launch, log: Path, stack: contextlib.ExitStack) -> ProcessGroup:
    group = spawn(launch.command, log)
    stack.callback(group.stop)
    if launch.pid_file is not None:
        group = _await_daemon(group, launch.pid_file)
        stack.callback(group.stop)
    if not poll(
        lambda: group.has_exited() or accepts(launch.socket, launch.speaks_nbd), START_DEADLINE_S
    ):
        raise ServerError(f"{launch.socket.name} accepted nothing for {START_DEADLINE_S:g} s")
    if group.has_exited():
        raise ServerError(f"ended with status {group.exit_status()}")
    return group


def _fill(plan: Plan) -> None:
    """Put into the server what it has to have before it is measured."""
    if not plan.fill:
        return
    try:
        finished = run_to_end(plan.fill, FILL_DEADLINE_S)
    except LoadError as error:
        raise ServerError(str(error)) from error
    if finished.status != 0:
        raise ServerError(
            f"{plan.fill[0]} exit status {finished.status}: {finished.stderr.strip()}"
        )


@contextlib.contextmanager
def running(plan: Plan, log: Path) -> Iterator[RunningServer]:
    """Carry out a plan; the server is dead when the block is left.

    Raises ServerError when a program is missing, ends, or does not listen in time.
    """
    with contextlib.ExitStack() as stack:
        plan.config.write_text(plan.config_text)
        try:
            groups = tuple(_start(launch, log, stack) for launch in plan.launches)
            _fill(plan)
        except ServerError as error:
            raise ServerError(f"{error}: {last_line(log)}") from error
        except OSError as error:
            raise ServerError(str(error)) from error
        yield RunningServer(plan.uri, groups, log)
