# SPDX-License-Identifier: GPL-2.0-or-later
"""The records of version 2 as absolute bytes, and what is refused of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bridges.local import shared_wire
from bridges.local.shared_wire import (
    AreaReply,
    SharedCommandFrame,
    area_request,
    check_shared_command,
    nudge,
    parse_short,
)
from bridges.local.wire import FrameError

MAX_DATA_BYTES = 1 << 25
AREA_BYTES = 1 << 20

AREA_REQUEST = bytes.fromhex("0000001c 04 000000 0000000000400000" + 16 * "00")
NUDGE = bytes.fromhex("0000001c 08 000000 1122334455667788" + 16 * "00")
GRANTED = bytes.fromhex("0000000c 05 00 0000 0000000000400000")
REFUSED = bytes.fromhex("0000000e 05 01 0002 0000000000000000 6e6f")
COMMAND = bytes.fromhex(
    "00000032"  # 40 bytes of header, 10 of CDB
    "06 00 000a"  # shared command, CDB of 10 bytes
    "1122334455667788"  # tag
    "0007000000000000"  # LUN 7
    "00001000"  # data-in
    "00000006"  # data-out
    "00002000"  # data-in offset
    "000ffffa"  # data-out offset
    "00000008"  # record offset
    "28000000000200000800"  # CDB
)
RECORD = bytes.fromhex("00001000 18 01 00")


def test_area_request_has_the_documented_bytes() -> None:
    assert area_request(4 << 20) == AREA_REQUEST
    assert parse_short(AREA_REQUEST) == 4 << 20


def test_nudge_has_the_documented_bytes() -> None:
    assert nudge(0x1122334455667788) == NUDGE
    assert parse_short(NUDGE) == 0x1122334455667788


@pytest.mark.parametrize("length", ["0000001b", "00000000", "ffffffff"])
def test_short_frame_of_another_length_is_refused(length: str) -> None:
    with pytest.raises(FrameError, match=r"frame length \d+ of type 8: expected 28"):
        parse_short(bytes.fromhex(length) + NUDGE[4:])


def test_record_has_the_documented_bytes() -> None:
    area = bytearray(b"\xee" * 8)
    shared_wire.RECORD.pack_into(area, 0, 4096, 0x18, True)
    assert bytes(area[:7]) == RECORD
    assert (shared_wire.RECORD_BYTES, shared_wire.RECORD_DONE_AT) == (8, 7)


class TestAreaReply:
    @pytest.mark.parametrize(
        ("record", "data"), [(AreaReply(4 << 20), GRANTED), (AreaReply(0, "no"), REFUSED)]
    )
    def test_reply_has_the_documented_bytes(self, record: AreaReply, data: bytes) -> None:
        assert record.serialize() == data
        assert AreaReply.parse(data) == record
        for length in range(len(data)):
            assert AreaReply.parse(data[:length]) is None
            assert 0 < AreaReply.missing_bytes(data[:length]) <= len(data) - length

    @pytest.mark.parametrize(
        ("at", "value"),
        [(4, "02"), (3, "0d"), (5, "01"), (6, "0401"), (8, "0000000000000000")],
        ids=["type", "length", "refused with bytes", "text length", "granted nothing"],
    )
    def test_fields_that_do_not_agree_are_refused(self, at: int, value: str) -> None:
        data = bytearray(GRANTED)
        new = bytes.fromhex(value)
        data[at : at + len(new)] = new
        with pytest.raises(FrameError, match="out of range"):
            AreaReply.parse(bytes(data))


class TestSharedCommand:
    RECORD = SharedCommandFrame(
        0x1122334455667788, 7, bytes.fromhex("28000000000200000800"), 4096, 6, 8192, 0xFFFFA, 8
    )

    def test_command_has_the_documented_bytes(self) -> None:
        assert self.RECORD.serialize() == COMMAND
        check_shared_command(COMMAND, AREA_BYTES, MAX_DATA_BYTES)

    @pytest.mark.parametrize(
        ("at", "value", "message"),
        [
            (6, "0000", "CDB of 0 bytes"),
            (6, "0105", "CDB of 261 bytes"),
            (0, "00000033", "frame length 51: its parts have 50"),
            (24, "02000001", "data-in of 33554433 bytes: expected at most 33554432"),
            (28, "02000001", "data-out of 33554433 bytes: expected at most 33554432"),
            (32, "000ff001", "data-in of 4096 bytes at 1044481: the area has 1048576"),
            (36, "000ffffb", "data-out of 6 bytes at 1048571: the area has 1048576"),
            (40, "000ffff9", "record of 8 bytes at 1048569: the area has 1048576"),
            (32, "ffffffff", "data-in of 4096 bytes at 4294967295"),
            (36, "ffffffff", "data-out of 6 bytes at 4294967295"),
            (40, "ffffffff", "record of 8 bytes at 4294967295"),
        ],
    )
    def test_fields_out_of_range_are_named(self, at: int, value: str, message: str) -> None:
        data = bytearray(COMMAND)
        new = bytes.fromhex(value)
        data[at : at + len(new)] = new
        with pytest.raises(FrameError, match=message):
            check_shared_command(bytes(data), AREA_BYTES, MAX_DATA_BYTES)


def mutated(source: random.Random, template: bytes) -> bytes:
    data = bytearray(template)
    for _ in range(source.randint(1, 4)):
        data[source.randrange(len(data))] = source.randrange(256)
    return bytes(data)


def _check(data: bytes) -> None:
    check_shared_command(data, AREA_BYTES, MAX_DATA_BYTES)


@pytest.mark.parametrize(
    ("parse", "template"), [(_check, COMMAND), (AreaReply.parse, REFUSED), (parse_short, NUDGE)]
)
def test_mutated_bytes_are_taken_or_refused_and_never_crash(
    parse: Callable[[bytes], object], template: bytes
) -> None:
    source = random.Random(1)
    refused = 0
    for _ in range(5000):
        try:
            parse(mutated(source, template))
        except FrameError:
            refused += 1
    assert 0 < refused < 5000
