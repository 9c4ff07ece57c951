# SPDX-License-Identifier: GPL-2.0-or-later
"""TCMU's netlink events: a listener that lets the kernel's senders succeed.

The kernel refuses to change a device (its size, for one) while nobody is in the multicast group
"config" of the generic netlink family "TCM-USER". Our devices ask for no replies
(nl_reply_supported=-1), so the events themselves need not be read.

Source: netlink(7); Linux, include/uapi/linux/genetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final

FAMILY: Final = "TCM-USER"
GROUP: Final = "config"

_NETLINK_GENERIC: Final = 16
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_GENL_ID_CTRL: Final = 0x10
_CTRL_CMD_GETFAMILY: Final = 3
_CTRL_ATTR_FAMILY_NAME: Final = 2
_CTRL_ATTR_MCAST_GROUPS: Final = 7
_CTRL_ATTR_MCAST_GRP_NAME: Final = 1
_CTRL_ATTR_MCAST_GRP_ID: Final = 2

# nlmsghdr: length, type, flags, sequence, port; then genlmsghdr: command, version.
_MESSAGE = struct.Struct("=IHHIIBBxx")
_MESSAGE_HEADER_BYTES: Final = 16
_ERROR = struct.Struct("=16xi")
# nlattr: length with these four bytes, type.
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_RECEIVE_BYTES: Final = 1 << 16


class NetlinkError(Exception):
    """An answer of the kernel that makes no sense, or no group of that name."""


def family_request(family: str) -> bytes:
    """The message that asks for a family by its name."""
    name = family.encode() + b"\0"
    attribute = _padded(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(name), _CTRL_ATTR_FAMILY_NAME) + name)
    return (
        _MESSAGE.pack(
            _MESSAGE.size + len(attribute),
            _GENL_ID_CTRL,
            _NLM_F_REQUEST,
            1,
            0,
            _CTRL_CMD_GETFAMILY,
            1,
        )
        + attribute
    )


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def parse_group(answer: bytes, group: str) -> int:
    """The number of a multicast group in the answer about its family.

    Raises OSError with what the kernel refused it for, and NetlinkError.
    """
    if len(answer) < _MESSAGE.size:
        raise NetlinkError(f"netlink answer of {len(answer)} bytes")
    length, kind, *_ = _MESSAGE.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (code,) = _ERROR.unpack_from(answer)
        raise OSError(-code, os.strerror(-code), f"netlink family {FAMILY}")
    for number, value in _attributes(answer[_MESSAGE.size : length]):
        if number == _CTRL_ATTR_MCAST_GROUPS:
            for _, nested in _attributes(value):
                fields = dict(_attributes(nested))
                name = fields.get(_CTRL_ATTR_MCAST_GRP_NAME, b"").rstrip(b"\0")
                if name == group.encode() and _CTRL_ATTR_MCAST_GRP_ID in fields:
                    return int.from_bytes(fields[_CTRL_ATTR_MCAST_GRP_ID][:4], sys.byteorder)
    raise NetlinkError(f"netlink family {FAMILY} has no group {group}")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute; raises NetlinkError."""
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if not _ATTRIBUTE.size <= length <= len(data) - position:
            raise NetlinkError(f"netlink attribute of {length} bytes")
        yield kind & _TYPE_MASK, data[position + _ATTRIBUTE.size : position + length]
        position += length + -length % 4


def open_events() -> socket.socket:
    """Return a socket in the group, to be drained when it is readable.

    Raises OSError or NetlinkError.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    events = socket.socket(socket.AF_NETLINK, kind, _NETLINK_GENERIC)
    try:
        events.bind((0, 0))
        events.settimeout(1.0)
        events.send(family_request(FAMILY))
        group = parse_group(events.recv(_RECEIVE_BYTES), GROUP)
        events.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        events.setblocking(False)
    except BaseException:
        events.close()
        raise
    return events


def drain(events: socket.socket) -> None:
    """Read every event that is there."""
    while True:
        try:
            events.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            # ENOBUFS: events were lost, which does not matter since none is looked into.
            if error.errno != errno.ENOBUFS:
                raise
