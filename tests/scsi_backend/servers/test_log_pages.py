# SPDX-License-Identifier: GPL-2.0-or-later
"""What the parameters of the log pages hold, for a disk that was used and for one that was not."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.vdisk import Space
from scsi_backend.servers.disk import disk
from scsi_backend.servers.log_pages import LOG_PAGES, LogView
from scsi_backend.servers.statistics import Counters
from tests.scsi_backend.fakes import FaultyVdisk

COUNTERS = Counters(
    read_commands=1,
    read_blocks=2,
    read_errors=3,
    write_commands=4,
    write_blocks=5,
    write_errors=6,
)
ZERO = "00" * 8


def number(value: int) -> str:
    return f"{value:016x}"


# page, whether it is one of counters, and its parameters, of a disk with blocks of 4096 bytes.
GOLDEN = {
    0x02: (True, dict.fromkeys(range(5), ZERO) | {5: number(5 * 4096), 6: number(6)}),
    0x03: (True, dict.fromkeys(range(5), ZERO) | {5: number(2 * 4096), 6: number(3)}),
    0x0C: (False, {1: "0000000902000000", 2: "0000000701000000"}),
    0x0D: (False, {0: "00ff"}),
    0x15: (False, {0: "00" * 12}),
    0x19: (
        True,
        {1: number(1) + number(4) + number(5) + number(2) + 4 * ZERO, 2: ZERO, 3: ZERO},
    ),
    0x2F: (False, {0: "0000ff"}),
}


def test_pages_equal_the_golden_list() -> None:
    assert set(LOG_PAGES) == set(GOLDEN)


@pytest.mark.parametrize("code", GOLDEN)
def test_parameters_hold_what_was_counted_and_measured(code: int) -> None:
    unit = disk(FaultyVdisk(block_size_bytes=4096, is_thin=True))
    view = LogView(unit, COUNTERS, Space(used_bytes=7 * 4096, available_bytes=10 * 4096 - 1))
    row = LOG_PAGES[code]
    assert sorted(row.parameters) == list(row.parameters)
    found = {number: each.value(view).hex() for number, each in row.parameters.items()}
    assert (row.is_counted, found) == GOLDEN[code]


@pytest.mark.parametrize("is_thin", [False, True])
def test_only_a_disk_that_measures_its_space_has_the_provisioning_page(is_thin: bool) -> None:
    unit = disk(FaultyVdisk(is_thin=is_thin))
    missing = {code for code, row in LOG_PAGES.items() if not row.applies(unit)}
    assert missing == (set() if is_thin else {0x0C})
