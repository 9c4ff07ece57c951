# SPDX-License-Identifier: GPL-2.0-or-later
"""VPD 8Fh against bytes written out from SPC-4 7.8.17."""

from __future__ import annotations

from scsi_backend.t10.extended_copy import CopyLimits
from scsi_backend.t10.third_party_copy import third_party_copy

LIMITS = CopyLimits(
    max_cscd_descriptors=0x0102,
    max_segment_descriptors=0x0304,
    max_descriptor_list_length_bytes=0x05060708,
    max_segment_length_bytes=0x090A0B0C,
    max_concurrent_copies=0x0D,
    segment_granularity_log2=9,
)

GOLDEN = (
    # Supported commands, padded from 9 bytes to 12.
    "0001000c" + "08" + "830100" + "8403000304" + "000000",
    # Parameter data.
    "0004001c" + "00000000" + "0102" + "0304" + "05060708" + "00000000" + "00" * 12,
    # Supported descriptors, padded.
    "00080004" + "02" + "02e4" + "00",
    # Supported CSCD descriptor IDs: none, padded.
    "000c0004" + "0000" + "0000",
    # General copy operations.
    "80010020" + "0000000d" + "0000000d" + "090a0b0c" + "09" + "00" + "00" * 18,
)


def test_page_has_the_five_descriptors_in_ascending_order() -> None:
    body = third_party_copy({0x84: [4, 0, 3], 0x83: [0]}, LIMITS)
    assert body.hex() == "".join(GOLDEN)
