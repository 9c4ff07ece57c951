# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA commands that take several CDBs, or none, or another one where the first is refused.

Each is an exchange (bridges/exchange.py), one per function; all others are in translate.py. It
returns its outcome where that is not simply how the last CDB ended.

Source: SAT-3 clause 9 read backwards, SBC-4 clause 5, SPC-5 clause 6 for the CDBs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from bridges.aoe.ata import AtaRequest, Function
from bridges.aoe.errors import ABORTED, NOT_FOUND, SUCCESS, Outcome
from bridges.aoe.policy import Policy
from bridges.aoe.trim import Range, can_trim, unmap_lists
from bridges.exchange import Exchange, Request, succeed
from bridges.lun import LunInfo
from bridges.recovery import ScsiError
from scsi_backend.t10 import cdb, mode_pages
from scsi_backend.t10.mode_pages import ModePage, PowerCondition

_MODE_HEADER_BYTES: Final = 8
_MODE_ALLOCATION_BYTES: Final = 255
_PS_BIT: Final = 0x80


class Lun(Protocol):
    """What is known of the LUN; ``info`` is looked at again when the LUN says that it changed."""

    @property
    def info(self) -> LunInfo:
        """See ``LunClient.info``."""


class Task(NamedTuple):
    """A request with the ranges of a TRIM, and what else decides how it is carried out."""

    request: AtaRequest
    ranges: Sequence[Range]
    lun: Lun
    policy: Policy
    durable: bool


Procedure = Callable[[Task], Exchange[Outcome]]


def _verify(task: Task) -> Exchange[Outcome]:
    """READ VERIFY, in pieces of what one command may verify."""
    lba, left = task.request.lba, task.request.length_sectors
    limit = task.lun.info.limits.max_transfer or left
    while left:
        blocks = min(left, limit)
        succeed((yield Request(cdb.verify_16(lba, blocks))))
        lba, left = lba + blocks, left - blocks
    return SUCCESS


def _trim(task: Task) -> Exchange[Outcome]:
    if not can_trim(task.lun.info):
        return ABORTED
    ranges = task.ranges
    end_lba = ranges[-1][1] if ranges else 0
    # Before anything is deallocated: SBC's check would come after the pieces before it.
    if end_lba > task.lun.info.block_count:
        # The LUN may have grown, and would say so now.
        succeed((yield Request(cdb.TEST_UNIT_READY)))
        if end_lba > task.lun.info.block_count:
            return NOT_FOUND
    for parameters in unmap_lists(ranges, task.lun.info):
        succeed((yield Request(cdb.unmap(len(parameters)), data_out=memoryview(parameters))))
    # Zeros that a power failure turns back into data would be no zeros. Even where WCE was 0:
    # somebody may have set it, of which only the next command is told.
    if task.durable:
        succeed((yield Request(cdb.synchronize_cache_16())))
    return SUCCESS


def _power(condition: PowerCondition, task: Task) -> Exchange[Outcome]:
    """STANDBY, IDLE: what is in the cache becomes stable, whatever else the device makes of it."""
    reply = yield Request(cdb.start_stop_unit(condition))
    if isinstance(reply, ScsiError):
        if not reply.is_refusal:
            raise reply
        succeed((yield Request(cdb.synchronize_cache_16())))
    return SUCCESS


def _set_write_cache(is_enabled: bool, task: Task) -> Exchange[Outcome]:
    """SET FEATURES: WCE is changed for all initiators, and only where the policy allows it."""
    if not task.policy.write_cache_control:
        return ABORTED
    buffer = memoryview(bytearray(_MODE_ALLOCATION_BYTES))
    sense = cdb.mode_sense_10(ModePage.CACHING, _MODE_ALLOCATION_BYTES)
    reply = succeed((yield Request(sense, data_in=buffer)))
    # Some devices send block descriptors in spite of DBD.
    start = _MODE_HEADER_BYTES + int.from_bytes(buffer[6:8], "big")
    page = bytearray(buffer[start : reply.data_in_length])
    if len(page) < 3:
        return ABORTED
    flags = page[2] & ~mode_pages.WCE_BIT | (mode_pages.WCE_BIT if is_enabled else 0)
    if flags != page[2]:
        page[0] &= ~_PS_BIT
        page[2] = flags
        data = memoryview(bytes(_MODE_HEADER_BYTES) + page[: 2 + page[1]])
        succeed((yield Request(cdb.mode_select_10(len(data)), data_out=data)))
    return SUCCESS


PROCEDURES: Final[Mapping[Function, Procedure]] = MappingProxyType(
    {
        Function.VERIFY: _verify,
        Function.TRIM: _trim,
        Function.STANDBY: partial(_power, PowerCondition.STANDBY),
        Function.IDLE: partial(_power, PowerCondition.IDLE),
        Function.ENABLE_WRITE_CACHE: partial(_set_write_cache, True),
        Function.DISABLE_WRITE_CACHE: partial(_set_write_cache, False),
    }
)
# After these, the LUN is not what it was: a device tells the others, but not who changed it.
CHANGING_FUNCTIONS: Final = frozenset({Function.ENABLE_WRITE_CACHE, Function.DISABLE_WRITE_CACHE})
