# SPDX-License-Identifier: GPL-2.0-or-later
"""libnbd as the client: what is agreed on before the first request; see ``libnbd_scenarios``."""

from __future__ import annotations

import sys
from typing import Any

import nbd

from tests.interop.libnbd_scenarios import BLOCK, SIZE, fails

ALLOCATION = nbd.CONTEXT_BASE_ALLOCATION
EXPORTS = [
    ("disk", "disk"),
    ("disk/7", "blocks4k"),
    ("frozen", "frozen"),
    ("sparse", "sparse"),
]


def options_of(uri: str) -> Any:
    """Return a handle that has still to choose an export."""
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_uri(uri)
    return handle


def with_name(h: Any, name: str) -> None:
    """GO."""
    h.set_export_name(name)
    h.opt_go()


def options_one_by_one(uri: str) -> None:
    h = options_of(uri)
    listed: list[tuple[str, str]] = []

    def note(name: str, description: str) -> int:
        listed.append((name, description))
        return 0

    assert h.opt_list(note) == len(EXPORTS)
    assert listed == EXPORTS
    h.set_export_name("none")
    fails("ENOENT", h.opt_info)
    h.set_full_info(True)
    for name, description in EXPORTS:
        h.set_export_name(name)
        h.opt_info()
        block = 4096 if name == "disk/7" else BLOCK
        assert (h.get_size(), h.get_block_size(nbd.SIZE_MINIMUM)) == (SIZE, block)
        assert h.get_canonical_export_name() == name
        assert h.get_export_description() == description
        assert h.is_read_only() == (name == "frozen")
    fails("ENOENT", with_name, h, "hidden")
    with_name(h, "disk")
    assert h.get_structured_replies_negotiated()
    assert h.get_protocol() == "newstyle-fixed"
    h.pread(BLOCK, 0)
    h.shutdown()


def aborting_the_handshake(uri: str) -> None:
    h = options_of(uri)
    h.opt_abort()
    assert h.aio_is_closed()


def handshake_flags(uri: str) -> None:
    # Without FIXED_NEWSTYLE libnbd uses EXPORT_NAME; without NO_ZEROES there is padding.
    for flags in (0, nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE, nbd.HANDSHAKE_FLAG_NO_ZEROES):
        h = nbd.NBD()
        h.set_handshake_flags(flags)
        h.connect_uri(uri)
        assert h.get_size() == SIZE
        has_options = flags == nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE
        assert h.get_structured_replies_negotiated() == h.can_df() == has_options
        h.pwrite(b"f" * BLOCK, 0)
        assert h.pread(BLOCK, 0) == b"f" * BLOCK
        h.shutdown()


def simple_replies_for_who_asks_for_no_others(uri: str) -> None:
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_request_structured_replies(False)
    h.add_meta_context(ALLOCATION)
    h.connect_uri(uri)
    assert not h.get_structured_replies_negotiated()
    assert not h.can_df()
    assert not h.can_meta_context(ALLOCATION)
    h.pwrite(b"s" * 65536, 65536)
    h.zero(65536, 0)
    assert h.pread(131072, 0) == bytes(65536) + b"s" * 65536
    fails("EINVAL", h.pread, BLOCK, 0, nbd.CMD_FLAG_DF)
    fails("EINVAL", h.pread, BLOCK, SIZE)
    assert h.pread(BLOCK, 65536) == b"s" * BLOCK
    h.shutdown()


def block_sizes_are_told_to_who_does_not_ask(uri: str) -> None:
    h = nbd.NBD()
    h.set_request_block_size(False)
    h.connect_uri(uri)
    sizes = (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)
    assert [h.get_block_size(kind) for kind in sizes] == [BLOCK, 4096, 32 << 20]
    h.shutdown()


def listed_contexts(h: Any, *queries: str) -> list[str]:
    """LIST_META_CONTEXT."""
    h.clear_meta_contexts()
    for query in queries:
        h.add_meta_context(query)
    found: list[str] = []

    def note(name: str) -> int:
        found.append(name)
        return 0

    assert h.opt_list_meta_context(note) == len(found)
    return found


def meta_contexts_are_listed(uri: str) -> None:
    h = options_of(uri)
    h.set_export_name("disk")
    for queries in ((), ("base:",), ("x:y", "base:allocation"), ("base:allocation", "base:")):
        assert listed_contexts(h, *queries) == [ALLOCATION], queries
    for queries in (("base:alloc",), ("qemu:", "x:y"), ("BASE:allocation",)):
        assert listed_contexts(h, *queries) == [], queries
    # What libnbd makes of any error reply to this option.
    fails("ENOTSUP", listed_contexts, h, "allocation")
    h.set_export_name("none")
    fails("ENOTSUP", listed_contexts, h)
    h.set_export_name("sparse")
    assert listed_contexts(h) == [ALLOCATION]
    h.opt_abort()


def meta_contexts_are_selected(uri: str) -> None:
    for queries, is_selected in (
        ([ALLOCATION], True),
        (["x:y", ALLOCATION], True),
        # A wildcard is for listing only.
        (["base:"], False),
        (["qemu:dirty-bitmap:b"], False),
        ([], False),
    ):
        h = nbd.NBD()
        h.set_strict_mode(0)
        for query in queries:
            h.add_meta_context(query)
        h.connect_uri(uri)
        assert h.can_meta_context(ALLOCATION) == is_selected, queries
        assert not h.can_meta_context("x:y")
        if not is_selected:
            fails("EINVAL", h.block_status, BLOCK, 0, lambda *extents: 0)
        assert len(h.pread(BLOCK, 0)) == BLOCK
        h.shutdown()


def tls_is_not_there(uri: str) -> None:
    h = nbd.NBD()
    h.set_tls(nbd.TLS_ALLOW)
    h.connect_uri(uri)
    assert not h.get_tls_negotiated()
    h.shutdown()
    h = nbd.NBD()
    h.set_tls(nbd.TLS_REQUIRE)
    fails("ENOTSUP", h.connect_uri, uri)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
