# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets are added and removed, and their attributes change."""

from __future__ import annotations

import pytest

from bridges.config import interpret
from bridges.config_edit_targets import (
    AddTarget,
    TargetAttribute,
    add_target,
    add_target_attribute,
    disable_target,
    enable_target,
    rem_target,
    rem_target_attribute,
    set_target_attribute,
)
from bridges.config_edit_tree import EditError, Statements, TargetPlace
from bridges.scst_conf import ConfigError, parse
from tests.bridges.edit_example import LINES, TEXT, changes, tree

DISK0 = TargetPlace(target="disk0")
# Nobody gave numbers 1 to 4.
PORTS = {
    ("nbd", "disk0"): 1,
    ("nbd", "twin"): 2,
    ("aoe", "e1.1"): 3,
    ("scst_local", "twin"): 9,
    ("scst_local", "last"): 4,
}


def ports(after: Statements) -> dict[tuple[str, str], int]:
    """The relative target port identifiers of all targets."""
    return dict(interpret(after).relative_target_ports())


def attribute(name: str, value: str, target: str = "e1.1") -> TargetAttribute:
    """An attribute of a target."""
    return TargetAttribute(target=target, attribute=name, value=value)


def test_a_target_is_added_behind_those_of_its_driver() -> None:
    after = add_target(tree(), AddTarget(target="new", driver="scst_local"))
    assert changes(after) == ["+ TARGET new {"]


def test_an_aoe_target_is_added_before_it_has_a_lun() -> None:
    after = add_target(tree(), AddTarget(target="e1.2", driver="aoe"))
    assert "+ TARGET e1.2 {" in changes(after)


def test_a_new_target_leaves_all_ports_their_numbers() -> None:
    after = add_target(tree(), AddTarget(target="new", driver="nbd"))
    # Remote port 5 is in a target group.
    assert changes(after) == ["+ TARGET new {", "+ rel_tgt_id 6"]
    assert ports(after) == {**PORTS, ("nbd", "new"): 6}


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            AddTarget(target="disk0", driver="nbd"),
            f"target disk0 exists already, at line {LINES['TARGET disk0 {']}",
        ),
        (
            AddTarget(target="new", driver="iscsi"),
            "unknown driver 'iscsi': expected aoe, nbd, scst_local",
        ),
    ],
)
def test_a_target_that_cannot_be_is_not_added(wish: AddTarget, message: str) -> None:
    with pytest.raises(EditError) as caught:
        add_target(tree(), wish)
    assert str(caught.value) == message


def test_a_target_is_removed_enabled_or_not() -> None:
    assert interpret(rem_target(tree(), DISK0)).drivers["nbd"].targets[0].name == "twin"
    place = TargetPlace(target="last")
    assert changes(rem_target(tree(), place)) == ["- TARGET last {"]


def test_a_target_that_goes_leaves_all_other_ports_their_numbers() -> None:
    after = rem_target(tree(), TargetPlace(target="twin", driver="nbd"))
    rest = {port: number for port, number in PORTS.items() if port != ("nbd", "twin")}
    assert ports(after) == rest
    assert [line for line in changes(after) if line[0] == "+"] == [
        "+ rel_tgt_id 3",
        "+ rel_tgt_id 4",
    ]


def test_a_target_of_a_target_group_is_not_removed() -> None:
    with pytest.raises(EditError) as caught:
        rem_target(tree(), TargetPlace(target="e1.1"))
    assert str(caught.value) == (
        "target e1.1: target group here of device group g has it,"
        f" at line {LINES['TARGET e1.1']}: expected that removed first"
    )


def test_a_target_is_enabled_and_disabled() -> None:
    disabled = disable_target(tree(), DISK0)
    assert changes(disabled) == ["- enabled 1", "+ enabled 0"]
    assert enable_target(disabled, DISK0) == tree()
    assert changes(enable_target(tree(), TargetPlace(target="e1.1"))) == ["+ enabled 1"]


def test_what_is_so_already_is_no_change() -> None:
    assert enable_target(tree(), DISK0) == tree()
    assert changes(disable_target(tree(), TargetPlace(target="last"))) == ["+ enabled 0"]


def test_an_attribute_is_set() -> None:
    after = set_target_attribute(tree(), attribute("durable", "0"))
    assert changes(after) == ["+ durable 0"]
    again = set_target_attribute(after, attribute("durable", "1"))
    assert changes(again, after) == ["- durable 0", "+ durable 1"]


def test_a_port_that_gets_a_number_leaves_all_others_theirs() -> None:
    after = set_target_attribute(tree(), attribute("rel_tgt_id", "77", "disk0"))
    assert ports(after) == {**PORTS, ("nbd", "disk0"): 77}


def test_a_port_does_not_get_the_number_of_another() -> None:
    with pytest.raises(ConfigError, match="rel_tgt_id 1 is that of target disk0"):
        interpret(set_target_attribute(tree(), attribute("rel_tgt_id", "1", "last")))


def test_values_are_added_to_an_attribute_and_removed() -> None:
    after = add_target_attribute(tree(), attribute("allow", "02:00:00:00:00:03"))
    assert changes(after) == ["+ allow 02:00:00:00:00:03"]
    after = rem_target_attribute(tree(), attribute("allow", "02:00:00:00:00:01"))
    assert changes(after) == ["- allow 02:00:00:00:00:01"]


KNOWN = "expected enabled, rel_tgt_id"


@pytest.mark.parametrize("edit", [set_target_attribute, add_target_attribute, rem_target_attribute])
def test_an_unknown_attribute_is_refused(edit: type) -> None:
    for name in ("durable", "LUN", "GROUP", ""):
        with pytest.raises(EditError) as caught:
            edit(tree(), attribute(name, "1", "disk0"))
        assert str(caught.value) == f"unknown attribute '{name}': {KNOWN}"


def test_attributes_of_one_and_of_several_values_have_their_own_verbs() -> None:
    with pytest.raises(EditError, match=r"add-target-attribute or rem-target-attribute$"):
        set_target_attribute(tree(), attribute("allow", "02:00:00:00:00:03"))
    for edit in (add_target_attribute, rem_target_attribute):
        with pytest.raises(EditError, match=r"has one value: expected set-target-attribute$"):
            edit(tree(), attribute("durable", "0"))


def test_a_value_is_added_once_and_removed_once() -> None:
    first = "02:00:00:00:00:01"
    with pytest.raises(EditError, match=f"^allow {first} is given already, at line "):
        add_target_attribute(tree(), attribute("allow", first))
    with pytest.raises(EditError) as caught:
        rem_target_attribute(tree(), attribute("allow", "x"))
    assert str(caught.value) == f"unknown value of allow 'x': expected {first}, {first[:-1]}2"


def test_the_numbers_of_ports_are_found_without_groups_too() -> None:
    text = TEXT.partition("DEVICE_GROUP")[0]
    after = add_target(parse(text, "f"), AddTarget(target="new", driver="nbd"))
    assert ports(after)["nbd", "new"] == 5
