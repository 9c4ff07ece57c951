# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the CDBs that ATA commands become."""

from __future__ import annotations

import pytest

from bridges.aoe.ata import COMMANDS, decode
from bridges.aoe.procedures import PROCEDURES
from bridges.aoe.translate import to_cdb
from bridges.aoe.wire import AtaArgument

_READ = "88 00 0000112233445566 00000002 0000"
_READ_28 = "88 00 0000000002345678 00000002 0000"
_WRITE = "8a 00 0000112233445566 00000002 0000"
_WRITE_28 = "8a 00 0000000002345678 00000002 0000"
_WRITE_FUA = "8a 08 0000112233445566 00000002 0000"
_WRITE_28_FUA = "8a 08 0000000002345678 00000002 0000"
_FLUSH = "91 00 0000000000000000 00000000 0000"
_TEST_UNIT_READY = "000000000000"
_SELF_TEST = "1d0400000000"

# opcode: CDB if writes are durable, and if they are not.
_CDBS = {
    0x20: (_READ_28, _READ_28),
    0x21: (_READ_28, _READ_28),
    0x24: (_READ, _READ),
    0x25: (_READ, _READ),
    0x29: (_READ, _READ),
    0xC4: (_READ_28, _READ_28),
    0xC8: (_READ_28, _READ_28),
    0xC9: (_READ_28, _READ_28),
    0x30: (_WRITE_28_FUA, _WRITE_28),
    0x31: (_WRITE_28_FUA, _WRITE_28),
    0x34: (_WRITE_FUA, _WRITE),
    0x35: (_WRITE_FUA, _WRITE),
    0x39: (_WRITE_FUA, _WRITE),
    0xC5: (_WRITE_28_FUA, _WRITE_28),
    0xCA: (_WRITE_28_FUA, _WRITE_28),
    0xCB: (_WRITE_28_FUA, _WRITE_28),
    0x3D: (_WRITE_FUA, _WRITE_FUA),
    0xCE: (_WRITE_FUA, _WRITE_FUA),
    0xE7: (_FLUSH, _FLUSH),
    0xEA: (_FLUSH, _FLUSH),
    0xE5: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0x98: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0xEC: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0x27: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0xF8: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0x70: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0x91: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    0xC6: (_TEST_UNIT_READY, _TEST_UNIT_READY),
    **{0x10 + rate: (_TEST_UNIT_READY, _TEST_UNIT_READY) for rate in range(16)},
    0x90: (_SELF_TEST, _SELF_TEST),
}
# By opcode and feature: what is there to hear of unit attentions.
_LOOKS = [(0xB0, 0xD0), (0xB0, 0xD8), (0xB0, 0xD9), (0xB0, 0xDA)] + [
    (0xEF, feature) for feature in (0x03, 0x55, 0xAA, 0x66, 0xCC)
]
# These take several CDBs, or another one (test_procedures.py).
_PROCEDURES = {"VERIFY", "TRIM", "STANDBY", "IDLE", "ENABLE_WRITE_CACHE", "DISABLE_WRITE_CACHE"}


def test_no_command_is_left_out() -> None:
    plain = {
        code
        for code, row in enumerate(COMMANDS)
        if row is not None and row.features is None and row.function.name not in _PROCEDURES
    }
    assert plain == set(_CDBS)
    assert {function.name for function in PROCEDURES} == _PROCEDURES


@pytest.mark.parametrize(("opcode", "feature"), _LOOKS)
def test_subcommands_without_a_cdb_of_their_own_look_at_the_lun(opcode: int, feature: int) -> None:
    command = COMMANDS[opcode]
    assert command is not None
    request = decode(command, AtaArgument(0, feature, 1, opcode, 0xC24F00, 0), 2)
    assert request is not None
    assert to_cdb(request, durable=True) == bytes.fromhex(_TEST_UNIT_READY)


@pytest.mark.parametrize("opcode", _CDBS)
@pytest.mark.parametrize("durable", [True, False])
def test_each_command_becomes_its_cdb(opcode: int, durable: bool) -> None:
    command = COMMANDS[opcode]
    assert command is not None
    is_28 = command.width == 28
    argument = AtaArgument(
        flags=0x41 if command.transfer.name == "DATA_OUT" else 0x40,
        feature=0,
        sector_count=1 if opcode in (0xEC, 0xC6) else 2,
        opcode=opcode,
        lba_low=0xE2345678 if is_28 else 0x33445566,
        lba_high=0 if is_28 else 0x1122,
    )
    request = decode(command, argument, 2)
    assert request is not None
    expected = _CDBS[opcode][0 if durable else 1]
    assert to_cdb(request, durable=durable) == bytes.fromhex(expected)
