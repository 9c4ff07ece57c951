# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that start in some milliseconds: forks of a process that has imported all it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bridges.daemon_process import DEADLINE_S, READY, until

# One daemon at a time: a line with its log and its arguments starts it, the next waits for its end.
_NURSERY = """
import json, os, sys
from bridges.cli import app

for line in sys.stdin:
    log, *words = json.loads(line)
    pid = os.fork()
    if not pid:
        for descriptor in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        app(words)
    print(pid, flush=True)
    sys.stdin.readline()
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Nursery:
    """Starts ``scst-bridge serve`` again and again, never two at once."""

    def __init__(self, folder: Path) -> None:
        self._control = folder / "control.sock"
        self._log = folder / "forked.log"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def daemon(self, conf: Path) -> Iterator[ForkedDaemon]:
        """A daemon that is ready; what is left of it at the end is killed."""
        self._log.write_text("")
        words = [str(self._log), "serve", str(conf), "--control", str(self._control)]
        started = ForkedDaemon(self._ask(json.dumps(words)))
        try:
            until(lambda: READY in self.errors or "ERROR" in self.errors, "ready")
            assert READY in self.errors, self.errors
            yield started
        finally:
            started.kill()
            status = self._ask("")
            assert os.WTERMSIG(status) == signal.SIGKILL, self.errors

    @property
    def errors(self) -> str:
        """What the latest daemon has written so far."""
        return self._log.read_text()

    def _ask(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End."""
        self._process.communicate(timeout=DEADLINE_S)


class ForkedDaemon:
    """A daemon whose end its parent has not waited for yet, so that the number stays its own."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def kill(self) -> None:
        """End it without warning."""
        os.kill(self._pid, signal.SIGKILL)
