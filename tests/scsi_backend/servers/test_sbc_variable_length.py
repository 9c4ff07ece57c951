# SPDX-License-Identifier: GPL-2.0-or-later
"""32-byte CDBs: golden bytes, and those that are not what they say.

What the commands do is tested together with their shorter forms.
"""

from __future__ import annotations

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk, pattern
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

ACTIONS = [0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0F]
ADDITIONAL_LENGTH = (7, 7)


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(max_atomic_bytes=1 << 20)


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def golden(action: int, flags: int = 0) -> bytes:
    """Three blocks from LBA 5; the tags, which nobody here looks at, are all ones."""
    text = (
        f"7f00000000000018 00{action:02x} {flags:02x}00 0000000000000005 ffffffffffffffff 00000003"
    )
    return bytes.fromhex(text)


def test_read_32_returns_its_blocks(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    content = vdisk.fill()
    assert initiator.good(golden(0x09), None, 1536) == content[5 * 512 : 8 * 512]


@pytest.mark.parametrize("action", [0x0B, 0x0C, 0x0F])
def test_writing_forms_write_their_blocks(
    vdisk: FaultyVdisk, initiator: Initiator, action: int
) -> None:
    vdisk.fill()
    data = b"\xaa" * 1536
    assert initiator.good(golden(action), data) == b""
    assert vdisk.blocks(4, 5) == pattern(4, 512) + data + pattern(8, 512)


def test_write_same_32_repeats_its_block(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.fill()
    assert initiator.good(golden(0x0D), b"\xaa" * 512) == b""
    assert vdisk.blocks(4, 5) == pattern(4, 512) + b"\xaa" * 1536 + pattern(8, 512)
    assert initiator.good(golden(0x0D, flags=0x01)) == b""
    assert vdisk.blocks(4, 5) == pattern(4, 512) + bytes(1536) + pattern(8, 512)


def test_verify_32_compares_its_blocks(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    content = bytearray(vdisk.fill()[5 * 512 : 8 * 512])
    assert initiator.good(golden(0x0A, flags=0x02), bytes(content)) == b""
    content[700] ^= 1
    outcome = initiator.send(golden(0x0A, flags=0x02), bytes(content))
    assert_check_condition(outcome, "0E/1D/00", information=700)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("length_bytes", [16, 20, 31])
def test_cdb_that_is_cut_short_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, action: int, length_bytes: int
) -> None:
    outcome = initiator.send(golden(action)[:length_bytes], bytes(1536), 1536)
    assert_check_condition(outcome, "05/24/00", at=ADDITIONAL_LENGTH)
    assert vdisk.log == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("additional", [0x00, 0x08, 0x17, 0x19, 0xFF])
def test_additional_cdb_length_is_18h(
    vdisk: FaultyVdisk, initiator: Initiator, action: int, additional: int
) -> None:
    cdb = bytearray(golden(action))
    cdb[7] = additional
    outcome = initiator.send(bytes(cdb), bytes(1536), 1536)
    assert_check_condition(outcome, "05/24/00", at=ADDITIONAL_LENGTH)
    assert vdisk.log == []


def test_short_cdb_is_refused_while_an_atomic_command_runs(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.is_held = True
    atomic = initiator.start(golden(0x0F), bytes(1536))
    outcome = initiator.send(golden(0x09)[:16], None, 1536)
    assert_check_condition(outcome, "05/24/00", at=ADDITIONAL_LENGTH)
    outcome = initiator.send(golden(0x0F)[:16], bytes(1536))
    assert_check_condition(outcome, "05/24/00", at=ADDITIONAL_LENGTH)
    vdisk.release_all()
    assert atomic.is_done


@pytest.mark.parametrize("action", [0x0E, 0x10, 0x11, 0x1800])
def test_unknown_service_action_is_refused(initiator: Initiator, action: int) -> None:
    cdb = bytearray(golden(0))
    cdb[8:10] = action.to_bytes(2, "big")
    assert_check_condition(initiator.send(bytes(cdb)), "05/24/00", at=(8, 7))


def test_opcode_is_the_variable_length_one() -> None:
    assert cdbs.block(cdbs.READ, 32, 5, 3) == golden(0x09)[:20] + bytes(8) + golden(0x09)[28:]


@pytest.mark.parametrize("action", range(0x20))
def test_device_without_long_cdbs_has_no_such_opcode(action: int) -> None:
    vdisk = VdiskNullio("n", NullioAttributes(size_mb=1))
    cdb = bytes.fromhex(f"7f00000000000018 00{action:02x}").ljust(32, b"\0")
    assert_check_condition(connect(vdisk).send(cdb), "05/20/00", at=(0, None))
