# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function executes a command of an opcode with service actions."""

from __future__ import annotations

import pytest

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.service_actions import service_action_dispatch, service_actions_instead
from scsi_backend.t10.sense import FieldPointer

READ_CAPACITY = bytes.fromhex("9e10").ljust(16, b"\0")
GET_LBA_STATUS = bytes.fromhex("9e12").ljust(16, b"\0")
READ_32 = bytes.fromhex("7f0000000000001800090000").ljust(32, b"\0")


def run(execute: Execute, cdb: bytes) -> None:
    execute(Command(cdb, None, None, lambda command: None))


def test_each_service_action_has_its_own_function() -> None:
    called: list[str] = []
    execute = service_action_dispatch(
        {
            0x10: lambda command: called.append("10"),
            0x12: lambda command: called.append("12"),
            0x09: lambda command: called.append("32-byte"),
        }
    )
    for cdb in (GET_LBA_STATUS, READ_CAPACITY, READ_32):
        run(execute, cdb)
    assert called == ["12", "10", "32-byte"]


@pytest.mark.parametrize(
    ("cdb", "pointer"), [(GET_LBA_STATUS, FieldPointer(1, 4)), (READ_32, FieldPointer(8, 7))]
)
def test_unknown_service_action_is_an_invalid_field(cdb: bytes, pointer: FieldPointer) -> None:
    with pytest.raises(CheckCondition) as caught:
        run(service_action_dispatch({}), cdb)
    sense = caught.value.sense
    assert (sense.key, sense.code, sense.field_pointer) == (0x05, 0x2400, pointer)


def test_some_service_actions_can_be_answered_otherwise() -> None:
    called: list[str] = []
    execute = service_actions_instead(
        frozenset({0x12}),
        lambda command: called.append("instead"),
        lambda command: called.append("otherwise"),
    )
    for cdb in (GET_LBA_STATUS, READ_CAPACITY):
        run(execute, cdb)
    assert called == ["instead", "otherwise"]
