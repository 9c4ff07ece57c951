# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands: their buffers and their endings."""

from __future__ import annotations

import pytest

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.t10 import sense
from scsi_backend.t10.status import Status
from tests.scsi_backend.lone_nexus import LoneNexus

CDB = bytes(16)


def command_with_room(room_bytes: int | None) -> tuple[Command, list[Command], bytearray]:
    """A command, the list of its completions, and its data-in buffer."""
    ended: list[Command] = []
    buffer = bytearray(room_bytes or 0)
    view = None if room_bytes is None else memoryview(buffer)
    command = Command(CDB, view, None, ended.append)
    command.nexus = LoneNexus()
    return command, ended, buffer


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


def test_nexus_hears_of_check_condition_before_the_submitter() -> None:
    heard: list[int] = []
    nexus = LoneNexus()
    command = Command(CDB, None, None, lambda ended: heard.append(len(nexus.faults)))
    command.nexus = nexus
    command.check_condition(sense.READ_ERROR)
    assert (heard, nexus.faults) == ([1], [command])


def test_aborted_command_ends_with_task_aborted_whatever_became_of_it() -> None:
    command, ended, _ = command_with_room(8)
    command.is_deferred = True
    command.nexus.outstanding.add(command)
    command.nexus.aborted.add(command)
    command.reply(b"12345678", 8)
    assert (command.status, command.data_in_length) == (Status.TASK_ABORTED, 0)
    assert (ended, command.nexus.outstanding, command.nexus.aborted) == ([command], set(), set())


@pytest.mark.parametrize(
    ("descriptor", "golden"),
    [(False, "700003000000000a00000000110000000000"), (True, "7203110000000000")],
)
def test_sense_data_are_in_the_format_of_d_sense(descriptor: bool, golden: str) -> None:
    command, _, _ = command_with_room(8)
    nexus = LoneNexus()
    nexus.uses_descriptor_sense = descriptor
    command.nexus = nexus
    assert command.encoded_sense() == b""
    command.check_condition(sense.READ_ERROR)
    assert command.encoded_sense().hex() == golden
