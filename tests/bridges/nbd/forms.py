# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests and replies in each form, and what no server may send, written from proto.md.

``Form`` makes requests, ``messages`` takes a server's bytes apart, and ``Transcript`` puts the
messages together to answers; whatever the protocol forbids fails the test.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum

from tests.bridges.nbd.proto import BLOCK_STATUS, READ, REQ_ONE, WRITE

PAYLOAD_LEN = 32
DONE = 1
NONE, OFFSET_DATA, OFFSET_HOLE, STATUS, STATUS_EXT = 0, 1, 2, 5, 6
ERROR, ERROR_OFFSET = 0x8001, 0x8002
BASE_ALLOCATION = 7

_COMPACT = struct.Struct(">IHHQQI")
_EXTENDED = struct.Struct(">IHHQQQ")
_SIMPLE_REPLY = struct.Struct(">IIQ")
_CHUNK = struct.Struct(">IHHQI")


class Form(Enum):
    """The three forms."""

    SIMPLE = "simple"
    STRUCTURED = "structured"
    EXTENDED = "extended"

    @property
    def header_bytes(self) -> int:
        """The length of a request without its payload."""
        return 32 if self is Form.EXTENDED else 28

    def request(
        self,
        kind: int,
        cookie: int,
        offset: int = 0,
        length: int = 0,
        flags: int = 0,
        payload: bytes = b"",
    ) -> bytes:
        """A request as it is to be; the payload of a WRITE follows its header."""
        if self is Form.EXTENDED:
            if kind == WRITE:
                flags |= PAYLOAD_LEN
            return _EXTENDED.pack(0x21E41C71, flags, kind, cookie, offset, length) + payload
        return _COMPACT.pack(0x25609513, flags, kind, cookie, offset, length) + payload

    def write(self, cookie: int, offset: int, payload: bytes, flags: int = 0) -> bytes:
        """A WRITE with its payload."""
        return self.request(WRITE, cookie, offset, len(payload), flags, payload)


def status_request(cookie: int, offset: int, length: int, *ids: int, flags: int = 0) -> bytes:
    """An extended BLOCK_STATUS with a payload that chooses contexts."""
    payload = struct.pack(f">Q{len(ids)}I", length, *ids)
    flags |= PAYLOAD_LEN
    return Form.EXTENDED.request(BLOCK_STATUS, cookie, offset, len(payload), flags, payload)


@dataclass(frozen=True, slots=True)
class Message:
    """One simple reply (``kind`` None, with ``error``), chunk or extended reply."""

    kind: int | None
    cookie: int
    flags: int = DONE
    error: int = 0
    offset: int | None = None
    payload: bytes = b""


def messages(data: bytes, form: Form, read_lengths: dict[int, int]) -> list[Message]:
    """Take a server's bytes apart; ``read_lengths`` are the data behind simple replies."""
    found = []
    while data:
        magic = data[:4].hex()
        if magic == "67446698":
            assert form is not Form.EXTENDED, "a simple reply after extended headers"
            _, error, cookie = _SIMPLE_REPLY.unpack_from(data)
            length = 0 if error else read_lengths.get(cookie, 0)
            size = _SIMPLE_REPLY.size
            message = Message(None, cookie, DONE, error, None, data[size : size + length])
        elif magic == "668e33ef":
            assert form is Form.STRUCTURED, "a chunk that was not negotiated"
            _, flags, kind, cookie, length = _CHUNK.unpack_from(data)
            size = _CHUNK.size
            message = Message(kind, cookie, flags, 0, None, data[size : size + length])
        else:
            assert magic == "6e8a278c", f"reply magic {magic}"
            assert form is Form.EXTENDED, "an extended reply that was not negotiated"
            _, flags, kind, cookie, offset, length = _EXTENDED.unpack_from(data)
            size = _EXTENDED.size
            message = Message(kind, cookie, flags, 0, offset, data[size : size + length])
        assert len(data) >= size + length, "a reply that is cut off"
        found.append(message)
        data = data[size + length :]
    return found


def without_texts(data: bytes, form: Form) -> bytes:
    """The bytes of structured or extended replies, with the texts of errors cut out of them."""
    kept = []
    is_extended = form is Form.EXTENDED
    header, magic = (_EXTENDED, "6e8a278c") if is_extended else (_CHUNK, "668e33ef")
    while data:
        if data[:4].hex() != magic:
            size = _SIMPLE_REPLY.size
            kept.append(data[:size])
            data = data[size:]
            continue
        *fields, length = header.unpack_from(data)
        payload, data = data[header.size : header.size + length], data[header.size + length :]
        assert len(payload) == length
        if fields[2] & 0x8000:
            text_bytes = int.from_bytes(payload[4:6], "big")
            payload[6 : 6 + text_bytes].decode()
            payload = payload[:4] + bytes(2) + payload[6 + text_bytes :]
        kept.append(header.pack(*fields, len(payload)) + payload)
    return b"".join(kept)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that waits for its answer."""

    kind: int
    offset: int
    length: int
    flags: int = 0


@dataclass(slots=True)
class Answer:
    """Everything that was said to one request."""

    cookie: int
    error: int = 0
    # Where READ data lie in the export.
    pieces: dict[int, bytes] = field(default_factory=dict)
    extents: list[tuple[int, int]] | None = None
    error_offset: int | None = None
    text: str = ""

    @property
    def data(self) -> bytes:
        """The data in their order."""
        return b"".join(self.pieces[at] for at in sorted(self.pieces))


class Transcript:
    """Puts replies together. Requests with the same cookie must be answered in their order."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._asked: defaultdict[int, list[Asked]] = defaultdict(list)
        self._begun: dict[int, Answer] = {}

    def ask(self, cookie: int, asked: Asked) -> None:
        """Take note of a request."""
        self._asked[cookie].append(asked)

    def take(self, data: bytes) -> list[Answer]:
        """The answers that these bytes complete."""
        lengths = {
            cookie: all_asked[0].length
            for cookie, all_asked in self._asked.items()
            if all_asked and all_asked[0].kind == READ
        }
        finished = []
        for message in messages(data, self._form, lengths):
            asked = self._asked[message.cookie][0]
            answer = self._begun.setdefault(message.cookie, Answer(message.cookie))
            self._add(answer, asked, message)
            if message.flags & DONE:
                _check_success(answer, asked)
                del self._begun[message.cookie], self._asked[message.cookie][0]
                finished.append(answer)
        return finished

    def _add(self, answer: Answer, asked: Asked, message: Message) -> None:
        assert message.flags & ~DONE == 0, "unknown flags"
        if message.offset is not None:
            assert message.offset == asked.offset, "the offset is to be the request's"
        if message.kind is None:
            assert self._form is Form.SIMPLE or asked.kind not in (READ, BLOCK_STATUS)
            answer.error = message.error
            if asked.kind == READ and not message.error:
                answer.pieces[asked.offset] = message.payload
        else:
            _TAKERS[message.kind](answer, asked, message)


def _take_none(answer: Answer, asked: Asked, message: Message) -> None:
    assert message.payload == b""
    assert message.flags & DONE, "NONE that does not end the reply"


def _take_data(answer: Answer, asked: Asked, message: Message) -> None:
    assert asked.kind == READ
    (at,) = struct.unpack_from(">Q", message.payload)
    _put_piece(answer, asked, at, message.payload[8:])


def _take_hole(answer: Answer, asked: Asked, message: Message) -> None:
    assert asked.kind == READ
    at, length = struct.unpack(">QI", message.payload)
    _put_piece(answer, asked, at, bytes(length))


def _put_piece(answer: Answer, asked: Asked, at: int, data: bytes) -> None:
    assert data, "an empty chunk"
    assert not answer.error, "data behind an error"
    assert asked.offset <= at
    assert at + len(data) <= asked.offset + asked.length, "data that were not asked for"
    for other, piece in answer.pieces.items():
        assert at + len(data) <= other or other + len(piece) <= at, "data that overlap"
    answer.pieces[at] = data


def _take_status(answer: Answer, asked: Asked, message: Message) -> None:
    size = len(message.payload)
    assert asked.kind == BLOCK_STATUS
    assert answer.extents is None, "a second chunk for the same context"
    context = int.from_bytes(message.payload[:4], "big")
    assert context == BASE_ALLOCATION
    if message.kind == STATUS:
        assert size % 8 == 4
        answer.extents = list(struct.iter_unpack(">II", message.payload[4:]))
    else:
        assert int.from_bytes(message.payload[4:8], "big") == (size - 8) // 16
        answer.extents = list(struct.iter_unpack(">QQ", message.payload[8:]))
    assert answer.extents, "no extent"
    assert all(length and flags < 4 for length, flags in answer.extents)
    if asked.flags & REQ_ONE:
        assert len(answer.extents) == 1
        assert answer.extents[0][0] <= asked.length


def _take_error(answer: Answer, asked: Asked, message: Message) -> None:
    error, length = struct.unpack_from(">IH", message.payload)
    assert error, "an error that is none"
    assert length <= 4096
    text, rest = message.payload[6 : 6 + length], message.payload[6 + length :]
    assert len(text) == length
    answer.error, answer.text = error, text.decode()
    if message.kind == ERROR_OFFSET:
        (answer.error_offset,) = struct.unpack(">Q", rest)
        assert asked.offset <= answer.error_offset < asked.offset + asked.length
    else:
        assert rest == b""


_TAKERS = {
    NONE: _take_none,
    OFFSET_DATA: _take_data,
    OFFSET_HOLE: _take_hole,
    STATUS: _take_status,
    STATUS_EXT: _take_status,
    ERROR: _take_error,
    ERROR_OFFSET: _take_error,
}


def _check_success(answer: Answer, asked: Asked) -> None:
    if answer.error:
        return
    if asked.kind == READ:
        assert len(answer.data) == asked.length, "a success that does not cover the request"
