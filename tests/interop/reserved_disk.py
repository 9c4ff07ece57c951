# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk behind three local targets, and a client at each, for tests of who reserves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bridges.local_initiator import LocalInitiator
from tests.scsi_backend.reservation_model import Nexus

# Label and relative target port of each client; target "t1" is port 1.
CLIENTS = (("a", 1), ("b", 2), ("a", 3))
PORTS = (1, 2, 3)
_CONF = """\
HANDLER vdisk_nullio {{
    DEVICE disk {{
        size_mb 1
        pr_file_name "{folder}/pr/disk"
    }}
}}
TARGET_DRIVER scst_local {{
    socket "{folder}/local.sock"
{targets}}}
"""
_TARGET = """\
    TARGET t{port} {{
        rel_tgt_id {port}
        LUN 0 disk
        enabled 1
    }}
"""


class ReservedDisk:
    """The files in a folder; ``stored`` is the one of the reservations."""

    def __init__(self, folder: Path) -> None:
        self.conf = folder / "scst.conf"
        self.stored = folder / "pr" / "disk"
        self._socket = folder / "local.sock"
        targets = "".join(_TARGET.format(port=port) for port in PORTS)
        self.conf.write_text(_CONF.format(folder=folder, targets=targets))

    @contextmanager
    def clients(self) -> Iterator[dict[Nexus, LocalInitiator]]:
        """One for each of ``CLIENTS``, by who it is to the daemon."""
        found: dict[Nexus, LocalInitiator] = {}
        with ExitStack() as stack:
            for label, port in CLIENTS:
                client = LocalInitiator(self._socket, f"t{port}", label)
                found[client.name, port] = stack.enter_context(client)
            yield found
