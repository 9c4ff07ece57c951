# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA's numbers against an independent list."""

from __future__ import annotations

import pytest

from bridges.aoe import ata_codes
from bridges.aoe.ata_codes import AtaOpcode, SetFeature, SmartFeature

# ATA8-ACS table B.2, and ATA-3 table 9 for those that it has given up.
_OPCODES = """
06 DATA_SET_MANAGEMENT
10 RECALIBRATE
20 READ_SECTORS
21 READ_SECTORS_WITHOUT_RETRY
24 READ_SECTORS_EXT
25 READ_DMA_EXT
27 READ_NATIVE_MAX_ADDRESS_EXT
29 READ_MULTIPLE_EXT
30 WRITE_SECTORS
31 WRITE_SECTORS_WITHOUT_RETRY
34 WRITE_SECTORS_EXT
35 WRITE_DMA_EXT
39 WRITE_MULTIPLE_EXT
3D WRITE_DMA_FUA_EXT
40 READ_VERIFY_SECTORS
41 READ_VERIFY_SECTORS_WITHOUT_RETRY
42 READ_VERIFY_SECTORS_EXT
70 SEEK
90 EXECUTE_DEVICE_DIAGNOSTIC
91 INITIALIZE_DEVICE_PARAMETERS
94 STANDBY_IMMEDIATE_OLD
95 IDLE_IMMEDIATE_OLD
96 STANDBY_OLD
97 IDLE_OLD
98 CHECK_POWER_MODE_OLD
A0 PACKET
A1 IDENTIFY_PACKET_DEVICE
B0 SMART
C4 READ_MULTIPLE
C5 WRITE_MULTIPLE
C6 SET_MULTIPLE_MODE
C8 READ_DMA
C9 READ_DMA_WITHOUT_RETRY
CA WRITE_DMA
CB WRITE_DMA_WITHOUT_RETRY
CE WRITE_MULTIPLE_FUA_EXT
E0 STANDBY_IMMEDIATE
E1 IDLE_IMMEDIATE
E2 STANDBY
E3 IDLE
E5 CHECK_POWER_MODE
E7 FLUSH_CACHE
EA FLUSH_CACHE_EXT
EC IDENTIFY_DEVICE
EF SET_FEATURES
F8 READ_NATIVE_MAX_ADDRESS
"""
_SMART = """
D0 READ_DATA
D8 ENABLE_OPERATIONS
D9 DISABLE_OPERATIONS
DA RETURN_STATUS
"""
_FEATURES = """
02 ENABLE_WRITE_CACHE
03 SET_TRANSFER_MODE
55 DISABLE_READ_LOOK_AHEAD
66 KEEP_SETTINGS_OVER_RESET
82 DISABLE_WRITE_CACHE
AA ENABLE_READ_LOOK_AHEAD
CC DEFAULT_SETTINGS_AT_RESET
"""


@pytest.mark.parametrize(
    ("codes", "golden"),
    [(AtaOpcode, _OPCODES), (SmartFeature, _SMART), (SetFeature, _FEATURES)],
    ids=["opcodes", "SMART", "SET FEATURES"],
)
def test_codes_equal_the_golden_list(
    codes: type[AtaOpcode] | type[SmartFeature] | type[SetFeature], golden: str
) -> None:
    rows = [line.split() for line in golden.strip().splitlines()]
    assert {code.name: f"{code.value:02X}" for code in codes} == {name: code for code, name in rows}


def test_register_values() -> None:
    assert ata_codes.TRIM_FEATURE == 0x01
    assert ata_codes.ACTIVE_OR_IDLE == 0xFF
    assert ata_codes.DIAGNOSTIC_PASSED == 0x01
    # LBA high and mid; all is well with C24Fh.
    assert ata_codes.SMART_EXCEEDED == 0x2CF4
    assert set(ata_codes.SIGNATURE_OPCODES) == {0xA0, 0xA1}
