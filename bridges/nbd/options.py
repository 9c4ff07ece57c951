# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD options and the data of their replies (proto.md, "Option types", "Option reply types").

Bytes to records and back, and how many bytes a client may send. What an option means, and whether
it may come, is ``handshake``'s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bridges.nbd import wire
from bridges.nbd.wire import Info, OptionReply
from bridges.stream_session import PeerError

# The longest are metadata queries: a name and some more strings of at most 4 KiB.
_MAX_OPTION_BYTES = 64 << 10
# A whole option, with its header.
MAX_FRAME_BYTES = wire.OPTION.size + _MAX_OPTION_BYTES
# nbdkit stops at 32 options; a client that lists and asks about many exports needs more.
_MAX_OPTIONS = 1024
# Names for that many options, each as long as a string can be.
_MAX_TOTAL_BYTES = _MAX_OPTIONS * wire.MAX_STRING_BYTES
# There is one context to ask for; qemu and libnbd send a handful of queries.
MAX_QUERIES = 1024


class OptionError(Exception):
    """An option is refused; carries the error reply and its text for people."""

    def __init__(self, reply: OptionReply, text: str) -> None:
        super().__init__(text)
        self.reply = reply
        self.text = text


@dataclass(frozen=True, slots=True)
class Frame:
    """One option as it came, of ``end`` bytes with its header; any number may be an option's."""

    option: int
    data: bytes
    end: int


class Framing:
    """Takes options off the front of what was received, until they cost more than they may."""

    def __init__(self) -> None:
        self._options = 0
        self._bytes = 0

    def take(self, received: memoryview) -> Frame | None:
        """The option in front, None where it is not whole; raises PeerError."""
        if len(received) < wire.OPTION.size:
            return None
        magic, option, length = wire.OPTION.unpack_from(received)
        if magic != wire.IHAVEOPT:
            raise PeerError(f"option magic {magic:#x}: expected {wire.IHAVEOPT:#x}")
        if length > _MAX_OPTION_BYTES:
            raise PeerError(f"option {option} of {length} bytes: expected {_MAX_OPTION_BYTES}")
        end: int = wire.OPTION.size + length
        if len(received) < end:
            return None
        self._count(length)
        return Frame(option, bytes(received[wire.OPTION.size : end]), end)

    def _count(self, length_bytes: int) -> None:
        self._options += 1
        if self._options > _MAX_OPTIONS:
            raise PeerError(f"more than {_MAX_OPTIONS} options")
        self._bytes += length_bytes
        if self._bytes > _MAX_TOTAL_BYTES:
            raise PeerError(f"more than {_MAX_TOTAL_BYTES} bytes of options")


@dataclass(frozen=True, slots=True)
class InfoRequest:
    """The data of INFO and GO: u32 length and name of the export, u16 count, u16 each."""

    export_name: str
    # Numbers of ``Info``, and others that no server knows.
    kinds: frozenset[int]

    @classmethod
    def parse(cls, data: bytes) -> InfoRequest:
        """Take the data apart; raises OptionError."""
        reader = _Reader(data)
        name = reader.string("export name")
        kinds = frozenset(reader.integer(2) for _ in range(reader.integer(2)))
        reader.end()
        return cls(name, kinds)


@dataclass(frozen=True, slots=True)
class MetaContextRequest:
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT.

    u32 length and name of the export, u32 count, then u32 length and text of each query.
    """

    export_name: str
    queries: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes) -> MetaContextRequest:
        """Take the data apart; raises OptionError."""
        reader = _Reader(data)
        name = reader.string("export name")
        count = reader.integer(4)
        # A count that the data cannot hold ends where the data does, not after 2^32 rounds.
        queries = tuple(reader.string("query") for _ in range(count))
        reader.end()
        if count > MAX_QUERIES:
            text = f"{count} queries: expected at most {MAX_QUERIES}"
            raise OptionError(OptionReply.ERR_TOO_BIG, text)
        return cls(name, queries)


class _Reader:
    """Takes numbers and strings off the front of an option's data; raises OptionError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def integer(self, width_bytes: int) -> int:
        """The next unsigned number."""
        return int.from_bytes(self._take(width_bytes), "big")

    def string(self, what: str) -> str:
        """The next string, with its length in front."""
        return decode_string(self._take(self.integer(4)), what)

    def end(self) -> None:
        """Make sure that nothing is left."""
        rest = len(self._data) - self._position
        if rest:
            raise _invalid(f"{rest} bytes more than the counts in the option tell")

    def _take(self, length_bytes: int) -> bytes:
        end = self._position + length_bytes
        if end > len(self._data):
            raise _invalid("the option is shorter than the lengths in it tell")
        taken = self._data[self._position : end]
        self._position = end
        return taken


def _invalid(text: str) -> OptionError:
    return OptionError(OptionReply.ERR_INVALID, text)


def decode_string(data: bytes, what: str) -> str:
    """Return a string of the protocol ("Conventions"); raises OptionError naming ``what``."""
    if len(data) > wire.MAX_STRING_BYTES:
        raise _invalid(f"{what} of {len(data)} bytes: expected at most {wire.MAX_STRING_BYTES}")
    if 0 in data:
        raise _invalid(f"{what} contains NUL")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _invalid(f"{what} is not UTF-8") from None


def server(name: str, description: str) -> bytes:
    """The data of a SERVER reply: u32 length and name of an export, then text for people."""
    encoded = name.encode()
    return struct.pack(">I", len(encoded)) + encoded + description.encode()


def info_text(kind: Info, text: str) -> bytes:
    """The data of an INFO reply for NAME or DESCRIPTION."""
    return wire.INFO_TEXT.pack(kind) + text.encode()


def meta_context(context_id: int, name: str) -> bytes:
    """The data of a META_CONTEXT reply."""
    return wire.META_CONTEXT.pack(context_id) + name.encode()
