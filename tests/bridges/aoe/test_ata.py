# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the opcode table and of the rules for its registers."""

from __future__ import annotations

import pytest

from bridges.aoe.ata import COMMANDS, AtaRequest, decode, put_lba, put_signature
from bridges.aoe.wire import AtaArgument

# opcode: function, LBA width, which way the data go. Written from ATA8-ACS, not from the table.
_SERVED = {
    0x20: ("READ", 28, "DATA_IN"),
    0x21: ("READ", 28, "DATA_IN"),
    0x24: ("READ", 48, "DATA_IN"),
    0x25: ("READ", 48, "DATA_IN"),
    0x29: ("READ", 48, "DATA_IN"),
    0xC4: ("READ", 28, "DATA_IN"),
    0xC8: ("READ", 28, "DATA_IN"),
    0xC9: ("READ", 28, "DATA_IN"),
    0x30: ("WRITE", 28, "DATA_OUT"),
    0x31: ("WRITE", 28, "DATA_OUT"),
    0x34: ("WRITE", 48, "DATA_OUT"),
    0x35: ("WRITE", 48, "DATA_OUT"),
    0x39: ("WRITE", 48, "DATA_OUT"),
    0xC5: ("WRITE", 28, "DATA_OUT"),
    0xCA: ("WRITE", 28, "DATA_OUT"),
    0xCB: ("WRITE", 28, "DATA_OUT"),
    0x3D: ("WRITE_FUA", 48, "DATA_OUT"),
    0xCE: ("WRITE_FUA", 48, "DATA_OUT"),
    0x40: ("VERIFY", 28, "NON_DATA"),
    0x41: ("VERIFY", 28, "NON_DATA"),
    0x42: ("VERIFY", 48, "NON_DATA"),
    0xE7: ("FLUSH", 0, "NON_DATA"),
    0xEA: ("FLUSH", 0, "NON_DATA"),
    0xE5: ("CHECK_POWER", 0, "NON_DATA"),
    0x98: ("CHECK_POWER", 0, "NON_DATA"),
    0xEC: ("IDENTIFY", 0, "DATA_IN"),
    0x27: ("READ_NATIVE_MAX", 48, "NON_DATA"),
    0xF8: ("READ_NATIVE_MAX", 28, "NON_DATA"),
    **{0x10 + rate: ("NO_OPERATION", 0, "NON_DATA") for rate in range(16)},
    0x70: ("NO_OPERATION", 0, "NON_DATA"),
    0x91: ("NO_OPERATION", 0, "NON_DATA"),
    0xC6: ("NO_OPERATION", 0, "NON_DATA"),
    0x90: ("DIAGNOSTIC", 0, "NON_DATA"),
    0xE0: ("STANDBY", 0, "NON_DATA"),
    0x94: ("STANDBY", 0, "NON_DATA"),
    0xE2: ("STANDBY", 0, "NON_DATA"),
    0x96: ("STANDBY", 0, "NON_DATA"),
    0xE1: ("IDLE", 0, "NON_DATA"),
    0x95: ("IDLE", 0, "NON_DATA"),
    0xE3: ("IDLE", 0, "NON_DATA"),
    0x97: ("IDLE", 0, "NON_DATA"),
}

# opcode: features register: function, which way the data go.
_FEATURES = {
    0x06: {0x01: ("TRIM", "DATA_OUT")},
    0xB0: {
        0xD0: ("SMART_READ_DATA", "DATA_IN"),
        0xD8: ("NO_OPERATION", "NON_DATA"),
        0xD9: ("NO_OPERATION", "NON_DATA"),
        0xDA: ("SMART_STATUS", "NON_DATA"),
    },
    0xEF: {
        0x02: ("ENABLE_WRITE_CACHE", "NON_DATA"),
        0x82: ("DISABLE_WRITE_CACHE", "NON_DATA"),
        **dict.fromkeys((3, 85, 170, 102, 204), ("NO_OPERATION", "NON_DATA")),
    },
}


def test_exactly_these_opcodes_are_served() -> None:
    found = {
        code: (row.function.name, int(row.width), row.transfer.name)
        for code, row in enumerate(COMMANDS)
        if row is not None and row.features is None
    }
    assert found == _SERVED


def test_exactly_these_subcommands_are_served() -> None:
    found = {
        code: {
            feature: (each.function.name, each.transfer.name)
            for feature, each in row.features.items()
        }
        for code, row in enumerate(COMMANDS)
        if row is not None and row.features is not None
    }
    assert found == _FEATURES


def test_each_row_stands_at_its_opcode() -> None:
    wrong = {
        code: row.opcode
        for code, row in enumerate(COMMANDS)
        if row is not None and row.opcode != code and code >> 4 != 1
    }
    assert wrong == {}


def test_what_changes_anything_is_for_one_target_only() -> None:
    writes = {code for code, (_, _, transfer) in _SERVED.items() if transfer == "DATA_OUT"}
    power = {0xE0, 0xE1, 0xE2, 0xE3, 0x94, 0x95, 0x96, 0x97}
    found = {code for code, row in enumerate(COMMANDS) if row and row.is_for_one_target}
    assert found == writes | power | {0x06, 0xEF}


def _decode(registers: str, limit_sectors: int = 2) -> AtaRequest | None:
    argument = AtaArgument.parse(bytes(24) + bytes.fromhex(registers))
    command = COMMANDS[argument.opcode]
    assert command is not None
    return decode(command, argument, limit_sectors)


@pytest.mark.parametrize(
    ("registers", "lba", "length_sectors", "data_bytes"),
    [
        # LBA28: the low nibble of lba3 is LBA 27:24; its flags, lba4 and lba5 mean nothing.
        ("00 00 01 20 78 56 34 e2 00 00 0000", 0x2345678, 1, 512),
        ("00 00 02 20 ff ff ff ff ff ff 0000", 0xFFFFFFF, 2, 1024),
        ("40 00 01 20 01 00 00 e0 00 00 0000", 1, 1, 512),
        ("01 00 01 30 01 00 00 a0 00 00 0000", 1, 1, 512),
        # LBA48.
        ("40 00 02 24 66 55 44 33 22 11 0000", 0x112233445566, 2, 1024),
        ("41 00 02 34 ff ff ff ff ff ff 0000", 0xFFFFFFFFFFFF, 2, 1024),
        # EXT without the E flag: good as long as 24 bits are enough.
        ("00 00 01 24 66 55 44 00 00 00 0000", 0x445566, 1, 512),
        ("01 00 01 34 66 55 44 00 00 00 0000", 0x445566, 1, 512),
        # A (asynchronous) makes no difference, D means nothing here.
        ("43 00 01 34 05 00 00 00 00 00 0000", 5, 1, 512),
        ("51 00 01 34 05 00 00 00 00 00 0000", 5, 1, 512),
        # VERIFY has no data: a count of zero is 256 or 65536, and W means nothing.
        ("00 00 03 40 05 00 00 e0 00 00 0000", 5, 3, 0),
        ("00 00 00 40 05 00 00 e0 00 00 0000", 5, 256, 0),
        ("41 00 ff 42 05 00 00 00 01 00 0000", 0x100000005, 255, 0),
        ("40 00 00 42 05 00 00 00 00 00 0000", 5, 65536, 0),
        # Commands without an LBA.
        ("00 00 01 ec 00 00 00 a0 00 00 0000", 0, 0, 512),
        ("00 00 00 e7 00 00 00 e0 00 00 0000", 0, 0, 0),
        ("40 00 09 ea 01 02 03 04 05 06 0000", 0, 0, 0),
        ("00 00 00 e5 00 00 00 00 00 00 0000", 0, 0, 0),
        ("00 5a 07 e2 01 02 03 e4 05 06 0000", 0, 0, 0),
        ("00 00 01 c6 01 02 03 a4 05 06 0000", 0, 0, 0),
        ("00 00 00 1f ff ff ff ff ff ff 0000", 0, 0, 0),
        ("00 00 00 f8 ff ff ff ef ff ff 0000", 0, 0, 0),
        ("00 00 00 27 ff ff ff ef ff ff 0000", 0, 0, 0),
        # Subcommands.
        ("01 01 01 06 00 00 00 00 00 00 0000", 0, 0, 512),
        ("00 d0 01 b0 aa 4f c2 e0 00 00 0000", 0, 0, 512),
        ("00 da 00 b0 00 4f c2 00 00 00 0000", 0, 0, 0),
        ("00 82 00 ef 00 00 00 00 00 00 0000", 0, 0, 0),
    ],
)
def test_registers_say_what_to_transfer(
    registers: str, lba: int, length_sectors: int, data_bytes: int
) -> None:
    request = _decode(registers)
    assert request is not None
    assert request.lba == lba
    assert request.length_sectors == length_sectors
    assert request.data_bytes == data_bytes


@pytest.mark.parametrize(
    "registers",
    [
        # Count zero would be 256 or 65536 sectors; three are more than the limit.
        "00 00 00 20 00 00 00 e0 00 00 0000",
        "40 00 00 24 00 00 00 00 00 00 0000",
        "41 00 00 34 00 00 00 00 00 00 0000",
        "40 00 03 24 00 00 00 00 00 00 0000",
        "41 00 03 34 00 00 00 00 00 00 0000",
        # W against the opcode.
        "41 00 01 24 00 00 00 00 00 00 0000",
        "40 00 01 34 00 00 00 00 00 00 0000",
        "01 00 01 ec 00 00 00 a0 00 00 0000",
        # EXT without the E flag, and an LBA that needs it.
        "00 00 01 24 00 00 00 e0 00 00 0000",
        "00 00 01 24 00 00 00 00 01 00 0000",
        "01 00 01 34 00 00 00 00 00 01 0000",
        "00 00 01 42 00 00 00 01 00 00 0000",
        # LBA28 with the E flag, and an LBA that is too large for the opcode.
        "40 00 01 20 01 00 00 e0 01 00 0000",
        "40 00 01 c8 01 00 00 e0 00 01 0000",
        "41 00 01 30 01 00 00 e0 00 01 0000",
        "40 00 01 40 01 00 00 e0 01 00 0000",
        # SET MULTIPLE MODE: a block is one sector.
        "00 00 00 c6 00 00 00 a0 00 00 0000",
        "00 00 02 c6 00 00 00 a0 00 00 0000",
        # IDENTIFY DEVICE has one sector.
        "00 00 00 ec 00 00 00 a0 00 00 0000",
        "00 00 02 ec 00 00 00 a0 00 00 0000",
        # TRIM has one sector of ranges, and W; features have no other bits.
        "41 01 00 06 00 00 00 00 00 00 0000",
        "41 01 02 06 00 00 00 00 00 00 0000",
        "40 01 01 06 00 00 00 00 00 00 0000",
        "41 00 01 06 00 00 00 00 00 00 0000",
        "41 03 01 06 00 00 00 00 00 00 0000",
        # SMART without its key, with more than one sector of data, and what it does not do.
        "00 da 00 b0 00 00 00 00 00 00 0000",
        "00 da 00 b0 00 4f c3 00 00 00 0000",
        "00 d0 00 b0 00 4f c2 00 00 00 0000",
        "00 d0 02 b0 00 4f c2 00 00 00 0000",
        "01 d0 01 b0 00 4f c2 00 00 00 0000",
        "00 d4 00 b0 00 4f c2 00 00 00 0000",
        "00 d5 01 b0 00 4f c2 00 00 00 0000",
        "01 d6 01 b0 00 4f c2 00 00 00 0000",
        # SET FEATURES: no subcommand, reverting to defaults, AAM, power management.
        "00 00 00 ef 00 00 00 00 00 00 0000",
        "00 05 00 ef 00 00 00 00 00 00 0000",
        "00 42 00 ef 00 00 00 00 00 00 0000",
    ],
)
def test_registers_that_make_no_sense_are_aborted(registers: str) -> None:
    assert _decode(registers) is None


def test_the_limit_is_the_advertised_sector_count() -> None:
    assert _decode("40 00 10 24 00 00 00 00 00 00 0000", 16) is not None
    assert _decode("40 00 11 24 00 00 00 00 00 00 0000", 16) is None


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        # The Device register's flags stay.
        (0x20, "56 34 12 eb 55 66"),
        (0x24, "56 34 12 ab 89 67"),
    ],
)
def test_lba_of_an_error_is_written_as_wide_as_the_command_is(opcode: int, expected: str) -> None:
    command = COMMANDS[opcode]
    assert command is not None
    reply = memoryview(bytearray(28) + bytes.fromhex("11 22 33 e4 55 66 0000"))
    put_lba(reply, command.width, 0x6789AB123456)
    assert reply[28:34] == bytes.fromhex(expected)


def test_an_lba_beyond_48_bits_is_cut() -> None:
    command = COMMANDS[0x24]
    assert command is not None
    reply = memoryview(bytearray(36))
    put_lba(reply, command.width, 1 << 48 | 5)
    assert reply[28:34] == bytes.fromhex("05 00 00 00 00 00")


def test_signature_is_that_of_an_ata_device() -> None:
    reply = memoryview(bytearray(24) + bytes.fromhex("00 11 22 33 44 55 66 e7 88 99 0000"))
    put_signature(reply)
    assert reply[24:36] == bytes.fromhex("00 11 01 33 01 00 00 e0 88 99 0000")
