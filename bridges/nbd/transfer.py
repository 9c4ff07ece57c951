# SPDX-License-Identifier: GPL-2.0-or-later
"""A READ or WRITE of whole blocks on its way, and which requests are just that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridges.buffers import Chunk
from bridges.lun import LunInfo
from bridges.nbd.wire import MAX_PAYLOAD_BYTES, CommandFlag
from scsi_backend.servers.command import ReadByReference

_FUA = int(CommandFlag.FUA)
_PAYLOAD_LEN = int(CommandFlag.PAYLOAD_LEN)


class Transfer(ReadByReference):
    """The command of a plain READ or WRITE, with what its reply needs.

    A READ is by reference where it has no memory from the beginning (``LongRead``).
    """

    __slots__ = ("chunk", "cookie", "end", "is_held", "offset", "start")

    cookie: int
    offset: int
    # Where the reply (READ) or the payload (WRITE) lies.
    chunk: Chunk
    start: int
    end: int
    # Whether a WRITE keeps its chunk, or a LongRead without memory counts as if it had some.
    is_held: bool


class LongRead(Transfer):
    """A READ whose data may be sent from where they lie; ``has_memory`` once they may not."""

    __slots__ = ("has_memory", "length_bytes", "reserve")

    has_memory: bool
    length_bytes: int
    reserve: Callable[[LongRead], memoryview]

    def provide(self, length_bytes: int) -> memoryview:
        """See ``ReadByReference.provide``: memory behind the reply's header."""
        return self.reserve(self)


@dataclass(frozen=True, slots=True)
class PlainLimits:
    """What a request must keep to, to be one CDB: made anew when the LUN has changed.

    ``flags`` are those of READ and of WRITE; a read-only LUN has none for WRITE.
    """

    info: LunInfo
    size_bytes: int
    max_bytes: int
    flags: tuple[frozenset[int], frozenset[int]]

    @classmethod
    def of(cls, info: LunInfo, *, is_extended: bool) -> PlainLimits:
        """Work the limits out."""
        max_bytes = MAX_PAYLOAD_BYTES
        if info.limits.max_transfer:
            max_bytes = min(max_bytes, info.limits.max_transfer * info.block_size_bytes)
        # With a volatile cache and no FUA bit a durable write takes two commands.
        is_fua_plain = info.has_fua or not info.has_volatile_cache
        write_flags = {0, _FUA} if is_fua_plain else {0}
        if is_extended:
            # The flag is to be set; qemu too serves a client that forgot it.
            write_flags |= {flags | _PAYLOAD_LEN for flags in write_flags}
        if info.is_read_only:
            write_flags = set()
        return cls(info, info.size_bytes, max_bytes, (frozenset({0, _FUA}), frozenset(write_flags)))
