# SPDX-License-Identifier: GPL-2.0-or-later
"""LUNs of targets and groups are mapped and unmapped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from bridges.config_edit_luns import (
    LunPlace,
    MapLun,
    add_lun,
    clear_luns,
    rem_lun,
    replace_lun,
)
from bridges.config_edit_tree import EditError, MapPlace, Statements
from tests.bridges.edit_example import LINES, changes, tree

Mapping = Callable[[Statements, MapLun], Statements]


@pytest.mark.parametrize("edit", [add_lun, replace_lun])
def test_a_lun_is_added_to_a_target(edit: Mapping) -> None:
    after = edit(tree(), MapLun(target="disk0", lun=3, device="spare"))
    assert changes(after) == ["+ LUN 3 spare"]


@pytest.mark.parametrize("edit", [add_lun, replace_lun])
def test_a_lun_is_added_to_a_group(edit: Mapping) -> None:
    wish = MapLun(target="disk0", group="web", lun=0, device="d", read_only=True)
    assert changes(edit(tree(), wish)) == ["+ LUN 0 d {", "+ read_only 1"]


def test_a_lun_that_is_mapped_is_not_added() -> None:
    for number, line in ((0, 15), (7, LINES["LUN 07 e {"])):
        with pytest.raises(EditError) as caught:
            add_lun(tree(), MapLun(target="disk0", lun=number, device="spare"))
        assert str(caught.value) == f"LUN {number} is mapped already, at line {line}"


def test_a_lun_is_replaced_in_its_place() -> None:
    after = replace_lun(tree(), MapLun(target="disk0", lun=7, device="spare"))
    assert changes(after) == ["- LUN 07 e {", "- read_only 1", "+ LUN 7 spare"]
    wish = MapLun(target="disk0", group="db", lun=0, device="e", read_only=True)
    assert changes(replace_lun(tree(), wish)) == [
        "- LUN 0 e",
        "+ LUN 0 e {",
        "+ read_only 1",
    ]


def test_a_lun_is_removed() -> None:
    after = rem_lun(tree(), LunPlace(target="disk0", lun=7))
    assert changes(after) == ["- LUN 07 e {", "- read_only 1"]
    after = rem_lun(tree(), LunPlace(target="disk0", group="db", lun=0))
    assert changes(after) == ["- LUN 0 e"]


def test_a_lun_that_is_not_mapped_is_not_removed() -> None:
    with pytest.raises(EditError, match=r"^unknown LUN '1': expected 0, 7$"):
        rem_lun(tree(), LunPlace(target="disk0", lun=1))
    with pytest.raises(EditError, match=r"^unknown LUN '0': expected one to be added first$"):
        rem_lun(tree(), LunPlace(target="disk0", group="web", lun=0))


def test_all_luns_of_a_target_are_removed_and_its_groups_keep_theirs() -> None:
    after = clear_luns(tree(), MapPlace(target="disk0"))
    assert changes(after) == ["- LUN 0 d", "- LUN 07 e {", "- read_only 1"]


def test_all_luns_of_a_group_are_removed() -> None:
    assert changes(clear_luns(tree(), MapPlace(target="disk0", group="db"))) == ["- LUN 0 e"]


def test_numbers_are_numbers() -> None:
    for number in (-1, "1", True, 1.0):
        with pytest.raises(ValidationError):
            LunPlace.model_validate({"target": "disk0", "lun": number})
