# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients ask, the frames that they send for it, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from bridges.aoe.address import Address
from bridges.aoe.wire import ConfigCommand, MaskDirective, ReserveCommand
from bridges.aoe_tools.errors import ArgumentError, NoAnswerError, RefusedError, ToolError
from bridges.aoe_tools.exchange import Exchanger
from bridges.aoe_tools.operations import Found, config, discover, find, identify, mask, reserve
from tests.bridges.aoe_tools.fake_wire import (
    CLIENT,
    OTHER,
    TARGET,
    FakeWire,
    answering,
    reply_to,
    silent,
)

E11 = Address(1, 1)
PORT = Found(E11, TARGET, 64, 1, 2, b"")
HELLO = "0040 0001 02 10 0005 68656c6c6f"
ONE, TWO = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")

READ, TEST, PREFIX = ConfigCommand.READ, ConfigCommand.TEST, ConfigCommand.TEST_PREFIX
SET, FORCE = ConfigCommand.SET_IF_EMPTY, ConfigCommand.FORCE_SET


def argument_of(frame: bytes) -> str:
    """The bytes after the tag of a frame to e1.1 at the target's MAC, in hex."""
    assert frame[:19].hex() == "020000000011 0200000000c1 88a2 10 00 0001 01".replace(" ", "")
    return frame[24:].rstrip(b"\0").hex()


def refusal(wire: FakeWire, act: Callable[[Exchanger], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        act(wire.exchanger())
    return str(caught.value)


class TestDiscover:
    def test_ports_are_sorted_and_listed_once(self) -> None:
        def several(request: bytes) -> Iterable[bytes]:
            yield reply_to(request, HELLO, address="0007 01")
            yield reply_to(request, HELLO, source=OTHER)
            yield reply_to(request, HELLO)
            # An error, and a frame that ends within its argument.
            yield reply_to(request, HELLO, address="0008 01", error=2)
            yield reply_to(request, HELLO, address="0009 01")[:28]

        wire = FakeWire([several, several])
        ports = discover(wire.exchanger())
        assert [(str(port.address), port.mac) for port in ports] == [
            ("e1.1", TARGET),
            ("e1.1", OTHER),
            ("e7.1", TARGET),
        ]
        assert ports[0] == Found(E11, TARGET, 64, 1, 2, b"hello")

    def test_nobody_is_an_empty_list(self) -> None:
        assert discover(FakeWire().exchanger()) == []


class TestFind:
    def test_the_first_port_is_found_by_a_broadcast(self) -> None:
        wire = FakeWire([silent, answering(HELLO)])
        assert find(wire.exchanger(), E11) == Found(E11, TARGET, 64, 1, 2, b"hello")
        assert wire.sent[0].hex().startswith("ffffffffffff0200000000c188a2100000010101")

    def test_silence_has_its_possible_reasons(self) -> None:
        with pytest.raises(NoAnswerError) as caught:
            find(FakeWire().exchanger(timeout_s=1.5), E11)
        assert str(caught.value).startswith("no answer from e1.1 within 1.5 s: ")
        assert "its MAC mask list lacks 02:00:00:00:00:c1" in str(caught.value)


class TestIdentify:
    def test_data_are_returned(self) -> None:
        data = bytes(range(256)) * 2
        wire = FakeWire([answering("00 00 00 40 000000 a0 0000 0000" + data.hex())])
        assert identify(wire.exchanger(), PORT) == data
        assert argument_of(wire.sent[0]) == "000001ec000000a0"

    def test_an_ata_error_has_its_registers(self) -> None:
        wire = FakeWire([answering("00 04 01 41 000000 a0 0000 0000")])
        assert refusal(wire, lambda exchanger: identify(exchanger, PORT)) == (
            "e1.1: IDENTIFY DEVICE failed: status 41h (DRDY ERR), error 04h (ABRT)"
        )

    def test_a_device_fault_without_err_is_an_error(self) -> None:
        wire = FakeWire([answering("00 00 01 60 000000 a0 0000 0000")])
        assert "status 60h (DRDY DF), error 00h" in refusal(wire, lambda e: identify(e, PORT))

    def test_too_little_data_is_no_identity(self) -> None:
        wire = FakeWire([answering("00 00 00 40 000000 a0 0000 0000" + "00" * 500)])
        assert refusal(wire, lambda exchanger: identify(exchanger, PORT)) == (
            "e1.1: 500 bytes of IDENTIFY DEVICE data: expected 512"
        )

    def test_a_reserved_target_is_asked_for_its_owners(self) -> None:
        wire = FakeWire([answering("00", error=6), answering("00 01 020000000001")])
        assert refusal(wire, lambda exchanger: identify(exchanger, PORT)) == (
            "e1.1: target is reserved (AoE error 6): by 02:00:00:00:00:01"
        )
        assert [frame[19] for frame in wire.sent] == [0, 3]

    def test_an_aoe_error_has_its_name(self) -> None:
        wire = FakeWire([answering("00", error=3)])
        assert refusal(wire, lambda exchanger: identify(exchanger, PORT)) == (
            "e1.1: Issue ATA Command: device unavailable (AoE error 3)"
        )

    def test_silence_names_the_port_and_the_command(self) -> None:
        with pytest.raises(NoAnswerError) as caught:
            identify(FakeWire().exchanger(), PORT)
        assert str(caught.value) == (
            "e1.1 at 02:00:00:00:00:11: no answer to Issue ATA Command within 2 s"
        )


class TestConfig:
    @pytest.mark.parametrize(
        ("command", "string", "argument"),
        [
            (READ, b"", "0000000000100000"),
            (TEST, b"hello", "000000000011000568656c6c6f"),
            (PREFIX, b"hel", "000000000012000368656c"),
            (SET, b"hello", "000000000013000568656c6c6f"),
            (FORCE, b"hello", "000000000014000568656c6c6f"),
        ],
    )
    def test_each_command_has_its_code_and_string(
        self, command: ConfigCommand, string: bytes, argument: str
    ) -> None:
        wire = FakeWire([answering(HELLO)])
        assert config(wire.exchanger(), PORT, command, string) == b"hello"
        assert argument_of(wire.sent[0]).ljust(len(argument), "0") == argument

    def test_another_string_is_in_the_way_of_set(self) -> None:
        wire = FakeWire([answering(HELLO, error=4)])
        assert refusal(wire, lambda exchanger: config(exchanger, PORT, SET, b"other")) == (
            "e1.1: config string present (AoE error 4): 'hello'"
        )

    def test_a_set_whose_answer_was_lost_is_done(self) -> None:
        wire = FakeWire([silent, answering(HELLO, error=4)])
        assert config(wire.exchanger(), PORT, SET, b"hello") == b"hello"

    @pytest.mark.parametrize(
        ("command", "string", "message"),
        [
            (TEST, b"hell", "e1.1: the config string is 'hello': it is not 'hell'"),
            (PREFIX, b"help", "e1.1: the config string is 'hello': it does not begin with 'help'"),
        ],
    )
    def test_silence_means_no_where_the_string_is_another(
        self, command: ConfigCommand, string: bytes, message: str
    ) -> None:
        wire = FakeWire([silent] * 4 + [answering(HELLO)])
        assert refusal(wire, lambda exchanger: config(exchanger, PORT, command, string)) == message

    @pytest.mark.parametrize(("command", "string"), [(TEST, b"hello"), (PREFIX, b"hel")])
    def test_silence_is_a_fault_where_the_string_is_the_one(
        self, command: ConfigCommand, string: bytes
    ) -> None:
        wire = FakeWire([silent] * 4 + [answering(HELLO)])
        with pytest.raises(NoAnswerError, match="no answer to Query Config Information"):
            config(wire.exchanger(), PORT, command, string)

    def test_a_string_may_have_1024_bytes_and_no_more(self) -> None:
        wire = FakeWire([answering(HELLO)])
        config(wire.exchanger(), PORT, FORCE, b"x" * 1024)
        assert len(wire.sent[0]) == 32 + 1024
        with pytest.raises(ArgumentError, match="1025 bytes: expected at most 1024"):
            config(wire.exchanger(), PORT, FORCE, b"x" * 1025)


class TestReserve:
    @pytest.mark.parametrize(
        ("command", "macs", "argument"),
        [
            (ReserveCommand.READ, [], ""),
            (ReserveCommand.SET, [ONE, TWO], "0102020000000001020000000002"),
            (ReserveCommand.SET, [], "01"),
            (ReserveCommand.FORCE_SET, [TWO], "0201020000000002"),
        ],
    )
    def test_each_command_has_its_code_and_list(
        self, command: ReserveCommand, macs: list[bytes], argument: str
    ) -> None:
        wire = FakeWire([answering("00 02 020000000001 020000000002")])
        assert reserve(wire.exchanger(), PORT, command, macs) == (ONE, TWO)
        assert argument_of(wire.sent[0]) == argument

    def test_others_reservation_is_told_with_their_names(self) -> None:
        wire = FakeWire([answering("01 02 020000000001 020000000002", error=6)])
        message = refusal(wire, lambda e: reserve(e, PORT, ReserveCommand.SET, [CLIENT]))
        assert message == (
            "e1.1: target is reserved (AoE error 6): by 02:00:00:00:00:01, 02:00:00:00:00:02"
        )

    def test_a_set_whose_answer_was_lost_is_done(self) -> None:
        # The first request has given the target to others, so the second is refused.
        wire = FakeWire([silent, answering("01 02 020000000002 020000000001", error=6)])
        assert set(reserve(wire.exchanger(), PORT, ReserveCommand.SET, [ONE, TWO])) == {ONE, TWO}

    def test_a_release_by_a_stranger_is_refused(self) -> None:
        wire = FakeWire([answering("01 01 020000000001", error=6)])
        assert "by 02:00:00:00:00:01" in refusal(
            wire, lambda exchanger: reserve(exchanger, PORT, ReserveCommand.SET)
        )

    def test_a_list_that_is_cut_off_is_malformed(self) -> None:
        # The padding is taken for addresses, and ends within one.
        wire = FakeWire([answering("00 09 020000000001")])
        assert refusal(wire, lambda e: reserve(e, PORT, ReserveCommand.READ)) == (
            "e1.1 at 02:00:00:00:00:11: malformed answer to Reserve/Release"
        )

    def test_no_frame_counts_more_than_255_addresses(self) -> None:
        macs = [number.to_bytes(6, "big") for number in range(256)]
        with pytest.raises(ArgumentError, match="256 MAC addresses: expected at most 255"):
            reserve(FakeWire().exchanger(), PORT, ReserveCommand.SET, macs)


class TestMask:
    @pytest.mark.parametrize(
        ("directive", "macs", "argument"),
        [
            (MaskDirective.NONE, [], ""),
            (MaskDirective.ADD, [ONE, TWO], "0001000200010200000000010001020000000002"),
            (MaskDirective.DELETE, [TWO], "000100010002020000000002"),
        ],
    )
    def test_each_directive_has_its_code_and_address(
        self, directive: MaskDirective, macs: list[bytes], argument: str
    ) -> None:
        wire = FakeWire([answering("00 00 00 02 0000 020000000001 0000 020000000002")])
        assert mask(wire.exchanger(), PORT, directive, macs) == (ONE, TWO)
        assert argument_of(wire.sent[0]) == argument

    def test_an_empty_list_is_read(self) -> None:
        wire = FakeWire([answering("00 00 00 00")])
        assert mask(wire.exchanger(), PORT, MaskDirective.NONE) == ()

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            ("00 01 01 00", "unspecified (MError 1) at 02:00:00:00:00:01"),
            ("00 01 02 00", "bad directive (MError 2) at 02:00:00:00:00:01"),
            ("00 01 03 01", "list full (MError 3) at 02:00:00:00:00:02"),
            ("00 01 09 07", "unknown error (MError 9) at directive 7"),
        ],
    )
    def test_a_bad_directive_is_named(self, answer: str, message: str) -> None:
        wire = FakeWire([answering(answer)])
        told = refusal(wire, lambda e: mask(e, PORT, MaskDirective.ADD, [ONE, TWO]))
        assert told == f"e1.1: MAC mask list: {message}; what was before it is done"

    def test_a_list_that_is_cut_off_is_malformed(self) -> None:
        wire = FakeWire([answering("00 00 00 09 0000 020000000001")])
        assert refusal(wire, lambda e: mask(e, PORT, MaskDirective.NONE)) == (
            "e1.1 at 02:00:00:00:00:11: malformed answer to MAC Mask List"
        )


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda e: identify(e, PORT), "Issue ATA Command"),
        (lambda e: config(e, PORT, READ), "Query Config Information"),
        (lambda e: config(e, PORT, TEST, b"x"), "Query Config Information"),
        (lambda e: reserve(e, PORT, ReserveCommand.READ), "Reserve/Release"),
        (lambda e: mask(e, PORT, MaskDirective.NONE), "MAC Mask List"),
    ],
)
@pytest.mark.parametrize("pad", [24, 60])
def test_commands_that_a_target_does_not_know_are_told(
    act: Callable[[Exchanger], object], name: str, pad: int
) -> None:
    def unknown(request: bytes) -> Iterable[bytes]:
        return [reply_to(request, "", error=1)[:pad]]

    message = f"e1.1: {name}: unrecognized command code (AoE error 1)"
    assert refusal(FakeWire([unknown]), act) == message


@pytest.mark.parametrize("length_bytes", range(24, 32))
def test_answers_that_end_early_are_malformed(length_bytes: int) -> None:
    def short(request: bytes) -> Iterable[bytes]:
        return [reply_to(request, HELLO)[:length_bytes]]

    with pytest.raises(ToolError, match="malformed answer to Query Config Information"):
        config(FakeWire([short]).exchanger(), PORT, READ)


def test_a_config_string_that_is_cut_off_is_malformed() -> None:
    def short(request: bytes) -> Iterable[bytes]:
        return [reply_to(request, "0040 0001 02 10 0100 68656c6c6f")]

    with pytest.raises(ToolError, match="malformed answer to Query Config Information"):
        config(FakeWire([short]).exchanger(), PORT, READ)
