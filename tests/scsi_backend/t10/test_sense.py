# SPDX-License-Identifier: GPL-2.0-or-later
"""Sense data: golden bytes of both formats (SPC-5 4.4), and parsing that never fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10 import sense
from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.sense import FieldPointer, Sense, SenseKey

# (record, fixed format, descriptor format)
GOLDEN = [
    (
        sense.NO_SENSE,
        "700000000000000a00000000000000000000",
        "7200000000000000",
    ),
    (
        sense.RESET_OCCURRED,
        "700006000000000a00000000290000000000",
        "7206290000000000",
    ),
    (
        sense.invalid_field_in_cdb(2, 7),
        "700005000000000a000000002400" + "00cf0002",
        "7205240000000008" + "02060000cf000200",
    ),
    (
        sense.invalid_field_in_cdb(2),
        "700005000000000a000000002400" + "00c00002",
        "7205240000000008" + "02060000c0000200",
    ),
    (
        sense.invalid_field_in_parameter_list(0x0118, 3),
        "700005000000000a000000002600" + "008b0118",
        "7205260000000008" + "020600008b011800",
    ),
    (
        sense.out_of_range(0x400, FieldPointer(2, 7)),
        "f00005000004000a000000002100" + "00cf0002",
        "7205210000000014" + "000a80000000000000000400" + "02060000cf000200",
    ),
    (
        sense.out_of_range(0xFFFFFFFF, FieldPointer(1, 4)),
        "f00005ffffffff0a000000002100" + "00cc0001",
        "7205210000000014" + "000a800000000000ffffffff" + "02060000cc000100",
    ),
    (
        sense.out_of_range(0x100000000, FieldPointer(0, 0)),
        "700005000000000a000000002100" + "00c80000",
        "7205210000000014" + "000a80000000000100000000" + "02060000c8000000",
    ),
    # An LBA beyond 32 bits fits the descriptor format only.
    (
        sense.out_of_range(0x123456789A, FieldPointer(2, 7)),
        "700005000000000a000000002100" + "00cf0002",
        "7205210000000014" + "000a8000000000123456789a" + "02060000cf000200",
    ),
    (
        sense.miscompare(0x201),
        "f0000e000002010a000000001d0000000000",
        "720e1d000000000c" + "000a80000000000000000201",
    ),
    (
        Sense(SenseKey.MEDIUM_ERROR, 0x0C00, information=5, deferred=True),
        "f10003000000050a000000000c0000000000",
        "73030c000000000c" + "000a80000000000000000005",
    ),
    (
        Sense(SenseKey.NOT_READY, 0x0404, progress=0x4001),
        "700002000000000a000000000404" + "00804001",
        "7202040400000008" + "0206000080400100",
    ),
    (
        Sense(SenseKey.NOT_READY, 0x041B, progress=0),
        "700002000000000a00000000041b" + "00800000",
        "7202041b00000008" + "0206000080000000",
    ),
    (
        Sense(SenseKey.NO_SENSE, 0x0016, progress=0xFFFF),
        "700000000000000a000000000016" + "0080ffff",
        "7200001600000008" + "0206000080ffff00",
    ),
    (
        sense.WRITE_ERROR.as_deferred(),
        "710003000000000a00000000030000000000",
        "7303030000000000",
    ),
]

IN_SEGMENT = FieldPointer(20, in_cdb=False, in_segment=True)
GOLDEN_COPY_ABORTED = [
    (
        Sense(0xA, 0x0000, None, IN_SEGMENT, copy_failure=CopyFailure(0x0102)),
        "70000a000000000a" + "00000102" + "0000" + "00a00014",
        "720a000000000014" + "02060000a0001400" + "010a0000" + "0000010200000000",
    ),
    # A source that is busy has no sense data.
    (
        Sense(0xA, 0x0D01, 0x0506, copy_failure=CopyFailure(3, 0x08)),
        "f0000a000005060b" + "12000003" + "0d01" + "00000000" + "08",
        "720a0d010000001c"
        + "000a80000000000000000506"
        + "010a0000"
        + "0000000300000000"
        + "0c020108",
    ),
    (
        Sense(0xA, 0x0D01, copy_failure=CopyFailure(3, 2, sense.WRITE_PROTECTED, True)),
        "70000a000000001d"
        + "00120003"
        + "0d01"
        + "00000000"
        + "02"
        + "700007000000000a000000002700"
        + "00000000",
        "720a0d0100000018" + "010a0000" + "0000000300000000" + "0c0a0202" + "7207270000000000",
    ),
]


@pytest.mark.parametrize(("record", "fixed", "descriptor"), GOLDEN)
def test_record_has_its_golden_bytes_in_both_formats(
    record: Sense, fixed: str, descriptor: str
) -> None:
    assert record.encode().hex() == fixed
    assert record.encode(descriptor=True).hex() == descriptor


@pytest.mark.parametrize(("record", "fixed", "descriptor"), GOLDEN_COPY_ABORTED)
def test_aborted_copy_has_its_golden_bytes_in_both_formats(
    record: Sense, fixed: str, descriptor: str
) -> None:
    assert record.encode().hex() == fixed
    assert record.encode(descriptor=True).hex() == descriptor
    assert Sense.decode(record.encode()).code == record.code


def test_longest_sense_data_fit_the_room_for_them() -> None:
    inner = sense.out_of_range(1, FieldPointer(2, 7))
    failure = CopyFailure(0xFFFF, 2, inner, True)
    longest = Sense(0xA, 0x0D01, 1, FieldPointer(0xFFFF, 7, False), copy_failure=failure)
    for descriptor in (False, True):
        assert len(longest.encode(descriptor=descriptor)) <= sense.MAX_ENCODED_LENGTH


@pytest.mark.parametrize(("record", "fixed", "descriptor"), GOLDEN)
def test_golden_bytes_of_both_formats_parse_into_the_record(
    record: Sense, fixed: str, descriptor: str
) -> None:
    assert Sense.decode(bytes.fromhex(descriptor)) == record
    if record.information is None or record.information < 1 << 32:
        assert Sense.decode(memoryview(bytes.fromhex(fixed))) == record


@pytest.mark.parametrize(
    ("record", "golden"),
    [
        (sense.INVALID_OPCODE, "05/20/00"),
        (sense.LUN_NOT_SUPPORTED, "05/25/00"),
        (sense.PARAMETER_LIST_LENGTH_ERROR, "05/1A/00"),
        (sense.SAVING_PARAMETERS_NOT_SUPPORTED, "05/39/00"),
        (sense.READ_ERROR, "03/11/00"),
        (sense.WRITE_ERROR, "03/03/00"),
        (sense.WRITE_PROTECTED, "07/27/00"),
        (sense.SPACE_ALLOCATION_FAILED, "07/27/07"),
        (sense.INTERNAL_TARGET_FAILURE, "04/44/00"),
        (sense.FORMAT_IN_PROGRESS, "02/04/04"),
        (sense.SANITIZE_IN_PROGRESS, "02/04/1B"),
        (sense.MEDIUM_FORMAT_CORRUPTED, "03/31/00"),
        (sense.FORMAT_COMMAND_FAILED, "03/31/01"),
        (sense.SANITIZE_COMMAND_FAILED, "03/31/03"),
        (sense.CAPACITY_CHANGED, "06/2A/09"),
        (sense.REPORTED_LUNS_CHANGED, "06/3F/0E"),
    ],
)
def test_named_sense_has_t10s_codes(record: Sense, golden: str) -> None:
    assert f"{record.key:02X}/{record.asc:02X}/{record.ascq:02X}" == golden


def test_sense_keys_are_spc_table_48() -> None:
    names = "NO_SENSE RECOVERED_ERROR NOT_READY MEDIUM_ERROR HARDWARE_ERROR ILLEGAL_REQUEST "
    names += "UNIT_ATTENTION DATA_PROTECT BLANK_CHECK VENDOR_SPECIFIC COPY_ABORTED "
    names += "ABORTED_COMMAND RESERVED_C VOLUME_OVERFLOW MISCOMPARE COMPLETED"
    assert [key.name for key in sorted(SenseKey)] == names.split()
    assert [key.value for key in sorted(SenseKey)] == list(range(16))


def test_lba_beyond_64_bits_has_no_information() -> None:
    assert sense.out_of_range(1 << 64, FieldPointer(2, 7)).information is None


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_parse_print_and_encode_again(data: bytes, descriptor: bool) -> None:
    record = Sense.decode(data)
    assert str(record)
    assert len(record.encode(descriptor=descriptor)) <= sense.MAX_LENGTH


@given(st.sampled_from([0x70, 0x71, 0x72, 0x73, 0xF0, 0xF1]), st.binary(max_size=64))
def test_any_bytes_after_a_response_code_parse_and_print(code: int, rest: bytes) -> None:
    record = Sense.decode(bytes([code]) + rest)
    assert str(record)
    assert record.deferred == (bool(code & 1) and len(rest) >= (3 if code & 2 else 2))


@given(
    st.builds(
        Sense,
        key=st.just(int(SenseKey.ILLEGAL_REQUEST)),
        code=st.integers(0, 0xFFFF),
        information=st.none() | st.integers(0, (1 << 64) - 1),
        field_pointer=st.none()
        | st.builds(
            FieldPointer, st.integers(0, 0xFFFF), st.none() | st.integers(0, 7), st.booleans()
        ),
        deferred=st.booleans(),
    )
)
def test_descriptor_format_round_trips(record: Sense) -> None:
    assert Sense.decode(record.encode(descriptor=True)) == record


@pytest.mark.parametrize("data", ["", "70", "7000", "720524", "7f000500", "00000500"])
def test_unreadable_bytes_are_no_sense(data: str) -> None:
    assert Sense.decode(bytes.fromhex(data)) == sense.NO_SENSE


def test_fixed_format_cut_after_its_key_has_no_code() -> None:
    assert Sense.decode(bytes.fromhex("700005")) == Sense(SenseKey.ILLEGAL_REQUEST, 0)


def test_fixed_format_cut_within_the_information_field_has_none() -> None:
    assert Sense.decode(bytes.fromhex("f0000300000100")).information is not None
    assert Sense.decode(bytes.fromhex("f00003000001")).information is None


def test_bytes_beyond_the_additional_sense_length_are_ignored() -> None:
    beyond = bytes.fromhex("7203110000000000" + "000a80000000000000000201")
    assert Sense.decode(beyond) == sense.READ_ERROR
    fixed = bytes.fromhex("7000050000000006000000002400" + "00cf0002")
    assert Sense.decode(fixed) == Sense(SenseKey.ILLEGAL_REQUEST, 0x2400)


def test_field_pointer_is_read_from_a_descriptor_cut_after_it() -> None:
    data = bytes.fromhex("7205240000000007" + "02060000cf0002")
    assert Sense.decode(data) == sense.invalid_field_in_cdb(2, 7)
    assert Sense.decode(data[:-1]).field_pointer is None


def test_descriptor_of_an_unknown_kind_is_skipped() -> None:
    data = bytes.fromhex("7203110000000010" + "03020000" + "000a80000000000000000201")
    assert Sense.decode(data).information == 0x201


@pytest.mark.parametrize(
    "data",
    ["70000{}000000000a000000000404" + "00804000", "720{}040400000008" + "0206000080400000"],
    ids=["fixed", "descriptor"],
)
def test_key_tells_progress_indication_and_field_pointer_apart(data: str) -> None:
    # SPC-5 4.4.2.4: the meaning of the sense key specific bytes depends on the key.
    not_ready = Sense.decode(bytes.fromhex(data.format(2)))
    assert (not_ready.field_pointer, not_ready.progress) == (None, 0x4000)
    illegal = Sense.decode(bytes.fromhex(data.format(5)))
    assert (illegal.field_pointer, illegal.progress) == (FieldPointer(0x4000, in_cdb=False), None)
    # ACTUAL RETRY COUNT.
    assert Sense.decode(bytes.fromhex(data.format(3))) == Sense(SenseKey.MEDIUM_ERROR, 0x0404)


def test_progress_without_sksv_is_none() -> None:
    data = bytes.fromhex("700002000000000a000000000404" + "00004000")
    assert Sense.decode(data) == sense.FORMAT_IN_PROGRESS


@pytest.mark.parametrize(
    ("done", "total", "progress"),
    [(0, 100, 0), (25, 100, 0x4000), (99, 100, 64880), (100, 100, 0xFFFF), (0, 0, 0)],
)
def test_progress_counts_in_parts_of_65536_and_never_says_all(
    done: int, total: int, progress: int
) -> None:
    record = sense.in_progress(sense.FORMAT_IN_PROGRESS, done, total)
    assert record == Sense(SenseKey.NOT_READY, 0x0404, progress=progress)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (sense.WRITE_PROTECTED, "DATA PROTECT 27/00 WRITE PROTECTED"),
        (
            sense.out_of_range(0x400, FieldPointer(2, 7)),
            "ILLEGAL REQUEST 21/00 LOGICAL BLOCK ADDRESS OUT OF RANGE information=0x400"
            " (CDB byte 2 bit 7)",
        ),
        (
            sense.invalid_field_in_parameter_list(9),
            "ILLEGAL REQUEST 26/00 INVALID FIELD IN PARAMETER LIST (parameter list byte 9)",
        ),
        (
            Sense(SenseKey.NOT_READY, 0x041B, progress=0x8000),
            "NOT READY 04/1B LOGICAL UNIT NOT READY SANITIZE IN PROGRESS (50 % done)",
        ),
        (
            Sense(SenseKey.HARDWARE_ERROR, 0x5D32, deferred=True),
            "deferred HARDWARE ERROR 5D/32 ASC 5Dh ASCQ 32h",
        ),
        (
            Sense(0xA, 0x0000, None, IN_SEGMENT, copy_failure=CopyFailure(3)),
            "COPY ABORTED 00/00 NO ADDITIONAL SENSE INFORMATION (segment descriptor byte 20)"
            " segment=3",
        ),
        (
            Sense(0xA, 0x0D01, copy_failure=CopyFailure(3, 2, sense.WRITE_PROTECTED)),
            "COPY ABORTED 0D/01 THIRD PARTY DEVICE FAILURE segment=3"
            " [DATA PROTECT 27/00 WRITE PROTECTED]",
        ),
    ],
)
def test_text_names_the_error_and_its_place(record: Sense, text: str) -> None:
    assert str(record) == text
