# SPDX-License-Identifier: GPL-2.0-or-later
"""fio.py: command lines, and reading a report that fio 3.33 wrote (fio_randwrite_qd1.txt).

The sample is real output of the randwrite-qd1 cell; sections that are never read were cut out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.cells import CELLS
from tests.bench.client import LoadError, Measurement
from tests.bench.fio import command, complaints, parse

REPORT = Path(__file__).with_name("fio_randwrite_qd1.txt").read_text()
BY_NAME = {cell.name: cell for cell in CELLS}


def test_report_after_a_text_line_is_read() -> None:
    assert REPORT.startswith("fio: connected")
    assert parse(REPORT, "write") == Measurement(
        requests=23488, iops=46976.0, bytes_per_s=192413696.0, p50_us=20.608, p99_us=39.68
    )


def test_report_after_the_greetings_of_several_connections_is_read() -> None:
    assert parse(3 * "fio: connected to NBD server\n" + REPORT, "write") == parse(REPORT, "write")


def test_direction_without_requests_is_an_error() -> None:
    with pytest.raises(LoadError, match="no request completed"):
        parse(REPORT, "read")


def test_job_error_is_named() -> None:
    failed = REPORT.replace('"error": 0', '"error": 5')
    with pytest.raises(LoadError, match="job error 5: Input/output error"):
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
    with pytest.raises(LoadError):
        parse(text, "write")


def test_complaints_hold_what_fio_printed_on_both_streams_but_no_greeting() -> None:
    stdout = "fio: connected to NBD server\nfio: pid=1, err=5\n{ }"
    assert complaints(stdout, "fio: io_u error\n\n") == "fio: io_u error; fio: pid=1, err=5"


def test_successful_run_has_no_complaints() -> None:
    assert complaints(REPORT, "") == ""


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


def test_one_connection_is_one_job() -> None:
    line = command(BY_NAME["randread-qd1"], "nbd+unix:///", 1 << 20, 0.5)
    assert not [word for word in line if word.startswith(("--numjobs", "--offset_increment"))]


def test_several_connections_are_threads_that_report_as_one() -> None:
    line = command(BY_NAME["randwrite-x4"], "nbd+unix:///", 1 << 20, 0.5)
    assert {"--numjobs=4", "--thread", "--group_reporting", "--iodepth=8"} <= set(line)
    assert "--size=1048576" in line


def test_sequential_connections_work_each_on_a_part_of_the_disk() -> None:
    line = command(BY_NAME["read-x4"], "nbd+unix:///", 1 << 20, 0.5)
    assert {"--size=262144", "--offset_increment=262144", "--iodepth=2"} <= set(line)
