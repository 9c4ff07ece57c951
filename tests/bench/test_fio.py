# SPDX-License-Identifier: GPL-2.0-or-later
"""fio.py: command lines, and reading a report that fio 3.33 wrote (fio_randwrite_qd1.txt).

The sample is real output of the randwrite-qd1 cell; sections that are never read were cut out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.fio import CELLS, FioError, Measurement, command, complaints, parse

REPORT = Path(__file__).with_name("fio_randwrite_qd1.txt").read_text()
BY_NAME = {cell.name: cell for cell in CELLS}


def test_report_after_a_text_line_is_read() -> None:
    assert REPORT.startswith("fio: connected")
    assert parse(REPORT, "write") == Measurement(
        requests=23488, iops=46976.0, bytes_per_s=192413696.0, p50_us=20.608, p99_us=39.68
    )


def test_direction_without_requests_is_an_error() -> None:
    with pytest.raises(FioError, match="no request completed"):
        parse(REPORT, "read")


def test_job_error_is_named() -> None:
    failed = REPORT.replace('"error": 0', '"error": 5')
    with pytest.raises(FioError, match="job error 5: Input/output error"):
        parse(failed, "write")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fio: connected to NBD server\n",
        REPORT[:200],
        '{"jobs": []}',
        '{"jobs": [{"error": 0}]}',
    ],
)
def test_text_that_is_no_report_is_an_error(text: str) -> None:
    with pytest.raises(FioError):
        parse(text, "write")


def test_complaints_hold_what_fio_printed_on_both_streams_but_no_greeting() -> None:
    stdout = "fio: connected to NBD server\nfio: pid=1, err=5\n{ }"
    assert complaints(stdout, "fio: io_u error\n\n") == "fio: io_u error; fio: pid=1, err=5"


def test_successful_run_has_no_complaints() -> None:
    assert complaints(REPORT, "") == ""


def test_directions_name_the_sections_of_the_report() -> None:
    directions = {cell.name: cell.direction for cell in CELLS}
    assert directions == {
        "randread-qd1": "read",
        "randread-qd32": "read",
        "randwrite-qd1": "write",
        "randwrite-qd32": "write",
        "read-qd8": "read",
        "write-qd8": "write",
    }


def test_only_one_mebibyte_cells_are_sequential() -> None:
    assert {cell.name for cell in CELLS if cell.is_sequential} == {"read-qd8", "write-qd8"}
    assert {cell.block_bytes for cell in CELLS if cell.is_sequential} == {1048576}
    assert {cell.block_bytes for cell in CELLS if not cell.is_sequential} == {4096}


def test_command_carries_load_target_and_time() -> None:
    line = command(BY_NAME["randread-qd32"], "nbd+unix:///?socket=/s", 1 << 20, 0.5)
    assert line[0] == "fio"
    assert {
        "--ioengine=nbd",
        "--uri=nbd+unix:///?socket=/s",
        "--rw=randread",
        "--bs=4096",
        "--iodepth=32",
        "--size=1048576",
        "--time_based",
        "--runtime=500ms",
        "--output-format=json",
    } <= set(line)
