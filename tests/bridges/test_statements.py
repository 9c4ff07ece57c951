# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements that are built are those that would have been read."""

from __future__ import annotations

from bridges.scst_conf import Location, parse
from bridges.statements import Builder

HERE = Location("here", 7)
TEXT = """\
TARGET_DRIVER nbd {
    listen "unix:/a b"
    TARGET "my disk" {
        LUN 0 d
        enabled 1
    }
}
"""


def test_a_driver_is_built_as_it_would_be_written() -> None:
    build = Builder(HERE)
    built = build.driver("nbd", "my disk", "d", build.line("listen", "unix:/a b"))
    assert (built,) == parse(TEXT, "there")


def test_everything_built_stands_at_the_builders_place() -> None:
    built = Builder(HERE).section(("A", "b"), Builder(HERE).line("c", "1"))
    assert built.location == HERE
    assert [word.location for word in built.words] == [HERE, HERE]
    assert built.block is not None
    assert [each.location for each in built.block] == [HERE]


def test_a_section_without_statements_has_an_empty_block() -> None:
    assert (Builder(HERE).section(("A", "b")),) == parse("A b {\n}\n", "there")
