# SPDX-License-Identifier: GPL-2.0-or-later
"""The CDB usage data and the timeouts of every command (SPC-5 6.35.3, 6.35.4).

Usage data have the operation code in byte 0, the service action where the CDB has it, and a one in
each other bit that the device server acts upon. A field that must be zero counts as reserved: there
is no protection information (RDPROTECT and the like), no NACA, and group numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from scsi_backend.t10.opcodes import (
    ExtendedCopy,
    MaintenanceIn,
    MaintenanceOut,
    Opcode,
    ReceiveCopyResults,
    Sanitize,
    ServiceActionIn16,
    VariableLength,
)


class Timeouts(NamedTuple):
    """After how long to ask for progress, and after how long to give a command up."""

    nominal_s: int
    recommended_s: int


# Answered from memory; moving as much as one command may; going over the medium.
_QUICK: Final = Timeouts(1, 10)
_MOVES: Final = Timeouts(1, 60)
_LONG: Final = Timeouts(1, 3600)


@dataclass(frozen=True, slots=True)
class CommandUsage:
    """The usage data of one command; ``thin_only`` are bits that need thin provisioning."""

    cdb: bytes
    timeouts: Timeouts
    thin_only: bytes = b""

    def usage_data(self, *, is_thin: bool) -> bytes:
        """The CDB usage data that a logical unit reports."""
        if is_thin or not self.thin_only:
            return self.cdb
        return bytes(bits & ~thin for bits, thin in zip(self.cdb, self.thin_only, strict=True))


# operation code, service action, CDB usage data, timeouts.
_ROWS: Final[tuple[tuple[int, int | None, str, Timeouts], ...]] = (
    (Opcode.TEST_UNIT_READY, None, "00 00 0000 00 00", _QUICK),
    (Opcode.REQUEST_SENSE, None, "03 01 0000 ff 00", _QUICK),
    (Opcode.FORMAT_UNIT, None, "04 3f 00 00 00 00", _LONG),
    (Opcode.READ_6, None, "08 1fffff ff 00", _MOVES),
    (Opcode.WRITE_6, None, "0a 1fffff ff 00", _MOVES),
    (Opcode.INQUIRY, None, "12 01 ff ffff 00", _QUICK),
    (Opcode.MODE_SELECT_6, None, "15 11 0000 ff 00", _MOVES),
    (Opcode.RESERVE_6, None, "16 00 00 0000 00", _QUICK),
    (Opcode.RELEASE_6, None, "17 00 00 0000 00", _QUICK),
    (Opcode.MODE_SENSE_6, None, "1a 08 ff ff ff 00", _QUICK),
    (Opcode.START_STOP_UNIT, None, "1b 01 00 00 f7 00", _MOVES),
    (Opcode.RECEIVE_DIAGNOSTIC_RESULTS, None, "1c 01 ff ffff 00", _QUICK),
    (Opcode.SEND_DIAGNOSTIC, None, "1d 14 00 ffff 00", _MOVES),
    (Opcode.PREVENT_ALLOW_MEDIUM_REMOVAL, None, "1e 00 0000 03 00", _QUICK),
    (Opcode.READ_CAPACITY_10, None, "25 00 00000000 0000 00 00", _QUICK),
    (Opcode.READ_10, None, "28 18 ffffffff 00 ffff 00", _MOVES),
    (Opcode.WRITE_10, None, "2a 18 ffffffff 00 ffff 00", _MOVES),
    (Opcode.WRITE_AND_VERIFY_10, None, "2e 16 ffffffff 00 ffff 00", _MOVES),
    (Opcode.VERIFY_10, None, "2f 16 ffffffff 00 ffff 00", _MOVES),
    (Opcode.PRE_FETCH_10, None, "34 02 ffffffff 00 ffff 00", _MOVES),
    (Opcode.SYNCHRONIZE_CACHE_10, None, "35 02 ffffffff 00 ffff 00", _MOVES),
    (Opcode.READ_DEFECT_DATA_10, None, "37 00 1f 00000000 ffff 00", _QUICK),
    (Opcode.WRITE_BUFFER, None, "3b 1f ff ffffff ffffff 00", _QUICK),
    (Opcode.READ_BUFFER, None, "3c 1f ff ffffff ffffff 00", _QUICK),
    (Opcode.WRITE_SAME_10, None, "41 08 ffffffff 00 ffff 00", _LONG),
    (Opcode.UNMAP, None, "42 00 00000000 00 ffff 00", _LONG),
    (Opcode.SANITIZE, Sanitize.OVERWRITE, "48 a1 0000000000 ffff 00", _LONG),
    (Opcode.SANITIZE, Sanitize.BLOCK_ERASE, "48 a2 0000000000 0000 00", _LONG),
    (Opcode.SANITIZE, Sanitize.EXIT_FAILURE_MODE, "48 1f 0000000000 0000 00", _QUICK),
    (Opcode.LOG_SELECT, None, "4c 02 ff ff 000000 ffff 00", _QUICK),
    (Opcode.LOG_SENSE, None, "4d 00 ff ff 00 ffff ffff 00", _QUICK),
    (Opcode.MODE_SELECT_10, None, "55 11 0000000000 ffff 00", _MOVES),
    (Opcode.RESERVE_10, None, "56 00 00 00 000000 0000 00", _QUICK),
    (Opcode.RELEASE_10, None, "57 00 00 00 000000 0000 00", _QUICK),
    (Opcode.MODE_SENSE_10, None, "5a 18 ff ff 000000 ffff 00", _QUICK),
    # READ KEYS, READ RESERVATION, REPORT CAPABILITIES, READ FULL STATUS.
    (Opcode.PERSISTENT_RESERVE_IN, 0x00, "5e 00 0000000000 ffff 00", _QUICK),
    (Opcode.PERSISTENT_RESERVE_IN, 0x01, "5e 01 0000000000 ffff 00", _QUICK),
    (Opcode.PERSISTENT_RESERVE_IN, 0x02, "5e 02 0000000000 ffff 00", _QUICK),
    (Opcode.PERSISTENT_RESERVE_IN, 0x03, "5e 03 0000000000 ffff 00", _QUICK),
    # REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT AND ABORT, REGISTER AND IGNORE EXISTING
    # KEY, REGISTER AND MOVE.
    (Opcode.PERSISTENT_RESERVE_OUT, 0x00, "5f 00 00 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x01, "5f 01 ff 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x02, "5f 02 ff 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x03, "5f 03 00 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x04, "5f 04 ff 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x05, "5f 05 ff 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x06, "5f 06 00 0000 ffffffff 00", _MOVES),
    (Opcode.PERSISTENT_RESERVE_OUT, 0x07, "5f 07 00 0000 ffffffff 00", _MOVES),
    # control, additional length, service action, flags, lba, protection information, length.
    (
        Opcode.VARIABLE_LENGTH,
        VariableLength.READ_32,
        "7f 00 00000000 00 ff 0009 18 00 ffffffffffffffff 0000000000000000 ffffffff",
        _MOVES,
    ),
    (
        Opcode.VARIABLE_LENGTH,
        VariableLength.VERIFY_32,
        "7f 00 00000000 00 ff 000a 16 00 ffffffffffffffff 0000000000000000 ffffffff",
        _MOVES,
    ),
    (
        Opcode.VARIABLE_LENGTH,
        VariableLength.WRITE_32,
        "7f 00 00000000 00 ff 000b 18 00 ffffffffffffffff 0000000000000000 ffffffff",
        _MOVES,
    ),
    (
        Opcode.VARIABLE_LENGTH,
        VariableLength.WRITE_AND_VERIFY_32,
        "7f 00 00000000 00 ff 000c 16 00 ffffffffffffffff 0000000000000000 ffffffff",
        _MOVES,
    ),
    (
        Opcode.VARIABLE_LENGTH,
        VariableLength.WRITE_SAME_32,
        "7f 00 00000000 00 ff 000d 09 00 ffffffffffffffff 0000000000000000 ffffffff",
        _LONG,
    ),
    (
        Opcode.VARIABLE_LENGTH,
        VariableLength.WRITE_ATOMIC_32,
        "7f 00 00000000 00 ff 000f 18 00 ffffffffffffffff 0000000000000000 ffffffff",
        _MOVES,
    ),
    (Opcode.EXTENDED_COPY, ExtendedCopy.LID1, "83 00 0000000000000000 ffffffff 00 00", _LONG),
    (
        Opcode.RECEIVE_COPY_RESULTS,
        ReceiveCopyResults.COPY_STATUS_LID1,
        "84 00 ff 00000000000000 ffffffff 00 00",
        _QUICK,
    ),
    (
        Opcode.RECEIVE_COPY_RESULTS,
        ReceiveCopyResults.OPERATING_PARAMETERS,
        "84 03 00 00000000000000 ffffffff 00 00",
        _QUICK,
    ),
    (
        Opcode.RECEIVE_COPY_RESULTS,
        ReceiveCopyResults.FAILED_SEGMENT_DETAILS_LID1,
        "84 04 ff 00000000000000 ffffffff 00 00",
        _QUICK,
    ),
    (Opcode.READ_16, None, "88 18 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.COMPARE_AND_WRITE, None, "89 18 ffffffffffffffff 000000 ff 00 00", _MOVES),
    (Opcode.WRITE_16, None, "8a 18 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.ORWRITE_16, None, "8b 18 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.WRITE_AND_VERIFY_16, None, "8e 16 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.VERIFY_16, None, "8f 16 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.PRE_FETCH_16, None, "90 02 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.SYNCHRONIZE_CACHE_16, None, "91 02 ffffffffffffffff ffffffff 00 00", _MOVES),
    (Opcode.WRITE_SAME_16, None, "93 09 ffffffffffffffff ffffffff 00 00", _LONG),
    # ATOMIC BOUNDARY, which must be zero, then the length.
    (Opcode.WRITE_ATOMIC_16, None, "9c 18 ffffffffffffffff 0000 ffff 00 00", _MOVES),
    (
        Opcode.SERVICE_ACTION_IN_16,
        ServiceActionIn16.READ_CAPACITY_16,
        "9e 10 0000000000000000 ffffffff 00 00",
        _QUICK,
    ),
    (
        Opcode.SERVICE_ACTION_IN_16,
        ServiceActionIn16.GET_LBA_STATUS,
        "9e 12 ffffffffffffffff ffffffff 00 00",
        _MOVES,
    ),
    (Opcode.REPORT_LUNS, None, "a0 00 ff 000000 ffffffff 00 00", _QUICK),
    (
        Opcode.MAINTENANCE_IN,
        MaintenanceIn.REPORT_TARGET_PORT_GROUPS,
        "a3 ea 00000000 ffffffff 00 00",
        _QUICK,
    ),
    (
        Opcode.MAINTENANCE_IN,
        MaintenanceIn.REPORT_SUPPORTED_OPERATION_CODES,
        "a3 0c 87 ff ffff ffffffff 00 00",
        _QUICK,
    ),
    (
        Opcode.MAINTENANCE_IN,
        MaintenanceIn.REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS,
        "a3 0d 80 000000 ffffffff 00 00",
        _QUICK,
    ),
    (
        Opcode.MAINTENANCE_OUT,
        MaintenanceOut.SET_TARGET_PORT_GROUPS,
        "a4 0a 00000000 ffffffff 00 00",
        _MOVES,
    ),
    (Opcode.READ_12, None, "a8 18 ffffffff ffffffff 00 00", _MOVES),
    (Opcode.WRITE_12, None, "aa 18 ffffffff ffffffff 00 00", _MOVES),
    (Opcode.WRITE_AND_VERIFY_12, None, "ae 16 ffffffff ffffffff 00 00", _MOVES),
    (Opcode.VERIFY_12, None, "af 16 ffffffff ffffffff 00 00", _MOVES),
    (Opcode.READ_DEFECT_DATA_12, None, "b7 1f 00000000 ffffffff 00 00", _QUICK),
)

# UNMAP of WRITE SAME.
_THIN_ONLY: Final[Mapping[tuple[int, int | None], bytes]] = MappingProxyType(
    {
        (Opcode.WRITE_SAME_10, None): b"\0\x08".ljust(10, b"\0"),
        (Opcode.WRITE_SAME_16, None): b"\0\x08".ljust(16, b"\0"),
        (Opcode.VARIABLE_LENGTH, VariableLength.WRITE_SAME_32): (bytes(10) + b"\x08").ljust(
            32, b"\0"
        ),
    }
)

# By operation code and service action (None where the operation code has none).
COMMAND_USAGE: Final[Mapping[tuple[int, int | None], CommandUsage]] = MappingProxyType(
    {
        (opcode, action): CommandUsage(
            bytes.fromhex(usage), timeouts, _THIN_ONLY.get((opcode, action), b"")
        )
        for opcode, action, usage, timeouts in _ROWS
    }
)
