# SPDX-License-Identifier: GPL-2.0-or-later
"""The mailbox, and the sizes and codes of the kernel's header."""

from __future__ import annotations

import struct

import pytest

from bridges.local.tcmu import wire
from bridges.local.tcmu.wire import Capability, Mailbox, Opcode, RingError, Tmr, UserFlag


def mailbox(
    version: int = 2, flags: int = 0xF, ring_at: int = 128, ring_bytes: int = 4096
) -> bytearray:
    return bytearray(struct.pack("<HHIII", version, flags, ring_at, ring_bytes, 0)) + bytes(8192)


def test_mailbox_is_read() -> None:
    golden = bytes.fromhex("0200 0f00 80000000 80ff7f00 00000000") + bytes(0x800000)
    assert Mailbox.parse(memoryview(golden)) == Mailbox(2, 0xF, 128, 0x7FFF80)


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (b"", "too short for a mailbox"),
        (bytes(67), "too short for a mailbox"),
        (bytes(68), "mailbox version 0: expected 2"),
        (mailbox(version=1), "mailbox version 1: expected 2"),
        (mailbox(version=3), "mailbox version 3: expected 2"),
        (mailbox(flags=0xE), "cannot take responses out of order"),
        (mailbox(ring_at=64), "command ring of 4096 bytes at 64"),
        (mailbox(ring_at=132), "command ring of 4096 bytes at 132"),
        (mailbox(ring_bytes=4100), "command ring of 4100 bytes"),
        (mailbox(ring_bytes=1 << 20), "in a mapping of 8208"),
    ],
)
def test_what_is_no_mailbox_is_refused(memory: bytes, reason: str) -> None:
    with pytest.raises(RingError, match=reason):
        Mailbox.parse(memoryview(memory))


@pytest.mark.parametrize(
    ("layout", "size_bytes"),
    [
        (wire.MAILBOX, 16),
        (wire.HEADER, 8),
        (wire.COMMAND, 64),
        (wire.IOV, 16),
        (wire.TMR, 16),
        (wire.RESPONSE, 12),
    ],
)
def test_layouts_have_the_headers_sizes(layout: struct.Struct, size_bytes: int) -> None:
    assert layout.size == size_bytes


def test_codes_are_the_headers() -> None:
    assert {each.name: each.value for each in Opcode} == {"PAD": 0, "CMD": 1, "TMR": 2}
    assert (UserFlag.UNKNOWN_OP, UserFlag.READ_LEN) == (1, 2)
    capabilities = (
        Capability.OUT_OF_ORDER,
        Capability.READ_LEN,
        Capability.TMR,
        Capability.KEEP_BUF,
    )
    assert capabilities == (1, 2, 4, 8)
    assert {each.name: each.value for each in Tmr} == {
        "UNKNOWN": 0,
        "ABORT_TASK": 1,
        "ABORT_TASK_SET": 2,
        "CLEAR_ACA": 3,
        "CLEAR_TASK_SET": 4,
        "LUN_RESET": 5,
        "TARGET_WARM_RESET": 6,
        "TARGET_COLD_RESET": 7,
        "LUN_RESET_PRO": 128,
    }
