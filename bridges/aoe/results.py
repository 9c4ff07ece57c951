# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reply to a successful command holds besides status 40h, error 0 and count 0.

One row per function; reads bring their data themselves. Source: ATA8-ACS 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from bridges.aoe.ata import Function, LbaWidth, put_lba, put_signature
from bridges.aoe.ata_codes import ACTIVE_OR_IDLE, DIAGNOSTIC_PASSED, SMART_EXCEEDED
from bridges.aoe.identify import identify_data
from bridges.aoe.smart import SMART_DATA
from bridges.aoe.wire import ATA_DATA_OFFSET
from bridges.lun import LunInfo
from scsi_backend.t10.sense import Sense

# FAILURE PREDICTION THRESHOLD EXCEEDED.
_FAILURE_PREDICTED_ASC: Final = 0x5D


class Result(NamedTuple):
    """The reply so far, and what it is filled from; ``sense`` is that of a recovered error."""

    reply: memoryview
    width: LbaWidth
    info: LunInfo
    durable: bool
    sense: Sense | None


def _identify(result: Result) -> None:
    result.reply[ATA_DATA_OFFSET:] = identify_data(result.info, durable=result.durable)


def _check_power(result: Result) -> None:
    result.reply[26] = ACTIVE_OR_IDLE


def _native_max(result: Result) -> None:
    last_lba = max(result.info.block_count - 1, 0)
    put_lba(result.reply, result.width, min(last_lba, (1 << result.width) - 1))


def _diagnostic(result: Result) -> None:
    put_signature(result.reply)
    result.reply[25] = DIAGNOSTIC_PASSED


def _smart_data(result: Result) -> None:
    result.reply[ATA_DATA_OFFSET:] = SMART_DATA


def _smart_status(result: Result) -> None:
    # Otherwise the registers keep the 4Fh and C2h of the request, which say that all is well.
    if result.sense is not None and result.sense.asc == _FAILURE_PREDICTED_ASC:
        result.reply[29:31] = SMART_EXCEEDED.to_bytes(2, "little")


RESULTS: Final[Mapping[Function, Callable[[Result], None]]] = MappingProxyType(
    {
        Function.IDENTIFY: _identify,
        Function.CHECK_POWER: _check_power,
        Function.READ_NATIVE_MAX: _native_max,
        Function.DIAGNOSTIC: _diagnostic,
        Function.SMART_READ_DATA: _smart_data,
        Function.SMART_STATUS: _smart_status,
    }
)
