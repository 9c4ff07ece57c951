# SPDX-License-Identifier: GPL-2.0-or-later
"""How runs of iscsi-test-cu are counted, on output that it printed.

`captured/records.txt` are runs against the kernel's own target (LIO, a file as thin disk), by
`run_tests` of `guest/scsi.sh`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conformance import Outcome, Result, classify, parse, passed, skip_reasons, table
from tests.kernel.conformance_expected import EXEMPTIONS, expected
from tests.kernel.conformance_expected import ROUTES as ROUTE_NAMES

RECORDS = (Path(__file__).resolve().parent / "captured" / "records.txt").read_text()
RESULTS = {result.name: result for result in parse(RECORDS)}
PASSING = RESULTS["Unmap.ZeroBlocks"].output


def test_each_record_is_one_result_in_the_order_of_the_file() -> None:
    assert [result.name for result in parse(RECORDS)] == [
        "Unmap.ZeroBlocks",
        "ReceiveCopyResults.CopyStatus",
        "ReadDefectData10.Simple",
        "NoMedia.NoMediaSBC",
        "Sanitize.OverwriteReserved",
        "Verify10.Dpo",
        "Read10.Simple",
    ]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("Unmap.ZeroBlocks", Outcome.PASS),
        ("ReceiveCopyResults.CopyStatus", Outcome.FAIL),
        ("ReadDefectData10.Simple", Outcome.SKIP),
        ("NoMedia.NoMediaSBC", Outcome.NOASSERT),
        ("Sanitize.OverwriteReserved", Outcome.CRASH),
        # It skips a part of itself, and fails in another.
        ("Verify10.Dpo", Outcome.FAIL),
        ("Read10.Simple", Outcome.ERROR),
    ],
)
def test_a_run_is_counted_as_what_it_was(name: str, outcome: Outcome) -> None:
    assert RESULTS[name].outcome is outcome


@pytest.mark.parametrize(
    ("exit_status", "outcome"),
    [
        (0, Outcome.PASS),
        (124, Outcome.TIMEOUT),  # timeout(1) sent SIGTERM
        (137, Outcome.TIMEOUT),  # ... and then SIGKILL
        (134, Outcome.CRASH),  # SIGABRT
        (139, Outcome.CRASH),  # SIGSEGV
    ],
)
def test_a_signal_weighs_more_than_the_summary(exit_status: int, outcome: Outcome) -> None:
    assert classify(exit_status, PASSING) is outcome


def test_a_run_without_a_summary_is_an_error_whatever_its_status() -> None:
    cut_off = PASSING.partition("Run Summary")[0]
    assert classify(0, cut_off) is Outcome.ERROR
    assert classify(0, "") is Outcome.ERROR


def test_reasons_are_the_tests_own_and_each_is_given_once() -> None:
    skipped = RESULTS["ReadDefectData10.Simple"]
    assert skipped.output.count("[SKIPPED]") == 3
    assert skipped.skips == ("READDEFECTDATA10 is not implemented.",)
    # The tool says so of a command that it tried before the test began.
    assert "[SKIPPED] REPORT_SUPPORTED_OPCODES" in PASSING
    assert skip_reasons(PASSING) == ()


def test_durations_are_those_of_the_records() -> None:
    assert RESULTS["Read10.Simple"].duration_s == 0.012


def test_nothing_in_a_record_file_is_no_result() -> None:
    assert parse("") == []


def test_a_test_that_was_excluded_is_told_from_one_that_failed() -> None:
    (excluded,) = parse("==> SCSI.Reserve6.Logout - 0.000\n")
    assert (excluded.name, excluded.outcome) == ("Reserve6.Logout", Outcome.NOTRUN)


def result(name: str, outcome: Outcome) -> Result:
    return Result(name, outcome, "")


ROUTES = {
    "sg": [
        result("Read.A", Outcome.PASS),
        result("Read.B", Outcome.SKIP),
        result("Write.A", Outcome.CRASH),
    ],
    "iscsi": [
        result("Read.A", Outcome.SKIP),
        result("Read.B", Outcome.PASS),
        result("Write.A", Outcome.PASS),
    ],
}


def test_a_test_passes_if_it_does_on_one_route() -> None:
    assert passed(ROUTES) == {"Read.A", "Read.B", "Write.A"}
    assert passed({"sg": ROUTES["sg"]}) == {"Read.A"}


def test_the_table_has_a_row_for_each_suite_and_their_sum() -> None:
    assert table(ROUTES).splitlines() == [
        "=====  =====  =======================  ==============  ======",
        "Suite  Tests  sg                       iscsi           Passed",
        "=====  =====  =======================  ==============  ======",
        "Read   2      1 PASS, 1 SKIP           1 PASS, 1 SKIP  2",
        "Write  1      1 CRASH                  1 PASS          1",
        "Total  3      1 PASS, 1 SKIP, 1 CRASH  2 PASS, 1 SKIP  3",
        "=====  =====  =======================  ==============  ======",
    ]


@pytest.mark.parametrize("route", ROUTE_NAMES)
def test_no_test_is_exempt_twice_on_a_route(route: str) -> None:
    tests = [
        test for exemption in EXEMPTIONS if route in exemption.routes for test in exemption.tests
    ]
    assert len(tests) == len(set(tests))
    assert Outcome.PASS not in expected(route).values()
