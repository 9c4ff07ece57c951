# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that ask about a target and change it: config string, mask list, reserve list.

Takes frames apart, has the rules applied (query_config.py, mac_mask.py, reserve.py) and makes the
replies. A change that could not be kept is answered with AoE error 3: the request was good, so that
2 would be wrong, and trying again later may help, as with a device that is away for a while.

Source: AoEr11 3.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bridges.aoe import mac_mask, query_config, reserve, wire
from bridges.aoe.address import Address
from bridges.aoe.fence import Commands, Fences
from bridges.aoe.mac_mask import MaskAnswer
from bridges.aoe.operation import Port
from bridges.aoe.reservation import ListReservation
from bridges.aoe.state import MAX_WAITING_CHANGES, KeptState, TargetState
from bridges.aoe.wire import (
    AoeError,
    ConfigArgument,
    Header,
    MaskArgument,
    MaskCommand,
    MaskDirective,
    MaskError,
    ReserveArgument,
    ReserveCommand,
)

FIRMWARE_VERSION: Final = 1

_SETTING: Final = frozenset({ReserveCommand.SET, ReserveCommand.FORCE_SET})


class Administration:
    """Answers requests for one target.

    ``ports`` are those that the target is served on, ``may_edit`` says whether frames may change
    it. ``fences`` wait for the commands of sources that the reserve list excludes; ``reservation``
    is what the list is to the devices.
    """

    def __init__(
        self,
        address: Address,
        state: KeptState,
        ports: Sequence[Port],
        fences: Fences,
        reservation: ListReservation,
        *,
        may_edit: bool,
    ) -> None:
        self._address = address
        self._state = state
        self._ports = ports
        self._fences = fences
        self._reservation = reservation
        # Changes of the reserve list that have not been made.
        self._reserving = Commands()
        self._may_edit = may_edit

    def query_config(self, frame: memoryview, header: Header, port: Port) -> bool:
        """Query Config Information."""
        argument = ConfigArgument.parse(frame)
        is_change = argument.command in query_config.CHANGING_COMMANDS
        error = query_config.check(argument)
        if is_change and (
            not self._may_edit or argument.length_bytes > _config_room_bytes(self._mtu(port))
        ):
            error = AoeError.BAD_ARGUMENT_PARAMETER
        if error:
            self.reply_config(header, port, argument.command, error)
        elif is_change:
            self._change_config(argument, header, port)
        else:
            answer, _ = query_config.execute(argument, self._state.value)
            if answer is not None:
                self.reply_config(header, port, argument.command, answer)
        return False

    def _change_config(self, argument: ConfigArgument, header: Header, port: Port) -> None:
        reply = self._begin_change(header, port)
        if reply is None:
            return

        def done(answer: int | OSError | None) -> None:
            error = AoeError.DEVICE_UNAVAILABLE if isinstance(answer, OSError) else answer or 0
            shown = self._config_argument(port, argument.command, _mtu_of(reply, port))
            self._send(reply, port, shown, error)

        self._state.change(partial(query_config.execute, argument), done)

    def reply_config(self, header: Header, port: Port, command: int, error: int = 0) -> None:
        """Reply to ``header`` with the config string and the port's counts."""
        self._reply(header, port, self._config_argument(port, command, port.mtu), error)

    def _config_argument(self, port: Port, command: int, mtu: int) -> bytes:
        # Only a string from a time of larger frames can be cut.
        string = self._state.value.config_string[: _config_room_bytes(mtu)]
        return ConfigArgument(
            buffer_count=port.buffer_count,
            firmware_version=FIRMWARE_VERSION,
            sector_count=port.sector_count,
            version=wire.VERSION,
            command=command,
            length_bytes=len(string),
            string=string,
        ).serialize()

    def mask_list(self, frame: memoryview, header: Header, port: Port) -> bool:
        """MAC Mask List."""
        argument = MaskArgument.parse(frame)
        if argument.command == MaskCommand.READ:
            self._reply(header, port, self._mask_argument(argument.command, port.mtu))
        elif (
            argument.command != MaskCommand.EDIT
            or not self._may_edit
            or len(argument.directives) != argument.count
        ):
            reply = MaskArgument(argument.command, 0, argument.count).serialize()
            self._reply(header, port, reply, AoeError.BAD_ARGUMENT_PARAMETER)
        else:
            self._edit_mask(argument, header, port)
        return False

    def _edit_mask(self, argument: MaskArgument, header: Header, port: Port) -> None:
        capacity = mac_mask.capacity_for(self._mtu(port))
        reply = self._begin_change(header, port)
        if reply is None:
            return

        def done(answer: MaskAnswer | OSError) -> None:
            error = 0
            if isinstance(answer, OSError):
                error = AoeError.DEVICE_UNAVAILABLE
                shown = MaskArgument(argument.command, 0, argument.count).serialize()
            elif answer.error is not MaskError.NONE:
                shown = MaskArgument(
                    argument.command, answer.error, answer.failed_index
                ).serialize()
            else:
                shown = self._mask_argument(argument.command, _mtu_of(reply, port))
            self._send(reply, port, shown, error)

        self._state.change(partial(mac_mask.edit, argument, capacity), done)

    def _mask_argument(self, command: int, mtu: int) -> bytes:
        macs = self._state.value.mask_list[: mac_mask.capacity_for(mtu)]
        directives = tuple((int(MaskDirective.NONE), mac) for mac in macs)
        return MaskArgument(command, MaskError.NONE, len(macs), directives).serialize()

    def reserve_release(self, frame: memoryview, header: Header, port: Port) -> bool:
        """Reserve/Release."""
        argument = ReserveArgument.parse(frame)
        if argument.command == ReserveCommand.READ:
            self._reply(header, port, self._reserve_argument(argument.command, port.mtu))
        elif (
            argument.command not in _SETTING
            or not self._may_edit
            or len(argument.macs) != argument.count
            or argument.count > reserve.capacity_for(self._mtu(port))
        ):
            reply = ReserveArgument(argument.command, argument.count).serialize()
            self._reply(header, port, reply, AoeError.BAD_ARGUMENT_PARAMETER)
        else:
            self._set_reserve(argument, header, port)
        return False

    def _set_reserve(self, argument: ReserveArgument, header: Header, port: Port) -> None:
        is_full = self._fences.is_full or self._reserving.count >= MAX_WAITING_CHANGES
        reply = None if is_full else self._begin_change(header, port)
        if reply is None:
            return

        def done(leave: Callable[[], None], answer: int | OSError) -> None:
            leave()
            error = AoeError.DEVICE_UNAVAILABLE if isinstance(answer, OSError) else answer
            shown = self._reserve_argument(argument.command, _mtu_of(reply, port))
            send = partial(self._send, reply, port, shown, error)
            if error:
                send()
            else:
                # Who fences another host off relies on it that nothing of that host is to come.
                self._fences.wait(send)
            self._reserving.end()

        def rule(state: TargetState) -> tuple[int, TargetState]:
            if argument.macs and not self._reservation.admits(header.source):
                return AoeError.TARGET_IS_RESERVED, state
            return reserve.reserve(argument, header.source, state)

        self._reserving.count += 1
        self._reservation.in_turn(lambda leave: self._state.change(rule, partial(done, leave)))

    def when_idle(self, done: Callable[[], None]) -> None:
        """Call back when every change that was asked for so far has been made or refused."""

        def reserved() -> None:
            self._state.change(lambda state: (None, state), lambda answer: done())

        # Those wait for their turn first, some at devices that the target has lost meanwhile.
        Fences(lambda: (self._reserving,)).wait(reserved)

    def _reserve_argument(self, command: int, mtu: int) -> bytes:
        macs = self._state.value.reserve_list[: reserve.capacity_for(mtu)]
        return ReserveArgument(command, len(macs), macs).serialize()

    def _mtu(self, port: Port) -> int:
        """That of the narrowest port, through which everything must fit."""
        return min([port.mtu, *(each.mtu for each in self._ports)])

    def _begin_change(self, header: Header, port: Port) -> memoryview | None:
        """Allocate the reply to a request that changes something, or None if it gets none.

        It holds whatever a frame can: how much is to be shown is known when the change is made.
        """
        # One frame must not change every target of a LAN.
        if header.has_wildcard or self._state.is_full:
            return None
        return self._begin(header, port, wire.ETHERNET_HEADER_BYTES + port.mtu)

    def _reply(self, header: Header, port: Port, argument: bytes, error: int = 0) -> None:
        length_bytes = wire.HEADER_BYTES + len(argument)
        self._send(self._begin(header, port, length_bytes), port, argument, error)

    def _begin(self, header: Header, port: Port, length_bytes: int) -> memoryview:
        reply = port.allocate(length_bytes)
        wire.write_reply_header(reply, header, port.mac, *self._address)
        return reply

    def _send(self, reply: memoryview, port: Port, argument: bytes, error: int) -> None:
        end = wire.HEADER_BYTES + len(argument)
        reply[wire.HEADER_BYTES : end] = argument
        if error:
            wire.set_error(reply, error)
        port.send(reply, max(end, wire.MIN_FRAME_BYTES))


def _mtu_of(reply: memoryview, port: Port) -> int:
    """What both passes the port now and has room in a reply that was allocated a while ago."""
    return min(port.mtu, len(reply) - wire.ETHERNET_HEADER_BYTES)


def _config_room_bytes(mtu: int) -> int:
    room_bytes = wire.ETHERNET_HEADER_BYTES + mtu - wire.CONFIG_STRING_OFFSET
    return min(room_bytes, wire.MAX_CONFIG_STRING_BYTES)
