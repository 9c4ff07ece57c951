# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may look for its next request before the event loop sleeps."""

from __future__ import annotations

from bridges.spin import Spinner


def _woken(spinner: Spinner, who: object, times: int) -> list[bool]:
    return [spinner.woke(who) for _ in range(times)]


def test_a_stream_alone_may_look_after_eight_wake_ups() -> None:
    assert _woken(Spinner(), "one", 10) == [False] * 8 + [True] * 2


def test_two_streams_in_turn_never_look() -> None:
    spinner = Spinner()
    assert not any(spinner.woke(who) for who in ("one", "two") * 50)


def test_another_stream_ends_the_looking_of_the_first() -> None:
    spinner = Spinner()
    _woken(spinner, "one", 9)
    spinner.woke("two")
    assert _woken(spinner, "one", 8) == [False] * 8


def test_looking_in_vain_costs_the_right_for_eight_wake_ups() -> None:
    spinner = Spinner()
    _woken(spinner, "one", 9)
    spinner.missed()
    assert _woken(spinner, "one", 9) == [False] * 8 + [True]
