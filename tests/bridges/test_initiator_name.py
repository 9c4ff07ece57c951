# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of initiators: one printable word each, and never the same for different texts."""

from __future__ import annotations

import pytest

from bridges.initiator_name import MAX_NAME_BYTES, bounded, escape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("node-1.example", "node-1.example"),
        ("a b,c%d", "a%20b%2Cc%25d"),
        ("a%20b", "a%2520b"),
        ("tab\tbell\x07\x7f", "tab%09bell%07%7F"),
        ("zürich", "zürich"),
        ("\u200bno width", "%E2%80%8Bno%20width"),
        ("not UTF-8 \udcff", "not%20UTF-8%20%FF"),
    ],
)
def test_text_becomes_one_printable_word(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_longest_name_stays_as_it_is() -> None:
    name = "x" * MAX_NAME_BYTES
    assert bounded(name) == name


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f4be"])
def test_longer_names_are_cut_between_characters_and_still_told_apart(letter: str) -> None:
    names = {bounded(letter * 300 + end) for end in ("", "1", "2")}
    assert len(names) == 3
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in names)
    assert all(name.rpartition("~")[0].strip(letter) == "" for name in names)


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f4be", "x\U0001f4be", "xx\U0001f4be"])
def test_nobody_can_choose_the_name_that_another_s_is_cut_to(letter: str) -> None:
    cut = bounded(letter * 300)
    assert bounded(cut) != cut
    assert len(bounded(cut).encode()) <= MAX_NAME_BYTES
