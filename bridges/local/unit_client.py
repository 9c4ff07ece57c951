# SPDX-License-Identifier: GPL-2.0-or-later
"""A session with one logical unit for the few commands of a command-line tool.

What the session begins with, its unit attentions, is taken before the first command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bridges.exchange import Request
from bridges.local.client import LocalClient
from bridges.recovery import Reply
from scsi_backend.t10.cdb import TEST_UNIT_READY
from scsi_backend.t10.sense import Sense, SenseKey

# More unit attentions than this in a row are news that the user should see.
_MAX_ATTENTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A logical unit behind a local socket, and as whom to ask it.

    ``name`` is a target or device (empty: the only target), ``lun`` None that which the name stands
    for, ``initiator`` the name that the client gives itself.
    """

    path: str
    name: str = ""
    lun: int | None = None
    initiator: str = ""

    @classmethod
    def of(cls, device: str, socket: str, lun: int | None, initiator: str) -> Place:
        """Take ``device`` for a name behind ``socket``, or with a slash for a socket of its own."""
        if "/" in device:
            return cls(device, "", lun, initiator)
        return cls(socket, device, lun, initiator)


class UnitClient:
    """A logical unit, as it is used from the command line; see ``connected``."""

    def __init__(self, client: LocalClient, lun: int) -> None:
        self._client = client
        self._lun = lun
        self.max_data_bytes = client.max_data_bytes
        # SAM-5 5.14: POWER ON, and what the initiator has missed; not the outcome of a command.
        self.attentions = tuple(self._take_unit_attentions())

    def execute(self, request: Request) -> Reply:
        """Execute a command; raises LocalError."""
        return self._client.execute(request, self._lun)

    def _take_unit_attentions(self) -> Iterator[Sense]:
        for _ in range(_MAX_ATTENTIONS):
            sense = self.execute(Request(TEST_UNIT_READY)).sense
            if sense is None or sense.key != SenseKey.UNIT_ATTENTION:
                return
            yield sense


@contextmanager
def connected(place: Place) -> Iterator[UnitClient]:
    """Log in for the time of the context.

    Raises LocalError for a server that cannot be used, and ValueError for a LUN that is not the
    named device's.
    """
    with LocalClient.connect(place.path, place.name, label=place.initiator) as client:
        lun = client.lun if place.lun is None else place.lun
        if client.lun not in (0, lun):
            raise ValueError(f"LUN {lun}: '{place.name}' is LUN {client.lun}: expected that")
        yield UnitClient(client, lun)
