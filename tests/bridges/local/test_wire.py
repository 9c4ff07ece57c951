# SPDX-License-Identifier: GPL-2.0-or-later
"""The local protocol's records as absolute bytes, both ways, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bridges.local import wire
from bridges.local.wire import (
    CommandFrame,
    FrameError,
    ManagementFrame,
    ResponseFrame,
    check_command,
    decode_lun,
    encode_lun,
    error_frame,
    parse_management,
)
from scsi_backend.servers.spc import encode_lun as backend_encode_lun
from scsi_backend.target.lun_map import MAX_LUN
from tests.bridges.local.mutation import assert_taken_or_refused

MAX_DATA_BYTES = 1 << 25

COMMAND = bytes.fromhex(
    "0000002c"  # 28 bytes of header, 10 of CDB, 6 of data-out
    "01 00 000a"  # command, CDB of 10 bytes
    "1122334455667788"  # tag
    "0007000000000000"  # LUN 7
    "00001000"  # data-in
    "00000006"  # data-out
    "28000000000200000800"  # CDB
)
RESPONSE = bytes.fromhex(
    "00000029"  # 20 bytes of header, 18 of sense, 3 of data-in
    "02 02 0012"  # response, CHECK CONDITION, sense of 18 bytes
    "1122334455667788"  # tag
    "00000003"  # data-in
    "00000000"  # reserved
)
ERROR = bytes.fromhex("00000016 03 00 0000 0000000000000000 00000002 00000000 6f77")


class TestCommand:
    RECORD = CommandFrame(0x1122334455667788, 7, bytes.fromhex("28000000000200000800"), 4096, 6)

    def test_command_has_the_documented_bytes(self) -> None:
        assert self.RECORD.serialize() == COMMAND
        check_command(COMMAND, MAX_DATA_BYTES)

    def test_task_attribute_is_the_sixth_byte(self) -> None:
        data = replace(self.RECORD, attribute=2).serialize()
        assert data == COMMAND[:5] + b"\x02" + COMMAND[6:]

    def test_unpacked_fields_are_in_the_documented_order(self) -> None:
        fields = (0x2C, 1, 0, 10, 0x1122334455667788, 7 << 48, 4096, 6)
        assert wire.COMMAND.unpack_from(COMMAND) == fields

    @pytest.mark.parametrize(
        "record",
        [
            CommandFrame(0, 0, b"\0"),
            CommandFrame((1 << 64) - 1, 16383, bytes(260), MAX_DATA_BYTES, MAX_DATA_BYTES),
        ],
    )
    def test_fields_at_their_limits_are_taken(self, record: CommandFrame) -> None:
        check_command(record.serialize(), MAX_DATA_BYTES)

    @pytest.mark.parametrize(
        ("at", "value", "message"),
        [
            (4, b"\x02", "frame type 2: expected 1"),
            (4, b"\x00", "frame type 0: expected 1"),
            (5, b"\x03", "task attribute 3: expected 0 to 2"),
            (6, b"\x00\x00", "CDB of 0 bytes: expected 1 to 260"),
            (6, b"\x01\x05", "CDB of 261 bytes: expected 1 to 260"),
            (24, b"\x02\x00\x00\x01", "data-in of 33554433 bytes: expected at most 33554432"),
            (28, b"\x02\x00\x00\x01", "data-out of 33554433 bytes: expected at most 33554432"),
            (0, b"\xff\xff\xff\xff", "frame length 4294967295: its parts have 44"),
            (0, b"\x00\x00\x00\x2b", "frame length 43: its parts have 44"),
            (0, b"\x00\x00\x00\x00", "frame length 0: its parts have 44"),
            (28, b"\x00\x00\x00\x07", "frame length 44: its parts have 45"),
        ],
    )
    def test_fields_out_of_range_are_named(self, at: int, value: bytes, message: str) -> None:
        data = bytearray(COMMAND)
        data[at : at + len(value)] = value
        with pytest.raises(FrameError, match=message):
            check_command(bytes(data), MAX_DATA_BYTES)


class TestManagement:
    BYTES = bytes.fromhex("0000001c 09 01 0000 1122334455667788 0007000000000000 0000000000000005")

    def test_management_frame_has_the_documented_bytes(self) -> None:
        frame = ManagementFrame(0x1122334455667788, 1, 7, 5)
        assert frame.serialize() == self.BYTES
        assert parse_management(self.BYTES) == (1, frame.tag, 7 << 48, 5)

    def test_management_frame_of_another_length_is_refused(self) -> None:
        with pytest.raises(FrameError, match="frame length 29: expected 28"):
            parse_management(b"\0\0\0\x1d" + self.BYTES[4:])


class TestResponse:
    RECORD = ResponseFrame(0x1122334455667788, 2, 3, 18)

    def test_response_has_the_documented_bytes(self) -> None:
        assert self.RECORD.serialize() == RESPONSE
        assert ResponseFrame.parse(RESPONSE) == self.RECORD

    def test_error_is_a_response_with_a_text(self) -> None:
        assert error_frame("ow") == ERROR
        assert ResponseFrame.parse(ERROR) == ResponseFrame(0, 0, 2, kind=wire.FrameType.ERROR)

    def test_shared_response_brings_no_data_in(self) -> None:
        data = bytes.fromhex("00000026 07 02 0012 1122334455667788 00000003 00000000")
        record = ResponseFrame(0x1122334455667788, 2, 3, 18, wire.FrameType.SHARED_RESPONSE)
        assert record.serialize() == data
        assert ResponseFrame.parse(data) == record

    def test_returned_nudge_has_a_tag_and_nothing_else(self) -> None:
        data = bytes.fromhex("00000014 08 00 0000 0000000000000007 00000000 00000000")
        record = ResponseFrame(7, 0, kind=wire.FrameType.NUDGE)
        assert record.serialize() == data
        assert ResponseFrame.parse(data) == record

    def test_long_error_is_cut(self) -> None:
        data = error_frame("ü" * 1000)
        assert ResponseFrame.parse(data).data_in_length == 1024
        assert data[wire.RESPONSE.size :].decode() == "ü" * 512

    @pytest.mark.parametrize(
        ("data", "at", "value", "message"),
        [
            (RESPONSE, 4, b"\x01", "frame type 1: expected a response"),
            (RESPONSE, 6, b"\x00\xfd", "sense data of 253 bytes"),
            (RESPONSE, 0, b"\xff\xff\xff\xff", "frame length 4294967295: its parts have 41"),
            (RESPONSE, 16, b"\xff\xff\xff\xff", "frame length 41: its parts have"),
            (ERROR, 16, b"\x00\x00\x04\x01", "text of 1025 bytes"),
            (ERROR, 4, b"\x08", "frame type 8 with data"),
            (RESPONSE, 4, b"\x07", "frame length 41: its parts have 38"),
            (RESPONSE, 4, b"\x05", "frame type 5: expected a response"),
        ],
    )
    def test_fields_that_do_not_agree_are_refused(
        self, data: bytes, at: int, value: bytes, message: str
    ) -> None:
        changed = bytearray(data)
        changed[at : at + len(value)] = value
        with pytest.raises(FrameError, match=message):
            ResponseFrame.parse(bytes(changed))


@pytest.mark.parametrize(
    ("lun", "raw"),
    [
        (0, 0x0000_0000_0000_0000),
        (1, 0x0001_0000_0000_0000),
        (255, 0x00FF_0000_0000_0000),
        (256, 0x4100_0000_0000_0000),
        (16383, 0x7FFF_0000_0000_0000),
    ],
)
def test_lun_is_encoded_as_sam_has_it(lun: int, raw: int) -> None:
    assert encode_lun(lun) == raw
    assert decode_lun(raw) == lun


def test_every_lun_has_the_form_in_which_report_luns_lists_it() -> None:
    for lun in range(MAX_LUN + 1):
        raw = encode_lun(lun)
        assert raw.to_bytes(8, "big") == backend_encode_lun(lun)
        assert decode_lun(raw) == lun


@pytest.mark.parametrize("lun", [-1, 16384])
def test_lun_beyond_what_a_map_can_have_is_not_encoded(lun: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 16383"):
        encode_lun(lun)


def test_small_lun_in_flat_space_form_is_the_same_lun() -> None:
    assert decode_lun(0x4005_0000_0000_0000) == 5


@pytest.mark.parametrize(
    "raw",
    [
        0x0100_0000_0000_0000,
        0x3FFF_0000_0000_0000,
        0x8000_0000_0000_0000,
        0xC101_0000_0000_0000,
        0x0001_0001_0000_0000,
        0x0000_0000_0000_0001,
        0xFFFF_FFFF_FFFF_FFFF,
    ],
    ids=["bus 1", "bus 63", "logical unit addressing", "well-known", "two levels", "last", "ones"],
)
def test_other_forms_of_luns_have_no_number(raw: int) -> None:
    assert decode_lun(raw) is None


def _check(data: bytes) -> None:
    check_command(data.ljust(wire.COMMAND.size), MAX_DATA_BYTES)


def _parse_response(data: bytes) -> None:
    ResponseFrame.parse(data.ljust(wire.RESPONSE.size))


@pytest.mark.parametrize(
    ("parse", "template"),
    [
        (_check, COMMAND),
        (_parse_response, RESPONSE),
        (_parse_response, ERROR),
    ],
)
def test_mutated_bytes_are_taken_or_refused_and_never_crash(
    parse: Callable[[bytes], object], template: bytes
) -> None:
    assert_taken_or_refused(parse, template)
