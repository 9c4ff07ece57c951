# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements are found and changed, and all others are left as they are."""

from __future__ import annotations

from itertools import chain

import pytest
from pydantic import ValidationError

from bridges.config_edit_tree import (
    RUN_TIME,
    EditError,
    MapPlace,
    Statements,
    TargetPlace,
    at,
    build,
    change,
    group_path,
    insert,
    is_written,
    sections,
    substitute,
    target_path,
    unknown,
    with_attribute,
    without,
)
from bridges.config_one_disk import COMMAND_LINE
from bridges.scst_conf import Location, Statement, parse
from tests.bridges.edit_example import tree

BLOCK = parse("a 1\nb 2\na 3\nc 4\n", "f")


def text_of(block: Statements) -> list[str]:
    """The words of a block of plain lines."""
    return [" ".join(word.text for word in item.words) for item in block]


def names_of(path: Statements) -> list[str]:
    """The names of the sections of a path."""
    return [section.words[1].text for section in path]


def all_of(statements: Statements) -> list[Statement]:
    """Statements with those in their blocks."""
    return [*statements, *chain.from_iterable(all_of(item.block or ()) for item in statements)]


def test_a_name_that_one_driver_has_needs_no_driver() -> None:
    assert names_of(target_path(tree(), TargetPlace(target="disk0"))) == ["nbd", "disk0"]


def test_a_name_that_drivers_share_needs_one() -> None:
    place = TargetPlace(target="twin", driver="scst_local")
    assert names_of(target_path(tree(), place)) == ["scst_local", "twin"]
    with pytest.raises(EditError) as caught:
        target_path(tree(), TargetPlace(target="twin"))
    assert str(caught.value) == (
        "target twin: drivers nbd and scst_local each have one: expected a driver as well"
    )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (TargetPlace(target="x"), "unknown target 'x': expected disk0, e1.1, last, twin"),
        (TargetPlace(target="x", driver="aoe"), "unknown target 'x': expected e1.1"),
        (
            TargetPlace(target="disk0", driver="x"),
            "unknown driver 'x': expected aoe, nbd, scst_local",
        ),
    ],
)
def test_what_is_unknown_is_told_with_what_was_expected(place: TargetPlace, message: str) -> None:
    with pytest.raises(EditError) as caught:
        target_path(tree(), place)
    assert str(caught.value) == message


def test_where_nothing_is_known_it_is_told_what_is_missing() -> None:
    with pytest.raises(EditError, match="unknown target 'x': expected a target to be added first"):
        target_path((), TargetPlace(target="x"))
    assert str(unknown("thing", "x", (), "another")) == "unknown thing 'x': expected another"


def test_groups_are_found_in_their_target() -> None:
    place = MapPlace(target="disk0", group="web")
    assert names_of(group_path(tree(), place, place.group)) == ["nbd", "disk0", "web"]
    assert names_of(group_path(tree(), place, None)) == ["nbd", "disk0"]
    with pytest.raises(EditError, match="unknown group 'x': expected db, web"):
        group_path(tree(), place, "x")
    with pytest.raises(EditError, match="unknown group 'x': expected a group of target last"):
        group_path(tree(), TargetPlace(target="last"), "x")


def test_a_change_leaves_everything_else_the_same_statements() -> None:
    before = tree()
    path = group_path(before, TargetPlace(target="disk0"), "web")
    after = change(before, path, lambda block: (*block, build.line("INITIATOR", "x")))
    known = {id(item) for item in all_of(before)}
    new = [item for item in all_of(after) if id(item) not in known]
    assert [item.words[1].text for item in new] == ["nbd", "disk0", "web", "x"]
    assert [item.location.path for item in new] == ["scst.conf"] * 3 + [RUN_TIME]
    assert [item.location for item in new[:3]] == [item.location for item in path]


def test_a_change_without_a_path_is_one_of_the_whole() -> None:
    assert change(BLOCK, (), lambda block: block[1:]) == BLOCK[1:]


def test_a_statement_gives_its_place_to_others() -> None:
    new = build.line("x"), build.line("y")
    assert text_of(substitute(BLOCK, BLOCK[2], *new)) == ["a 1", "b 2", "x", "y", "c 4"]
    assert text_of(substitute(BLOCK, BLOCK[0])) == ["b 2", "a 3", "c 4"]


def test_of_equal_statements_the_one_that_is_meant_is_replaced() -> None:
    block = parse("a\nb\na\n", "f")
    assert text_of(substitute(block, block[2])) == ["a", "b"]


def test_a_new_statement_stands_behind_those_like_it() -> None:
    assert text_of(insert(BLOCK, build.line("a", "9"))) == ["a 1", "b 2", "a 3", "a 9", "c 4"]
    assert text_of(insert(BLOCK, build.line("d", "9")))[-1] == "d 9"


def test_all_statements_of_a_keyword_can_be_left_out() -> None:
    assert text_of(without(BLOCK, "a")) == ["b 2", "c 4"]


def test_an_attribute_keeps_its_place() -> None:
    assert text_of(with_attribute(BLOCK, "b", "7")) == ["a 1", "b 7", "a 3", "c 4"]
    assert text_of(with_attribute(BLOCK, "d", "7"))[-1] == "d 7"


def test_an_attribute_that_has_the_value_stays_where_it_was_written() -> None:
    assert with_attribute(BLOCK, "b", "2") is BLOCK


def test_sections_are_told_by_name() -> None:
    assert list(sections(BLOCK, "a")) == ["1", "3"]


def test_a_line_is_told_where_there_is_one() -> None:
    assert at(Location("scst.conf", 7)) == ", at line 7"
    for path in (RUN_TIME, COMMAND_LINE):
        assert not is_written(path)
        assert at(Location(path, 1)) == ""


@pytest.mark.parametrize("word", ["a\nb", "\0", "\udc80", "\u2028"])
def test_what_no_file_can_hold_is_no_argument(word: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        TargetPlace(target=word)
