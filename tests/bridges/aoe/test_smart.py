# SPDX-License-Identifier: GPL-2.0-or-later
"""SMART data, byte by byte."""

from __future__ import annotations

from bridges.aoe.smart import SMART_DATA, with_checksum


def test_data_have_a_revision_no_attributes_and_a_checksum() -> None:
    assert bytes.fromhex("1000") + bytes(509) + b"\xf0" == SMART_DATA


def test_checksum_makes_all_bytes_add_up_to_zero() -> None:
    assert with_checksum(b"\x01\x02") == b"\x01\x02\xfd"
    assert with_checksum(bytes(3)) == bytes(4)
