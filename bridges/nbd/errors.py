# SPDX-License-Identifier: GPL-2.0-or-later
"""SCSI status and sense data to NBD error values: one table, the first match wins.

NBD has few codes. EPERM says that policy refuses and a retry is of no use; ENOSPC is the one
hypervisors act on (pause the guest, grow the disk); EINVAL says that the request is wrong; the rest
is EIO.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridges.nbd.wire import Command, Error
from bridges.recovery import Reply
from scsi_backend.t10.sense import SenseKey
from scsi_backend.t10.status import Status

_ANY = None


@dataclass(frozen=True, slots=True)
class _Row:
    key: SenseKey
    asc: int | None
    ascq: int | None
    error: Error


_ROWS = (
    _Row(SenseKey.DATA_PROTECT, 0x27, 0x07, Error.ENOSPC),
    _Row(SenseKey.DATA_PROTECT, 0x27, _ANY, Error.EPERM),
    _Row(SenseKey.DATA_PROTECT, 0x20, 0x02, Error.EPERM),
    _Row(SenseKey.DATA_PROTECT, 0x74, _ANY, Error.EPERM),
    # SCST reports a read-only device as 07/00/00.
    _Row(SenseKey.DATA_PROTECT, 0x00, 0x00, Error.EPERM),
    # Some devices report write protection and lack of space under ILLEGAL REQUEST.
    _Row(SenseKey.ILLEGAL_REQUEST, 0x27, 0x07, Error.ENOSPC),
    _Row(SenseKey.ILLEGAL_REQUEST, 0x27, _ANY, Error.EPERM),
    _Row(SenseKey.ILLEGAL_REQUEST, 0x20, 0x02, Error.EPERM),
    _Row(SenseKey.ILLEGAL_REQUEST, 0x74, _ANY, Error.EPERM),
    # The LUN is gone: nothing is wrong with the request, and the LUN may come back. ESHUTDOWN
    # would have the client leave for good.
    _Row(SenseKey.ILLEGAL_REQUEST, 0x25, _ANY, Error.EIO),
    _Row(SenseKey.ILLEGAL_REQUEST, _ANY, _ANY, Error.EINVAL),
    _Row(SenseKey.VOLUME_OVERFLOW, _ANY, _ANY, Error.ENOSPC),
)

# proto.md: writing past the end SHOULD be ENOSPC, anything else past the end EINVAL.
OUT_OF_RANGE = {Command.WRITE: Error.ENOSPC, Command.WRITE_ZEROES: Error.ENOSPC}


def error_of(reply: Reply, command: Command) -> Error:
    """Return the NBD error value of a request whose CDB failed for good."""
    if reply.is_success:
        return Error.OK
    if reply.status == Status.RESERVATION_CONFLICT:
        return Error.EPERM
    sense = reply.sense
    if reply.status != Status.CHECK_CONDITION or sense is None or sense.deferred:
        return Error.EIO
    if sense.key == SenseKey.ILLEGAL_REQUEST and sense.asc == 0x21 and sense.ascq == 0x00:
        return OUT_OF_RANGE.get(command, Error.EINVAL)
    for row in _ROWS:
        if row.key == sense.key and row.asc in (_ANY, sense.asc) and row.ascq in (_ANY, sense.ascq):
            return row.error
    return Error.EIO
