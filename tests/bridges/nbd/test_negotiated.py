# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests for the outcome of a handshake."""

from __future__ import annotations

from bridges.nbd.negotiated import Negotiated, ReplyForm


def test_a_client_that_negotiates_nothing_gets_simple_replies_and_no_contexts() -> None:
    nothing = Negotiated()
    assert nothing.form is ReplyForm.SIMPLE
    assert nothing.contexts == ()
    assert not nothing.knows_block_sizes
