# SPDX-License-Identifier: GPL-2.0-or-later
"""The records with which a connection to the local bridge begins; ``wire`` is their specification.

Bytes in, bytes out: no sockets, no targets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bridges.local.wire import (
    MAGIC,
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
    MAX_TEXT_BYTES,
    VERSION,
    FrameError,
    clip_text,
    decode_lun,
    encode_lun,
)

# magic, lowest and highest version, name length, label length.
HELLO_REQUEST: Final = struct.Struct(">8sHHHH")
# magic, status, version, LUN, maximum data length, initiator name length, text length, reserved.
HELLO_REPLY: Final = struct.Struct(">8sHHQIHH4x")


class HelloStatus(IntEnum):
    """How a server answers a hello."""

    OK = 0
    NO_SUCH_TARGET = 1
    VERSION_NOT_SPOKEN = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class HelloRequest:
    """Client to server, once, first."""

    name: str = ""
    label: str = ""
    lowest_version: int = VERSION
    highest_version: int = VERSION

    def serialize(self) -> bytes:
        """Return the record; raises ValueError if name or label is too long."""
        name, label = self.name.encode(), self.label.encode()
        for what, data, limit in (
            ("name", name, MAX_NAME_BYTES),
            ("label", label, MAX_LABEL_BYTES),
        ):
            if len(data) > limit:
                raise ValueError(f"{what} of {len(data)} bytes: expected at most {limit}")
        head = HELLO_REQUEST.pack(
            MAGIC, self.lowest_version, self.highest_version, len(name), len(label)
        )
        return head + name + label

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple[HelloRequest, int] | None:
        """Return the record and its length in bytes, None while more are needed.

        Raises FrameError as soon as the bytes cannot be a hello.
        """
        if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
            raise FrameError(f"hello does not begin with {MAGIC.decode()}")
        if len(data) < HELLO_REQUEST.size:
            return None
        _, lowest, highest, name_length, label_length = HELLO_REQUEST.unpack_from(data)
        if name_length > MAX_NAME_BYTES:
            raise FrameError(f"name of {name_length} bytes: expected at most {MAX_NAME_BYTES}")
        if label_length > MAX_LABEL_BYTES:
            raise FrameError(f"label of {label_length} bytes: expected at most {MAX_LABEL_BYTES}")
        label_at = HELLO_REQUEST.size + name_length
        end = label_at + label_length
        if len(data) < end:
            return None
        name = _decode(data[HELLO_REQUEST.size : label_at], "name")
        label = _decode(data[label_at:end], "label")
        return cls(name, label, lowest, highest), end


@dataclass(frozen=True, slots=True)
class HelloReply:
    """Server to client; frames follow where ``status`` is OK, else the connection ends."""

    status: int
    version: int = 0
    lun: int = 0
    max_data_bytes: int = 0
    initiator_name: str = ""
    text: str = ""

    def serialize(self) -> bytes:
        """Return the record; a long text is cut."""
        name, text = self.initiator_name.encode(), clip_text(self.text)
        head = HELLO_REPLY.pack(
            MAGIC,
            self.status,
            self.version,
            encode_lun(self.lun),
            self.max_data_bytes,
            len(name),
            len(text),
        )
        return head + name + text

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple[HelloReply, int] | None:
        """Return the record and its length in bytes, None while more are needed.

        Raises FrameError.
        """
        if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
            raise FrameError(f"reply to hello does not begin with {MAGIC.decode()}")
        if len(data) < HELLO_REPLY.size:
            return None
        fields = HELLO_REPLY.unpack_from(data)
        _, status, version, raw_lun, max_data_bytes, name_length, text_length = fields
        lun = decode_lun(raw_lun)
        if lun is None or name_length > MAX_NAME_BYTES or text_length > MAX_TEXT_BYTES:
            raise FrameError("reply to hello has fields out of range")
        text_at = HELLO_REPLY.size + name_length
        end = text_at + text_length
        if len(data) < end:
            return None
        name = _decode(data[HELLO_REPLY.size : text_at], "initiator name")
        text = _decode(data[text_at:end], "text")
        return cls(status, version, lun, max_data_bytes, name, text), end

    @staticmethod
    def missing_bytes(data: bytes | memoryview) -> int:
        """How many bytes a record that begins like this lacks at least."""
        if len(data) < HELLO_REPLY.size:
            return HELLO_REPLY.size - len(data)
        *_, name_length, text_length = HELLO_REPLY.unpack_from(data)
        end: int = HELLO_REPLY.size + name_length + text_length
        return end - len(data)


def _decode(data: bytes | memoryview, what: str) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise FrameError(f"{what} is not UTF-8") from error
