# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory on its way to and from a stream socket, without copies.

``Chunk`` counts who still uses a buffer of the SGV cache: the stream that fills or empties it, and
the commands whose data lies in it. ``Outgoing`` collects replies: a command's reply is *reserved*
when the request is parsed, so that the medium is read straight behind the reply's header, and
*committed* when it is complete. What is committed side by side leaves in one send.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from scsi_backend.io.located import FileRange
from scsi_backend.io.sgv import SgvBuffer, SgvCache

CHUNK_BYTES = 256 << 10
# Bytes of a file take no memory of ours, but each turn of a stream looks for as many as it may
# queue, and what waits for its peer may leave the page cache meanwhile; an eighth of them counts.
_FILE_SHIFT = 3


class Chunk:
    """A shared buffer; it returns to the cache when the last user lets go."""

    __slots__ = ("_buffer", "_sgv", "uses", "view")

    def __init__(self, sgv: SgvCache, size_bytes: int) -> None:
        self._sgv = sgv
        self._buffer: SgvBuffer = sgv.get(size_bytes)
        self.view = self._buffer.view
        self.uses = 1

    def hold(self) -> None:
        """Add a user."""
        self.uses += 1

    def release(self, uses: int = 1) -> None:
        """Take users away."""
        self.uses -= uses
        if self.uses == 0:
            self._sgv.put(self._buffer)


class _Segment:
    """Committed bytes that lie side by side, and how many replies they are."""

    __slots__ = ("chunk", "end", "replies", "start")

    def __init__(self, chunk: Chunk, start: int, end: int) -> None:
        self.chunk = chunk
        self.start = start
        self.end = end
        self.replies = 1


class FileSegment:
    """Committed bytes that are to be sent from a file, and what they count for until then."""

    __slots__ = ("descriptor", "end", "fd", "share_bytes", "start")

    def __init__(self, where: FileRange, length_bytes: int) -> None:
        self.fd = where.fd
        self.descriptor = where.descriptor
        self.start = where.offset_bytes
        self.end = self.start + length_bytes
        self.share_bytes = length_bytes >> _FILE_SHIFT
        if self.descriptor is not None:
            self.descriptor.hold()

    def let_go(self) -> None:
        """All of it has left, or nothing more is to."""
        if self.descriptor is not None:
            self.descriptor.release()


class Outgoing:
    """The replies of one stream, in the order in which they were committed."""

    def __init__(self, sgv: SgvCache) -> None:
        self._sgv = sgv
        self.chunk = Chunk(sgv, CHUNK_BYTES)
        self._tail = 0
        self._segments: deque[_Segment | FileSegment] = deque()
        self._last: _Segment | None = None
        self.queued_bytes = 0
        # What has been reserved in the chunk, and in those before it that are still in use: replies
        # that wait for the medium take memory as much as those that wait for the peer.
        self.used_bytes = 0
        self._retired: dict[Chunk, int] = {}

    def reserve(self, length_bytes: int) -> int:
        """Set ``length_bytes`` of ``self.chunk`` aside; return where they begin."""
        start = self._tail
        end = start + length_bytes
        chunk = self.chunk
        if end > len(chunk.view):
            chunk = self._next_chunk(length_bytes)
            start, end = 0, length_bytes
        self._tail = end
        self.used_bytes += length_bytes
        chunk.uses += 1
        return start

    def _next_chunk(self, length_bytes: int) -> Chunk:
        # First, because it may be that there is no memory.
        fresh = Chunk(self._sgv, max(CHUNK_BYTES, length_bytes))
        self._retired[self.chunk] = self._tail
        self._release(self.chunk, 1)
        self.chunk = fresh
        return fresh

    def _release(self, chunk: Chunk, uses: int) -> None:
        chunk.release(uses)
        if chunk.uses == 0:
            self.used_bytes -= self._retired.pop(chunk)

    def shorten(self, chunk: Chunk, reserved_end: int, end: int) -> bool:
        """Give the end of a reservation back, which only the last one can; tell whether it was."""
        if chunk is not self.chunk or self._tail != reserved_end:
            return False
        self._tail = end
        self.used_bytes -= reserved_end - end
        return True

    def cancel(self, chunk: Chunk) -> None:
        """Give a whole reservation up; its bytes are used again once the chunk is."""
        self._release(chunk, 1)
        if not self._segments and self.chunk.uses == 1:
            self._begin_again()

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        """Queue reserved bytes for sending; they may be fewer than were reserved."""
        last = self._last
        if last is not None and last.end == start and last.chunk is chunk:
            last.end = end
            last.replies += 1
        else:
            self._last = _Segment(chunk, start, end)
            self._segments.append(self._last)
        self.queued_bytes += end - start

    def commit_file(self, where: FileRange, length_bytes: int) -> None:
        """Queue bytes of a file behind what is queued."""
        self._last = None
        segment = FileSegment(where, length_bytes)
        self._segments.append(segment)
        self.queued_bytes += length_bytes
        self.used_bytes += segment.share_bytes

    @property
    def file(self) -> FileSegment | None:
        """What is to be sent next, if that comes from a file."""
        first = self._segments[0] if self._segments else None
        return first if isinstance(first, FileSegment) else None

    def views(self, limit: int) -> list[memoryview]:
        """The next bytes to send up to the next file, in at most ``limit`` pieces."""
        found = []
        for segment in islice(self._segments, limit):
            if isinstance(segment, FileSegment):
                break
            found.append(segment.chunk.view[segment.start : segment.end])
        return found

    def sent(self, count_bytes: int) -> None:
        """Take note that the first ``count_bytes`` are on their way."""
        self.queued_bytes -= count_bytes
        while count_bytes:
            segment = self._segments[0]
            length = segment.end - segment.start
            if count_bytes < length:
                segment.start += count_bytes
                return
            count_bytes -= length
            self._segments.popleft()
            if isinstance(segment, FileSegment):
                self.used_bytes -= segment.share_bytes
                segment.let_go()
                continue
            if segment is self._last:
                self._last = None
            self._release(segment.chunk, segment.replies)
        if not self._segments and self.chunk.uses == 1:
            self._begin_again()

    def _begin_again(self) -> None:
        """Nobody uses the chunk: use its front again, which is warm in the cache."""
        self.used_bytes -= self._tail
        self._tail = 0
        if len(self.chunk.view) > CHUNK_BYTES:
            # One long reply shall not cost an idle connection its memory for good.
            self.chunk.release()
            self.chunk = Chunk(self._sgv, CHUNK_BYTES)

    def close(self) -> None:
        """Let go of everything that was not sent."""
        for segment in self._segments:
            if isinstance(segment, FileSegment):
                segment.let_go()
            else:
                segment.chunk.release(segment.replies)
        self._segments.clear()
        self._retired.clear()
        self._last = None
        self.queued_bytes = self.used_bytes = 0
        self.chunk.release()
