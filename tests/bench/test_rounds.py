# SPDX-License-Identifier: GPL-2.0-or-later
"""rounds.py: servers take turns within a cell, and failures end only what they must."""

from __future__ import annotations

from tests.bench.cells import CELLS, Cell
from tests.bench.client import LoadError
from tests.bench.processes import ServerError
from tests.bench.results import Failure, Sample
from tests.bench.rounds import Measured, run_rounds
from tests.bench.samples import measurement

READ, WRITE = CELLS[0], CELLS[2]
TLS = next(cell for cell in CELLS if cell.is_tls)


def always(index: int, server: str, cell: Cell) -> Measured:
    return measurement(1000.0), 7.0


def order(outcomes: list[Sample | Failure]) -> list[tuple[str, str | None]]:
    return [(outcome.server, outcome.cell) for outcome in outcomes]


def test_servers_take_turns_within_each_cell() -> None:
    outcomes = list(run_rounds([(READ, "ab"), (WRITE, "ab")], 1, always))
    assert order(outcomes) == [
        ("a", READ.name),
        ("b", READ.name),
        ("a", WRITE.name),
        ("b", WRITE.name),
    ]


def test_each_round_starts_with_another_server() -> None:
    outcomes = run_rounds([(READ, "abc")], 4, always)
    assert [outcome.server for outcome in outcomes] == [*"abc", *"bca", *"cab", *"abc"]


def test_sample_carries_what_was_measured() -> None:
    outcomes = list(run_rounds([(READ, "a")], 2, always))
    assert outcomes[1] == Sample("a", READ.name, 1, measurement(1000.0), 7.0)


def test_failed_cell_is_reported_once_and_other_cells_go_on() -> None:
    def measure(index: int, server: str, cell: Cell) -> Measured:
        if (server, cell) == ("a", READ):
            raise LoadError("EIO")
        return always(index, server, cell)

    outcomes = list(run_rounds([(READ, "ab"), (WRITE, "ab")], 2, measure))
    assert [one for one in outcomes if isinstance(one, Failure)] == [Failure("a", READ.name, "EIO")]
    assert order(outcomes).count(("a", WRITE.name)) == 2
    assert order(outcomes).count(("b", READ.name)) == 2


def test_server_that_ended_is_reported_once_and_never_asked_again() -> None:
    asked: list[str] = []

    def measure(index: int, server: str, cell: Cell) -> Measured:
        asked.append(server)
        if server == "a":
            raise ServerError("gone")
        return always(index, server, cell)

    outcomes = list(run_rounds([(READ, "ab"), (WRITE, "ab")], 2, measure))
    assert [one for one in outcomes if isinstance(one, Failure)] == [Failure("a", None, "gone")]
    assert asked.count("a") == 1
    assert asked.count("b") == 4


def test_no_server_means_no_outcome() -> None:
    assert list(run_rounds([(READ, "")], 3, always)) == []


def test_each_cell_has_its_own_servers() -> None:
    outcomes = list(run_rounds([(READ, "ab"), (WRITE, "b")], 2, always))
    assert [one.server for one in outcomes if one.cell == READ.name] == [*"abba"]
    assert [one.server for one in outcomes if one.cell == WRITE.name] == [*"bb"]


def test_server_that_ended_with_tls_goes_on_without() -> None:
    def measure(index: int, server: str, cell: Cell) -> Measured:
        if cell.is_tls:
            raise ServerError("gone")
        return always(index, server, cell)

    outcomes = list(run_rounds([(TLS, "a"), (READ, "a")], 2, measure))
    assert outcomes[0] == Failure("a", None, "gone", is_tls=True)
    assert order(outcomes[1:]) == [("a", READ.name), ("a", READ.name)]
