# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of a disk against an independent list, and all 256 opcodes through a nexus."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import DISK_COMMANDS, disk
from scsi_backend.t10.opcodes import opcode_text
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

# opcode, service action, T10's name, and what else the row says: attention exempt, writing.
GOLDEN = """
00 -  TEST UNIT READY        -
03 -  REQUEST SENSE          exempt
04 -  FORMAT UNIT            writes
08 -  READ(6)                -
0A -  WRITE(6)               writes
12 -  INQUIRY                exempt
15 -  MODE SELECT(6)         -
16 -  RESERVE(6)             -
17 -  RELEASE(6)             -
1A -  MODE SENSE(6)          -
1B -  START STOP UNIT        -
1C -  RECEIVE DIAGNOSTIC RESULTS -
1D -  SEND DIAGNOSTIC        -
1E -  PREVENT ALLOW MEDIUM REMOVAL -
25 -  READ CAPACITY(10)      -
28 -  READ(10)               -
2A -  WRITE(10)              writes
2E -  WRITE AND VERIFY(10)   writes
2F -  VERIFY(10)             -
34 -  PRE-FETCH(10)          -
35 -  SYNCHRONIZE CACHE(10)  -
37 -  READ DEFECT DATA(10)   -
3B -  WRITE BUFFER           -
3C -  READ BUFFER            -
41 -  WRITE SAME(10)         writes
42 -  UNMAP                  writes
48 01 SANITIZE OVERWRITE     writes
48 02 SANITIZE BLOCK ERASE   writes
48 1F SANITIZE EXIT FAILURE MODE writes
4C -  LOG SELECT             -
4D -  LOG SENSE              -
55 -  MODE SELECT(10)        -
56 -  RESERVE(10)            -
57 -  RELEASE(10)            -
5A -  MODE SENSE(10)         -
5E 00 PERSISTENT RESERVE IN  -
5E 01 PERSISTENT RESERVE IN  -
5E 02 PERSISTENT RESERVE IN  -
5E 03 PERSISTENT RESERVE IN  -
5F 00 PERSISTENT RESERVE OUT -
5F 01 PERSISTENT RESERVE OUT -
5F 02 PERSISTENT RESERVE OUT -
5F 03 PERSISTENT RESERVE OUT -
5F 04 PERSISTENT RESERVE OUT -
5F 05 PERSISTENT RESERVE OUT -
5F 06 PERSISTENT RESERVE OUT -
5F 07 PERSISTENT RESERVE OUT -
7F 09 READ(32)               -
7F 0A VERIFY(32)             -
7F 0B WRITE(32)              writes
7F 0C WRITE AND VERIFY(32)   writes
7F 0D WRITE SAME(32)         writes
7F 0F WRITE ATOMIC(32)       writes
83 00 EXTENDED COPY LID1     -
84 00 RECEIVE COPY RESULTS COPY STATUS LID1 -
84 03 RECEIVE COPY RESULTS OPERATING PARAMETERS -
84 04 RECEIVE COPY RESULTS FAILED SEGMENT DETAILS LID1 -
88 -  READ(16)               -
89 -  COMPARE AND WRITE      writes
8A -  WRITE(16)              writes
8B -  ORWRITE(16)            writes
8E -  WRITE AND VERIFY(16)   writes
8F -  VERIFY(16)             -
90 -  PRE-FETCH(16)          -
91 -  SYNCHRONIZE CACHE(16)  -
93 -  WRITE SAME(16)         writes
9C -  WRITE ATOMIC(16)       writes
9E 10 READ CAPACITY(16)      -
9E 12 GET LBA STATUS         -
A0 -  REPORT LUNS            exempt
A3 0A REPORT TARGET PORT GROUPS -
A3 0C REPORT SUPPORTED OPERATION CODES -
A3 0D REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS -
A4 0A SET TARGET PORT GROUPS -
A8 -  READ(12)               -
AA -  WRITE(12)              writes
AE -  WRITE AND VERIFY(12)   writes
AF -  VERIFY(12)             -
B7 -  READ DEFECT DATA(12)   -
"""


def golden_rows() -> list[tuple[int, int | None, str, str]]:
    """The golden list as values."""
    rows = []
    for line in GOLDEN.strip().splitlines():
        opcode, action, rest = line.split(maxsplit=2)
        name, flag = rest.rsplit(maxsplit=1)
        rows.append((int(opcode, 16), None if action == "-" else int(action, 16), name, flag))
    return rows


def cdb_of(opcode: int, action: int | None) -> bytes:
    """A CDB of zeros with an opcode and a service action, which 7Fh has in byte 9."""
    cdb = bytearray(32)
    cdb[0] = opcode
    cdb[9 if opcode == 0x7F else 1] = action or 0
    return bytes(cdb)


def every_disk(*, read_only: bool = False) -> FaultyVdisk:
    """A disk with all that is not on every disk."""
    vdisk = FaultyVdisk(is_thin=True, max_atomic_bytes=1 << 20, read_only=read_only)
    vdisk.has_explicit_alua = True
    return vdisk


def test_rows_equal_the_golden_list() -> None:
    found = []
    for row in DISK_COMMANDS:
        name = opcode_text(cdb_of(row.opcode, row.service_action))
        flag = "exempt" if row.skips_attention else "writes" if row.writes_medium else "-"
        found.append((int(row.opcode), row.service_action, name, flag))
    assert len(found) == len(set(found))
    assert set(found) == set(golden_rows())


@pytest.fixture
def initiator() -> Initiator:
    return connect(every_disk())


@pytest.mark.parametrize("opcode", range(256))
def test_opcode_is_known_exactly_if_it_is_in_the_golden_list(
    initiator: Initiator, opcode: int
) -> None:
    outcome = initiator.send(bytes([opcode]).ljust(16, b"\0"), bytes(128 << 10), 128 << 10)
    if opcode in {row[0] for row in golden_rows()}:
        assert outcome.sense is None or outcome.sense.code != 0x2000
    else:
        assert_check_condition(outcome, "05/20/00", at=(0, None))


@pytest.mark.parametrize("action", range(32))
def test_service_action_is_known_exactly_if_it_is_in_the_golden_list(
    initiator: Initiator, action: int
) -> None:
    outcome = initiator.send(cdbs.raw(f"9e{action:02x}0000000000000000000000200000"), None, 32)
    if (0x9E, action) in {row[:2] for row in golden_rows()}:
        assert outcome.status == Status.GOOD
    else:
        assert_check_condition(outcome, "05/24/00", at=(1, 4))


@pytest.mark.parametrize("action", range(0x18))
def test_variable_length_action_is_known_exactly_if_it_is_in_the_golden_list(
    initiator: Initiator, action: int
) -> None:
    outcome = initiator.send(cdb_of(0x7F, action))
    # Known ones miss the additional CDB length.
    known = action in {row[1] for row in golden_rows() if row[0] == 0x7F}
    assert_check_condition(outcome, "05/24/00", at=(7, 7) if known else (8, 7))


@pytest.mark.parametrize(
    ("cdb", "sense"),
    [
        (cdb_of(0x42, None), "05/20/00"),
        (cdb_of(0x9C, None), "05/20/00"),
        (cdb_of(0x7F, 0x0F), "05/24/00"),
    ],
    ids=["UNMAP", "WRITE ATOMIC(16)", "WRITE ATOMIC(32)"],
)
def test_what_a_disk_cannot_do_is_not_among_its_commands(cdb: bytes, sense: str) -> None:
    at = (8, 7) if cdb[0] == 0x7F else (0, None)
    assert_check_condition(connect(FaultyVdisk()).send(cdb), sense, at=at)


def test_reserved_bits_beside_the_service_action_are_ignored(initiator: Initiator) -> None:
    assert len(initiator.good(cdbs.raw("9ef00000000000000000000000200000"), None, 32)) == 32


@pytest.mark.parametrize("row", golden_rows(), ids=lambda row: row[2])
def test_read_only_medium_refuses_exactly_the_writing_commands(
    row: tuple[int, int | None, str, str],
) -> None:
    vdisk = every_disk(read_only=True)
    before = vdisk.fill()
    cdb = cdb_of(row[0], row[1])
    outcome = connect(vdisk).send(cdb, b"\xaa" * (128 << 10), 128 << 10)
    if row[3] == "writes":
        assert_check_condition(outcome, "07/27/00")
    else:
        assert outcome.sense is None or outcome.sense.code != 0x2700
    assert vdisk.data == before


def test_unit_is_named_after_its_device() -> None:
    unit = disk(FaultyVdisk(blocks=10, block_size_bytes=4096))
    assert (unit.name, unit.block_count, unit.block_shift) == ("faulty", 10, 12)
