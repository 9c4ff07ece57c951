# SPDX-License-Identifier: GPL-2.0-or-later
"""Which metadata contexts a query finds (proto.md, "Metadata querying").

There is one, ``base:allocation``; every export has it. What it tells of blocks is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bridges.nbd.options import OptionError
from bridges.nbd.wire import BASE_ALLOCATION, OptionReply

Contexts = tuple[tuple[int, str], ...]

# An id is only for the requests of one connection, so that it may as well be constant.
_ALLOCATION_ID = 1
# LIST_META_CONTEXT: "The metadata context ID in these replies is reserved and SHOULD be set to
# zero".
_LISTED: Contexts = ((0, BASE_ALLOCATION),)
_SELECTED: Contexts = ((_ALLOCATION_ID, BASE_ALLOCATION),)
# "MUST support this as a wildcard during NBD_OPT_LIST_META_CONTEXT", "MUST ignore this form during
# NBD_OPT_SET_META_CONTEXT".
_BASE_WILDCARD = "base:"


@dataclass(frozen=True, slots=True)
class Selection:
    """What the last SET_META_CONTEXT selected, and for which export (its canonical name)."""

    export_name: str
    contexts: Contexts

    def for_export(self, name: str) -> Contexts:
        """The contexts in force for an export; a selection for another one does not count."""
        return self.contexts if name == self.export_name else ()


NOTHING = Selection("", ())


def find(queries: Iterable[str]) -> Contexts:
    """The contexts that match a LIST_META_CONTEXT; all for no query. Raises OptionError."""
    queries = _checked(queries)
    if not queries or not queries.isdisjoint((_BASE_WILDCARD, BASE_ALLOCATION)):
        return _LISTED
    return ()


def select(queries: Iterable[str]) -> Contexts:
    """The contexts that a SET_META_CONTEXT selects; none for no query. Raises OptionError."""
    return _SELECTED if BASE_ALLOCATION in _checked(queries) else ()


def _checked(queries: Iterable[str]) -> frozenset[str]:
    """Unknown namespaces and leaves "MUST be ignored"; a query without a namespace is none."""
    queries = frozenset(queries)
    for query in queries:
        if ":" not in query:
            text = "query without a colon: expected NAMESPACE:LEAF, as in base:allocation"
            raise OptionError(OptionReply.ERR_INVALID, text)
    return queries
