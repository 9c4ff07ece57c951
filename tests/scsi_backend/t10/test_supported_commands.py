# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameter data of REPORT SUPPORTED OPERATION CODES against the tables of SPC-5 6.35."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import supported_commands
from scsi_backend.t10.command_usage import Timeouts

TIMEOUTS = Timeouts(0x01020304, 0x05060708)
TIMEOUTS_DESCRIPTOR = "000a00000102030405060708"


@pytest.mark.parametrize(
    ("built", "golden"),
    [
        (supported_commands.all_commands([]), "00000000"),
        (supported_commands.all_commands([b"\1\2\3", b"\4"]), "0000000401020304"),
        (supported_commands.command_descriptor(0x28, None, 10, None), "280000000000000a"),
        (supported_commands.command_descriptor(0x9E, 0x10, 16, None), "9e00001000010010"),
        (supported_commands.command_descriptor(0x7F, 0x0009, 32, None), "7f00000900010020"),
        (
            supported_commands.command_descriptor(0x28, None, 10, TIMEOUTS),
            "280000000002000a" + TIMEOUTS_DESCRIPTOR,
        ),
        (
            supported_commands.command_descriptor(0xA3, 0x0C, 12, TIMEOUTS),
            "a300000c0003000c" + TIMEOUTS_DESCRIPTOR,
        ),
        (
            supported_commands.one_command(bytes.fromhex("03010000ff00"), None),
            "0003000603010000ff00",
        ),
        (
            supported_commands.one_command(bytes.fromhex("03010000ff00"), TIMEOUTS),
            "0083000603010000ff00" + TIMEOUTS_DESCRIPTOR,
        ),
        (supported_commands.unsupported_command(), "00010000"),
    ],
)
def test_parameter_data_are_the_bytes_of_the_table(built: bytes, golden: str) -> None:
    assert built.hex() == golden
