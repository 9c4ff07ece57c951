# SPDX-License-Identifier: GPL-2.0-or-later
"""A fence waits for what began before it, and for nothing else."""

from __future__ import annotations

import pytest

from bridges.aoe.fence import MAX_FENCES, Commands, Fences, Outstanding


class _Scene:
    """Fences that are noted when they have nothing to wait for any more."""

    def __init__(self) -> None:
        self.commands: tuple[Commands, ...] = ()
        self.fences = Fences(lambda: self.commands)
        self.passed: list[str] = []

    def put_up(self, name: str, *commands: Commands) -> None:
        self.commands = commands
        self.fences.wait(lambda: self.passed.append(name))


def test_a_fence_with_nothing_to_wait_for_is_passed_at_once() -> None:
    scene = _Scene()
    scene.put_up("nobody")
    scene.put_up("idle", *Outstanding().so_far())
    assert scene.passed == ["nobody", "idle"]


def test_a_fence_waits_for_all_commands_of_all_hosts_that_are_meant() -> None:
    scene, one, other = _Scene(), Outstanding(), Outstanding()
    first, second, third = one.begin(3), one.begin(), other.begin()
    scene.put_up("fence", *one.so_far(), *other.so_far())
    for commands, count in ((second, 1), (first, 2), (third, 1)):
        commands.end(count)
        assert scene.passed == []
    first.end()
    assert scene.passed == ["fence"]
    one.begin().end()
    assert scene.passed == ["fence"]


def test_what_begins_after_a_fence_does_not_hold_it_up() -> None:
    scene, host = _Scene(), Outstanding()
    before = host.begin()
    scene.put_up("first", *host.so_far())
    after = host.begin()
    scene.put_up("second", *host.so_far())
    before.end()
    assert scene.passed == ["first"]
    after.end()
    assert scene.passed == ["first", "second"]


def test_a_later_fence_waits_for_what_an_earlier_one_still_waits_for() -> None:
    scene, host = _Scene(), Outstanding()
    before = host.begin()
    scene.put_up("first", *host.so_far())
    after = host.begin()
    scene.put_up("second", *host.so_far())
    scene.put_up("third", *host.so_far())
    after.end()
    assert scene.passed == []
    before.end()
    assert scene.passed == ["first", "second", "third"]


def test_harmless_commands_hold_up_no_fence_but_are_under_way() -> None:
    scene, host = _Scene(), Outstanding()
    identify = host.begin(is_harmless=True)
    scene.put_up("fence", *host.so_far())
    assert scene.passed == ["fence"]
    assert host.is_any
    identify.end()
    assert not host.is_any


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_commands_are_under_way_until_they_end_on_whichever_side_of_a_fence(
    order: tuple[int, int],
) -> None:
    host = Outstanding()
    assert not host.is_any
    commands = [host.begin()]
    host.so_far()
    commands.append(host.begin())
    for index in order:
        assert host.is_any
        commands[index].end()
    assert not host.is_any


def test_only_so_many_fences_wait() -> None:
    scene, host = _Scene(), Outstanding()
    write = host.begin()
    for number in range(MAX_FENCES):
        assert not scene.fences.is_full
        scene.put_up(str(number), *host.so_far())
    assert scene.fences.is_full
    write.end()
    assert scene.passed == [str(number) for number in range(MAX_FENCES)]
    assert not scene.fences.is_full


def test_a_fence_may_be_put_up_when_another_is_passed() -> None:
    scene, host = _Scene(), Outstanding()
    write = host.begin()
    scene.commands = host.so_far()
    scene.fences.wait(lambda: scene.put_up("next", *host.so_far()))
    write.end()
    assert scene.passed == ["next"]


def test_everything_includes_what_no_fence_waits_for() -> None:
    outstanding = Outstanding()
    commands = outstanding.begin()
    harmless = outstanding.begin(is_harmless=True)
    assert [each for each in outstanding.all() if each.count] == [commands, harmless]
