# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py: which tables are printed when, the header, and the JSON document."""

from __future__ import annotations

import io
import json
import platform

from rich.console import Console

from tests.bench.cells import CELLS
from tests.bench.environment import Environment, cpu_model
from tests.bench.report import Report, print_failure, print_header, print_report, to_json
from tests.bench.results import Failure, Results
from tests.bench.samples import sample
from tests.bench.servers import SERVERS

BY_NAME = {cell.name: cell for cell in CELLS}
BY_KEY = {server.key: server for server in SERVERS}
QD1, QD32 = BY_NAME["randread-qd1"], BY_NAME["randread-qd32"]
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


def printed(one: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_report(console, one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tables_hold_figures_ratio_and_every_failure() -> None:
    text = printed(report(mixed_results()))
    for expected in (
        "200.0",
        "(2.00-2.00)",
        "4k read QD1 p50 latency: ours / best C peer",
        "failed: ours-nbdkit: ended with status 1: no [module]",
        f"failed: qemu-nbd {QD32.name}: fio exit status 1: EIO",
    ):
        assert expected in text


def test_latency_is_shown_at_queue_depth_one_only() -> None:
    deep = Report(ENVIRONMENT, report(mixed_results()).servers, [QD32], mixed_results())
    assert "Latency, median" in printed(report(mixed_results()))
    assert "Latency, median" not in printed(deep)


def test_no_ratio_table_without_peers() -> None:
    alone = printed(Report(ENVIRONMENT, [BY_KEY["ours"]], [QD1], mixed_results()))
    assert "30.0" in alone
    assert "ours / peer" not in alone


def test_failure_of_the_server_with_tls_says_so() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_failure(console, Failure("qemu-nbd", None, "no certificates", is_tls=True))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "failed: qemu-nbd with TLS: no certificates\n"


def test_header_states_machine_versions_folder_and_lengths() -> None:
    console = Console(file=io.StringIO(), width=100)
    print_header(console, ENVIRONMENT)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "Linux 6.1, 2 x A [b] CPU",
        "fio-3.33, nbdkit 1.32.5",
        "512 MiB in /dev/shm (tmpfs), 3 runs x 0.5 s per cell and server",
    ]


def test_json_holds_samples_medians_ratios_expectations_and_failures() -> None:
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
    ratios = {one["metric"]: one for one in document["ratios"]}
    assert ratios["iops"] == {
        "server": "ours",
        "best_of": ["qemu-nbd"],
        "cell": QD1.name,
        "metric": "iops",
        "rounds": 1,
        "median": 2.0,
        "low": 2.0,
        "high": 2.0,
    }
    assert {metric: one["median"] for metric, one in ratios.items()} == {
        "iops": 2.0,
        "p50_us": 0.5,
        "server_cpu_us": 0.5,
    }
    assert document["expectations"] == [
        {
            "title": "4k read QD1 p50 latency: ours / best C peer",
            "expected": "<= 1.15",
            "found": 0.5,
            "is_met": True,
        }
    ]
    assert [one["server"] for one in document["failures"]] == ["ours-nbdkit", "qemu-nbd"]


def test_cpu_model_is_read_from_cpuinfo() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: AMD EPYC: x\nflags: y\n") == "AMD EPYC: x"


def test_cpu_without_model_name_is_named_by_its_architecture() -> None:
    assert cpu_model("processor : 0\n") == platform.machine()
