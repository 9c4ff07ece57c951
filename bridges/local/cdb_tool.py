# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge cdb``: one CDB from the command line, and its outcome as text.

Pure functions around one ``UnitClient``; printing, and finding the socket, are the command line's
business. CDBs are sent as they were typed, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

from bridges.exchange import Request
from bridges.local.unit_client import Place, UnitClient, connected
from bridges.local.wire import MAX_CDB_BYTES
from bridges.recovery import Reply
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.additional_sense import additional_sense_text
from scsi_backend.t10.cdb import BlockRange, Field
from scsi_backend.t10.opcodes import Opcode, opcode_text
from scsi_backend.t10.sense import PROGRESS_END, Sense, SenseKey
from scsi_backend.t10.status import Status, status_text

DEFAULT_LIMIT_BYTES: Final = 64 << 10
EXIT_GOOD: Final = 0
EXIT_FAILED: Final = 2

_MIN_CDB_BYTES = 16
_DUMP_BYTES_PER_LINE = 16
_READ_CAPACITY_BYTES = 32


def parse_hex(words: Sequence[str]) -> bytes:
    """Return the CDB in hex words: two digits a byte, blanks and 0x allowed; raises ValueError."""
    data = bytearray()
    for word in " ".join(words).split():
        digits = word[2:] if word[:2] in ("0x", "0X") else word
        if not digits or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            raise ValueError(f"CDB: '{word}' is not hex: expected digits like 12 or 0x12")
        if len(digits) % 2:
            raise ValueError(f"CDB: '{word}' has {len(digits)} digits: expected two a byte")
        data += bytes.fromhex(digits)
    if not data:
        raise ValueError("CDB: expected at least one byte in hex")
    if len(data) > MAX_CDB_BYTES:
        raise ValueError(f"CDB: {len(data)} bytes: expected at most {MAX_CDB_BYTES}")
    return bytes(data)


BlockSize = Callable[[], int]


def _nothing(cdb: bytes, block_size: BlockSize) -> int:
    return 0


def _fixed(length_bytes: int, cdb: bytes, block_size: BlockSize) -> int:
    return length_bytes


def _field(field: Field, cdb: bytes, block_size: BlockSize) -> int:
    return field.read(cdb)


def _blocks(where: BlockRange, cdb: bytes, block_size: BlockSize) -> int:
    length_blocks = where.unpack(cdb)[1]
    if where is fields.RANGE_6:
        # SBC-4 5.15: zero is 256 blocks.
        length_blocks = length_blocks or 256
    return length_blocks * block_size() if length_blocks else 0


_DATA_IN_LENGTH = MappingProxyType(
    {
        Opcode.REQUEST_SENSE: partial(_field, fields.REQUEST_SENSE_ALLOCATION_LENGTH),
        Opcode.READ_6: partial(_blocks, fields.RANGE_6),
        Opcode.INQUIRY: partial(_field, fields.INQUIRY_ALLOCATION_LENGTH),
        Opcode.MODE_SENSE_6: partial(_field, fields.MODE_SENSE_6_ALLOCATION_LENGTH),
        Opcode.READ_CAPACITY_10: partial(_fixed, 8),
        Opcode.READ_10: partial(_blocks, fields.RANGE_10),
        Opcode.MODE_SENSE_10: partial(_field, fields.MODE_SENSE_10_ALLOCATION_LENGTH),
        Opcode.READ_16: partial(_blocks, fields.RANGE_16),
        Opcode.SERVICE_ACTION_IN_16: partial(_field, fields.SERVICE_ACTION_ALLOCATION_LENGTH),
        Opcode.REPORT_LUNS: partial(_field, fields.REPORT_LUNS_ALLOCATION_LENGTH),
        Opcode.READ_12: partial(_blocks, fields.RANGE_12),
    }
    | dict.fromkeys(
        (
            Opcode.TEST_UNIT_READY,
            Opcode.WRITE_6,
            Opcode.WRITE_10,
            Opcode.VERIFY_10,
            Opcode.PRE_FETCH_10,
            Opcode.SYNCHRONIZE_CACHE_10,
            Opcode.WRITE_SAME_10,
            Opcode.UNMAP,
            Opcode.WRITE_16,
            Opcode.VERIFY_16,
            Opcode.PRE_FETCH_16,
            Opcode.SYNCHRONIZE_CACHE_16,
            Opcode.WRITE_SAME_16,
            Opcode.WRITE_12,
            Opcode.VERIFY_12,
        ),
        _nothing,
    )
)


def data_in_length(
    cdb: bytes, block_size: BlockSize, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> int:
    """Return how much data-in a CDB can bring, up to ``limit_bytes``.

    ``block_size()`` is asked only where the CDB counts blocks. A command of which nothing is known
    gets room for the limit: too much does no harm.
    """
    rule = _DATA_IN_LENGTH.get(cdb[0])  # type: ignore[call-overload]
    if rule is None:
        return limit_bytes
    wanted: int = rule(cdb.ljust(_MIN_CDB_BYTES, b"\0"), block_size)
    return min(wanted, limit_bytes)


def describe(cdb: bytes, reply: Reply, data_in: memoryview) -> str:
    """Return the outcome of a command as lines of text."""
    lines = [f"{opcode_text(cdb.ljust(2, bytes(1)))}: {status_text(reply.status)}"]
    if reply.sense is not None:
        lines += describe_sense(reply.sense)
    if reply.data_in_length:
        lines.append(f"{reply.data_in_length} bytes of data-in:")
        lines += hex_dump(data_in[: reply.data_in_length])
    return "\n".join(lines)


def describe_sense(sense: Sense) -> Iterator[str]:
    """Yield one line for each thing that sense data says."""
    yield f"  sense key: {SenseKey(sense.key).name.replace('_', ' ')} ({sense.key:X}h)"
    text = additional_sense_text(sense.code)
    yield f"  additional sense: {text} ({sense.asc:02X}h/{sense.ascq:02X}h)"
    if sense.deferred:
        yield "  deferred: the error of an earlier command"
    if sense.information is not None:
        yield f"  information: {sense.information} ({sense.information:X}h)"
    pointer = sense.field_pointer
    if pointer is not None:
        where = "CDB" if pointer.in_cdb else "parameter list"
        bit = "" if pointer.bit is None else f", bit {pointer.bit}"
        yield f"  field in error: {where} byte {pointer.byte}{bit}"
    if sense.progress is not None:
        yield f"  progress: {sense.progress * 100 / PROGRESS_END:.1f} %"


def hex_dump(data: memoryview) -> Iterator[str]:
    """Yield lines of 16 bytes: offset, hex digits, ASCII."""
    half = _DUMP_BYTES_PER_LINE // 2
    for offset in range(0, len(data), _DUMP_BYTES_PER_LINE):
        row = bytes(data[offset : offset + _DUMP_BYTES_PER_LINE])
        digits = f"{row[:half].hex(' ')}  {row[half:].hex(' ')}"
        ascii_text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{offset:08x}  {digits:<48}  |{ascii_text}|"


def run_cdb(
    place: Place, words: Sequence[str], data_out: bytes = b"", length_bytes: int | None = None
) -> tuple[str, int]:
    """Send one CDB through the local bridge; return its outcome as text and an exit status.

    ``length_bytes`` is the room for data-in where the CDB shall not decide. The exit status is 0
    for GOOD and CONDITION MET, else 2. Raises ValueError for a malformed CDB, length or LUN, also
    for one that is not the named device's, and LocalError for a server that cannot be used.
    """
    cdb = parse_hex(words)
    with connected(place) as unit:
        room_bytes = length_bytes
        if room_bytes is None:
            room_bytes = data_in_length(cdb, partial(_block_size_bytes, unit))
        elif not 0 <= room_bytes <= unit.max_data_bytes:
            raise ValueError(f"length {room_bytes}: expected 0 to {unit.max_data_bytes}")
        data_in = memoryview(bytearray(room_bytes))
        reply = unit.execute(Request(cdb, data_in, memoryview(data_out) if data_out else None))
    is_good = reply.status in (Status.GOOD, Status.CONDITION_MET)
    return describe(cdb, reply, data_in), EXIT_GOOD if is_good else EXIT_FAILED


def _block_size_bytes(unit: UnitClient) -> int:
    """Ask for the logical block length; zero for a unit that does not tell."""
    data_in = memoryview(bytearray(_READ_CAPACITY_BYTES))
    unit.execute(Request(fields.read_capacity_16(len(data_in)), data_in))
    return int.from_bytes(data_in[8:12], "big")
