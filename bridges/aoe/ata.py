# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA commands: which are served, and how their registers say what to transfer.

One row per opcode, or per subcommand where the features register has one; what has no row is
answered with ABRT. What the commands mean for the SCSI backend is in translate.py and in
procedures.py.

Source: ATA8-ACS 6 and 7 (T13/1699), ATA-3 for the opcodes of old, AoEr11 3.1 for the registers'
places in a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, IntFlag, auto
from types import MappingProxyType
from typing import Final, NamedTuple

from bridges.aoe.ata_codes import TRIM_FEATURE, AtaOpcode, SetFeature, SmartFeature
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


class Function(IntEnum):
    """What a command does; DMA, PIO and MULTIPLE are all one in a frame."""

    IDENTIFY = auto()
    READ = auto()
    WRITE = auto()
    WRITE_FUA = auto()
    VERIFY = auto()
    FLUSH = auto()
    CHECK_POWER = auto()
    TRIM = auto()
    READ_NATIVE_MAX = auto()
    DIAGNOSTIC = auto()
    STANDBY = auto()
    IDLE = auto()
    ENABLE_WRITE_CACHE = auto()
    DISABLE_WRITE_CACHE = auto()
    SMART_READ_DATA = auto()
    SMART_STATUS = auto()
    NO_OPERATION = auto()


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
# Word 105 of the IDENTIFY DEVICE data: more would name so many ranges that sorting out what they
# overlap keeps everybody waiting.
MAX_TRIM_BLOCKS: Final = 1
_ZERO_COUNT: Final = MappingProxyType({LbaWidth.LBA28: 256, LbaWidth.LBA48: 65536})


def _lba_none(argument: AtaArgument) -> int | None:
    return 0


def _lba_28(argument: AtaArgument) -> int | None:
    # With E, lba4 and lba5 belong to the address, which is then too large for the command.
    if argument.flags & _E and argument.lba_high:
        return None
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


def _count_of_one(count: int, width: LbaWidth, limit: int) -> int | None:
    return count if count == 1 else None


def _count_of_trim(count: int, width: LbaWidth, limit: int) -> int | None:
    return count if 0 < count <= min(limit, MAX_TRIM_BLOCKS) else None


def _count_of_block(count: int, width: LbaWidth, limit: int) -> int | None:
    # Words 47 and 59 of the IDENTIFY DEVICE data say that a block of READ MULTIPLE is one sector.
    return 0 if count == 1 else None


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
        Function.IDENTIFY: (Transfer.DATA_IN, _count_of_one),
        Function.READ: (Transfer.DATA_IN, _count_of_data),
        Function.WRITE: (Transfer.DATA_OUT, _count_of_data),
        Function.WRITE_FUA: (Transfer.DATA_OUT, _count_of_data),
        Function.VERIFY: (Transfer.NON_DATA, _count_of_verify),
        Function.FLUSH: (Transfer.NON_DATA, _count_ignored),
        Function.CHECK_POWER: (Transfer.NON_DATA, _count_ignored),
        Function.TRIM: (Transfer.DATA_OUT, _count_of_trim),
        Function.READ_NATIVE_MAX: (Transfer.NON_DATA, _count_ignored),
        Function.DIAGNOSTIC: (Transfer.NON_DATA, _count_ignored),
        Function.STANDBY: (Transfer.NON_DATA, _count_ignored),
        Function.IDLE: (Transfer.NON_DATA, _count_ignored),
        Function.ENABLE_WRITE_CACHE: (Transfer.NON_DATA, _count_ignored),
        Function.DISABLE_WRITE_CACHE: (Transfer.NON_DATA, _count_ignored),
        Function.SMART_READ_DATA: (Transfer.DATA_IN, _count_of_one),
        Function.SMART_STATUS: (Transfer.NON_DATA, _count_ignored),
        Function.NO_OPERATION: (Transfer.NON_DATA, _count_ignored),
    }
)


@dataclass(frozen=True, slots=True)
class AtaCommand:
    """One row of the opcode table; the rules read the registers, None meaning ABRT.

    Where ``features`` are given, the features register selects among those rows, and this one only
    says what they have in common.
    """

    opcode: AtaOpcode
    function: Function
    width: LbaWidth
    transfer: Transfer
    lba: _LbaRule
    count: _CountRule
    features: Mapping[int, AtaCommand] | None = None

    @property
    def is_for_one_target(self) -> bool:
        """Whether it changes something, which one frame must not do to every disk of a LAN."""
        return self.transfer is Transfer.DATA_OUT or self.opcode in _CHANGING


# Power conditions are the device's, and a disk that spins down keeps everybody waiting.
_CHANGING: Final = frozenset(
    {
        AtaOpcode.SET_FEATURES,
        AtaOpcode.STANDBY,
        AtaOpcode.STANDBY_OLD,
        AtaOpcode.STANDBY_IMMEDIATE,
        AtaOpcode.STANDBY_IMMEDIATE_OLD,
        AtaOpcode.IDLE,
        AtaOpcode.IDLE_OLD,
        AtaOpcode.IDLE_IMMEDIATE,
        AtaOpcode.IDLE_IMMEDIATE_OLD,
    }
)


def _row(opcode: AtaOpcode, function: Function, width: LbaWidth = LbaWidth.NONE) -> AtaCommand:
    transfer, count = _FUNCTIONS[function]
    return AtaCommand(opcode, function, width, transfer, _LBA_RULES[width], count)


def _native_max_row(opcode: AtaOpcode, width: LbaWidth) -> AtaCommand:
    # The width is that of the answer; what the LBA registers hold in the request means nothing.
    return replace(_row(opcode, Function.READ_NATIVE_MAX, width), lba=_lba_none)


# As drives do, SMART's registers are looked at to keep strays from taking effect.
_SMART_KEY: Final = 0xC24F00


def _lba_smart(argument: AtaArgument) -> int | None:
    return 0 if argument.lba_low & 0xFFFF00 == _SMART_KEY else None


def _feature_rows(
    opcode: AtaOpcode, functions: Mapping[int, Function], lba: _LbaRule = _lba_none
) -> AtaCommand:
    rows = {
        feature: replace(_row(opcode, function), lba=lba) for feature, function in functions.items()
    }
    first = next(iter(rows.values()))
    return replace(first, features=MappingProxyType(rows))


_SMART: Final[Mapping[int, Function]] = {
    SmartFeature.RETURN_STATUS: Function.SMART_STATUS,
    SmartFeature.READ_DATA: Function.SMART_READ_DATA,
    # It is always enabled.
    SmartFeature.ENABLE_OPERATIONS: Function.NO_OPERATION,
    SmartFeature.DISABLE_OPERATIONS: Function.NO_OPERATION,
}
_SET_FEATURES: Final[Mapping[int, Function]] = {
    SetFeature.ENABLE_WRITE_CACHE: Function.ENABLE_WRITE_CACHE,
    SetFeature.DISABLE_WRITE_CACHE: Function.DISABLE_WRITE_CACHE,
    # There is no cable and no reset, and look-ahead is the page cache's.
    SetFeature.SET_TRANSFER_MODE: Function.NO_OPERATION,
    SetFeature.DISABLE_READ_LOOK_AHEAD: Function.NO_OPERATION,
    SetFeature.ENABLE_READ_LOOK_AHEAD: Function.NO_OPERATION,
    SetFeature.KEEP_SETTINGS_OVER_RESET: Function.NO_OPERATION,
    SetFeature.DEFAULT_SETTINGS_AT_RESET: Function.NO_OPERATION,
}


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
    _feature_rows(AtaOpcode.DATA_SET_MANAGEMENT, {TRIM_FEATURE: Function.TRIM}),
    _native_max_row(AtaOpcode.READ_NATIVE_MAX_ADDRESS, LbaWidth.LBA28),
    _native_max_row(AtaOpcode.READ_NATIVE_MAX_ADDRESS_EXT, LbaWidth.LBA48),
    _row(AtaOpcode.SEEK, Function.NO_OPERATION),
    _row(AtaOpcode.INITIALIZE_DEVICE_PARAMETERS, Function.NO_OPERATION),
    replace(_row(AtaOpcode.SET_MULTIPLE_MODE, Function.NO_OPERATION), count=_count_of_block),
    _row(AtaOpcode.EXECUTE_DEVICE_DIAGNOSTIC, Function.DIAGNOSTIC),
    _row(AtaOpcode.STANDBY_IMMEDIATE, Function.STANDBY),
    _row(AtaOpcode.STANDBY_IMMEDIATE_OLD, Function.STANDBY),
    _row(AtaOpcode.STANDBY, Function.STANDBY),
    _row(AtaOpcode.STANDBY_OLD, Function.STANDBY),
    _row(AtaOpcode.IDLE_IMMEDIATE, Function.IDLE),
    _row(AtaOpcode.IDLE_IMMEDIATE_OLD, Function.IDLE),
    _row(AtaOpcode.IDLE, Function.IDLE),
    _row(AtaOpcode.IDLE_OLD, Function.IDLE),
    _feature_rows(AtaOpcode.SET_FEATURES, _SET_FEATURES),
    _feature_rows(AtaOpcode.SMART, _SMART, _lba_smart),
)

# The low nibble of RECALIBRATE was a stepping rate.
_RECALIBRATE: Final = range(AtaOpcode.RECALIBRATE, AtaOpcode.RECALIBRATE + 16)

_BY_OPCODE = {int(row.opcode): row for row in _ROWS} | dict.fromkeys(
    _RECALIBRATE, _row(AtaOpcode.RECALIBRATE, Function.NO_OPERATION)
)
# By opcode, None for one that is not served.
COMMANDS: Final = tuple(_BY_OPCODE.get(code) for code in range(256))


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
    if command.features is not None:
        row = command.features.get(argument.feature)
        if row is None:
            return None
        command = row
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


_MAX_LBA48: Final = (1 << 48) - 1


def put_lba(reply: memoryview, width: LbaWidth, lba: int) -> None:
    """Write an LBA to the registers of a reply; the Device register's flags stay (LBA28)."""
    if width is LbaWidth.LBA48:
        reply[28:34] = (lba & _MAX_LBA48).to_bytes(6, "little")
    else:
        reply[28:31] = (lba & 0xFFFFFF).to_bytes(3, "little")
        reply[31] = reply[31] & 0xF0 | lba >> 24 & 0x0F


def put_signature(reply: memoryview) -> None:
    """Write the signature of an ATA device: count 1, LBA 1."""
    reply[26] = 0x01
    put_lba(reply, LbaWidth.LBA28, 1)
