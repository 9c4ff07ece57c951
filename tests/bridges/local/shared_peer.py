# SPDX-License-Identifier: GPL-2.0-or-later
"""A client with an area, on a connection without a socket (``doubles.Wire``)."""

from __future__ import annotations

import mmap
import os

from bridges.local.area import map_area
from bridges.local.session import ItNexus
from bridges.local.shared_session import SharedSession
from bridges.local.shared_wire import AreaReply, SharedCommandFrame, area_request
from bridges.local.wire import FrameType, ResponseFrame
from scsi_backend.t10.status import Status
from tests.bridges.local.doubles import Wire

AREA_BYTES = 1 << 20
MIB = 1 << 20
RECORD = 8
DONE = 15


def shared_wire(nexus: ItNexus) -> Wire:
    """A connection in version 2."""
    return Wire(nexus, make=SharedSession)


class Peer:
    """A connection with an area, and the client's mapping of that."""

    def __init__(self, nexus: ItNexus, area_bytes: int = AREA_BYTES) -> None:
        self.wire = shared_wire(nexus)
        self.wire.give(area_request(area_bytes))
        assert AreaReply.parse(self.wire.take()) == AreaReply(area_bytes)
        [descriptor] = self.wire.descriptors
        self.area: mmap.mmap = map_area(descriptor, area_bytes)
        os.close(descriptor)

    def give(self, *frames: SharedCommandFrame) -> None:
        data = b"".join(frame.serialize() for frame in frames)
        assert self.wire.give(data) == len(data)

    @property
    def record(self) -> str:
        """The eight bytes at RECORD."""
        return self.area[RECORD : RECORD + 8].hex(" ", 4)


def shared_good(tag: int, length: int = 0) -> tuple[ResponseFrame, bytes, bytes]:
    header = ResponseFrame(tag, Status.GOOD, length, kind=FrameType.SHARED_RESPONSE)
    return header, b"", b""
