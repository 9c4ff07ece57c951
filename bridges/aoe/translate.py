# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA requests to SCSI CDBs, the reverse of SAT: one builder for each function of a single CDB.

Functions that take several or none are in procedures.py.

A sector is a logical block: the bridge serves only LUNs with blocks of 512 bytes. The range is the
device server's to check: it is in this process, where asking costs nothing, and a capacity that the
bridge remembers would refuse sectors of a LUN that has grown.

Source: SAT-3 clause 9 read backwards, SBC-4 clause 5 for the CDBs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from bridges.aoe.ata import AtaRequest, Function
from scsi_backend.t10 import cdb

# lba, length in sectors, byte 1 of WRITE(16) as the durability policy has it.
_Builder = Callable[[int, int, int], bytes]


def _look(lba: int, length_sectors: int, write_flags: int) -> bytes:
    # The answer is made from what the bridge knows of the LUN already; the command is there to be
    # told by a unit attention that it has changed, and by anything else that it is not there.
    return cdb.TEST_UNIT_READY


def _read(lba: int, length_sectors: int, write_flags: int) -> bytes:
    return cdb.read_16(lba, length_sectors)


def _write_fua(lba: int, length_sectors: int, write_flags: int) -> bytes:
    return cdb.write_16(lba, length_sectors, cdb.FUA_BIT)


def _flush(lba: int, length_sectors: int, write_flags: int) -> bytes:
    return cdb.synchronize_cache_16()


def _self_test(lba: int, length_sectors: int, write_flags: int) -> bytes:
    return cdb.DEFAULT_SELF_TEST


_BUILDERS: Final[Mapping[Function, _Builder]] = MappingProxyType(
    {
        Function.IDENTIFY: _look,
        Function.READ: _read,
        Function.WRITE: cdb.write_16,
        Function.WRITE_FUA: _write_fua,
        Function.FLUSH: _flush,
        Function.CHECK_POWER: _look,
        Function.READ_NATIVE_MAX: _look,
        Function.DIAGNOSTIC: _self_test,
        Function.SMART_READ_DATA: _look,
        Function.SMART_STATUS: _look,
        Function.NO_OPERATION: _look,
    }
)


def to_cdb(request: AtaRequest, *, durable: bool) -> bytes:
    """Return the CDB of a request that takes one.

    ``durable`` makes a plain write stable before its reply. Clients rely on that: the Linux driver
    never sends FLUSH CACHE, not even for fsync.
    """
    build = _BUILDERS[request.command.function]
    return build(request.lba, request.length_sectors, cdb.FUA_BIT if durable else 0)
