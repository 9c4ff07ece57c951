# SPDX-License-Identifier: GPL-2.0-or-later
"""A burst that did not succeed, taken apart: each of its frames as a command of its own."""

from __future__ import annotations

from typing import Final

from bridges.aoe.ata import COMMANDS, decode
from bridges.aoe.burst import Burst
from bridges.aoe.operation import AtaOperation
from bridges.aoe.ordering import Ranged
from bridges.aoe.wire import AtaArgument, Header, echo_ata_argument, write_reply_header
from bridges.recovery import ScsiError, reply_of
from scsi_backend.t10.sense import SenseKey

# Failures that belong to sectors, so that other sectors need not share them.
_OF_SECTORS: Final = frozenset(
    {
        SenseKey.MEDIUM_ERROR,
        SenseKey.HARDWARE_ERROR,
        SenseKey.ILLEGAL_REQUEST,
        SenseKey.DATA_PROTECT,
    }
)


class Parts:
    """The commands' owner. It stands in for the order of writes, in which the burst keeps its
    place until all of them have ended.
    """

    def __init__(self, burst: Burst) -> None:
        self._burst = burst
        self._left = burst.count
        disk = burst.flow.initiator.disk
        self.address = disk.address
        self.durable = disk.durable
        self.order = self

    def start(self) -> None:
        """Execute them all, or have them end as the burst did."""
        burst = self._burst
        operations = [self._operation(burst.frame(index)) for index in range(burst.count)]
        if burst.count > 1 and _may_differ(burst):
            for operation in operations:
                operation.start()
        else:
            # What has changed or gone was told once, and once more nobody would tell.
            error = ScsiError(burst.cdb, reply_of(burst))
            for index, operation in enumerate(operations):
                operation.reject(error, is_known=index > 0)

    def _operation(self, frame: memoryview) -> AtaOperation:
        burst = self._burst
        port, plan = burst.port, burst.plan
        header, argument = Header.parse(frame), AtaArgument.parse(frame)
        command = COMMANDS[argument.opcode]
        request = None if command is None else decode(command, argument, plan.sectors)
        assert request is not None, "the plan was made by the same rules"
        reply = port.allocate(plan.reply_bytes)
        write_reply_header(reply, header, port.mac, header.major, header.minor)
        echo_ata_argument(reply, frame)
        initiator = burst.flow.initiator
        return AtaOperation(self, initiator, port, request, frame, reply, is_write=plan.is_write)

    def leave(self, command: Ranged, /) -> None:
        """Take note that one of them has ended."""
        self._left -= 1
        if not self._left:
            self._burst.end()


def _may_differ(burst: Burst) -> bool:
    sense = burst.sense
    return sense is not None and not sense.deferred and sense.key in _OF_SECTORS
