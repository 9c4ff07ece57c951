# SPDX-License-Identifier: GPL-2.0-or-later
"""TransportIDs: how persistent reservations name initiator ports (SPC-5 7.6.4).

None of the protocols here has TransportIDs of its own, so an initiator gets one of the iSCSI kind,
whose names are free text and appear readably in ``sg_persist --read-full-status``: this prefix,
and the initiator's name with what iSCSI names may not have replaced by %hex.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

NAME_PREFIX: Final = "iqn.2026-11.scst-bridge:"
_PROTOCOL_ISCSI: Final = 0x05
_FORMAT_AND_PROTOCOL_BITS: Final = 0xCF
_HEADER_BYTES: Final = 4
# RFC 7143 4.2.7.2.
_MAX_NAME_BYTES: Final = 223
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-.:")
# SPC-5 7.6.4.6: ADDITIONAL LENGTH is at least 20, and a multiple of four.
_MIN_ADDITIONAL_BYTES: Final = 20


def transport_id(initiator_name: str) -> bytes:
    """Return the TransportID of an initiator; equal names have equal ones, others do not."""
    name = NAME_PREFIX + "".join(map(_escaped, initiator_name.encode()))
    if len(name) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(initiator_name.encode()).hexdigest()
        name = name[: _MAX_NAME_BYTES - len(digest) - 1] + ":" + digest
    data = name.encode() + b"\0"
    length = max(_MIN_ADDITIONAL_BYTES, len(data) + 3 & ~3)
    return struct.pack(">BBH", _PROTOCOL_ISCSI, 0, length) + data.ljust(length, b"\0")


def _escaped(byte: int) -> str:
    return chr(byte) if byte in _PLAIN else f"%{byte:02X}"


def parse_transport_id(data: bytes) -> tuple[bytes, int] | None:
    """Return the TransportID that begins here and its length in bytes; None for any other kind.

    iSCSI TransportIDs without a session identifier (format 00b) are known.
    """
    if len(data) < _HEADER_BYTES or data[0] & _FORMAT_AND_PROTOCOL_BITS != _PROTOCOL_ISCSI:
        return None
    length = int.from_bytes(data[2:4], "big")
    end = _HEADER_BYTES + length
    name, _, padding = data[_HEADER_BYTES:end].partition(b"\0")
    if length < _MIN_ADDITIONAL_BYTES or length % 4 or end > len(data):
        return None
    if not name or len(name) == length or any(padding):
        return None
    return data[:end], end


def transport_id_text(data: bytes) -> str:
    """Return the name in a TransportID that ``parse_transport_id`` knows, else its hex digits."""
    parsed = parse_transport_id(data)
    if parsed is None or parsed[1] != len(data):
        return data.hex()
    return data[_HEADER_BYTES:].rstrip(b"\0").decode("ascii", "replace")
