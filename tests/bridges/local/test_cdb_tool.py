# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge cdb`` without its command line: reading CDBs, sizing data-in, showing outcomes."""

from __future__ import annotations

import pytest

from bridges.local.cdb_tool import (
    data_in_length,
    describe,
    describe_sense,
    hex_dump,
    parse_hex,
    run_cdb,
)
from bridges.local.client import LocalError
from bridges.local.unit_client import Place
from bridges.recovery import Reply
from scsi_backend.t10.sense import FieldPointer, Sense, SenseKey
from scsi_backend.t10.status import Status
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.site import Site
from tests.scsi_backend.fakes import FaultyVdisk

INQUIRY = bytes.fromhex("120000002400")


class TestParseHex:
    @pytest.mark.parametrize(
        "words",
        [
            ["12", "00", "00", "00", "24", "00"],
            ["120000002400"],
            ["12 00 00 00 24 00"],
            ["0x12", "0x00", "0X00", "00", "0x24", "0x00"],
            ["0x120000", "002400"],
            ["1200", "0000 24", " 00 "],
        ],
    )
    def test_hex_words_are_read_with_or_without_blanks(self, words: list[str]) -> None:
        assert parse_hex(words) == INQUIRY

    def test_letters_may_be_large_or_small(self) -> None:
        assert parse_hex(["aB", "Cd"]) == b"\xab\xcd"

    def test_longest_cdb_is_taken(self) -> None:
        assert parse_hex(["7f" * 260]) == b"\x7f" * 260

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "expected at least one byte in hex"),
            (["", " "], "expected at least one byte in hex"),
            (["12", "0"], "'0' has 1 digits: expected two a byte"),
            (["0x123"], "'0x123' has 3 digits: expected two a byte"),
            (["12", "xy"], "'xy' is not hex: expected digits like 12 or 0x12"),
            (["0x"], "'0x' is not hex"),
            (["12,00"], "'12,00' is not hex"),
            (["\u0661\u0662"], "is not hex"),
            (["00" * 261], "261 bytes: expected at most 260"),
        ],
    )
    def test_anything_else_is_refused_with_what_was_expected(
        self, words: list[str], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            parse_hex(words)


def never() -> int:
    raise AssertionError("the block size does not matter here")


class TestDataInLength:
    @pytest.mark.parametrize(
        ("cdb", "expected"),
        [
            ("120000012300", 0x123),
            ("12", 0),
            ("030000002a00", 0x2A),
            ("1a003f00ff00", 0xFF),
            ("5a003f00000000012300", 0x123),
            ("25000000000000000000", 8),
            ("9e100000000000000000000000200000", 0x20),
            ("9e120000000000000000000012340000", 0x1234),
            ("a00000000000000012340000", 0x1234),
            ("000000000000", 0),
            ("2a000000000000000800", 0),
            ("8a00000000000000000000000008 0000", 0),
            ("35000000000000000000", 0),
            ("42000000000000001800", 0),
        ],
    )
    def test_allocation_length_of_the_cdb_decides(self, cdb: str, expected: int) -> None:
        assert data_in_length(bytes.fromhex(cdb), never) == expected

    @pytest.mark.parametrize(
        ("cdb", "blocks"),
        [
            ("080000000300", 3),
            ("28000000000000000300", 3),
            ("a80000000000000000030000", 3),
            ("88000000000000000000000000030000", 3),
        ],
    )
    @pytest.mark.parametrize("block_size", [512, 4096])
    def test_reads_are_counted_in_blocks(self, cdb: str, blocks: int, block_size: int) -> None:
        assert data_in_length(bytes.fromhex(cdb), lambda: block_size) == blocks * block_size

    def test_read_6_of_no_blocks_is_256_blocks(self) -> None:
        assert data_in_length(bytes(1), never) == 0
        assert data_in_length(bytes.fromhex("080000000000"), lambda: 16) == 4096

    def test_read_10_of_no_blocks_needs_no_block_size(self) -> None:
        assert data_in_length(bytes.fromhex("28000000000000000000"), never) == 0

    def test_length_is_limited(self) -> None:
        cdb = bytes.fromhex("28000000000000ffff00")
        assert data_in_length(cdb, lambda: 512) == 64 << 10
        assert data_in_length(cdb, lambda: 512, 1 << 30) == 0xFFFF * 512

    @pytest.mark.parametrize("opcode", ["5e", "7f", "c0", "ff"])
    def test_unknown_command_gets_room_for_the_limit(self, opcode: str) -> None:
        assert data_in_length(bytes.fromhex(opcode), never) == 64 << 10
        assert data_in_length(bytes.fromhex(opcode), never, 100) == 100


class TestDescribe:
    def test_hex_dump_has_offset_digits_and_ascii(self) -> None:
        data = bytes(range(0x18, 0x2C)) + b"~\x7f\xff"
        assert list(hex_dump(memoryview(data))) == [
            "00000000  18 19 1a 1b 1c 1d 1e 1f  20 21 22 23 24 25 26 27  |........ !\"#$%&'|",
            "00000010  28 29 2a 2b 7e 7f ff                              |()*+~..|",
        ]

    def test_hex_dump_of_nothing_is_nothing(self) -> None:
        assert list(hex_dump(memoryview(b""))) == []

    def test_everything_in_sense_data_has_its_line(self) -> None:
        sense = Sense(0x5, 0x2100, 0x1234, FieldPointer(2, 7), deferred=True)
        assert list(describe_sense(sense)) == [
            "  sense key: ILLEGAL REQUEST (5h)",
            "  additional sense: LOGICAL BLOCK ADDRESS OUT OF RANGE (21h/00h)",
            "  deferred: the error of an earlier command",
            "  information: 4660 (1234h)",
            "  field in error: CDB byte 2, bit 7",
        ]

    def test_pointer_into_the_parameter_list_says_so(self) -> None:
        sense = Sense(SenseKey.ILLEGAL_REQUEST, 0x2600, field_pointer=FieldPointer(8, None, False))
        assert list(describe_sense(sense))[-1] == "  field in error: parameter list byte 8"

    def test_progress_is_shown(self) -> None:
        sense = Sense(SenseKey.NOT_READY, 0x041B, progress=0x2000)
        assert list(describe_sense(sense)) == [
            "  sense key: NOT READY (2h)",
            "  additional sense: LOGICAL UNIT NOT READY SANITIZE IN PROGRESS (04h/1Bh)",
            "  progress: 12.5 %",
        ]

    def test_unknown_additional_sense_is_shown_in_hex(self) -> None:
        lines = list(describe_sense(Sense(0x9, 0xABCD)))
        assert lines == [
            "  sense key: VENDOR SPECIFIC (9h)",
            "  additional sense: ASC ABh ASCQ CDh (ABh/CDh)",
        ]

    @pytest.mark.parametrize(
        ("cdb", "status", "line"),
        [
            (INQUIRY, Status.GOOD, "INQUIRY: GOOD"),
            (b"\x28", Status.RESERVATION_CONFLICT, "READ(10): RESERVATION CONFLICT"),
            (b"\x9e", Status.BUSY, "opcode 9Eh: BUSY"),
            (b"\xc1", 0x22, "opcode C1h: status 22h"),
        ],
    )
    def test_first_line_is_command_and_status(self, cdb: bytes, status: int, line: str) -> None:
        assert describe(cdb, Reply(status, None, 0), memoryview(b"")) == line

    def test_data_in_is_shown_as_far_as_it_came(self) -> None:
        text = describe(INQUIRY, Reply(0, None, 2), memoryview(b"abcdef"))
        assert text.splitlines() == [
            "INQUIRY: GOOD",
            "2 bytes of data-in:",
            f"00000000  {'61 62':<48}  |ab|",
        ]


def run(
    site: Site,
    words: str,
    data_out: bytes = b"",
    *,
    lun: int | None = None,
    length: int | None = None,
) -> tuple[list[str], int]:
    """Send a CDB; return the outcome's lines and the exit status."""
    text, status = run_cdb(Place(site.path, lun=lun), words.split(), data_out, length)
    return text.splitlines(), status


class TestRunCdb:
    def test_inquiry_is_shown(self, site: Site) -> None:
        lines, status = run(site, "12 00 00 00 24 00")
        assert status == 0
        assert lines[:2] == ["INQUIRY: GOOD", "36 bytes of data-in:"]
        assert lines[2].endswith("|....[...SCST_FIO|")
        assert len(lines) == 5

    def test_unit_attention_of_the_new_session_is_not_the_users(self, site: Site) -> None:
        assert run(site, "00 00 00 00 00 00") == (["TEST UNIT READY: GOOD"], 0)
        assert run(site, "03 00 00 00 12 00")[0][2].startswith("00000000  70 00 00")

    def test_read_asks_for_the_block_size_first(self, new_site: NewSite) -> None:
        site = new_site()
        site.add_target("disk", FaultyVdisk(8, 4096))
        site.start()
        lines, status = run(site, "28 00 00 00 00 01 00 00 02 00")
        assert status == 0
        assert lines[:2] == ["READ(10): GOOD", "8192 bytes of data-in:"]
        assert len(lines) == 2 + 8192 // 16

    def test_data_out_is_written(self, site: Site) -> None:
        data = bytes(range(256)) * 2
        assert run(site, "2a00000000050000 0100", data) == (["WRITE(10): GOOD"], 0)
        lines, _ = run(site, "28 00 00000005 00 0001 00")
        assert lines[2].startswith("00000000  00 01 02 03")
        assert lines[-1].startswith("000001f0  f0 f1")

    def test_command_without_data_is_told_in_a_line(self, site: Site) -> None:
        assert run(site, "34 00 00000000 00 0008 00") == (["PRE-FETCH(10): GOOD"], 0)

    def test_failure_is_explained_and_gives_exit_status_2(self, site: Site) -> None:
        lines, status = run(site, "28 00 ffffffff 00 0001 00")
        assert status == 2
        assert lines == [
            "READ(10): CHECK CONDITION",
            "  sense key: ILLEGAL REQUEST (5h)",
            "  additional sense: LOGICAL BLOCK ADDRESS OUT OF RANGE (21h/00h)",
            "  information: 4294967295 (FFFFFFFFh)",
            "  field in error: CDB byte 2, bit 7",
        ]

    @pytest.mark.parametrize("words", ["00 00 00 00 00 00", "28 00 00000000 00 0001 00"])
    def test_absent_lun_is_explained(self, site: Site, words: str) -> None:
        lines, status = run(site, words, lun=9)
        assert status == 2
        assert lines[1:] == [
            "  sense key: ILLEGAL REQUEST (5h)",
            "  additional sense: LOGICAL UNIT NOT SUPPORTED (25h/00h)",
        ]

    def test_named_device_gives_the_lun(self, new_site: NewSite) -> None:
        site = new_site()
        first, second = FaultyVdisk(8), FaultyVdisk(16)
        first.name, second.name = "first", "second"
        site.add_target("disks", first, second)
        site.start()
        text, _ = run_cdb(Place(site.path, "second"), ["25000000000000000000"])
        assert "00 00 00 0f 00 00 02 00" in text

    def test_a_device_s_name_with_another_lun_reaches_nobody(self, new_site: NewSite) -> None:
        site = new_site()
        first, second = FaultyVdisk(8), FaultyVdisk(16)
        first.name, second.name = "first", "second"
        site.add_target("disks", first, second)
        site.start()
        with pytest.raises(ValueError, match="LUN 0: 'second' is LUN 1: expected that"):
            run_cdb(Place(site.path, "second", 0), ["25000000000000000000"])
        text, _ = run_cdb(Place(site.path, "second", 1), ["25000000000000000000"])
        assert "00 00 00 0f 00 00 02 00" in text

    def test_length_given_overrules_the_cdb(self, site: Site) -> None:
        lines, _ = run(site, "12 00 00 00 24 00", length=5)
        assert lines[1] == "5 bytes of data-in:"
        lines, _ = run(site, "12 00 00 00 24 00", length=0)
        assert lines == ["INQUIRY: GOOD"]

    @pytest.mark.parametrize("length", [-1, (32 << 20) + 1])
    def test_length_beyond_the_limit_is_refused(self, site: Site, length: int) -> None:
        with pytest.raises(ValueError, match="expected 0 to 33554432"):
            run(site, "12 00 00 00 24 00", length=length)

    def test_malformed_cdb_is_refused_before_connecting(self) -> None:
        with pytest.raises(ValueError, match="is not hex"):
            run_cdb(Place("/nowhere"), ["hello"])

    def test_absent_server_is_named(self) -> None:
        with pytest.raises(LocalError, match="/nowhere: cannot connect"):
            run_cdb(Place("/nowhere"), ["00"])

    def test_session_ends_with_the_command(self, site: Site) -> None:
        run(site, "00 00 00 00 00 00")
        site.wait_for_no_sessions()


def test_every_opcode_gets_an_outcome(site: Site) -> None:
    for opcode in range(256):
        lines, status = run(site, f"{opcode:02x}" + "00" * 15)
        if lines[0].endswith(("GOOD", "CONDITION MET")):
            assert status == 0
        else:
            assert lines[0].endswith("CHECK CONDITION")
            assert lines[1].startswith("  sense key: ")
            assert status == 2
