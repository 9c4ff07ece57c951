# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands: their buffers and their endings."""

from __future__ import annotations

import pytest

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.t10 import sense
from scsi_backend.t10.status import Status

CDB = bytes(16)


def command_with_room(room_bytes: int | None) -> tuple[Command, list[Command], bytearray]:
    """A command, the list of its completions, and its data-in buffer."""
    ended: list[Command] = []
    buffer = bytearray(room_bytes or 0)
    view = None if room_bytes is None else memoryview(buffer)
    return Command(CDB, view, None, ended.append), ended, buffer


@pytest.mark.parametrize(
    ("room_bytes", "allocation_bytes", "data_in"),
    [
        (8, 8, b"12345678"),
        (8, 100, b"12345678"),
        (8, 3, b"123"),
        (3, 8, b"123"),
        (12, 12, b"12345678"),
        (8, 0, b""),
        (0, 8, b""),
        (None, 8, b""),
    ],
)
def test_reply_is_cut_to_the_allocation_length_and_to_the_room(
    room_bytes: int | None, allocation_bytes: int, data_in: bytes
) -> None:
    command, ended, buffer = command_with_room(room_bytes)
    command.reply(b"12345678", allocation_bytes)
    assert ended == [command]
    assert (command.status, command.sense) == (Status.GOOD, None)
    assert command.data_in_length == len(data_in)
    assert buffer.rstrip(b"\0") == data_in


def test_check_condition_takes_back_the_data() -> None:
    command, ended, _ = command_with_room(8)
    command.data_in_length = 8
    command.check_condition(sense.READ_ERROR)
    assert ended == [command]
    assert (command.status, command.sense) == (Status.CHECK_CONDITION, sense.READ_ERROR)
    assert command.data_in_length == 0


def test_command_has_no_status_until_it_ends() -> None:
    command, ended, _ = command_with_room(8)
    assert (command.status, ended) == (None, [])
    command.complete(Status.CONDITION_MET)
    assert (command.status, ended) == (Status.CONDITION_MET, [command])


def test_check_condition_exception_tells_its_sense() -> None:
    failure = CheckCondition(sense.WRITE_PROTECTED)
    assert failure.sense is sense.WRITE_PROTECTED
    assert str(failure) == "DATA PROTECT 27/00 WRITE PROTECTED"


def test_renewed_command_can_be_ended_once_more() -> None:
    command, ended, _ = command_with_room(8)
    command.check_condition(sense.READ_ERROR)
    again: list[Command] = []
    command.renew(again.append)
    assert (command.status, command.sense, command.data_in_length) == (None, None, 0)
    command.reply(b"12345678", 8)
    assert (ended, again) == ([command], [command])
    assert (command.status, command.sense, command.data_in_length) == (Status.GOOD, None, 8)
