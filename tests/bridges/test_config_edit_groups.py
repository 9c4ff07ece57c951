# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups and the initiators in them are added, removed and moved."""

from __future__ import annotations

import pytest

from bridges.config import interpret
from bridges.config_edit_groups import (
    InitiatorPlace,
    MoveInitiator,
    add_group,
    add_initiator,
    clear_initiators,
    move_initiator,
    rem_group,
    rem_initiator,
)
from bridges.config_edit_tree import EditError, GroupPlace, Statements
from tests.bridges.edit_example import LINES, changes, tree


def place(initiator: str, group: str = "db") -> InitiatorPlace:
    """A pattern in a group of disk0."""
    return InitiatorPlace(target="disk0", group=group, initiator=initiator)


def move(initiator: str, to: str, group: str = "db") -> MoveInitiator:
    """A pattern's way between groups of disk0."""
    return MoveInitiator(target="disk0", group=group, initiator=initiator, to=to)


def initiators(after: Statements) -> dict[str, tuple[str, ...]]:
    """The patterns of each group of disk0."""
    target = interpret(after).drivers["nbd"].targets[0]
    return {group.name: group.initiators for group in target.groups}


def test_a_group_is_added_as_the_last() -> None:
    after = add_group(tree(), GroupPlace(target="disk0", group="all"))
    assert changes(after) == ["+ GROUP all {"]
    assert list(initiators(after)) == ["db", "web", "all"]


def test_a_group_that_exists_is_not_added() -> None:
    with pytest.raises(EditError) as caught:
        add_group(tree(), GroupPlace(target="disk0", group="db"))
    assert str(caught.value) == f"group db exists already, at line {LINES['GROUP db {']}"


def test_a_group_is_removed_with_what_it_has() -> None:
    after = rem_group(tree(), GroupPlace(target="disk0", group="web"))
    assert changes(after) == ["- GROUP web {", "- INITIATOR 192.0.2.1"]


def test_an_initiator_is_added_as_the_last() -> None:
    after = add_initiator(tree(), place("tls:CN=a*"))
    assert initiators(after)["db"] == ("10.0.0.0/8", "host?-*", "tls:CN=a*")


def test_an_initiator_that_the_group_has_is_not_added() -> None:
    line = LINES["INITIATOR host?-*"]
    with pytest.raises(EditError) as caught:
        add_initiator(tree(), place("host?-*"))
    assert str(caught.value) == f"initiator host?-* is in group db already, at line {line}"


def test_an_initiator_is_removed() -> None:
    assert changes(rem_initiator(tree(), place("10.0.0.0/8"))) == ["- INITIATOR 10.0.0.0/8"]


def test_an_initiator_that_the_group_has_not_is_not_removed() -> None:
    with pytest.raises(EditError) as caught:
        rem_initiator(tree(), place("x"))
    assert str(caught.value) == ("unknown initiator of group db 'x': expected 10.0.0.0/8, host?-*")


def test_an_initiator_is_moved() -> None:
    after = move_initiator(tree(), move("10.0.0.0/8", "web"))
    assert initiators(after) == {"db": ("host?-*",), "web": ("192.0.2.1", "10.0.0.0/8")}


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (move("10.0.0.0/8", "x"), "unknown group 'x': expected db, web"),
        (move("10.0.0.0/8", "web", "x"), "unknown group 'x': expected db, web"),
        (
            move("10.0.0.0/8", "db"),
            "group db: expected another than the one to move from",
        ),
        (move("x", "web"), "unknown initiator of group db 'x': expected 10.0.0.0/8, host?-*"),
    ],
)
def test_a_move_that_cannot_be_is_refused(wish: MoveInitiator, message: str) -> None:
    with pytest.raises(EditError) as caught:
        move_initiator(tree(), wish)
    assert str(caught.value) == message


def test_an_initiator_is_not_moved_to_where_it_is_as_well() -> None:
    both = add_initiator(tree(), place("10.0.0.0/8", "web"))
    with pytest.raises(EditError, match=r"^initiator 10\.0\.0\.0/8 is in group web already$"):
        move_initiator(both, move("10.0.0.0/8", "web"))


def test_all_initiators_of_a_group_are_removed() -> None:
    after = clear_initiators(tree(), GroupPlace(target="disk0", group="db"))
    assert initiators(after) == {"db": (), "web": ("192.0.2.1",)}
