# SPDX-License-Identifier: GPL-2.0-or-later
"""SANITIZE: its service actions, what their parameters may be, and the ways out of a failure."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.cdbs import BLOCK_ERASE, EXIT_FAILURE_MODE, OVERWRITE, sanitize
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition, connect

GOOD = Outcome(Status.GOOD, None, b"")
IMMED, ZNR, AUSE = 0x80, 0x40, 0x20
ACTIONS = [OVERWRITE, BLOCK_ERASE, EXIT_FAILURE_MODE]
LIST = bytes.fromhex("01000002") + b"\x5a\xa5"


@pytest.fixture
def vdisk() -> FaultyVdisk:
    vdisk = FaultyVdisk(64, is_thin=True)
    vdisk.fill()
    return vdisk


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def overwrite(initiator: Initiator, data: bytes = LIST, flags: int = 0) -> Outcome:
    """SANITIZE OVERWRITE with a parameter list."""
    return initiator.send(sanitize(OVERWRITE, len(data), flags), data)


def send(initiator: Initiator, action: int, flags: int = 0) -> Outcome:
    """SANITIZE with the parameter list that the action wants."""
    return initiator.send(sanitize(action, len(LIST) if action == OVERWRITE else 0, flags), LIST)


def test_overwrite_writes_the_pattern_to_the_medium(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    assert overwrite(initiator) == GOOD
    assert vdisk.data == b"\x5a\xa5" * 256 * 64
    assert vdisk.names == ["write", "sync"]


@pytest.mark.parametrize(
    ("first_byte", "expected"),
    [
        (0x01, ["5a"]),
        (0x81, ["5a"]),
        (0x02, ["5a", "5a"]),
        (0x82, ["a5", "5a"]),
        (0x83, ["5a", "a5", "5a"]),
        (0x84, ["a5", "5a", "a5", "5a"]),
        (0x1F, ["5a"] * 31),
        (0x9F, ["5a", "a5"] * 15 + ["5a"]),
    ],
)
def test_each_pass_is_flushed_and_the_last_is_the_pattern_itself(
    vdisk: FaultyVdisk, initiator: Initiator, first_byte: int, expected: list[str]
) -> None:
    vdisk.is_held = True
    data = bytes((first_byte, 0, 0, 1, 0x5A))
    pending = initiator.start(sanitize(OVERWRITE, len(data)), data)
    found = []
    while vdisk.held:
        vdisk.release()
        assert len(set(vdisk.data)) == 1
        found.append(vdisk.data[:1].hex())
        vdisk.release()
    assert found == expected
    assert vdisk.names == ["write", "sync"] * len(expected)
    assert pending.outcome == GOOD


def test_progress_counts_all_passes(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.is_held = True
    initiator.start(sanitize(OVERWRITE, 5), bytes((4, 0, 0, 1, 0x5A)))
    found = []
    while vdisk.held:
        sense = initiator.send(cdbs.TEST_UNIT_READY).sense
        assert sense is not None
        found.append(sense.progress)
        vdisk.release()
    assert found == [0, 0x4000, 0x4000, 0x8000, 0x8000, 0xC000, 0xC000, 0xFFFF]


@pytest.mark.parametrize("block_size_bytes", [512, 4096])
def test_pattern_may_be_as_long_as_a_block(block_size_bytes: int) -> None:
    vdisk = FaultyVdisk(16, block_size_bytes)
    pattern = bytes(range(256)) * (block_size_bytes // 256)
    data = bytes((1, 0)) + block_size_bytes.to_bytes(2, "big") + pattern
    assert overwrite(connect(vdisk), data) == GOOD
    assert vdisk.data == pattern * 16


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 512 + 5, 0xFFFF])
def test_overwrite_refuses_lists_of_any_other_length(
    vdisk: FaultyVdisk, initiator: Initiator, length: int
) -> None:
    outcome = initiator.send(sanitize(OVERWRITE, length), bytes(0x10000))
    assert_check_condition(outcome, "05/24/00", at=(7, 7))
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("data", "at"),
    [
        ("00000001" + "55", (0, 4)),
        ("80000001" + "55", (0, 4)),
        ("21000001" + "55", (0, 6)),
        ("61000001" + "55", (0, 6)),
        ("01000000" + "55", (2, 7)),
        ("01000002" + "55", (2, 7)),
        ("01000204" + "55" * 512, (2, 7)),
        ("0100ffff" + "55" * 512, (2, 7)),
    ],
)
def test_overwrite_points_at_what_its_list_must_not_say(
    vdisk: FaultyVdisk, initiator: Initiator, data: str, at: tuple[int, int]
) -> None:
    outcome = overwrite(initiator, bytes.fromhex(data))
    assert_check_condition(outcome, "05/26/00", at=at, in_cdb=False)
    assert vdisk.log == []


def test_less_data_than_the_cdb_says_is_a_data_phase_error(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    outcome = initiator.send(sanitize(OVERWRITE, 100), LIST)
    assert_check_condition(outcome, "0b/4b/00")
    assert vdisk.log == []


def test_block_erase_leaves_zeros(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    assert send(initiator, BLOCK_ERASE) == GOOD
    assert not any(vdisk.data)
    assert vdisk.names[-2:] == ["unmap", "sync"]


@pytest.mark.parametrize("action", [BLOCK_ERASE, EXIT_FAILURE_MODE])
def test_other_actions_have_no_parameter_list(
    vdisk: FaultyVdisk, initiator: Initiator, action: int
) -> None:
    outcome = initiator.send(sanitize(action, 8), bytes(8))
    assert_check_condition(outcome, "05/24/00", at=(7, 7))
    assert vdisk.log == []


@pytest.mark.parametrize("is_thin", [False, True])
@pytest.mark.parametrize("action", range(32))
def test_service_actions_are_known_that_the_disk_can_do(action: int, is_thin: bool) -> None:
    outcome = send(connect(FaultyVdisk(64, is_thin=is_thin)), action)
    if action in ACTIONS and (is_thin or action != BLOCK_ERASE):
        assert outcome == GOOD
    else:
        assert_check_condition(outcome, "05/24/00", at=(1, 4))


@pytest.mark.parametrize("is_thin", [False, True])
def test_block_device_characteristics_speak_of_block_erase_where_it_is(is_thin: bool) -> None:
    data = connect(FaultyVdisk(64, is_thin=is_thin)).good(cdbs.raw("1201b1004000"), None, 64)
    # WABEREQ.
    assert data[7] >> 6 == (1 if is_thin else 0)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("byte", range(2, 7))
def test_reserved_bytes_are_refused(
    vdisk: FaultyVdisk, initiator: Initiator, action: int, byte: int
) -> None:
    cdb = bytearray(sanitize(action, len(LIST) if action == OVERWRITE else 0))
    cdb[byte] = byte
    assert_check_condition(initiator.send(bytes(cdb), LIST), "05/24/00", at=(2, 7))
    assert vdisk.log == []


@pytest.mark.parametrize("action", ACTIONS)
def test_znr_is_for_zoned_devices(vdisk: FaultyVdisk, initiator: Initiator, action: int) -> None:
    assert_check_condition(send(initiator, action, ZNR), "05/24/00", at=(1, 6))
    assert vdisk.log == []


@pytest.mark.parametrize("action", ACTIONS)
def test_write_protection_refuses_every_action(action: int) -> None:
    vdisk = FaultyVdisk(64, is_thin=True)
    before = vdisk.fill()
    assert_check_condition(send(connect(vdisk, is_read_only=True), action), "07/27/00")
    assert vdisk.data == before


@pytest.mark.parametrize("flags", [0, AUSE])
def test_exit_without_a_failure_is_good(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int
) -> None:
    assert send(initiator, EXIT_FAILURE_MODE, flags) == GOOD
    assert vdisk.log == []


def fail(vdisk: FaultyVdisk, initiator: Initiator, flags: int) -> None:
    """Let a SANITIZE fail, the next one need not."""
    vdisk.faults.errno_of["write"] = errno.EIO
    outcome = overwrite(initiator, flags=flags)
    if flags & IMMED:
        assert outcome == GOOD
    else:
        assert_check_condition(outcome, "03/31/03")
    vdisk.faults.errno_of.clear()


def is_in_failure(initiator: Initiator) -> bool:
    """Whether commands end with SANITIZE COMMAND FAILED; else they are good."""
    outcome = initiator.send(cdbs.TEST_UNIT_READY)
    if outcome == GOOD:
        return False
    assert_check_condition(outcome, "03/31/03")
    return True


@pytest.mark.parametrize("flags", [AUSE, AUSE | IMMED])
def test_unrestricted_failure_is_left_by_exit_failure_mode(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int
) -> None:
    fail(vdisk, initiator, flags)
    if flags & IMMED:
        deferred = initiator.send(cdbs.TEST_UNIT_READY)
        assert_check_condition(deferred, "03/31/03", deferred=True)
    assert is_in_failure(initiator)
    assert send(initiator, EXIT_FAILURE_MODE) == GOOD
    assert not is_in_failure(initiator)


def test_restricted_failure_is_not_left_by_exit_failure_mode(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    fail(vdisk, initiator, 0)
    outcome = send(initiator, EXIT_FAILURE_MODE)
    assert_check_condition(outcome, "05/24/00", at=(1, 4))
    assert is_in_failure(initiator)


@pytest.mark.parametrize("action", [OVERWRITE, BLOCK_ERASE])
def test_restricted_failure_takes_a_restricted_success(
    vdisk: FaultyVdisk, initiator: Initiator, action: int
) -> None:
    fail(vdisk, initiator, 0)
    outcome = send(initiator, action, AUSE)
    assert_check_condition(outcome, "05/24/00", at=(1, 5))
    assert is_in_failure(initiator)
    assert send(initiator, action) == GOOD
    assert not is_in_failure(initiator)


@pytest.mark.parametrize("flags", [0, AUSE])
def test_unrestricted_failure_takes_any_success(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int
) -> None:
    fail(vdisk, initiator, AUSE)
    assert send(initiator, BLOCK_ERASE, flags) == GOOD
    assert not is_in_failure(initiator)


def test_second_failure_decides_how_it_is_left(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    fail(vdisk, initiator, AUSE)
    fail(vdisk, initiator, 0)
    assert_check_condition(send(initiator, EXIT_FAILURE_MODE), "05/24/00", at=(1, 4))


def test_exit_failure_mode_does_not_mend_a_failed_format(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_of["unmap"] = errno.EIO
    assert_check_condition(initiator.send(cdbs.FORMAT_UNIT), "03/31/01")
    assert send(initiator, EXIT_FAILURE_MODE) == GOOD
    assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "03/31/00")
