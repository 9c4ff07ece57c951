# SPDX-License-Identifier: GPL-2.0-or-later
"""What a target answers for a LUN that has no logical unit (SPC-5 6.7.2, SAM-5 4.7)."""

from __future__ import annotations

from functools import partial
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.spc import check_inquiry, report_luns
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import sense, vpd
from scsi_backend.t10.opcodes import Opcode


def _inquiry(command: Command) -> None:
    """Standard data that says there is none here and cannot be; SCST gives 36 bytes."""
    check_inquiry(command.cdb)
    if fields.EVPD.read(command.cdb):
        raise CheckCondition(sense.LUN_NOT_SUPPORTED)
    data = vpd.StandardInquiry(
        vendor="SCST_BR",
        product="NO LUN",
        revision="",
        peripheral=vpd.QUALIFIER_NOT_CAPABLE,
    ).serialize()
    command.reply(data[:36], fields.INQUIRY_ALLOCATION_LENGTH.read(command.cdb))


def _request_sense(command: Command) -> None:
    """GOOD, with LOGICAL UNIT NOT SUPPORTED as the parameter data (SPC-5 6.39)."""
    descriptor = bool(fields.DESC.read(command.cdb))
    command.reply(
        sense.LUN_NOT_SUPPORTED.encode(descriptor=descriptor),
        fields.REQUEST_SENSE_ALLOCATION_LENGTH.read(command.cdb),
    )


def _not_supported(command: Command) -> None:
    command.check_condition(sense.LUN_NOT_SUPPORTED)


_ANSWERED = {
    Opcode.INQUIRY: _inquiry,
    Opcode.REPORT_LUNS: partial(report_luns, None),
    Opcode.REQUEST_SENSE: _request_sense,
}

ABSENT_DISPATCH: Final[tuple[Execute, ...]] = tuple(
    _ANSWERED.get(opcode, _not_supported)  # type: ignore[call-overload]
    for opcode in range(256)
)
