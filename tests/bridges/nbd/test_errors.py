# SPDX-License-Identifier: GPL-2.0-or-later
"""SCSI endings to NBD error values, against a list made independently of the table in errors.py."""

from __future__ import annotations

import pytest

from bridges.nbd.errors import error_of
from bridges.nbd.wire import Command
from bridges.recovery import Reply
from scsi_backend.t10.sense import Sense
from tests.bridges.nbd.proto import EINVAL, EIO, ENOSPC, EPERM

CHECK_CONDITION = 0x02

BY_STATUS = [
    (0x00, 0),  # GOOD
    (0x04, 0),  # CONDITION MET
    (0x08, EIO),  # BUSY
    (0x18, EPERM),  # RESERVATION CONFLICT
    (0x28, EIO),  # TASK SET FULL
    (0x30, EIO),  # ACA ACTIVE
    (0x40, EIO),  # TASK ABORTED
    (0x10, EIO),  # obsolete: INTERMEDIATE
    (0xFF, EIO),  # no status at all
]

# Sense as key/asc/ascq.
BY_SENSE = [
    ("00/00/00", 0),  # NO SENSE
    ("01/17/01", 0),  # RECOVERED ERROR: recovered data with retries
    ("01/00/00", 0),
    ("02/04/01", EIO),  # NOT READY: becoming ready
    ("02/04/02", EIO),  # initializing command required
    ("02/04/03", EIO),  # manual intervention required
    ("02/04/04", EIO),  # format in progress
    ("02/04/0A", EIO),  # ALUA transition
    ("02/04/1B", EIO),  # sanitize in progress
    ("02/04/0B", EIO),  # ALUA standby
    ("02/04/0C", EIO),  # ALUA unavailable
    ("02/04/12", EIO),  # offline
    ("02/3A/00", EIO),  # medium not present
    ("03/11/00", EIO),  # MEDIUM ERROR: unrecovered read error
    ("03/0C/00", EIO),  # write error
    ("03/14/00", EIO),
    ("03/31/00", EIO),  # medium format corrupted
    ("03/31/03", EIO),  # sanitize command failed
    ("04/44/00", EIO),  # HARDWARE ERROR: internal target failure
    ("05/20/00", EINVAL),  # ILLEGAL REQUEST: invalid command operation code
    ("05/20/02", EPERM),  # access denied
    ("05/21/04", EINVAL),  # unaligned write command (zoned)
    ("05/21/05", EINVAL),
    ("05/21/06", EINVAL),
    ("05/22/00", EINVAL),
    ("05/24/00", EINVAL),  # invalid field in CDB
    ("05/25/00", EIO),  # logical unit not supported
    ("05/26/00", EINVAL),  # invalid field in parameter list
    ("05/26/01", EINVAL),
    ("05/26/02", EINVAL),
    ("05/1A/00", EINVAL),
    ("05/27/00", EPERM),  # write protected
    ("05/27/02", EPERM),
    ("05/27/07", ENOSPC),  # space allocation failed
    ("05/2C/00", EINVAL),  # command sequence error
    ("05/55/0E", EINVAL),
    ("05/74/71", EPERM),  # logical unit access not authorized
    ("06/28/00", EIO),  # UNIT ATTENTION: medium may have changed
    ("06/29/00", EIO),  # those tried again that often
    ("06/2A/09", EIO),
    ("07/00/00", EPERM),  # DATA PROTECT as SCST gives it
    ("07/20/02", EPERM),
    ("07/27/00", EPERM),  # write protected
    ("07/27/01", EPERM),  # hardware write protected
    ("07/27/02", EPERM),  # software write protected
    ("07/27/05", EPERM),  # permanent write protect
    ("07/27/06", EPERM),  # conditional write protect
    ("07/27/07", ENOSPC),  # space allocation failed write protect
    ("07/74/00", EPERM),
    ("07/74/71", EPERM),
    ("07/55/00", EIO),
    ("08/00/00", EIO),  # BLANK CHECK
    ("09/80/01", EIO),  # VENDOR SPECIFIC
    ("0A/0D/00", EIO),  # COPY ABORTED
    ("0B/10/01", EIO),  # ABORTED COMMAND: guard check failed
    ("0B/2E/00", EIO),  # insufficient time
    ("0B/4B/00", EIO),  # data phase error
    ("0C/00/00", EIO),  # reserved
    ("0D/00/00", ENOSPC),  # VOLUME OVERFLOW
    ("0E/1D/00", EIO),  # MISCOMPARE
    ("0F/00/00", 0),  # COMPLETED
    ("0F/55/0A", EIO),  # data currently unavailable
]

OUT_OF_RANGE = {
    Command.READ: EINVAL,
    Command.WRITE: ENOSPC,
    Command.FLUSH: EINVAL,
    Command.TRIM: EINVAL,
    Command.CACHE: EINVAL,
    Command.WRITE_ZEROES: ENOSPC,
    Command.BLOCK_STATUS: EINVAL,
}
ANSWERED = tuple(OUT_OF_RANGE)


def _sense(text: str, *, deferred: bool = False) -> Sense:
    key, asc, ascq = bytes.fromhex(text.replace("/", ""))
    return Sense(key, asc << 8 | ascq, deferred=deferred)


@pytest.mark.parametrize("command", ANSWERED)
@pytest.mark.parametrize(("status", "expected"), BY_STATUS)
def test_status_without_sense(status: int, expected: int, command: Command) -> None:
    assert error_of(Reply(status, None, 0), command) == expected


@pytest.mark.parametrize("command", ANSWERED)
@pytest.mark.parametrize(("text", "expected"), BY_SENSE)
def test_check_condition_by_sense(text: str, expected: int, command: Command) -> None:
    assert error_of(Reply(CHECK_CONDITION, _sense(text), 0), command) == expected


@pytest.mark.parametrize(("command", "expected"), OUT_OF_RANGE.items())
def test_lba_out_of_range_depends_on_the_request(command: Command, expected: int) -> None:
    assert error_of(Reply(CHECK_CONDITION, _sense("05/21/00"), 0), command) == expected


@pytest.mark.parametrize("text", ["07/27/07", "05/21/00", "0D/00/00", "00/00/00"])
def test_deferred_error_is_eio_whatever_it_says(text: str) -> None:
    # It belongs to a write that was already acknowledged, not to this request.
    sense = _sense(text, deferred=True)
    assert error_of(Reply(CHECK_CONDITION, sense, 0), Command.WRITE) == EIO


def test_check_condition_without_sense_is_eio() -> None:
    assert error_of(Reply(CHECK_CONDITION, None, 0), Command.READ) == EIO


def test_sense_counts_only_with_check_condition() -> None:
    assert error_of(Reply(0x08, _sense("07/27/07"), 0), Command.WRITE) == EIO
