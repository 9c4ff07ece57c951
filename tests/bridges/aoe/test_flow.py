# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what is remembered of frames, and of what is not."""

from __future__ import annotations

import pytest

from bridges.aoe.flow import KEY_BYTES, Flow, flow_of
from tests.bridges.aoe.bench import (
    BROADCAST_MAC,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY,
    REQUEST,
    TARGET_MAC,
    Bench,
    read_ext,
    unhex,
)


def flow_for(bench: Bench, header: str = REQUEST, command: str = "00") -> Flow | None:
    """What is remembered of frames that begin like this."""
    key = unhex(f"{header} {command}")
    assert len(key) == KEY_BYTES
    return flow_of(key, bench.target, bench.port)


def logged_in() -> Bench:
    bench = Bench()
    bench.exchange(read_ext(0, 1))
    return bench


def test_a_flow_has_the_nexus_and_the_beginning_of_replies() -> None:
    bench = logged_in()
    flow = flow_for(bench)
    assert flow is not None
    assert flow.prefix == unhex(f"{REPLY} 00")
    assert flow.initiator is bench.target.initiator(bytes.fromhex(CLIENT_MAC))
    assert flow.order is flow.initiator.disk.order


@pytest.mark.parametrize(
    ("header", "command"),
    [
        (REQUEST, "01"),
        (REQUEST, "03"),
        # Wildcards, replies, other versions, other addresses.
        (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 ffff 01", "00"),
        (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0001 ff", "00"),
        (f"{TARGET_MAC} {CLIENT_MAC} 88a2 18 00 0001 01", "00"),
        (f"{TARGET_MAC} {CLIENT_MAC} 88a2 20 00 0001 01", "00"),
        (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0001 02", "00"),
        (f"{TARGET_MAC} {CLIENT_MAC} 0800 10 00 0001 01", "00"),
        (f"02000000000f {CLIENT_MAC} 88a2 10 00 0001 01", "00"),
        (f"{TARGET_MAC} {TARGET_MAC} 88a2 10 00 0001 01", "00"),
        (f"{TARGET_MAC} {BROADCAST_MAC} 88a2 10 00 0001 01", "00"),
        # Nobody has logged in from there.
        (f"{TARGET_MAC} {OTHER_CLIENT_MAC} 88a2 10 00 0001 01", "00"),
    ],
)
def test_other_frames_are_not_remembered(header: str, command: str) -> None:
    assert flow_for(logged_in(), header, command) is None


@pytest.mark.parametrize(
    "header",
    [
        REQUEST.replace(TARGET_MAC, BROADCAST_MAC),
        # Stray flags and a stray error mean nothing in a request.
        f"{TARGET_MAC} {CLIENT_MAC} 88a2 17 09 0001 01",
    ],
)
def test_odd_ways_to_address_a_target_get_plain_replies(header: str) -> None:
    flow = flow_for(logged_in(), header)
    assert flow is not None
    assert flow.prefix == unhex(f"{REPLY} 00")


def test_a_disabled_target_has_no_flows() -> None:
    bench = logged_in()
    bench.scsi_target.is_enabled = False
    assert flow_for(bench) is None


# Flags, feature, count, opcode; sectors, whether it writes, byte 1 of the CDB, the reply's code.
_PLANS = {
    "READ SECTORS EXT": ("40 00 02 24", 2, False, None, "40 00 00 40"),
    "READ DMA EXT": ("40 00 01 25", 1, False, None, "40 00 00 40"),
    "READ MULTIPLE EXT": ("40 00 02 29", 2, False, None, "40 00 00 40"),
    "READ with D and A": ("52 00 02 24", 2, False, None, "52 00 00 40"),
    "READ with reserved flags": ("ec 77 02 24", 2, False, None, "40 00 00 40"),
    "WRITE SECTORS EXT": ("41 00 02 34", 2, True, 0x08, "41 00 00 40"),
    "WRITE DMA EXT": ("41 00 01 35", 1, True, 0x08, "41 00 00 40"),
    "WRITE DMA FUA EXT": ("41 00 02 3d", 2, True, 0x08, "41 00 00 40"),
}


@pytest.mark.parametrize("name", _PLANS)
def test_a_plan_says_what_a_code_asks_for(name: str) -> None:
    code, sectors, is_write, cdb_flags, reply_code = _PLANS[name]
    flow = flow_for(logged_in())
    assert flow is not None
    flow.learn(unhex(code))
    plan = flow.plans[unhex(code)]
    assert (plan.sectors, plan.is_write) == (sectors, is_write)
    assert plan.reply_code == unhex(reply_code)
    data_bytes = 512 * sectors
    assert plan.request_bytes == (36 + data_bytes if is_write else 36)
    assert plan.reply_bytes == (60 if is_write else 36 + data_bytes)
    if is_write:
        assert plan.cdb_flags == cdb_flags


def test_only_fua_is_stable_where_the_target_promises_less() -> None:
    bench = logged_in()
    bench.target.durable = False
    flow = flow_for(bench)
    assert flow is not None
    for code, flags in (("41 00 02 34", 0), ("41 00 02 3d", 0x08)):
        flow.learn(unhex(code))
        assert flow.plans[unhex(code)].cdb_flags == flags


@pytest.mark.parametrize(
    "code",
    [
        # LBA28, no E, wrong direction, counts, other commands, unknown ones.
        "00 00 02 20",
        "01 00 02 30",
        "00 00 02 24",
        "41 00 02 24",
        "40 00 02 34",
        "40 00 00 24",
        "40 00 03 24",
        "40 00 02 42",
        "00 00 00 e7",
        "00 00 01 ec",
        "41 01 01 06",
        "40 00 02 ff",
    ],
)
def test_other_codes_have_no_plan(code: str) -> None:
    flow = flow_for(logged_in())
    assert flow is not None
    flow.learn(unhex(code))
    assert not flow.plans


def test_plans_are_bounded() -> None:
    flow = flow_for(logged_in())
    assert flow is not None
    for feature in range(256):
        flow.learn(bytes((0x40, feature, 2, 0x24)))
    assert 0 < len(flow.plans) <= 64
