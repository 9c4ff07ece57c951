# SPDX-License-Identifier: GPL-2.0-or-later
"""cpus.py: two CPUs where there are two, and everything as it was in the end."""

from __future__ import annotations

import os

import pytest

from tests.bench.aoe.cpus import AUTOGROUP, Cpus, parse_autogroup


def test_server_and_generator_have_different_cpus_where_there_are_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3, 9})
    assert Cpus.available() == Cpus(server=3, generator=5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4})
    assert Cpus.available() == Cpus(server=4, generator=4)


def state() -> tuple[set[int], int, str]:
    """Where this process runs, and how nice it and its session are."""
    group = AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
    return os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0), group


def test_generator_is_pinned_while_it_runs_and_not_afterwards() -> None:
    before = state()
    cpus = Cpus.available()
    with cpus.taken():
        assert os.sched_getaffinity(0) == {cpus.generator}
        assert os.getpriority(os.PRIO_PROCESS, 0) <= before[1]
    assert state() == before


def test_niceness_of_a_session_is_read() -> None:
    assert parse_autogroup("/autogroup-25 nice -7\n") == -7
    with pytest.raises(ValueError, match="invalid literal"):
        parse_autogroup("")
