# SPDX-License-Identifier: GPL-2.0-or-later
"""The records of the hello as absolute bytes, both ways, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bridges.local.hello_wire import HelloReply, HelloRequest, HelloStatus
from bridges.local.wire import FrameError
from tests.bridges.local.mutation import assert_taken_or_refused

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


@pytest.mark.parametrize(
    ("parse", "template"),
    [
        (HelloRequest.parse, HELLO_REQUEST),
        (HelloReply.parse, HELLO_REPLY),
        (HelloReply.parse, REFUSAL),
    ],
)
def test_mutated_bytes_are_taken_or_refused_and_never_crash(
    parse: Callable[[bytes], object], template: bytes
) -> None:
    assert_taken_or_refused(parse, template)
