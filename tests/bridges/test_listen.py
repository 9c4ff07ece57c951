# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests for the terms of a listener."""

from __future__ import annotations

import pytest

from bridges.listen import Listen, TlsMode
from bridges.listeners import Address


def test_a_listener_has_no_tls_unless_told() -> None:
    assert Listen(Address(host="127.0.0.1")).tls is TlsMode.OFF


@pytest.mark.parametrize("word", ["off", "on", "require"])
def test_modes_are_written_as_words(word: str) -> None:
    assert TlsMode(word).value == word


def test_another_word_is_no_mode() -> None:
    with pytest.raises(ValueError, match="maybe"):
        TlsMode("maybe")
