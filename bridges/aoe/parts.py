# SPDX-License-Identifier: GPL-2.0-or-later
"""A burst that did not succeed, taken apart: each of its frames as a command of its own."""

from __future__ import annotations

from bridges.aoe.ata import COMMANDS, decode
from bridges.aoe.burst import Burst
from bridges.aoe.operation import AtaOperation
from bridges.aoe.ordering import Ranged
from bridges.aoe.wire import AtaArgument, Header, echo_ata_argument, write_reply_header


class Parts:
    """The commands' owner. It stands in for the order of writes, in which the burst keeps its
    place until all of them have ended.
    """

    def __init__(self, burst: Burst) -> None:
        self._burst = burst
        self._left = burst.count
        self.address = burst.flow.target.address
        self.durable = burst.flow.target.durable
        self.order = self

    def start(self) -> None:
        """Execute them all."""
        for index in range(self._burst.count):
            self._execute(self._burst.frame(index))

    def _execute(self, frame: memoryview) -> None:
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
        operation = AtaOperation(
            self, initiator, port, request, frame, reply, is_write=plan.is_write
        )
        operation.start()

    def leave(self, command: Ranged, /) -> None:
        """Take note that one of them has ended."""
        self._left -= 1
        if not self._left:
            self._burst.end()
