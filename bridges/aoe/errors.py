# SPDX-License-Identifier: GPL-2.0-or-later
"""What a SCSI status becomes: ATA status and error registers, or an AoE error.

One table, first match wins. Retries are over by the time it is asked (bridges/recovery.py).
I/O failures go into the ATA registers: the Linux driver takes an AoE error for a lost frame and
sends again until its device times out, which is wanted only where the outage may pass.

Source: SAT-3 clause 12 read backwards, ATA8-ACS 6.2 and 6.3 for the registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bridges.aoe.ata import AtaError, AtaStatus
from bridges.aoe.wire import AoeError, set_ata_error, set_error
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status


@dataclass(frozen=True, slots=True)
class Outcome:
    """ATA status and error registers, or the AoE error where ``aoe_error`` is not zero.

    ``reports_lba``: the sense data's INFORMATION is the LBA of the first bad sector.
    ``is_standby``: the disk is to be reached by another path.
    """

    status: int = int(AtaStatus.DRDY)
    error: int = 0
    aoe_error: int = 0
    reports_lba: bool = False
    is_standby: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the command did what it was asked to."""
        return not self.aoe_error and not self.status & AtaStatus.ERR


def _error(error: AtaError, *, reports_lba: bool = False) -> Outcome:
    return Outcome(int(AtaStatus.DRDY | AtaStatus.ERR), int(error), reports_lba=reports_lba)


SUCCESS: Final = Outcome()
ABORTED: Final = _error(AtaError.ABRT)
# iPXE looks at ERR only, Linux at both: a device fault has both.
DEVICE_FAULT: Final = Outcome(
    int(AtaStatus.DRDY | AtaStatus.DF | AtaStatus.ERR), int(AtaError.ABRT)
)
# The client keeps trying.
UNAVAILABLE: Final = Outcome(aoe_error=AoeError.DEVICE_UNAVAILABLE)
_STANDBY: Final = Outcome(aoe_error=AoeError.DEVICE_UNAVAILABLE, is_standby=True)
RESERVED: Final = Outcome(aoe_error=AoeError.TARGET_IS_RESERVED)
_UNCORRECTABLE: Final = _error(AtaError.UNC)
NOT_FOUND: Final = _error(AtaError.IDNF)
_NO_MEDIUM: Final = _error(AtaError.NM | AtaError.ABRT)
_WRITE_PROTECTED: Final = _error(AtaError.WP | AtaError.ABRT)
_INTERFACE_CRC: Final = _error(AtaError.ICRC | AtaError.ABRT)

_BY_STATUS = MappingProxyType(
    {
        Status.GOOD: SUCCESS,
        Status.CONDITION_MET: SUCCESS,
        Status.RESERVATION_CONFLICT: RESERVED,
        Status.BUSY: ABORTED,
        Status.TASK_SET_FULL: ABORTED,
        Status.ACA_ACTIVE: ABORTED,
        Status.TASK_ABORTED: ABORTED,
    }
)


@dataclass(frozen=True, slots=True)
class _Row:
    """A sense key with an ASC and ASCQ, where None is any."""

    key: SenseKey
    asc: int | None
    ascq: int | None
    outcome: Outcome

    def matches(self, sense: Sense) -> bool:
        return (
            self.key == sense.key
            and self.asc in (None, sense.asc)
            and self.ascq in (None, sense.ascq)
        )


_ROWS = (
    _Row(SenseKey.NO_SENSE, None, None, SUCCESS),
    _Row(SenseKey.RECOVERED_ERROR, None, None, SUCCESS),
    # Becoming ready, format, operation, sanitize in progress, ALUA transition.
    _Row(SenseKey.NOT_READY, 0x04, 0x01, UNAVAILABLE),
    _Row(SenseKey.NOT_READY, 0x04, 0x04, UNAVAILABLE),
    _Row(SenseKey.NOT_READY, 0x04, 0x07, UNAVAILABLE),
    _Row(SenseKey.NOT_READY, 0x04, 0x0A, UNAVAILABLE),
    _Row(SenseKey.NOT_READY, 0x04, 0x1B, UNAVAILABLE),
    # ALUA standby, unavailable.
    _Row(SenseKey.NOT_READY, 0x04, 0x0B, _STANDBY),
    _Row(SenseKey.NOT_READY, 0x04, 0x0C, _STANDBY),
    # The way to the backend is lost or slow.
    _Row(SenseKey.NOT_READY, 0x08, 0x00, UNAVAILABLE),
    _Row(SenseKey.NOT_READY, 0x08, 0x01, UNAVAILABLE),
    _Row(SenseKey.HARDWARE_ERROR, 0x08, 0x00, UNAVAILABLE),
    _Row(SenseKey.HARDWARE_ERROR, 0x08, 0x01, UNAVAILABLE),
    _Row(SenseKey.NOT_READY, 0x3A, None, _NO_MEDIUM),
    _Row(
        SenseKey.MEDIUM_ERROR,
        0x11,
        None,
        _error(AtaError.UNC, reports_lba=True),
    ),
    _Row(SenseKey.MEDIUM_ERROR, 0x14, None, NOT_FOUND),
    # SCST's write error, and SBC-4's.
    _Row(SenseKey.MEDIUM_ERROR, 0x03, 0x00, DEVICE_FAULT),
    _Row(SenseKey.MEDIUM_ERROR, 0x0C, None, DEVICE_FAULT),
    _Row(SenseKey.HARDWARE_ERROR, None, None, DEVICE_FAULT),
    _Row(SenseKey.ILLEGAL_REQUEST, 0x21, 0x00, NOT_FOUND),
    _Row(SenseKey.ILLEGAL_REQUEST, None, None, ABORTED),
    # Media change bits are never shown: whatever a unit attention says has been looked at.
    _Row(SenseKey.UNIT_ATTENTION, None, None, ABORTED),
    # The thin pool is full.
    _Row(SenseKey.DATA_PROTECT, 0x27, 0x07, DEVICE_FAULT),
    _Row(SenseKey.DATA_PROTECT, None, None, _WRITE_PROTECTED),
    _Row(SenseKey.ABORTED_COMMAND, 0x47, None, _INTERFACE_CRC),
    _Row(SenseKey.ABORTED_COMMAND, 0x08, 0x03, _INTERFACE_CRC),
    # Protection information: guard, application tag, reference tag.
    _Row(SenseKey.ABORTED_COMMAND, 0x10, 0x01, _UNCORRECTABLE),
    _Row(SenseKey.ABORTED_COMMAND, 0x10, 0x02, _UNCORRECTABLE),
    _Row(SenseKey.ABORTED_COMMAND, 0x10, 0x03, _UNCORRECTABLE),
    _Row(SenseKey.ABORTED_COMMAND, None, None, ABORTED),
    _Row(SenseKey.VOLUME_OVERFLOW, None, None, NOT_FOUND),
    # A command duration limit cut the command short (DATA CURRENTLY UNAVAILABLE).
    _Row(SenseKey.COMPLETED, 0x55, 0x0A, ABORTED),
    _Row(SenseKey.COMPLETED, None, None, SUCCESS),
)


def outcome_of(status: int, sense: Sense | None) -> Outcome:
    """Return what to answer for a command that ended this way; anything unknown is ABRT."""
    if status != Status.CHECK_CONDITION:
        return _BY_STATUS.get(status, ABORTED)  # type: ignore[call-overload,no-any-return]
    if sense is None:
        return ABORTED
    # Data of an earlier, acknowledged command is lost: this one says so.
    if sense.deferred:
        return DEVICE_FAULT
    return next((row.outcome for row in _ROWS if row.matches(sense)), ABORTED)


def put_outcome(reply: memoryview, outcome: Outcome) -> None:
    """Write an outcome that is no success to a reply that echoes the request's argument.

    The sector count stays: nothing of what it counts was done.
    """
    if outcome.aoe_error:
        set_error(reply, outcome.aoe_error)
    else:
        set_ata_error(reply, outcome.error, outcome.status)
