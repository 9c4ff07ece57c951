# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a guest's script as a test sees them: what each of them verified.

Reads what `step`, `verified` and `spawn` of `guest/prelude.sh` wrote; nothing here starts a guest.
A fact is a line that a step prints only after the commands before it succeeded, so a test asks for
each fact by its text instead of trusting an exit status.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VERIFIED = "verified: "


class StepError(Exception):
    """A step failed, overran its deadline or never ran; the text holds its output and the logs."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one script; `files` is the host's side of the guest's share."""

    files: Path

    def facts(self, name: str) -> list[str]:
        """Return what step `name` verified, in its order.

        Raises `StepError` when the step did not succeed.
        """
        lines = self.output(name)
        return [line.removeprefix(VERIFIED) for line in lines if line.startswith(VERIFIED)]

    def output(self, name: str) -> list[str]:
        """Return the lines that step `name` printed.

        Raises `StepError` when the step did not succeed.
        """
        folder = self.files / "steps" / name
        if not folder.is_dir():
            raise StepError(f"{name}: never ran\n{self.logs()}")
        output = (folder / "output").read_text(errors="replace")
        status = folder / "status"
        if not status.exists():
            raise StepError(f"{name}: no status\n{output}\n{self.logs()}")
        if (code := status.read_text().strip()) != "0":
            raise StepError(f"{name}: exit {code}\n{output}\n{self.logs()}")
        return output.splitlines()

    def logs(self) -> str:
        """Return the output of the background programs."""
        logs = sorted(self.files.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')}" for log in logs)
