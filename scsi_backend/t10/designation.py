# SPDX-License-Identifier: GPL-2.0-or-later
"""Designation descriptors: how logical units, target ports and devices are named (SPC-5 7.7.6)."""

from __future__ import annotations

import struct
from enum import IntEnum

# What DESIGNATOR LENGTH can say.
MAX_DESIGNATOR_BYTES = 255


class CodeSet(IntEnum):
    """The code set of a designator."""

    BINARY = 1
    ASCII = 2
    UTF_8 = 3


class Association(IntEnum):
    """What a designator names."""

    LOGICAL_UNIT = 0
    TARGET_PORT = 1
    TARGET_DEVICE = 2


class DesignatorType(IntEnum):
    """The format of a designator."""

    T10_VENDOR_ID = 1
    EUI_64 = 2
    NAA = 3
    RELATIVE_TARGET_PORT = 4
    TARGET_PORT_GROUP = 5
    SCSI_NAME_STRING = 8


def descriptor(
    code_set: CodeSet, association: Association, kind: DesignatorType, designator: bytes
) -> bytes:
    """A designation descriptor without protocol identifier."""
    return bytes((code_set, association << 4 | kind, 0, len(designator))) + designator


def t10_vendor_id(
    vendor: str, rest: str, association: Association = Association.LOGICAL_UNIT
) -> bytes:
    """T10 vendor ID (SPC-5 7.7.6.4): eight ASCII characters, and a name of the vendor's own."""
    head = vendor.encode("ascii", "replace")[:8].ljust(8)
    designator = (head + rest.encode("ascii", "replace"))[:MAX_DESIGNATOR_BYTES]
    return descriptor(CodeSet.ASCII, association, DesignatorType.T10_VENDOR_ID, designator)


def eui_64(designator: bytes) -> bytes:
    """EUI-64 (SPC-5 7.7.6.5) of the logical unit: 8, 12 or 16 bytes."""
    return descriptor(CodeSet.BINARY, Association.LOGICAL_UNIT, DesignatorType.EUI_64, designator)


def naa(designator: bytes) -> bytes:
    """NAA (SPC-5 7.7.6.6) of the logical unit: 8 bytes, or 16 for NAA 6."""
    return descriptor(CodeSet.BINARY, Association.LOGICAL_UNIT, DesignatorType.NAA, designator)


def relative_target_port(identifier: int) -> bytes:
    """Relative target port (SPC-5 7.7.6.7)."""
    return descriptor(
        CodeSet.BINARY,
        Association.TARGET_PORT,
        DesignatorType.RELATIVE_TARGET_PORT,
        struct.pack(">I", identifier),
    )


def target_port_group(identifier: int) -> bytes:
    """Target port group (SPC-5 7.7.6.8) of the port through which the command came."""
    return descriptor(
        CodeSet.BINARY,
        Association.TARGET_PORT,
        DesignatorType.TARGET_PORT_GROUP,
        struct.pack(">I", identifier),
    )


def scsi_device_name(name: str) -> bytes:
    """SCSI name string (SPC-5 7.7.6.11) of the target device: ends with nulls, length % 4 is 0."""
    text = name.encode("utf-8")
    padded = text.ljust(len(text) // 4 * 4 + 4, b"\0")
    return descriptor(
        CodeSet.UTF_8, Association.TARGET_DEVICE, DesignatorType.SCSI_NAME_STRING, padded
    )
