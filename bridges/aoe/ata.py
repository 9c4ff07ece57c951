# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA commands: which are served, and how their registers say what to transfer.

One row per opcode; an opcode without a row is answered with ABRT. What the commands mean for the
SCSI backend is in translate.py, the IDENTIFY DEVICE data in identify.py.

Source: ATA8-ACS 6 and 7 (T13/1699), AoEr11 3.1 for the registers' places in a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag, auto
from types import MappingProxyType
from typing import Final, NamedTuple

from bridges.aoe.wire import SECTOR_BYTES, AtaArgument, AtaFlag


class AtaStatus(IntFlag):
    """The status register."""

    DRDY = 0x40
    DF = 0x20
    DRQ = 0x08
    ERR = 0x01


class AtaError(IntFlag):
    """The error register; bit 6 is UNC for reads and WP for writes."""

    ICRC = 0x80
    UNC = 0x40
    WP = 0x40
    MC = 0x20
    IDNF = 0x10
    MCR = 0x08
    ABRT = 0x04
    NM = 0x02


class AtaOpcode(IntEnum):
    """The command register."""

    READ_SECTORS = 0x20
    READ_SECTORS_WITHOUT_RETRY = 0x21
    READ_SECTORS_EXT = 0x24
    READ_DMA_EXT = 0x25
    READ_MULTIPLE_EXT = 0x29
    WRITE_SECTORS = 0x30
    WRITE_SECTORS_WITHOUT_RETRY = 0x31
    WRITE_SECTORS_EXT = 0x34
    WRITE_DMA_EXT = 0x35
    WRITE_MULTIPLE_EXT = 0x39
    WRITE_DMA_FUA_EXT = 0x3D
    READ_VERIFY_SECTORS = 0x40
    READ_VERIFY_SECTORS_WITHOUT_RETRY = 0x41
    READ_VERIFY_SECTORS_EXT = 0x42
    CHECK_POWER_MODE_OLD = 0x98
    READ_MULTIPLE = 0xC4
    WRITE_MULTIPLE = 0xC5
    READ_DMA = 0xC8
    READ_DMA_WITHOUT_RETRY = 0xC9
    WRITE_DMA = 0xCA
    WRITE_DMA_WITHOUT_RETRY = 0xCB
    WRITE_MULTIPLE_FUA_EXT = 0xCE
    CHECK_POWER_MODE = 0xE5
    FLUSH_CACHE = 0xE7
    FLUSH_CACHE_EXT = 0xEA
    IDENTIFY_DEVICE = 0xEC


class Function(IntEnum):
    """What a command does; DMA, PIO and MULTIPLE are all one in a frame."""

    IDENTIFY = auto()
    READ = auto()
    WRITE = auto()
    WRITE_FUA = auto()
    VERIFY = auto()
    FLUSH = auto()
    CHECK_POWER = auto()


class Transfer(Enum):
    """Which way the data of a command goes."""

    NON_DATA = auto()
    DATA_IN = auto()
    DATA_OUT = auto()


class LbaWidth(IntEnum):
    """How wide the LBA of a command is; the opcode decides, not the E flag."""

    NONE = 0
    LBA28 = 28
    LBA48 = 48


_E: Final = int(AtaFlag.E)
_W: Final = int(AtaFlag.W)
_ZERO_COUNT: Final = MappingProxyType({LbaWidth.LBA28: 256, LbaWidth.LBA48: 65536})


def _lba_none(argument: AtaArgument) -> int | None:
    return 0


def _lba_28(argument: AtaArgument) -> int | None:
    # lba3 is the Device register: LBA 27:24 below flags that mean nothing here.
    return argument.lba_low & 0x0FFFFFFF


def _lba_48(argument: AtaArgument) -> int | None:
    # Without E only lba0 to lba2 are sure to be an LBA: lba3 may hold Device register flags.
    if not argument.flags & _E and (argument.lba_low >> 24 or argument.lba_high):
        return None
    return argument.lba_high << 32 | argument.lba_low


def _count_of_data(count: int, width: LbaWidth, limit: int) -> int | None:
    # Zero means 256 or 65536 sectors, which no frame holds.
    return count if 0 < count <= limit else None


def _count_of_verify(count: int, width: LbaWidth, limit: int) -> int | None:
    return count or _ZERO_COUNT[width]


def _count_of_identify(count: int, width: LbaWidth, limit: int) -> int | None:
    return count if count == 1 else None


def _count_ignored(count: int, width: LbaWidth, limit: int) -> int | None:
    return 0


_LbaRule = Callable[[AtaArgument], int | None]
_CountRule = Callable[[int, LbaWidth, int], int | None]

_LBA_RULES: Final[Mapping[LbaWidth, _LbaRule]] = MappingProxyType(
    {LbaWidth.NONE: _lba_none, LbaWidth.LBA28: _lba_28, LbaWidth.LBA48: _lba_48}
)

# Which way the data go, and what the sector count register says.
_FUNCTIONS: Final[Mapping[Function, tuple[Transfer, _CountRule]]] = MappingProxyType(
    {
        Function.IDENTIFY: (Transfer.DATA_IN, _count_of_identify),
        Function.READ: (Transfer.DATA_IN, _count_of_data),
        Function.WRITE: (Transfer.DATA_OUT, _count_of_data),
        Function.WRITE_FUA: (Transfer.DATA_OUT, _count_of_data),
        Function.VERIFY: (Transfer.NON_DATA, _count_of_verify),
        Function.FLUSH: (Transfer.NON_DATA, _count_ignored),
        Function.CHECK_POWER: (Transfer.NON_DATA, _count_ignored),
    }
)


@dataclass(frozen=True, slots=True)
class AtaCommand:
    """One row of the opcode table; the rules read the registers, None meaning ABRT."""

    opcode: AtaOpcode
    function: Function
    width: LbaWidth
    transfer: Transfer
    lba: _LbaRule
    count: _CountRule


def _row(opcode: AtaOpcode, function: Function, width: LbaWidth = LbaWidth.NONE) -> AtaCommand:
    transfer, count = _FUNCTIONS[function]
    return AtaCommand(opcode, function, width, transfer, _LBA_RULES[width], count)


_ROWS = (
    _row(AtaOpcode.READ_SECTORS, Function.READ, LbaWidth.LBA28),
    _row(AtaOpcode.READ_SECTORS_WITHOUT_RETRY, Function.READ, LbaWidth.LBA28),
    _row(AtaOpcode.READ_SECTORS_EXT, Function.READ, LbaWidth.LBA48),
    _row(AtaOpcode.READ_DMA, Function.READ, LbaWidth.LBA28),
    _row(AtaOpcode.READ_DMA_WITHOUT_RETRY, Function.READ, LbaWidth.LBA28),
    _row(AtaOpcode.READ_DMA_EXT, Function.READ, LbaWidth.LBA48),
    _row(AtaOpcode.READ_MULTIPLE, Function.READ, LbaWidth.LBA28),
    _row(AtaOpcode.READ_MULTIPLE_EXT, Function.READ, LbaWidth.LBA48),
    _row(AtaOpcode.WRITE_SECTORS, Function.WRITE, LbaWidth.LBA28),
    _row(AtaOpcode.WRITE_SECTORS_WITHOUT_RETRY, Function.WRITE, LbaWidth.LBA28),
    _row(AtaOpcode.WRITE_SECTORS_EXT, Function.WRITE, LbaWidth.LBA48),
    _row(AtaOpcode.WRITE_DMA, Function.WRITE, LbaWidth.LBA28),
    _row(AtaOpcode.WRITE_DMA_WITHOUT_RETRY, Function.WRITE, LbaWidth.LBA28),
    _row(AtaOpcode.WRITE_DMA_EXT, Function.WRITE, LbaWidth.LBA48),
    _row(AtaOpcode.WRITE_MULTIPLE, Function.WRITE, LbaWidth.LBA28),
    _row(AtaOpcode.WRITE_MULTIPLE_EXT, Function.WRITE, LbaWidth.LBA48),
    _row(AtaOpcode.WRITE_DMA_FUA_EXT, Function.WRITE_FUA, LbaWidth.LBA48),
    _row(AtaOpcode.WRITE_MULTIPLE_FUA_EXT, Function.WRITE_FUA, LbaWidth.LBA48),
    _row(AtaOpcode.READ_VERIFY_SECTORS, Function.VERIFY, LbaWidth.LBA28),
    _row(AtaOpcode.READ_VERIFY_SECTORS_WITHOUT_RETRY, Function.VERIFY, LbaWidth.LBA28),
    _row(AtaOpcode.READ_VERIFY_SECTORS_EXT, Function.VERIFY, LbaWidth.LBA48),
    _row(AtaOpcode.FLUSH_CACHE, Function.FLUSH),
    _row(AtaOpcode.FLUSH_CACHE_EXT, Function.FLUSH),
    _row(AtaOpcode.CHECK_POWER_MODE, Function.CHECK_POWER),
    _row(AtaOpcode.CHECK_POWER_MODE_OLD, Function.CHECK_POWER),
    _row(AtaOpcode.IDENTIFY_DEVICE, Function.IDENTIFY),
)

_BY_OPCODE = {int(row.opcode): row for row in _ROWS}
# By opcode, None for one that is not served.
COMMANDS: Final = tuple(_BY_OPCODE.get(code) for code in range(256))

# CHECK POWER MODE: FFh in the count register is "active or idle" (ATA8-ACS 7.8).
ACTIVE_OR_IDLE: Final = 0xFF


class AtaRequest(NamedTuple):
    """What a frame asks for; ``length_sectors`` is zero where no sectors are meant."""

    command: AtaCommand
    lba: int
    length_sectors: int
    data_bytes: int


def decode(command: AtaCommand, argument: AtaArgument, limit_sectors: int) -> AtaRequest | None:
    """Return what the registers ask for, or None if the answer is ABRT.

    ``limit_sectors`` is the Sector Count that Query Config advertises.
    """
    transfer = command.transfer
    lba = command.lba(argument)
    length = command.count(argument.sector_count, command.width, limit_sectors)
    if lba is None or length is None:
        return None
    if transfer is Transfer.NON_DATA:
        return AtaRequest(command, lba, length, 0)
    # The W flag says which way the data goes; a command that disagrees is not carried out.
    if (transfer is Transfer.DATA_OUT) is not bool(argument.flags & _W):
        return None
    if command.width is LbaWidth.NONE:
        return AtaRequest(command, 0, 0, length * SECTOR_BYTES)
    return AtaRequest(command, lba, length, length * SECTOR_BYTES)


def put_lba(reply: memoryview, width: LbaWidth, lba: int) -> None:
    """Write an LBA to the registers of a reply; the Device register's flags stay (LBA28)."""
    if width is LbaWidth.LBA48:
        reply[28:34] = lba.to_bytes(6, "little")
    else:
        reply[28:31] = (lba & 0xFFFFFF).to_bytes(3, "little")
        reply[31] = reply[31] & 0xF0 | lba >> 24 & 0x0F
