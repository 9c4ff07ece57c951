# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables, lines and JSON of what clients found out."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from bridges.aoe.address import Address
from bridges.aoe_tools import report
from bridges.aoe_tools.identity import Feature, Identity
from bridges.aoe_tools.operations import Found

MAC = bytes.fromhex("020000000011")
PORT = Found(Address(1, 2), MAC, 64, 0x4019, 2, b"[red]\xff\x1b")
DISK = Identity(
    model="SCST_FIO disk0",
    serial_number="serial-0001",
    firmware_revision="0100",
    sectors=2048,
    sector_bytes=512,
    physical_sector_bytes=4096,
    first_physical=7,
    rotation_rate_rpm=0,
    world_wide_name="5000c500a1b2c3d4",
    standard="ACS-2",
    features=(Feature("LBA", None), Feature("SMART", False), Feature("FLUSH CACHE", True)),
    has_valid_checksum=False,
)


def test_ports_are_rows_of_a_table() -> None:
    out = io.StringIO()
    report.print_found([PORT], Console(file=out, width=200))
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["target", "MAC", "buffers", "sectors", "firmware", "config", "string"],
        ["e1.2", "02:00:00:00:00:11", "64", "2", "4019", r"[red]\xff\x1b"],
    ]


def test_an_address_with_the_name_of_an_emoji_is_shown_as_it_is() -> None:
    out = io.StringIO()
    port = replace(PORT, mac=bytes.fromhex("02ab00000011"))
    report.print_found([port], Console(file=out, width=200))
    assert out.getvalue().splitlines()[1].split()[1] == "02:ab:00:00:00:11"


def test_a_config_string_is_in_json_as_text_and_in_hex() -> None:
    expected = {"config_string": "[red]\\xff\x1b", "config_string_hex": "5b7265645dff1b"}
    port = {"target": "e1.2", "mac": "02:00:00:00:00:11"}
    counts = {"buffer_count": 64, "sector_count": 2, "firmware_version": 0x4019}
    assert json.loads(report.found_json([PORT])) == [
        port | {"shelf": 1, "slot": 2} | counts | expected
    ]
    assert json.loads(report.config_json(PORT, PORT.config_string)) == port | expected
    assert report.found_json([]) == "[]"


def test_an_identity_is_told_in_lines() -> None:
    assert report.identity_text(PORT, DISK).splitlines() == [
        "e1.2 at 02:00:00:00:00:11",
        "  model:            SCST_FIO disk0",
        "  serial number:    serial-0001",
        "  firmware:         0100",
        "  capacity:         2048 sectors of 512 bytes, 1.0 MiB",
        "  physical sector:  4096 bytes, LBA 0 is sector 7 of one",
        "  world wide name:  5000c500a1b2c3d4",
        "  medium:           does not rotate",
        "  standard:         ACS-2",
        "  checksum:         wrong",
        "  features:",
        "    LBA",
        "    SMART (off)",
        "    FLUSH CACHE",
    ]


@pytest.mark.parametrize(
    ("rate", "text"), [(None, "not reported"), (0, "does not rotate"), (7200, "7200 rpm")]
)
def test_a_medium_rotates_or_does_not_or_does_not_say(rate: int | None, text: str) -> None:
    identity = Identity("", "", "", 0, 512, 512, 0, rate, "", "", (), None)
    lines = report.identity_text(PORT, identity).splitlines()
    assert f"  medium:           {text}" in lines
    assert "  standard:         not reported" in lines
    assert "  model:" in lines
    assert not any("checksum" in line or "world wide" in line for line in lines)


def test_an_identity_is_an_object_in_json() -> None:
    shown = json.loads(report.identity_json(PORT, DISK))
    assert shown["target"] == "e1.2"
    assert shown["model"] == "SCST_FIO disk0"
    assert (shown["sectors"], shown["size_bytes"]) == (2048, 1 << 20)
    assert shown["features"] == [
        {"name": "LBA", "is_enabled": None},
        {"name": "SMART", "is_enabled": False},
        {"name": "FLUSH CACHE", "is_enabled": True},
    ]


def test_addresses_are_lines_or_what_their_absence_means() -> None:
    assert report.mac_list_lines([MAC, MAC], "none") == "02:00:00:00:00:11\n02:00:00:00:00:11"
    assert report.mac_list_lines([], "none") == "none"
    assert json.loads(report.mac_list_json(PORT, "mask", [MAC])) == {
        "target": "e1.2",
        "mac": "02:00:00:00:00:11",
        "mask": ["02:00:00:00:00:11"],
    }
