# SPDX-License-Identifier: GPL-2.0-or-later
"""TransportIDs: golden bytes, and names that must not meet."""

from __future__ import annotations

import pytest

from scsi_backend.t10.transport_id import (
    NAME_PREFIX,
    initiator_text,
    named_transport_id,
    parse_transport_id,
    transport_id,
    transport_id_text,
)


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


def test_nobody_can_choose_the_name_that_another_s_is_cut_to() -> None:
    cut = transport_id_text(transport_id("x" * 300)).removeprefix(NAME_PREFIX)
    assert transport_id(cut) != transport_id("x" * 300)


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


def iscsi(name: bytes) -> bytes:
    """A TransportID of somebody else's making."""
    return b"\x05\0\0\x20" + name.ljust(32, b"\0")


def test_text_is_the_name_or_hex() -> None:
    assert transport_id_text(transport_id("nbd:x")) == "iqn.2026-11.scst-bridge:nbd:x"
    assert transport_id_text(iscsi(b"iqn.2000-01.com.example:node1-a")) == (
        "iqn.2000-01.com.example:node1-a"
    )
    for other in (b"\x06\x00", iscsi(b"iqn.2000-01.com.example:\x1b[0m-ab"), iscsi(b"n" * 28)):
        assert transport_id_text(other) == other.hex()


def test_texts_of_names_beyond_ascii_are_told_apart() -> None:
    names = [f"iqn.2000-01.com.example:n{letter}de-a".encode() for letter in "oöø"]
    broken = [b"iqn.2000-01.com.example:n\xffde-", b"iqn.2000-01.com.example:n\xfede-"]
    texts = [initiator_text(iscsi(name)) for name in names + broken]
    assert texts[:3] == [name.decode() for name in names]
    assert texts[3:] == [iscsi(name).hex() for name in broken]


def test_initiator_without_a_name_is_called_by_the_prefix() -> None:
    assert initiator_text(transport_id("")) == NAME_PREFIX


@pytest.mark.parametrize(
    "name",
    [
        "local:uid=0",
        "local:uid=0,node%201",
        "tls:CN=Zürich",
        "192.0.2.1",
        "02:00:00:00:00:01",
        "x" * 199,
    ],
)
def test_initiator_is_called_by_the_name_it_logged_in_with(name: str) -> None:
    assert initiator_text(transport_id(name)) == name
    assert named_transport_id(name) == transport_id(name)


def test_initiator_whose_name_was_cut_is_called_what_leads_back_to_it() -> None:
    for name in ("y" * 5000, "%" * 70, "ü" * 60):
        data = transport_id(name)
        assert named_transport_id(initiator_text(data)) == data


@pytest.mark.parametrize(
    "name",
    [
        # Of somebody else, and as nobody here is called.
        "iqn.2000-01.com.example:node1-a",
        "eui.02004567a425678d0123456789ab",
        "iqn.2026-11.scst-bridge:UPPER-ab",
        "iqn.2026-11.scst-bridge:%1B-abcd",
        "iqn.2026-11.scst-bridge:iqn.a-bc",
    ],
)
def test_other_initiator_is_called_by_its_iscsi_name(name: str) -> None:
    data = iscsi(name.encode()[:31])
    text = name[:31]
    assert initiator_text(data) == text
    assert named_transport_id(text) == data


def test_initiator_that_calls_itself_by_an_iscsi_name_is_not_that_one() -> None:
    data = transport_id("iqn.2000-01.com.example:a")
    assert initiator_text(data) == "iqn.2026-11.scst-bridge:iqn.2000-01.com.example:a"


def test_name_that_no_iscsi_initiator_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="name of 224 bytes: expected at most 223"):
        named_transport_id("iqn." + "x" * 220)
