# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA's numbers: command and subcommand codes, and values that registers take in replies.

Which commands are served, and how, is in ata.py. Source: ATA8-ACS annex B (T13/1699), ATA-3 for the
opcodes of old.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class AtaOpcode(IntEnum):
    """The command register."""

    DATA_SET_MANAGEMENT = 0x06
    RECALIBRATE = 0x10
    READ_SECTORS = 0x20
    READ_SECTORS_WITHOUT_RETRY = 0x21
    READ_SECTORS_EXT = 0x24
    READ_DMA_EXT = 0x25
    READ_NATIVE_MAX_ADDRESS_EXT = 0x27
    READ_MULTIPLE_EXT = 0x29
    WRITE_SECTORS = 0x30
    WRITE_SECTORS_WITHOUT_RETRY = 0x31
    WRITE_SECTORS_EXT = 0x34
    WRITE_DMA_EXT = 0x35
    WRITE_MULTIPLE_EXT = 0x39
    WRITE_DMA_FUA_EXT = 0x3D
    READ_VERIFY_SECTORS = 0x40
    READ_VERIFY_SECTORS_WITHOUT_RETRY = 0x41
    READ_VERIFY_SECTORS_EXT = 0x42
    SEEK = 0x70
    EXECUTE_DEVICE_DIAGNOSTIC = 0x90
    INITIALIZE_DEVICE_PARAMETERS = 0x91
    STANDBY_IMMEDIATE_OLD = 0x94
    IDLE_IMMEDIATE_OLD = 0x95
    STANDBY_OLD = 0x96
    IDLE_OLD = 0x97
    CHECK_POWER_MODE_OLD = 0x98
    PACKET = 0xA0
    IDENTIFY_PACKET_DEVICE = 0xA1
    SMART = 0xB0
    READ_MULTIPLE = 0xC4
    WRITE_MULTIPLE = 0xC5
    SET_MULTIPLE_MODE = 0xC6
    READ_DMA = 0xC8
    READ_DMA_WITHOUT_RETRY = 0xC9
    WRITE_DMA = 0xCA
    WRITE_DMA_WITHOUT_RETRY = 0xCB
    WRITE_MULTIPLE_FUA_EXT = 0xCE
    STANDBY_IMMEDIATE = 0xE0
    IDLE_IMMEDIATE = 0xE1
    STANDBY = 0xE2
    IDLE = 0xE3
    CHECK_POWER_MODE = 0xE5
    FLUSH_CACHE = 0xE7
    FLUSH_CACHE_EXT = 0xEA
    IDENTIFY_DEVICE = 0xEC
    SET_FEATURES = 0xEF
    READ_NATIVE_MAX_ADDRESS = 0xF8


class SmartFeature(IntEnum):
    """Subcommands of SMART in the features register."""

    READ_DATA = 0xD0
    ENABLE_OPERATIONS = 0xD8
    DISABLE_OPERATIONS = 0xD9
    RETURN_STATUS = 0xDA


class SetFeature(IntEnum):
    """Subcommands of SET FEATURES in the features register."""

    ENABLE_WRITE_CACHE = 0x02
    SET_TRANSFER_MODE = 0x03
    DISABLE_READ_LOOK_AHEAD = 0x55
    KEEP_SETTINGS_OVER_RESET = 0x66
    DISABLE_WRITE_CACHE = 0x82
    ENABLE_READ_LOOK_AHEAD = 0xAA
    DEFAULT_SETTINGS_AT_RESET = 0xCC


# DATA SET MANAGEMENT: bit 0 of the features register; the others are reserved.
TRIM_FEATURE: Final = 0x01

# CHECK POWER MODE: FFh in the count register is "active or idle" (ATA8-ACS 7.8).
ACTIVE_OR_IDLE: Final = 0xFF
# EXECUTE DEVICE DIAGNOSTIC: what the error register says of device 0 (ATA8-ACS table 26).
DIAGNOSTIC_PASSED: Final = 0x01
# SMART RETURN STATUS: LBA mid and high if a threshold was exceeded (ATA8-ACS 7.53.9).
SMART_EXCEEDED: Final = 0x2CF4
# They tell by the signature in the registers that this is no ATAPI device (ATA8-ACS 7.17).
SIGNATURE_OPCODES: Final = frozenset({AtaOpcode.PACKET, AtaOpcode.IDENTIFY_PACKET_DEVICE})
