# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py: units, tables with and without figures, and the JSON document."""

from __future__ import annotations

import io
import json
import platform

from rich.console import Console

from tests.bench.environment import Environment, cpu_model
from tests.bench.fio import CELLS
from tests.bench.report import Report, describe, print_header, print_report, rate, to_json
from tests.bench.results import Failure, Figures, Results
from tests.bench.samples import sample
from tests.bench.servers import SERVERS

BY_NAME = {cell.name: cell for cell in CELLS}
BY_KEY = {server.key: server for server in SERVERS}
QD1, QD32, SEQUENTIAL = BY_NAME["randread-qd1"], BY_NAME["randread-qd32"], BY_NAME["read-qd8"]
FIGURES = Figures(3, iops=20512.0, bytes_per_s=2.625e9, p50_us=45.2, p99_us=88.4, server_cpu_us=8.0)
ENVIRONMENT = Environment(
    "6.1", "A [b] CPU", 2, ("fio-3.33", "nbdkit 1.32.5"), "/dev/shm", "tmpfs", 512, 3, 0.5
)


def report(results: Results) -> Report:
    servers = [BY_KEY["ours"], BY_KEY["ours-nbdkit"], BY_KEY["qemu-nbd"]]
    return Report(ENVIRONMENT, servers, [QD1, QD32], results)


def mixed_results() -> Results:
    """ours ran in both cells, twice as fast as qemu-nbd in the one that this ran; one failed."""
    return Results(
        (
            sample("ours", QD1.name, 0, 30000.0),
            sample("ours", QD32.name, 0, 200000.0),
            sample("qemu-nbd", QD1.name, 0, 15000.0),
        ),
        (
            Failure("ours-nbdkit", None, "ended with status 1: no [module]"),
            Failure("qemu-nbd", QD32.name, "fio exit status 1: EIO"),
        ),
    )


def printed(results: Results) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_report(console, report(results))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_random_loads_are_given_in_requests_and_sequential_ones_in_bytes() -> None:
    assert rate(QD32, FIGURES) == "20.5 kIOPS"
    assert rate(SEQUENTIAL, FIGURES) == "2.62 GB/s"


def test_latency_is_shown_at_queue_depth_one_only() -> None:
    assert "45 / 88 µs" in describe(QD1, FIGURES)
    assert "45 / 88 µs" not in describe(QD32, FIGURES)
    assert "8.0 µs CPU" in describe(QD32, FIGURES)


def test_tables_hold_figures_ratio_and_every_failure() -> None:
    text = printed(mixed_results())
    for expected in (
        "200.0 kIOPS",
        "2.00 (2.00 to 2.00)",
        "failed: ours-nbdkit: ended with status 1: no [module]",
        f"failed: qemu-nbd {QD32.name}: fio exit status 1: EIO",
    ):
        assert expected in text


def test_failed_server_is_a_row_with_its_error_line() -> None:
    figures = printed(mixed_results()).split("IOPS of ours")[0]
    assert "ended with status 1: no [module]" in figures


def test_no_ratio_table_without_peers() -> None:
    console = Console(file=io.StringIO(), width=200)
    alone = Report(ENVIRONMENT, [BY_KEY["ours"]], [QD1], mixed_results())
    print_report(console, alone)
    assert isinstance(console.file, io.StringIO)
    assert "IOPS of ours" not in console.file.getvalue()


def test_header_states_machine_versions_folder_and_lengths() -> None:
    console = Console(file=io.StringIO(), width=40)
    print_header(console, ENVIRONMENT)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "Linux 6.1, 2 x A [b] CPU",
        "fio-3.33, nbdkit 1.32.5",
        "512 MiB in /dev/shm (tmpfs), 3 runs x 0.5 s per cell and server",
    ]


def test_json_holds_samples_medians_ratios_and_failures() -> None:
    document = json.loads(to_json(report(mixed_results())))
    assert document["environment"]["file_system"] == "tmpfs"
    assert [cell["name"] for cell in document["cells"]] == [QD1.name, QD32.name]
    assert len(document["samples"]) == 3
    assert document["samples"][0]["measurement"]["iops"] == 30000.0
    assert {(one["server"], one["cell"]) for one in document["medians"]} == {
        ("ours", QD1.name),
        ("ours", QD32.name),
        ("qemu-nbd", QD1.name),
    }
    assert document["ratios"] == [
        {
            "server": "ours",
            "peer": "qemu-nbd",
            "cell": QD1.name,
            "rounds": 1,
            "median": 2.0,
            "low": 2.0,
            "high": 2.0,
        }
    ]
    assert [one["server"] for one in document["failures"]] == ["ours-nbdkit", "qemu-nbd"]


def test_cpu_model_is_read_from_cpuinfo() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: AMD EPYC: x\nflags: y\n") == "AMD EPYC: x"


def test_cpu_without_model_name_is_named_by_its_architecture() -> None:
    assert cpu_model("processor : 0\n") == platform.machine()
