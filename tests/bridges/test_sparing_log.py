# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client can cause at will is logged once a second, and nothing is forgotten."""

from __future__ import annotations

from bridges.sparing_log import SparingLog


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_the_first_is_logged_and_the_next_second_counts_the_others() -> None:
    clock, said = Clock(), list[str]()
    log = SparingLog(clock, said.append)
    for number in range(5):
        log.log(f"message {number}")
    assert said == ["message 0"]
    clock.now_s += 1.0
    log.log("later")
    clock.now_s += 1.0
    log.log("last")
    assert said == ["message 0", "later (and 4 others before)", "last"]


def test_two_kinds_do_not_silence_each_other() -> None:
    clock, said = Clock(), list[str]()
    SparingLog(clock, said.append).log("one")
    SparingLog(clock, said.append).log("two")
    assert said == ["one", "two"]
