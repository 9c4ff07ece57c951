# SPDX-License-Identifier: GPL-2.0-or-later
"""The local protocol's records as absolute bytes, both ways, and what is refused of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from bridges.local import wire
from bridges.local.wire import (
    CommandFrame,
    FrameError,
    HelloReply,
    HelloRequest,
    HelloStatus,
    ResponseFrame,
    check_command,
    decode_lun,
    encode_lun,
    error_frame,
)
from scsi_backend.servers.spc import encode_lun as backend_encode_lun
from scsi_backend.target.lun_map import MAX_LUN

MAX_DATA_BYTES = 1 << 25

HELLO_REQUEST = bytes.fromhex(
    "534353544c4f434c"  # SCSTLOCL
    "0001 0001"  # versions 1 to 1
    "0005 0003"  # lengths
    "6469736b30"  # disk0
    "667573"  # fus
)
HELLO_REPLY = bytes.fromhex(
    "534353544c4f434c"  # SCSTLOCL
    "0000 0001"  # OK, version 1
    "412c000000000000"  # LUN 300
    "02000000"  # 32 MiB
    "000d 0000"  # lengths
    "00000000"  # reserved
    "6c6f63616c3a7569643d313030"  # local:uid=100
)
REFUSAL = bytes.fromhex(
    "534353544c4f434c"  # SCSTLOCL
    "0001 0000"  # no such target
    "0000000000000000 00000000"
    "0000 0002"  # lengths
    "00000000"  # reserved
    "6e6f"  # no
)
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


class TestHelloRequest:
    RECORD = HelloRequest("disk0", "fus")

    def test_request_has_the_documented_bytes(self) -> None:
        assert self.RECORD.serialize() == HELLO_REQUEST

    def test_request_is_read_back(self) -> None:
        assert HelloRequest.parse(HELLO_REQUEST + b"next") == (self.RECORD, len(HELLO_REQUEST))

    @pytest.mark.parametrize("length", range(len(HELLO_REQUEST)))
    def test_request_that_is_not_there_yet_is_waited_for(self, length: int) -> None:
        assert HelloRequest.parse(HELLO_REQUEST[:length]) is None

    @pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1", b"SCSTLOCK", HELLO_REQUEST[1:]])
    def test_other_protocol_is_refused_at_its_first_bytes(self, data: bytes) -> None:
        with pytest.raises(FrameError, match="does not begin with SCSTLOCL"):
            HelloRequest.parse(data)

    def test_names_at_their_limits_are_taken(self) -> None:
        record = HelloRequest("n" * 256, "l" * 64, 0, 0xFFFF)
        data = record.serialize()
        assert HelloRequest.parse(data) == (record, 16 + 320)

    @pytest.mark.parametrize(
        ("name", "label", "message"),
        [
            ("n" * 257, "", "name of 257 bytes: expected at most 256"),
            ("", "ü" * 33, "label of 66 bytes: expected at most 64"),
        ],
    )
    def test_names_beyond_their_limits_are_not_sent(
        self, name: str, label: str, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            HelloRequest(name, label).serialize()

    @pytest.mark.parametrize(
        ("at", "value", "message"),
        [
            (12, b"\x01\x01", "name of 257 bytes: expected at most 256"),
            (14, b"\xff\xff", "label of 65535 bytes: expected at most 64"),
        ],
    )
    def test_names_beyond_their_limits_are_refused_before_they_come(
        self, at: int, value: bytes, message: str
    ) -> None:
        data = bytearray(HELLO_REQUEST[:16])
        data[at : at + 2] = value
        with pytest.raises(FrameError, match=message):
            HelloRequest.parse(bytes(data))

    @pytest.mark.parametrize(("at", "what"), [(16, "name"), (21, "label")])
    def test_names_that_are_not_utf8_are_refused(self, at: int, what: str) -> None:
        data = bytearray(HELLO_REQUEST)
        data[at] = 0xFF
        with pytest.raises(FrameError, match=f"{what} is not UTF-8"):
            HelloRequest.parse(bytes(data))


class TestHelloReply:
    OK = HelloReply(HelloStatus.OK, 1, 300, 32 << 20, "local:uid=100")
    REFUSED = HelloReply(HelloStatus.NO_SUCH_TARGET, text="no")

    @pytest.mark.parametrize(("record", "data"), [(OK, HELLO_REPLY), (REFUSED, REFUSAL)])
    def test_reply_has_the_documented_bytes(self, record: HelloReply, data: bytes) -> None:
        assert record.serialize() == data
        assert HelloReply.parse(data) == (record, len(data))

    @pytest.mark.parametrize("length", range(len(HELLO_REPLY)))
    def test_reply_that_is_not_there_yet_is_waited_for(self, length: int) -> None:
        assert HelloReply.parse(HELLO_REPLY[:length]) is None

    @pytest.mark.parametrize("data", [HELLO_REPLY, REFUSAL])
    def test_record_is_complete_when_nothing_is_missing(self, data: bytes) -> None:
        for length in range(len(data)):
            missing = HelloReply.missing_bytes(data[:length])
            assert 0 < missing <= len(data) - length
        assert HelloReply.missing_bytes(data[:32]) == len(data) - 32

    def test_unknown_status_survives_for_whoever_reports_it(self) -> None:
        record = replace(self.REFUSED, status=77)
        assert HelloReply.parse(record.serialize()) == (record, len(REFUSAL))

    def test_long_text_is_cut_between_two_characters(self) -> None:
        record = replace(self.REFUSED, text="ü" * 511 + "€")
        data = record.serialize()
        parsed = HelloReply.parse(data)
        assert parsed is not None
        assert parsed[0].text == "ü" * 511

    def test_text_with_a_name_that_is_not_unicode_can_be_sent(self) -> None:
        data = replace(self.REFUSED, text="no '\udcff'").serialize()
        parsed = HelloReply.parse(data)
        assert parsed is not None
        assert parsed[0].text == "no '?'"

    @pytest.mark.parametrize(
        ("at", "value"),
        [(12, b"\xff"), (12, b"\x80"), (24, b"\x01\x01"), (26, b"\x04\x01")],
        ids=["extended LUN", "other LUN", "name length", "text length"],
    )
    def test_fields_out_of_range_are_refused(self, at: int, value: bytes) -> None:
        data = bytearray(HELLO_REPLY)
        data[at : at + len(value)] = value
        with pytest.raises(FrameError, match="out of range"):
            HelloReply.parse(bytes(data))

    def test_other_protocol_is_refused(self) -> None:
        with pytest.raises(FrameError, match="does not begin with SCSTLOCL"):
            HelloReply.parse(b"NBDMAGIC")


class TestCommand:
    RECORD = CommandFrame(0x1122334455667788, 7, bytes.fromhex("28000000000200000800"), 4096, 6)

    def test_command_has_the_documented_bytes(self) -> None:
        assert self.RECORD.serialize() == COMMAND
        check_command(COMMAND, MAX_DATA_BYTES)

    def test_unpacked_fields_are_in_the_documented_order(self) -> None:
        fields = (0x2C, 1, 10, 0x1122334455667788, 7 << 48, 4096, 6)
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
            (ERROR, 4, b"\x08", "nudge with data"),
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
        (HelloRequest.parse, HELLO_REQUEST),
        (HelloReply.parse, HELLO_REPLY),
        (HelloReply.parse, REFUSAL),
        (_check, COMMAND),
        (_parse_response, RESPONSE),
        (_parse_response, ERROR),
    ],
)
def test_mutated_bytes_are_taken_or_refused_and_never_crash(
    parse: Callable[[bytes], object], template: bytes
) -> None:
    source = random.Random(1)
    refused = 0
    for _ in range(5000):
        data = bytearray(template)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            parse(bytes(data[: source.randint(1, 2 * len(data))]))
        except FrameError:
            refused += 1
    assert 0 < refused < 5000
