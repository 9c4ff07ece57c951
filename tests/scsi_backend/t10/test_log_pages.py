# SPDX-License-Identifier: GPL-2.0-or-later
"""Log pages against bytes written out from SPC-5 7.3 and SBC-4 6.4."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import log_pages
from scsi_backend.t10.log_pages import LogPage, LogPageControl, ParameterControl


def test_codes_are_those_of_the_standards() -> None:
    assert {each.name: each.value for each in LogPage} == {
        "SUPPORTED": 0x00,
        "WRITE_ERROR_COUNTERS": 0x02,
        "READ_ERROR_COUNTERS": 0x03,
        "LOGICAL_BLOCK_PROVISIONING": 0x0C,
        "TEMPERATURE": 0x0D,
        "BACKGROUND_SCAN": 0x15,
        "GENERAL_STATISTICS": 0x19,
        "INFORMATIONAL_EXCEPTIONS": 0x2F,
    }
    assert [each.name for each in LogPageControl] == [
        "THRESHOLD",
        "CUMULATIVE",
        "DEFAULT_THRESHOLD",
        "DEFAULT_CUMULATIVE",
    ]


@pytest.mark.parametrize(
    ("built", "golden"),
    [
        (log_pages.supported_log_pages([0x2F, 0x00, 0x02]), "0000000300022f"),
        (
            log_pages.supported_subpages([(0x02, 0), (0x00, 0xFF), (0x00, 0)]),
            "40ff0006" + "0000" + "00ff" + "0200",
        ),
        (log_pages.log_page(LogPage.TEMPERATURE, []), "8d000000"),
        (log_pages.log_page(LogPage.READ_ERROR_COUNTERS, [b"\1", b"\2\3"]), "83000003010203"),
        (log_pages.parameter(0x0102, ParameterControl.BINARY_LIST, b"\3\4"), "010203020304"),
        (log_pages.parameter(6, ParameterControl.COUNTER, b"\5"), "0006220105"),
        (log_pages.counter(0x0102), "0000000000000102"),
        (log_pages.counter(1 << 64), "ffffffffffffffff"),
        (
            log_pages.general_statistics(
                read_commands=1, write_commands=2, blocks_received=3, blocks_transmitted=4
            ),
            "0000000000000001"
            + "0000000000000002"
            + "0000000000000003"
            + "0000000000000004"
            # Processing intervals and the weighted sums of the two.
            + "00" * 32,
        ),
        (log_pages.resource_count(0x01020304, is_shared=True), "0102030402000000"),
        (log_pages.resource_count(1 << 32, is_shared=False), "ffffffff01000000"),
        (log_pages.no_time_interval(), "00" * 8),
        (log_pages.no_temperature(), "00ff"),
        (log_pages.no_background_scan(0x0102), "00000102" + "00" * 8),
        (log_pages.no_background_scan(1 << 32), "ffffffff" + "00" * 8),
        (log_pages.no_informational_exception(), "0000ff"),
    ],
)
def test_page_is_the_bytes_of_the_table(built: bytes, golden: str) -> None:
    assert built.hex() == golden
