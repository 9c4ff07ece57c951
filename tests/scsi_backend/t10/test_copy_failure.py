# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an EXTENDED COPY was aborted, byte for byte from SPC-4 5.17.7.4 and 4.5.2."""

from __future__ import annotations

import pytest

from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.sense import WRITE_PROTECTED

FIXED_INNER = "700007000000000a00000000270000000000"


@pytest.mark.parametrize(
    ("failure", "field", "behind"),
    [
        (CopyFailure(0x0102), "00000102", ""),
        (CopyFailure(3, 0x18), "12000003", "18"),
        (CopyFailure(3, 0x18, None, True), "00120003", "18"),
        (CopyFailure(3, 2, WRITE_PROTECTED, True), "00120003", "02" + FIXED_INNER),
    ],
)
def test_fixed_format_points_at_what_the_device_said(
    failure: CopyFailure, field: str, behind: str
) -> None:
    assert [part.hex() for part in failure.fixed_format()] == [field, behind]


@pytest.mark.parametrize(
    ("failure", "forwarded"),
    [
        (CopyFailure(0x0102), ""),
        (CopyFailure(0x0102, 0x18), "0c020118"),
        (CopyFailure(0x0102, 2, WRITE_PROTECTED, True), "0c0a0202" + "7207270000000000"),
    ],
)
def test_descriptor_format_forwards_what_the_device_said(
    failure: CopyFailure, forwarded: str
) -> None:
    assert failure.descriptors().hex() == "010a0000" + "0000010200000000" + forwarded
