# SPDX-License-Identifier: GPL-2.0-or-later
"""libiscsi's test suite for SCSI devices on disks of the daemon, over two routes, and sg3_utils.

What happens is in `guest/conformance.sh`, one boot for all tests. The routes are the kernel's
generic nodes, two for one disk, and the kernel's iSCSI target in front of another disk.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.kernel.conformance import Outcome, Result, parse, passed, table
from tests.kernel.conformance_expected import (
    ISCSI,
    ROUTES,
    expected,
    is_whole_suite,
    only_over,
    reasons,
)
from tests.kernel.sg3_utils_expected import SAYS
from tests.kernel.steps import Steps

# The first test waits for the boot and the suite, and for the kernel package on a new machine.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

# Debian's iscsi-test-cu has so many in the family SCSI, and the best peer passes 164 of them.
TESTS = 215
PASSED_AT_LEAST = 170
BROKEN = {Outcome.FAIL, Outcome.CRASH, Outcome.ERROR, Outcome.TIMEOUT}


@pytest.fixture(scope="module")
def routes(conformance: Steps) -> dict[str, list[Result]]:
    """The results of each route."""
    assert conformance.facts("suite") == ["routes ended"]
    files = conformance.files / "results"
    return {
        route: parse((files / name).read_text(errors="replace")) for route, name in ROUTES.items()
    }


def describe(results: Iterable[Result]) -> str:
    """Return what the tool printed of these tests."""
    return "\n".join(f"{each.name}: {each.outcome}\n{each.output}" for each in results)


@pytest.mark.parametrize("route", ROUTES)
def test_every_test_ran_and_none_failed(routes: dict[str, list[Result]], route: str) -> None:
    assert len({result.name for result in routes[route]}) == TESTS
    broken = [result for result in routes[route] if result.outcome in BROKEN]
    assert not broken, describe(broken)


@pytest.mark.parametrize("route", ROUTES)
def test_those_that_do_not_pass_are_known(routes: dict[str, list[Result]], route: str) -> None:
    results = routes[route]
    if route == ISCSI and not is_whole_suite():
        results = [result for result in results if result.name in only_over(ISCSI)]
    others = {result.name: result for result in results if result.outcome is not Outcome.PASS}
    found = {name: result.outcome for name, result in others.items()}
    names = {result.name for result in results}
    known = {name: outcome for name, outcome in expected(route).items() if name in names}
    assert found == known, describe(
        result for name, result in others.items() if known.get(name) != result.outcome
    )


def test_enough_pass_by_either_route(routes: dict[str, list[Result]]) -> None:
    # What `make conformance` shows.
    print(table(routes), reasons(), sep="\n\n")
    assert len(passed(routes)) >= PASSED_AT_LEAST


@pytest.mark.parametrize("step", SAYS)
def test_sg3_utils_say_what_is_expected(conformance: Steps, step: str) -> None:
    output = conformance.output(step)
    lines = [" ".join(line.removeprefix(">> ").split()) for line in output]
    missing = missing_lines(SAYS[step].splitlines(), lines)
    assert not missing, "\n".join([*missing, "", *output])


def missing_lines(expected: list[str], lines: list[str]) -> list[str]:
    """Return those of the expected lines that do not follow the ones before them."""
    rest = iter(lines)
    return [line for line in expected if line not in rest]


def test_daemon_ends_with_status_0_after_its_kernel_clients(conformance: Steps) -> None:
    assert conformance.facts("daemon_stop") == ["daemon ended"]
