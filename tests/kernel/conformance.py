# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs of libiscsi's iscsi-test-cu say, and the table of it.

Pure functions on text: which tests run over which route is the business of
`guest/conformance.sh`. Each test is a process of its own, since a crash of the tool must not cost
the tests after it. CUnit counts a test that skipped itself, or that asserted nothing, among the
passed ones; here these are told apart.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

# What timeout(1) exits with when the time was up: 124, and 128 + SIGKILL if it had to use that.
TIMED_OUT = frozenset({124, 128 + signal.SIGKILL})
# What a shell makes of a signal that ended a program. The tool's own failure is 255.
SIGNALLED = frozenset(128 + number for number in signal.valid_signals())

RECORD = re.compile(r"^==> (\S+) (\d+|-) (\d+\.\d+)\n", re.MULTILINE)
# The tool also logs while it looks at the device, before the test begins.
BEGIN = "\n  Test: "
SKIPPED = re.compile(r"\[SKIPPED\] (.*?)\s*$", re.MULTILINE)
# Rows of CUnit's run summary: total, ran, passed, failed.
SUMMARY = re.compile(r"^ +(tests|asserts) +(\d+) +(\d+) +(\d+) +(\d+)", re.MULTILINE)


class Outcome(StrEnum):
    """What became of a test; the order is that of the table."""

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"
    NOASSERT = "NOASSERT"  # ran to its end and asserted nothing
    CRASH = "CRASH"  # a signal ended the tool
    ERROR = "ERROR"  # the tool ended without a summary
    TIMEOUT = "TIMEOUT"
    NOTRUN = "NOTRUN"  # excluded from the route


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one test; `name` is SUITE.TEST."""

    name: str
    outcome: Outcome
    output: str
    duration_s: float = 0.0
    skips: tuple[str, ...] = ()  # the reasons that were printed, each once

    @property
    def suite(self) -> str:
        return self.name.partition(".")[0]


def classify(exit_status: int, output: str) -> Outcome:
    """Return the outcome of a run, from what a shell calls its status and what it printed."""
    if exit_status in TIMED_OUT:
        return Outcome.TIMEOUT
    if exit_status in SIGNALLED:
        return Outcome.CRASH
    failed = {row: int(failed) for row, _, _, _, failed in SUMMARY.findall(output)}
    if not failed:
        return Outcome.ERROR
    if any(failed.values()):
        return Outcome.FAIL
    if skip_reasons(output):
        return Outcome.SKIP
    ran = {row: int(ran) for row, _, ran, _, _ in SUMMARY.findall(output)}
    return Outcome.PASS if ran["asserts"] else Outcome.NOASSERT


def skip_reasons(output: str) -> tuple[str, ...]:
    """Return why the test says that it skipped itself; it says so more than once."""
    _, _, test = output.partition(BEGIN)
    return tuple(dict.fromkeys(SKIPPED.findall(test)))


def parse(records: str) -> list[Result]:
    """Return the results in a file of `run_tests`, in its order.

    A record is the line "==> FAMILY.SUITE.TEST STATUS SECONDS", then the output; the status of a
    test that was excluded is "-".
    """
    _, *fields = RECORD.split(records)
    return [
        Result(
            name.partition(".")[2],
            Outcome.NOTRUN if status == "-" else classify(int(status), output),
            output,
            float(duration_s),
            skip_reasons(output),
        )
        for name, status, duration_s, output in zip(*[iter(fields)] * 4, strict=True)
    ]


def passed(routes: Mapping[str, Sequence[Result]]) -> set[str]:
    """Return the tests that pass on at least one route."""
    return {
        result.name
        for results in routes.values()
        for result in results
        if result.outcome is Outcome.PASS
    }


def table(routes: Mapping[str, Sequence[Result]]) -> str:
    """Return a simple table of reStructuredText: a row for each suite, and their sum.

    The last column counts the tests that pass on at least one route.
    """
    suites = dict.fromkeys(result.suite for results in routes.values() for result in results)
    rows = [("Suite", "Tests", *routes, "Passed")]
    rows += [table_row(suite, routes, {suite}) for suite in suites]
    rows.append(table_row("Total", routes, suites))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def table_row(
    title: str, routes: Mapping[str, Sequence[Result]], suites: Container[str]
) -> tuple[str, ...]:
    """Return the cells of the tests in `suites`."""
    selected = {
        route: [result for result in results if result.suite in suites]
        for route, results in routes.items()
    }
    tests = {result.name for results in selected.values() for result in results}
    cells = (tally(results) for results in selected.values())
    return (title, str(len(tests)), *cells, str(len(passed(selected))))


def tally(results: Sequence[Result]) -> str:
    """Return how often each outcome occurs, as in "3 PASS, 1 SKIP"."""
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
