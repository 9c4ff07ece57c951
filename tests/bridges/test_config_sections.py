# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections and attribute lines, against a model of the test's own."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from bridges.config_sections import (
    check_name,
    check_section,
    read_attributes,
    read_lines,
    unexpected_word,
)
from bridges.scst_conf import ConfigError, Statement, parse
from scsi_backend.handlers.attributes import Flag, Number


class Box(BaseModel):
    """What a BOX has."""

    size: Number
    open: Flag = False
    label: tuple[str, ...] = ()


def box(lines: str, head: str = "BOX b {") -> Statement:
    """A section of these lines."""
    (statement,) = parse(f"{head}\n{lines}\n}}\n", "f")
    return statement


def test_attributes_are_read_with_their_defaults_and_lists() -> None:
    found = read_attributes(Box, box("size 0x10\nlabel a\nlabel b"), "box b")
    assert found == Box(size=16, open=False, label=("a", "b"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("open 1", "f:1: box b: size is required"),
        ("size 1\nsize 2", "f:3: box b: size is given already, at line 2"),
        ("label a\nsize 1\nlabel a", "f:4: box b: label a is given already, at line 2"),
        ("size 1\nopen 2", "f:3: box b: open '2': expected 0 or 1"),
        ("size", "f:2: size: expected one value"),
        ("size 1 {\n}", "f:2: size: expected a value, not a block"),
        ("lid 1", "f:2: unknown word 'lid': expected one of THING, label, open, size"),
    ],
)
def test_what_is_wrong_is_told_at_its_line(lines: str, message: str) -> None:
    section = box(lines)
    with pytest.raises(ConfigError) as caught:
        read_lines(Box, section.block or (), section.location, "box b", ("THING",))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("CAN b {", "f:1: unknown word 'CAN': expected one of BAG, BOX"),
        ("BOX {", "f:1: BOX: expected one name after the keyword"),
        ("BOX a b {", "f:1: BOX: expected one name after the keyword"),
    ],
)
def test_a_section_has_its_keyword_and_one_name(head: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_section(box("", head), {"BOX", "BAG"}, 2)
    assert str(caught.value) == message


def test_a_section_has_a_block() -> None:
    (line,) = parse("BOX b\n", "f")
    with pytest.raises(ConfigError, match="BOX b: expected a block"):
        check_section(line, {"BOX"}, 2)
    section = box("")
    assert check_section(section, {"BOX"}, 2) is section


def test_names_have_1_to_63_characters() -> None:
    assert check_name(box("", f"BOX {'n' * 63} {{").words[1]) == "n" * 63
    for name in ('""', "n" * 64):
        with pytest.raises(ConfigError, match="expected 1 to 63 characters"):
            check_name(box("", f"BOX {name} {{").words[1])


def test_an_unexpected_word_is_told_with_what_was_expected() -> None:
    error = unexpected_word(box("").words[1], ("z", "a"))
    assert str(error) == "f:1: unknown word 'b': expected one of a, z"
