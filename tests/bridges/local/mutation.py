# SPDX-License-Identifier: GPL-2.0-or-later
"""Spoilt records: bytes changed, cut off, or missing."""

from __future__ import annotations

import random
from collections.abc import Callable

from bridges.local.wire import FrameError

_TRIES = 5000


def assert_taken_or_refused(parse: Callable[[bytes], object], template: bytes) -> None:
    """Each of many spoilt copies of a record is parsed or is a FrameError; both happen."""
    source = random.Random(1)
    refused = 0
    for _ in range(_TRIES):
        data = bytearray(template)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            parse(bytes(data[: source.randint(1, 2 * len(data))]))
        except FrameError:
            refused += 1
    assert 0 < refused < _TRIES
