# SPDX-License-Identifier: GPL-2.0-or-later
"""What an export tells of itself, by what was negotiated and asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.nbd.offer import flags_of, information
from tests.bridges.nbd.peer import BLOCK_STATUS_PAYLOAD, FLAGS, ONE_MIB, SEND_DF, FakeExport

CONTEXTS = ((1, "base:allocation"),)
READ_ONLY = 0x0002


@pytest.mark.parametrize(
    ("form", "contexts", "extra"),
    [
        (ReplyForm.SIMPLE, (), 0),
        (ReplyForm.STRUCTURED, (), SEND_DF),
        (ReplyForm.STRUCTURED, CONTEXTS, SEND_DF),
        (ReplyForm.EXTENDED, (), SEND_DF),
        (ReplyForm.EXTENDED, CONTEXTS, SEND_DF | BLOCK_STATUS_PAYLOAD),
    ],
)
def test_flags_depend_on_the_form_of_replies_and_on_contexts(
    form: ReplyForm, contexts: tuple[tuple[int, str], ...], extra: int
) -> None:
    negotiated = Negotiated(form, contexts)
    assert flags_of(ONE_MIB, negotiated) == FLAGS | extra
    frozen = flags_of(replace(ONE_MIB, is_read_only=True), negotiated)
    assert frozen & (READ_ONLY | SEND_DF | BLOCK_STATUS_PAYLOAD) == READ_ONLY | extra


def test_information_is_size_and_block_sizes_and_the_texts_that_were_asked_for() -> None:
    export = FakeExport(ONE_MIB, name="disk")
    size = bytes.fromhex(f"0000 0000000000100000 {FLAGS:04x}")
    block_sizes = bytes.fromhex("0003 00000200 00001000 02000000")
    texts = [b"\0\x01disk", b"\0\x02about disk"]
    assert list(information(export, Negotiated(), frozenset())) == [size, block_sizes]
    everything = information(export, Negotiated(), frozenset({0, 1, 2, 3, 77}))
    assert list(everything) == [size, *texts, block_sizes]
