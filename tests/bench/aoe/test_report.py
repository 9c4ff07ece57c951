# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py: what is said about generator and CPUs, and the tables within a hundred columns."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.bench.aoe.cells import CELLS, AoeCell
from tests.bench.aoe.expectations import EXPECTATIONS
from tests.bench.aoe.report import circumstances, print_report, remarks
from tests.bench.aoe.servers import SERVERS
from tests.bench.environment import Environment
from tests.bench.report import Report, to_json
from tests.bench.results import Failure, Results, Sample
from tests.bench.samples import sample

BY_NAME = {cell.name: cell for cell in CELLS}
W1, W32 = BY_NAME["read-2s-w1-rnd"], BY_NAME["read-2s-w32-seq"]
ENVIRONMENT = Environment("6.1", "CPU", 2, ("vblade 25-1",), "/dev/shm", "tmpfs", 256, 5, 1.0)


def idle(one: Sample, share: float) -> Sample:
    return replace(one, measurement=replace(one.measurement, idle_share=share))


def report(samples: Sequence[Sample], cells: Sequence[AoeCell] = (W1, W32)) -> Report:
    failures = (Failure("vblade", W1.name, "1 of 9 frames got no reply"),)
    return Report(ENVIRONMENT, SERVERS, cells, Results(tuple(samples), failures), EXPECTATIONS)


MIXED = report(
    [
        idle(sample("ours", W1.name, 0, 20_000.0), 0.95),
        idle(sample("ours", W32.name, 0, 90_000.0), 0.61),
        idle(sample("vblade", W32.name, 0, 60_000.0), 0.42),
        idle(sample("reflector", W32.name, 0, 150_000.0), 0.03),
    ]
)


def printed(one: Report) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_report(console, one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_remarks_tell_how_the_generator_is_known_not_to_be_the_bottleneck() -> None:
    # Without a disk the generator is allowed to be as busy as it likes.
    assert list(remarks(MIXED)) == [
        "The generator waited for 42% of its time or more (least: 2s read W32 sequential, vblade).",
        "Without a disk it gets 150.0 thousand replies per second (2s read W32 sequential).",
        "The goal at window 32 is 1.3 where storage is not waited for.",
    ]


def test_remark_is_made_of_a_machine_that_was_busy_with_other_things() -> None:
    def preempted(share: float) -> Report:
        one = sample("ours", W32.name, 0, 1000.0)
        measured = replace(one.measurement, idle_share=0.5, preempted_share=share)
        return report([replace(one, measurement=measured)])

    (_, remark, _) = remarks(preempted(0.25))
    assert remark.startswith("Others had the generator's CPU for up to 25% of the time")
    assert len(list(remarks(preempted(0.05)))) == 2


def test_remark_is_made_of_a_generator_with_little_idle_time() -> None:
    def remarks_at(share: float) -> list[str]:
        return list(remarks(report([idle(sample("vblade", W32.name, 0, 1000.0), share)])))

    assert remarks_at(0.14)[1].startswith("Where it waited for little, a server could do more")
    assert len(remarks_at(0.15)) == 2


def test_no_samples_no_remarks() -> None:
    assert list(remarks(report([]))) == []


def test_tables_hold_figures_ratio_idle_time_and_failures() -> None:
    text = printed(MIXED)
    for expected in (
        "Rate in thousands of frames per second (medians of the rounds)",
        "Time in which the generator waited for the server, in percent",
        "(1.50-1.50)",
        "ours / peer: server CPU time per frame, below 1 ours needs less",
        "2s read W32 sequential: ours / vblade",
        "failed: vblade read-2s-w1-rnd: 1 of 9 frames got no reply",
    ):
        assert expected in text


def test_latency_is_shown_at_window_one_only() -> None:
    assert "Latency at window 1" in printed(MIXED)
    assert "Latency at window 1" not in printed(replace(MIXED, cells=[W32]))


def test_every_table_fits_into_a_hundred_columns() -> None:
    samples = [
        idle(sample(server.key, cell.name, index, iops), 1.0)
        for server in SERVERS
        for cell in CELLS
        for index, iops in enumerate((9.99e6, 9.99e6 / (30 if server.is_ours else 1)))
    ]
    full = Report(ENVIRONMENT, SERVERS, CELLS, Results(tuple(samples), ()), EXPECTATIONS)
    # Rich would cut off what does not fit, and mark that.
    assert "…" not in printed(full)


def test_json_names_cells_and_has_idle_shares() -> None:
    document = json.loads(to_json(MIXED))
    assert [cell["name"] for cell in document["cells"]] == [W1.name, W32.name]
    assert document["cells"][1]["window"] == 32
    shares = {(one["server"], one["cell"]): one["idle_share"] for one in document["medians"]}
    assert shares["vblade", W32.name] == 0.42
    assert document["expectations"][0]["title"] == "2s read W32 sequential: ours / vblade"


def test_one_cpu_for_both_is_warned_of() -> None:
    apart = circumstances(0, 1, Path("/"))
    shared = circumstances(0, 0, Path("/"))
    assert apart[0] == "server on CPU 0; generator, which never sleeps, on CPU 1"
    assert shared[0] == "server and generator share one CPU: the figures mean little"
    assert apart[1].startswith("durable: in / (")
