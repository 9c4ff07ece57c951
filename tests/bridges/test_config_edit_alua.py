# SPDX-License-Identifier: GPL-2.0-or-later
"""Target groups get other states."""

from __future__ import annotations

import pytest

from bridges.config_edit_alua import (
    TargetGroupPreferred,
    TargetGroupState,
    set_target_group_preferred,
    set_target_group_state,
)
from bridges.config_edit_tree import EditError
from tests.bridges.edit_example import changes, tree


def state(word: str, target_group: str = "here", device_group: str = "g") -> TargetGroupState:
    """A new state."""
    return TargetGroupState(device_group=device_group, target_group=target_group, state=word)


def test_a_state_is_set_in_its_place() -> None:
    after = set_target_group_state(tree(), state("standby"))
    assert changes(after) == ["- state nonoptimized", "+ state standby"]
    assert changes(set_target_group_state(tree(), state("offline", "there"))) == ["+ state offline"]


def test_a_group_is_preferred_or_not() -> None:
    wish = TargetGroupPreferred(device_group="g", target_group="here", preferred=True)
    after = set_target_group_preferred(tree(), wish)
    assert changes(after) == ["+ preferred 1"]
    no = TargetGroupPreferred(device_group="g", target_group="here", preferred=False)
    assert changes(set_target_group_preferred(after, no)) == ["+ preferred 0"]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            state("up"),
            "unknown state 'up': expected active, nonoptimized, offline, standby, transitioning,"
            " unavailable",
        ),
        (state("active", "x"), "unknown target group 'x': expected here, there"),
        (state("active", "here", "x"), "unknown device group 'x': expected g"),
    ],
)
def test_what_is_unknown_is_told_with_what_was_expected(
    wish: TargetGroupState, message: str
) -> None:
    with pytest.raises(EditError) as caught:
        set_target_group_state(tree(), wish)
    assert str(caught.value) == message


def test_without_device_groups_there_is_nothing_to_set() -> None:
    with pytest.raises(EditError, match="unknown device group 'g': expected a DEVICE_GROUP"):
        set_target_group_state((), state("active"))
