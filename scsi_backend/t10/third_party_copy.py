# SPDX-License-Identifier: GPL-2.0-or-later
"""VPD 8Fh, Third-party Copy: what a copy manager of EXTENDED COPY(LID1) must say (SPC-4 7.8.17)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum

from scsi_backend.t10.extended_copy import CopyLimits, DescriptorType


class _Type(IntEnum):
    """Third-party copy descriptor types."""

    SUPPORTED_COMMANDS = 0x0001
    PARAMETER_DATA = 0x0004
    SUPPORTED_DESCRIPTORS = 0x0008
    SUPPORTED_CSCD_DESCRIPTOR_IDS = 0x000C
    GENERAL_COPY_OPERATIONS = 0x8001


# CSCD descriptors, segment descriptors, descriptor list length, inline data length.
_PARAMETER_DATA = struct.Struct(">4xHHII12x")
# Total and identified concurrent copies, segment length, granularity of segments, of inline data.
_GENERAL = struct.Struct(">IIIBB18x")


def third_party_copy(commands: Mapping[int, Sequence[int]], limits: CopyLimits) -> bytes:
    """Return the page's body; ``commands`` are the service actions by operation code."""
    return b"".join(
        (
            _counted(_Type.SUPPORTED_COMMANDS, ">B", _commands(commands)),
            _descriptor(
                _Type.PARAMETER_DATA,
                _PARAMETER_DATA.pack(
                    limits.max_cscd_descriptors,
                    limits.max_segment_descriptors,
                    limits.max_descriptor_list_length_bytes,
                    0,
                ),
            ),
            _counted(_Type.SUPPORTED_DESCRIPTORS, ">B", bytes(sorted(DescriptorType))),
            # None above 07FFh, the numbers of the CSCD descriptors in the list.
            _counted(_Type.SUPPORTED_CSCD_DESCRIPTOR_IDS, ">H", b""),
            _descriptor(
                _Type.GENERAL_COPY_OPERATIONS,
                _GENERAL.pack(
                    limits.max_concurrent_copies,
                    limits.max_concurrent_copies,
                    limits.max_segment_length_bytes,
                    limits.segment_granularity_log2,
                    0,
                ),
            ),
        )
    )


def _commands(commands: Mapping[int, Sequence[int]]) -> bytes:
    return b"".join(
        bytes((opcode, len(actions), *sorted(actions)))
        for opcode, actions in sorted(commands.items())
    )


def _counted(kind: _Type, layout: str, items: bytes) -> bytes:
    return _descriptor(kind, struct.pack(layout, len(items)) + items)


def _descriptor(kind: _Type, body: bytes) -> bytes:
    """A descriptor, padded to a multiple of four bytes."""
    body += bytes(-len(body) % 4)
    return struct.pack(">HH", kind, len(body)) + body
