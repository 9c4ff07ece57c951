# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the table from SCSI status and sense data to ATA registers and AoE errors."""

from __future__ import annotations

import pytest

from bridges.aoe.errors import Outcome, outcome_of, put_outcome
from scsi_backend.t10.sense import Sense

_OK = "40/00"
_ABRT = "41/04"
_FAULT = "61/04"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x00, _OK),
        (0x04, _OK),
        (0x08, _ABRT),
        (0x28, _ABRT),
        (0x30, _ABRT),
        (0x40, _ABRT),
        (0x18, "AoE 6"),
        # CHECK CONDITION without sense data, and a status that T10 has not assigned.
        (0x02, _ABRT),
        (0x7F, _ABRT),
    ],
)
def test_status_becomes(status: int, expected: str) -> None:
    assert _text(outcome_of(status, None)) == expected


# key/asc/ascq: expected. Each line is from the reference's table, or next to one of its lines.
_SENSE = {
    "00/00/00": _OK,
    "00/5d/10": _OK,
    "01/17/01": _OK,
    "01/18/00": _OK,
    "02/04/01": "AoE 3",
    "02/04/04": "AoE 3",
    "02/04/07": "AoE 3",
    "02/04/0a": "AoE 3",
    "02/04/1b": "AoE 3",
    "02/04/1a": _ABRT,
    "02/04/0b": "AoE 3",
    "02/04/0c": "AoE 3",
    "02/04/00": _ABRT,
    "02/04/02": _ABRT,
    "02/04/03": _ABRT,
    "02/3a/00": "41/06",
    "02/3a/01": "41/06",
    "02/05/00": _ABRT,
    "02/08/00": "AoE 3",
    "02/08/01": "AoE 3",
    "02/08/02": _ABRT,
    "04/08/00": "AoE 3",
    "04/08/01": "AoE 3",
    "04/08/02": _FAULT,
    "04/3e/03": _FAULT,
    "03/11/00": "41/40",
    "03/11/04": "41/40",
    "03/14/00": "41/10",
    "03/14/01": "41/10",
    "03/03/00": _FAULT,
    "03/0c/00": _FAULT,
    "03/0c/02": _FAULT,
    "03/03/01": _ABRT,
    "03/31/00": _ABRT,
    "03/31/01": _ABRT,
    "03/31/03": _ABRT,
    "04/44/00": _FAULT,
    "04/00/00": _FAULT,
    "04/3e/01": _FAULT,
    "05/21/00": "41/10",
    "05/21/01": _ABRT,
    "05/20/00": _ABRT,
    "05/24/00": _ABRT,
    "05/26/00": _ABRT,
    "05/1a/00": _ABRT,
    "05/25/00": _ABRT,
    "06/29/00": _ABRT,
    "06/2a/09": _ABRT,
    "06/3f/0e": _ABRT,
    "06/28/00": _ABRT,
    "07/00/00": "41/44",
    "07/27/00": "41/44",
    "07/27/07": _FAULT,
    "08/00/00": _ABRT,
    "09/80/00": _ABRT,
    "0a/00/00": _ABRT,
    "0b/47/00": "41/84",
    "0b/47/03": "41/84",
    "0b/08/03": "41/84",
    "0b/08/00": _ABRT,
    "0b/10/01": "41/40",
    "0b/10/02": "41/40",
    "0b/10/03": "41/40",
    "0b/10/00": _ABRT,
    "0b/44/00": _ABRT,
    "0b/4b/00": _ABRT,
    "0c/00/00": _ABRT,
    "0d/00/00": "41/10",
    "0e/1d/00": _ABRT,
    "0f/00/00": _OK,
    "0f/55/00": _OK,
    "0f/55/0a": _ABRT,
}


@pytest.mark.parametrize("sense", _SENSE)
def test_sense_becomes(sense: str) -> None:
    assert _text(outcome_of(0x02, _parse(sense))) == _SENSE[sense]


@pytest.mark.parametrize("sense", ["00/00/00", "03/11/00", "06/29/00", "07/27/00"])
def test_deferred_error_is_a_device_fault_whatever_it_says(sense: str) -> None:
    assert _text(outcome_of(0x02, _parse(sense).as_deferred())) == _FAULT


def test_only_success_is_one() -> None:
    assert {text for text in _SENSE if outcome_of(0x02, _parse(text)).is_success} == {
        "00/00/00",
        "00/5d/10",
        "01/17/01",
        "01/18/00",
        "0f/00/00",
        "0f/55/00",
    }
    assert outcome_of(0x00, None).is_success
    assert not outcome_of(0x18, None).is_success


def test_only_unrecovered_reads_tell_the_first_bad_lba() -> None:
    telling = {text for text in _SENSE if outcome_of(0x02, _parse(text)).reports_lba}
    assert telling == {"03/11/00", "03/11/04"}


def test_only_another_paths_states_are_standby() -> None:
    standby = {text for text in _SENSE if outcome_of(0x02, _parse(text)).is_standby}
    assert standby == {"02/04/0b", "02/04/0c"}


def test_every_failure_has_the_err_bit_that_ipxe_looks_at() -> None:
    for text in _SENSE:
        outcome = outcome_of(0x02, _parse(text))
        assert outcome.aoe_error or outcome.is_success or outcome.status & 0x01


def test_outcomes_are_written_to_the_registers_or_to_the_header() -> None:
    request = bytes.fromhex("18 00 0001 01 00 00000000 40 77 02 24 100000000000 0000")
    reply = memoryview(bytearray(14) + request)
    put_outcome(reply, outcome_of(0x02, _parse("03/11/00")))
    assert reply[14:16] == bytes.fromhex("18 00")
    assert reply[24:28] == bytes.fromhex("40 40 02 41")
    reply = memoryview(bytearray(14) + request)
    put_outcome(reply, outcome_of(0x02, _parse("02/04/0b")))
    assert reply[14:16] == bytes.fromhex("1c 03")
    assert reply[24:28] == bytes.fromhex("40 77 02 24")


def _parse(text: str) -> Sense:
    key, asc, ascq = bytes.fromhex(text.replace("/", ""))
    return Sense(key, asc << 8 | ascq)


def _text(outcome: Outcome) -> str:
    if outcome.aoe_error:
        return f"AoE {outcome.aoe_error}"
    return f"{outcome.status:02x}/{outcome.error:02x}"
