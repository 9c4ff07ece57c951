# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command may do beside somebody else's reservation, against an independent list.

The list is written from SPC-5 table 161, SBC-4 table 14 and SPC-2 table 9: a letter for each kind
of reservation with which the command conflicts. L: RESERVE(6/10); W: Write Exclusive types; E:
Exclusive Access types; "-" none.
"""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import DISK_COMMANDS, disk
from scsi_backend.servers.reservation_rules import Conflict, conflict, lay_conflicts, rule_of
from scsi_backend.t10.opcodes import opcode_text
from tests.scsi_backend.fakes import FaultyVdisk

GOLDEN = """
00          -    TEST UNIT READY
03          -    REQUEST SENSE
04          LWE  FORMAT UNIT
08          LE   READ(6)
0a          LWE  WRITE(6)
12          -    INQUIRY
15          LWE  MODE SELECT(6)
16          L    RESERVE(6)
17          -    RELEASE(6)
1a          LE   MODE SENSE(6)
1b          LWE  START STOP UNIT
1c          LE   RECEIVE DIAGNOSTIC RESULTS
1d          LWE  SEND DIAGNOSTIC
1e          LWE  PREVENT ALLOW MEDIUM REMOVAL
25          -    READ CAPACITY(10)
28          LE   READ(10)
2a          LWE  WRITE(10)
2e          LWE  WRITE AND VERIFY(10)
2f          LE   VERIFY(10)
34          LE   PRE-FETCH(10)
35          LWE  SYNCHRONIZE CACHE(10)
37          LE   READ DEFECT DATA(10)
3b          LWE  WRITE BUFFER
3c          LE   READ BUFFER
41          LWE  WRITE SAME(10)
42          LWE  UNMAP
48/01       LWE  SANITIZE OVERWRITE
48/02       LWE  SANITIZE BLOCK ERASE
48/1f       LWE  SANITIZE EXIT FAILURE MODE
4c          LWE  LOG SELECT
4d          -    LOG SENSE
55          LWE  MODE SELECT(10)
56          L    RESERVE(10)
57          -    RELEASE(10)
5a          LE   MODE SENSE(10)
5e/00       L    PERSISTENT RESERVE IN
5e/01       L    PERSISTENT RESERVE IN
5e/02       L    PERSISTENT RESERVE IN
5e/03       L    PERSISTENT RESERVE IN
5f/00       L    PERSISTENT RESERVE OUT
5f/01       L    PERSISTENT RESERVE OUT
5f/02       L    PERSISTENT RESERVE OUT
5f/03       L    PERSISTENT RESERVE OUT
5f/04       L    PERSISTENT RESERVE OUT
5f/05       L    PERSISTENT RESERVE OUT
5f/06       L    PERSISTENT RESERVE OUT
5f/07       L    PERSISTENT RESERVE OUT
7f/09       LE   READ(32)
7f/0a       LE   VERIFY(32)
7f/0b       LWE  WRITE(32)
7f/0c       LWE  WRITE AND VERIFY(32)
7f/0d       LWE  WRITE SAME(32)
7f/0e       LWE  ORWRITE(32)
7f/0f       LWE  WRITE ATOMIC(32)
83/00       LWE  EXTENDED COPY LID1
84/00       L    RECEIVE COPY RESULTS COPY STATUS LID1
84/03       L    RECEIVE COPY RESULTS OPERATING PARAMETERS
84/04       L    RECEIVE COPY RESULTS FAILED SEGMENT DETAILS LID1
88          LE   READ(16)
89          LWE  COMPARE AND WRITE
8a          LWE  WRITE(16)
8b          LWE  ORWRITE(16)
8e          LWE  WRITE AND VERIFY(16)
8f          LE   VERIFY(16)
90          LE   PRE-FETCH(16)
91          LWE  SYNCHRONIZE CACHE(16)
93          LWE  WRITE SAME(16)
9c          LWE  WRITE ATOMIC(16)
9e/10       -    READ CAPACITY(16)
9e/12       LE   GET LBA STATUS
a0          -    REPORT LUNS
a3/0a       -    REPORT TARGET PORT GROUPS
a3/0c       LE   REPORT SUPPORTED OPERATION CODES
a3/0d       LE   REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
a4/0a       LWE  SET TARGET PORT GROUPS
a8          LE   READ(12)
aa          LWE  WRITE(12)
ae          LWE  WRITE AND VERIFY(12)
af          LE   VERIFY(12)
b7          LE   READ DEFECT DATA(12)
"""
KINDS = {
    "L": Conflict.LEGACY,
    "W": Conflict.WRITE_EXCLUSIVE,
    "E": Conflict.EXCLUSIVE_ACCESS,
}


def _rows() -> dict[tuple[int, int | None], str]:
    found = {}
    for line in GOLDEN.split("\n"):
        if line:
            code, letters, _ = line.split(maxsplit=2)
            opcode, _, action = code.partition("/")
            found[int(opcode, 16), int(action, 16) if action else None] = letters.strip("-")
    return found


ROWS = _rows()


@pytest.mark.parametrize("row", DISK_COMMANDS, ids=lambda row: f"{row.opcode:02x}")
def test_every_command_of_a_disk_is_in_the_list(row: object) -> None:
    key = (row.opcode, row.service_action)  # type: ignore[attr-defined]
    assert key in ROWS


@pytest.mark.parametrize(("opcode", "action"), ROWS)
def test_command_conflicts_with_what_the_list_says(opcode: int, action: int | None) -> None:
    expected = Conflict(0)
    for letter in ROWS[opcode, action]:
        expected |= KINDS[letter]
    assert rule_of(opcode, action).conflicts == expected


@pytest.mark.parametrize("line", [line for line in GOLDEN.split("\n") if line])
def test_names_in_the_list_are_those_of_the_codes(line: str) -> None:
    code, _, name = line.split(maxsplit=2)
    opcode, _, action = code.partition("/")
    cdb = bytearray(32)
    cdb[0] = int(opcode, 16)
    cdb[9 if opcode == "7f" else 1] = int(action or "0", 16)
    assert opcode_text(bytes(cdb)) == name


@pytest.mark.parametrize(
    ("cdb", "is_harmless"),
    [
        ("1b0000000100", True),
        ("1b0000000000", False),
        ("1b0000000200", False),
        ("1b0000000300", True),
        ("1b0000001100", False),
        ("1b0000000500", True),
        ("1e0000000000", True),
        ("1e0000000100", False),
        ("1e0000000300", False),
    ],
)
def test_start_and_allow_do_nobody_harm(cdb: str, is_harmless: bool) -> None:
    raw = bytes.fromhex(cdb)
    harmless = rule_of(raw[0], None).harmless
    assert harmless is not None
    assert harmless(raw) is is_harmless


def test_unknown_command_conflicts_with_everything() -> None:
    assert rule_of(0xC0, None).conflicts == KINDS["L"] | KINDS["W"] | KINDS["E"]


@pytest.mark.parametrize("kind", list(Conflict))
def test_table_refuses_what_conflicts_and_nothing_else(kind: Conflict) -> None:
    unit = disk(FaultyVdisk(is_thin=True))
    table = list(unit.dispatch)
    lay_conflicts(unit.rows, table, kind)
    for opcode, rows in unit.rows.items():
        rules = [rule_of(opcode, row.service_action) for row in rows]
        if all(rule.conflicts & kind and rule.harmless is None for rule in rules):
            assert table[opcode] is conflict
        elif not any(rule.conflicts & kind for rule in rules):
            assert table[opcode] is unit.dispatch[opcode]
        else:
            assert table[opcode] not in (conflict, unit.dispatch[opcode])
