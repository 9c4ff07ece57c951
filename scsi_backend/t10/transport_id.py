# SPDX-License-Identifier: GPL-2.0-or-later
"""TransportIDs: how persistent reservations name initiator ports (SPC-5 7.6.4).

None of the protocols here has TransportIDs of its own, so an initiator gets one of the iSCSI kind,
whose names are free text and appear readably in ``sg_persist --read-full-status``: this prefix,
and the initiator's name with what iSCSI names may not have replaced by %hex.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Final
from urllib.parse import unquote

NAME_PREFIX: Final = "iqn.2026-11.scst-bridge:"
_PROTOCOL_ISCSI: Final = 0x05
_FORMAT_AND_PROTOCOL_BITS: Final = 0xCF
_HEADER_BYTES: Final = 4
# RFC 7143 4.2.7.2.
_MAX_NAME_BYTES: Final = 223
_DIGEST_CHARACTERS: Final = 64
_KEPT_CHARACTERS: Final = _MAX_NAME_BYTES - 1 - _DIGEST_CHARACTERS
_CUT: Final = re.compile(f".{{{_KEPT_CHARACTERS}}}:[0-9a-f]{{{_DIGEST_CHARACTERS}}}")
# With the NUL behind the name.
MAX_TRANSPORT_ID_BYTES: Final = _HEADER_BYTES + _MAX_NAME_BYTES + 1
# RFC 7143 4.2.7.3: how iSCSI names begin.
_ISCSI_NAMES: Final = ("iqn.", "eui.", "naa.")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-.:")
# SPC-5 7.6.4.6: ADDITIONAL LENGTH is at least 20, and a multiple of four.
_MIN_ADDITIONAL_BYTES: Final = 20


def transport_id(initiator_name: str) -> bytes:
    """Return the TransportID of an initiator; equal names have equal ones, others do not."""
    name = NAME_PREFIX + "".join(map(_escaped, initiator_name.encode()))
    # What looks as if it had been cut could be another's that was.
    if len(name) > _MAX_NAME_BYTES or _CUT.fullmatch(name):
        digest = hashlib.sha256(initiator_name.encode()).hexdigest()
        name = f"{name[:_KEPT_CHARACTERS]}:{digest}"
    return _packed(name.encode())


def _packed(name: bytes) -> bytes:
    length = max(_MIN_ADDITIONAL_BYTES, len(name) + 4 & ~3)
    return struct.pack(">BBH", _PROTOCOL_ISCSI, 0, length) + name.ljust(length, b"\0")


def _escaped(byte: int) -> str:
    return chr(byte) if byte in _PLAIN else f"%{byte:02X}"


def parse_transport_id(data: bytes, start: int = 0) -> tuple[bytes, int] | None:
    """Return the TransportID that begins there and its length in bytes; None for any other kind.

    iSCSI TransportIDs without a session identifier (format 00b) are known. One with more padding
    than it needs is returned without, since it names the same initiator port.
    """
    header = data[start : start + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[0] & _FORMAT_AND_PROTOCOL_BITS != _PROTOCOL_ISCSI:
        return None
    length = int.from_bytes(header[2:], "big")
    end = start + _HEADER_BYTES + length
    name, _, padding = data[start + _HEADER_BYTES : end].partition(b"\0")
    if length < _MIN_ADDITIONAL_BYTES or length % 4 or end > len(data):
        return None
    if not 0 < len(name) <= min(_MAX_NAME_BYTES, length - 1) or any(padding):
        return None
    return _packed(name), end - start


def transport_id_text(data: bytes) -> str:
    """Return the iSCSI name in a TransportID that ``parse_transport_id`` knows, else hex digits."""
    parsed = parse_transport_id(data)
    if parsed is None or parsed[1] != len(data):
        return data.hex()
    try:
        name = data[_HEADER_BYTES:].rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return data.hex()
    return name if name.isprintable() and name.startswith(_ISCSI_NAMES) else data.hex()


def initiator_text(data: bytes) -> str:
    """Call an initiator as it logged in, or else as ``transport_id_text`` does.

    ``named_transport_id`` is the way back from names.
    """
    text = transport_id_text(data)
    name = unquote(text.removeprefix(NAME_PREFIX))
    is_ours = name and name.isprintable() and named_transport_id(name) == data
    return name if is_ours else text


def named_transport_id(text: str) -> bytes:
    """Return the TransportID of an initiator, or of a whole iSCSI name; raises ValueError."""
    if not text.startswith(_ISCSI_NAMES):
        return transport_id(text)
    name = text.encode()
    if len(name) > _MAX_NAME_BYTES:
        raise ValueError(f"name of {len(name)} bytes: expected at most {_MAX_NAME_BYTES}")
    return _packed(name)
