# SPDX-License-Identifier: GPL-2.0-or-later
"""TransportIDs: golden bytes, and names that must not meet."""

from __future__ import annotations

import pytest

from scsi_backend.t10.transport_id import parse_transport_id, transport_id, transport_id_text


def test_transport_id_has_the_documented_bytes() -> None:
    name = "local:uid=0"
    data = transport_id(name)
    length = len("iqn.2026-11.scst-bridge:local:uid%3D0") + 1 + 3 & ~3
    assert data[:4] == bytes((5, 0, 0, length))
    assert data[4:] == b"iqn.2026-11.scst-bridge:local:uid%3D0".ljust(length, b"\0")


@pytest.mark.parametrize("name", ["", "a", "x" * 180, "y" * 5000, "ä/Ö", "00:11:22:33:44:55"])
def test_transport_id_is_read_back(name: str) -> None:
    data = transport_id(name)
    assert len(data) % 4 == 0
    assert len(data) <= 4 + 224
    assert parse_transport_id(data + b"more") == (data, len(data))


@pytest.mark.parametrize("more_bytes", [4, 64])
def test_padding_beyond_what_is_needed_makes_no_other_port(more_bytes: int) -> None:
    data = transport_id("a")
    padded = data[:3] + bytes((data[3] + more_bytes,)) + data[4:] + bytes(more_bytes)
    assert parse_transport_id(padded) == (data, len(padded))


def test_transport_id_is_read_from_where_it_begins() -> None:
    data = transport_id("a")
    assert parse_transport_id(b"before" + data + b"behind", 6) == (data, len(data))


def test_names_that_differ_have_different_transport_ids() -> None:
    names = ["a", "A", "%41", "a\0", "a ", "x" * 300, "x" * 301, "x" * 299 + "y"]
    assert len({transport_id(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\0\0",
        b"\x06" + bytes(23),
        b"\x45\0\0\x14" + b"iqn.a".ljust(20, b"\0"),
        b"\x05\0\0\x10" + b"iqn.a".ljust(16, b"\0"),
        b"\x05\0\0\x15" + b"iqn.a".ljust(21, b"\0"),
        b"\x05\0\0\x18" + b"iqn.a".ljust(20, b"\0"),
        b"\x05\0\0\x14" + bytes(20),
        b"\x05\0\0\x14" + b"i" * 20,
        b"\x05\0\0\x14" + b"iqn.a\0x".ljust(20, b"\0"),
        b"\x05\0\0\xe4" + b"i" * 224 + bytes(4),
    ],
    ids=[
        *("nothing", "cut header", "SAS", "format 01b", "too short", "no multiple of four"),
        *("cut", "no name", "no NUL", "padding", "too long"),
    ],
)
def test_other_bytes_are_no_transport_id(data: bytes) -> None:
    assert parse_transport_id(data) is None


def test_text_is_the_name_or_hex() -> None:
    assert transport_id_text(transport_id("nbd:x")) == "iqn.2026-11.scst-bridge:nbd:x"
    assert transport_id_text(b"\x06\x00") == "0600"
