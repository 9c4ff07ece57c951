# SPDX-License-Identifier: GPL-2.0-or-later
"""The device server of a direct-access block device: SPC and SBC together."""

from __future__ import annotations

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.extended_copy import COPY_COMMANDS
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.mode_state import ModeStore
from scsi_backend.servers.reservations import PrStore
from scsi_backend.servers.sbc_compare_and_write import COMPARE_AND_WRITE_COMMANDS
from scsi_backend.servers.sbc_defect_data import DEFECT_DATA_COMMANDS
from scsi_backend.servers.sbc_format import FORMAT_COMMANDS
from scsi_backend.servers.sbc_medium import MEDIUM_COMMANDS
from scsi_backend.servers.sbc_orwrite import ORWRITE_COMMANDS
from scsi_backend.servers.sbc_sanitize import SANITIZE_COMMANDS
from scsi_backend.servers.sbc_start_stop import START_STOP_COMMANDS
from scsi_backend.servers.sbc_transfer import TRANSFER_COMMANDS
from scsi_backend.servers.sbc_variable_length import VARIABLE_LENGTH_COMMANDS
from scsi_backend.servers.sbc_verify import VERIFY_COMMANDS
from scsi_backend.servers.sbc_write_atomic import WRITE_ATOMIC_COMMANDS
from scsi_backend.servers.sbc_write_same import WRITE_SAME_COMMANDS
from scsi_backend.servers.spc import SPC_COMMANDS
from scsi_backend.servers.spc_alua import ALUA_COMMANDS
from scsi_backend.servers.spc_buffer import BUFFER_COMMANDS
from scsi_backend.servers.spc_diagnostic import DIAGNOSTIC_COMMANDS
from scsi_backend.servers.spc_log import LOG_COMMANDS
from scsi_backend.servers.spc_mode import MODE_COMMANDS
from scsi_backend.servers.spc_mode_select import MODE_SELECT_COMMANDS
from scsi_backend.servers.spc_persistent_in import PERSISTENT_IN_COMMANDS
from scsi_backend.servers.spc_persistent_out import PERSISTENT_OUT_COMMANDS
from scsi_backend.servers.spc_report_supported import REPORT_SUPPORTED_COMMANDS
from scsi_backend.servers.spc_reserve import RESERVE_COMMANDS

DISK_COMMANDS = (
    *SPC_COMMANDS,
    *MODE_COMMANDS,
    *MODE_SELECT_COMMANDS,
    *DIAGNOSTIC_COMMANDS,
    *PERSISTENT_IN_COMMANDS,
    *PERSISTENT_OUT_COMMANDS,
    *RESERVE_COMMANDS,
    *ALUA_COMMANDS,
    *REPORT_SUPPORTED_COMMANDS,
    *LOG_COMMANDS,
    *BUFFER_COMMANDS,
    *START_STOP_COMMANDS,
    *TRANSFER_COMMANDS,
    *VERIFY_COMMANDS,
    *MEDIUM_COMMANDS,
    *WRITE_SAME_COMMANDS,
    *COMPARE_AND_WRITE_COMMANDS,
    *FORMAT_COMMANDS,
    *SANITIZE_COMMANDS,
    *COPY_COMMANDS,
    *ORWRITE_COMMANDS,
    *WRITE_ATOMIC_COMMANDS,
    *VARIABLE_LENGTH_COMMANDS,
    *DEFECT_DATA_COMMANDS,
)


def disk(
    vdisk: Vdisk, mode_store: ModeStore | None = None, pr_store: PrStore | None = None
) -> LogicalUnit:
    """Return the logical unit of an emulated disk; raises OSError as ``LogicalUnit``."""
    return LogicalUnit(vdisk, DISK_COMMANDS, mode_store, pr_store)
