# SPDX-License-Identifier: GPL-2.0-or-later
"""Task attributes and task management through a connection, in both versions of the protocol."""

from __future__ import annotations

import pytest

from bridges.local.session import CommandSession
from bridges.local.shared_session import SharedSession
from bridges.local.wire import CommandFrame, FrameType, ManagementFrame, ResponseFrame
from bridges.stream_session import PeerError
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import ManagementResponse, TaskManagementFunction
from tests.bridges.local.doubles import Recorder, Wire, complete_good
from tests.scsi_backend.cdbs import READ, TEST_UNIT_READY, block
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import connect

Function, Response = TaskManagementFunction, ManagementResponse


def answer(tag: int, response: int) -> tuple[ResponseFrame, bytes, bytes]:
    return ResponseFrame(tag, response, kind=FrameType.MANAGEMENT_RESPONSE), b"", b""


def aborted(tag: int) -> tuple[ResponseFrame, bytes, bytes]:
    return ResponseFrame(tag, Status.TASK_ABORTED), b"", b""


@pytest.fixture
def vdisk() -> FaultyVdisk:
    """A disk whose every operation waits until it is released."""
    vdisk = FaultyVdisk(64)
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    return vdisk


@pytest.fixture(params=[CommandSession, SharedSession])
def connection(request: pytest.FixtureRequest, vdisk: FaultyVdisk) -> Wire:
    return Wire(connect(vdisk).session, make=request.param)


@pytest.mark.parametrize("attribute", list(TaskAttribute))
def test_task_attribute_reaches_the_nexus(attribute: TaskAttribute) -> None:
    nexus = Recorder(complete_good)
    connection = Wire(nexus)
    connection.give(CommandFrame(1, 0, TEST_UNIT_READY, attribute=attribute).serialize())
    assert nexus.attributes == [attribute]


def test_attribute_that_does_not_exist_ends_the_connection() -> None:
    connection = Wire(Recorder(complete_good))
    with pytest.raises(PeerError, match="task attribute 3: expected 0 to 2"):
        connection.give(CommandFrame(1, 0, TEST_UNIT_READY, attribute=3).serialize())


def test_abort_task_ends_the_command_before_it_is_answered_itself(
    connection: Wire, vdisk: FaultyVdisk
) -> None:
    for tag in (1, 2):
        connection.give(CommandFrame(tag, 0, block(READ, 16, tag, 1), 512).serialize())
    connection.give(ManagementFrame(9, Function.ABORT_TASK, 0, 2).serialize())
    assert connection.responses() == []
    assert connection.session.open_requests == 3
    vdisk.release_all()
    first, *rest = connection.responses()
    assert first[0].status == Status.GOOD
    assert rest == [aborted(2), answer(9, Response.FUNCTION_COMPLETE)]
    assert connection.session.open_requests == 0


@pytest.mark.parametrize(
    ("function", "lun", "response"),
    [
        (Function.ABORT_TASK, 0, Response.TASK_DOES_NOT_EXIST),
        (Function.ABORT_TASK, 5, Response.INCORRECT_LUN),
        (Function.ABORT_TASK_SET, 0, Response.FUNCTION_COMPLETE),
        (Function.ABORT_TASK_SET, 5, Response.INCORRECT_LUN),
        (Function.CLEAR_TASK_SET, 0, Response.FUNCTION_COMPLETE),
        (Function.LOGICAL_UNIT_RESET, 0, Response.FUNCTION_COMPLETE),
        (Function.LOGICAL_UNIT_RESET, 5, Response.INCORRECT_LUN),
        (Function.TARGET_RESET, 5, Response.FUNCTION_COMPLETE),
        (Function.I_T_NEXUS_RESET, 5, Response.FUNCTION_COMPLETE),
        (0, 0, Response.FUNCTION_NOT_SUPPORTED),
        (7, 0, Response.FUNCTION_NOT_SUPPORTED),
        (255, 0, Response.FUNCTION_NOT_SUPPORTED),
    ],
)
def test_each_function_has_its_response(
    connection: Wire, function: int, lun: int, response: ManagementResponse
) -> None:
    connection.give(ManagementFrame(3, function, lun, 77).serialize())
    assert connection.responses() == [answer(3, response)]
    assert connection.session.open_requests == 0


def test_management_frame_of_another_length_ends_the_connection(connection: Wire) -> None:
    frame = bytearray(ManagementFrame(3, Function.ABORT_TASK, 0).serialize())
    frame[3] += 1
    with pytest.raises(PeerError, match="tag 0x3: frame length 29: expected 28"):
        connection.give(bytes(frame))
