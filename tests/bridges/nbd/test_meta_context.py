# SPDX-License-Identifier: GPL-2.0-or-later
"""Which queries find and select which metadata contexts."""

from __future__ import annotations

import pytest

from bridges.nbd import meta_context
from bridges.nbd.meta_context import Contexts, Selection
from bridges.nbd.options import OptionError
from bridges.nbd.wire import OptionReply

LISTED = ((0, "base:allocation"),)
SELECTED = ((1, "base:allocation"),)


@pytest.mark.parametrize(
    ("queries", "found", "selected"),
    [
        ([], LISTED, ()),
        (["base:"], LISTED, ()),
        (["base:allocation"], LISTED, SELECTED),
        (["base:allocation", "base:allocation"], LISTED, SELECTED),
        (["x:", "base:", "base:y", "base:allocation"], LISTED, SELECTED),
        (["base:y"], (), ()),
        (["x:allocation", ":", "base::", "Base:"], (), ()),
    ],
)
def test_queries(queries: list[str], found: Contexts, selected: Contexts) -> None:
    assert meta_context.find(queries) == found
    assert meta_context.select(queries) == selected


@pytest.mark.parametrize("query", ["", "base", "allocation"])
def test_a_query_without_a_namespace_is_invalid(query: str) -> None:
    for answer in (meta_context.find, meta_context.select):
        with pytest.raises(OptionError, match="colon") as caught:
            answer(["base:allocation", query])
        assert caught.value.reply is OptionReply.ERR_INVALID


def test_a_selection_counts_for_its_export_only() -> None:
    selection = Selection("disk", SELECTED)
    assert selection.for_export("disk") == SELECTED
    assert selection.for_export("disk/1") == ()
    assert meta_context.NOTHING.for_export("disk") == ()
