# SPDX-License-Identifier: GPL-2.0-or-later
"""Which commands send data to the device server, against a list made from the standards' tables."""

from __future__ import annotations

import pytest

from scsi_backend.t10.direction import has_data_out

# SPC-5 and SBC-4, annexes with the operation codes; by hand.
OUT = (
    "04 07 0a 15 16 1d 2a 2e 2f 39 3a 3b 3f 41 42 48 4c 50 51 53 55 56 5f 83 87 89 8a 8b 8d 8e 8f"
    " 93 9a 9c 9d 9f a4 a9 aa ae af b5"
)
IN = (
    "00 01 03 08 12 17 1a 1b 1c 1e 25 28 34 35 37 3c 3e 4d 57 5a 5e 84 86 88 8c 90 91 9b 9e a0 a2"
    " a3 a8 ab b7"
)
VARIABLE_OUT = (0x04, 0x06, 0x07, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x11)
VARIABLE_IN = (0x00, 0x03, 0x09, 0x12, 0x100A)


@pytest.mark.parametrize("opcode", bytes.fromhex(OUT))
def test_data_go_out(opcode: int) -> None:
    assert has_data_out(bytes([opcode]).ljust(16, b"\0"))


@pytest.mark.parametrize("opcode", bytes.fromhex(IN))
def test_data_come_in(opcode: int) -> None:
    assert not has_data_out(bytes([opcode]).ljust(16, b"\0"))


@pytest.mark.parametrize("action", VARIABLE_OUT)
def test_data_of_a_variable_length_command_go_out(action: int) -> None:
    assert has_data_out(bytes.fromhex("7f00000000000018") + action.to_bytes(2) + bytes(22))


@pytest.mark.parametrize("action", VARIABLE_IN)
def test_data_of_a_variable_length_command_come_in(action: int) -> None:
    assert not has_data_out(bytes.fromhex("7f00000000000018") + action.to_bytes(2) + bytes(22))
