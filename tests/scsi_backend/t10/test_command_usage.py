# SPDX-License-Identifier: GPL-2.0-or-later
"""CDB usage data: their form for every command, and their bits for some by hand."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import DISK_COMMANDS
from scsi_backend.t10.command_usage import COMMAND_USAGE
from scsi_backend.t10.opcodes import cdb_length, service_action

KEYS = sorted(COMMAND_USAGE, key=lambda key: (key[0], key[1] or 0))
WITH_SERVICE_ACTIONS = {0x48, 0x5E, 0x5F, 0x7F, 0x83, 0x84, 0x9E, 0xA3, 0xA4}

# opcode, service action, and the usage data written from the standards' CDB tables.
GOLDEN = [
    (0x00, None, "000000000000"),
    (0x03, None, "03010000ff00"),
    (0x12, None, "1201ffffff00"),
    (0x28, None, "2818ffffffff00ffff00"),
    (0x2A, None, "2a18ffffffff00ffff00"),
    (0x2E, None, "2e16ffffffff00ffff00"),
    (0x2F, None, "2f16ffffffff00ffff00"),
    (0x34, None, "3402ffffffff00ffff00"),
    (0x37, None, "37001f00000000ffff00"),
    (0x3B, None, "3b1fffffffffffffff00"),
    (0x3C, None, "3c1fffffffffffffff00"),
    (0x48, 0x01, "48a10000000000ffff00"),
    (0x48, 0x02, "48a20000000000000000"),
    (0x48, 0x1F, "481f0000000000000000"),
    (0x4C, None, "4c02ffff000000ffff00"),
    (0x4D, None, "4d00ffff00ffffffff00"),
    (0x5E, 0x03, "5e030000000000ffff00"),
    (0x5F, 0x04, "5f04ff0000ffffffff00"),
    (0x7F, 0x09, "7f000000000000ff00091800" + "ff" * 8 + "00" * 8 + "ffffffff"),
    (0x7F, 0x0D, "7f000000000000ff000d0900" + "ff" * 8 + "00" * 8 + "ffffffff"),
    (0x83, 0x00, "83000000000000000000ffffffff0000"),
    (0x84, 0x03, "84030000000000000000ffffffff0000"),
    (0x84, 0x04, "8404ff00000000000000ffffffff0000"),
    (0x88, None, "8818ffffffffffffffffffffffff0000"),
    (0x89, None, "8918ffffffffffffffff000000ff0000"),
    (0x91, None, "9102ffffffffffffffffffffffff0000"),
    (0x9C, None, "9c18ffffffffffffffff0000ffff0000"),
    (0x9E, 0x10, "9e100000000000000000ffffffff0000"),
    (0x9E, 0x12, "9e12ffffffffffffffffffffffff0000"),
    (0xA0, None, "a000ff000000ffffffff0000"),
    (0xA3, 0x0A, "a3ea00000000ffffffff0000"),
    (0xA3, 0x0C, "a30c87ffffffffffffff0000"),
    (0xA3, 0x0D, "a30d80000000ffffffff0000"),
    (0xA8, None, "a818ffffffffffffffff0000"),
]


def test_usage_data_are_those_of_the_commands_of_a_disk() -> None:
    assert set(COMMAND_USAGE) == {(row.opcode, row.service_action) for row in DISK_COMMANDS}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0]:02x}-{key[1]}")
def test_usage_data_have_the_form_of_the_cdb(key: tuple[int, int | None]) -> None:
    opcode, action = key
    usage = COMMAND_USAGE[key]
    # The additional length of a variable-length CDB is a mask, too.
    length = 32 if opcode == 0x7F else cdb_length(usage.cdb)
    assert len(usage.cdb) == length
    assert usage.cdb[0] == opcode
    assert (action is not None) == (opcode in WITH_SERVICE_ACTIONS)
    if action is not None:
        assert service_action(usage.cdb) == action
    # NACA: nobody keeps an ACA condition.
    assert usage.cdb[1 if opcode == 0x7F else -1] == 0
    assert 0 < usage.timeouts.nominal_s < usage.timeouts.recommended_s


@pytest.mark.parametrize(("opcode", "action", "usage"), GOLDEN)
def test_usage_data_are_those_written_by_hand(opcode: int, action: int | None, usage: str) -> None:
    assert COMMAND_USAGE[opcode, action].usage_data(is_thin=True).hex() == usage


@pytest.mark.parametrize(
    ("key", "at", "thin", "thick"),
    [
        ((0x41, None), 1, 0x08, 0x00),
        ((0x93, None), 1, 0x09, 0x01),
        ((0x7F, 0x0D), 10, 0x09, 0x01),
        ((0x88, None), 1, 0x18, 0x18),
    ],
)
def test_unmap_bit_of_write_same_is_for_thin_provisioned_disks(
    key: tuple[int, int | None], at: int, thin: int, thick: int
) -> None:
    usage = COMMAND_USAGE[key]
    of_thin, of_thick = usage.usage_data(is_thin=True), usage.usage_data(is_thin=False)
    assert (of_thin[at], of_thick[at]) == (thin, thick)
    assert of_thin[:at] + of_thin[at + 1 :] == of_thick[:at] + of_thick[at + 1 :]
