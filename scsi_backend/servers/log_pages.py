# SPDX-License-Identifier: GPL-2.0-or-later
"""The log pages of an emulated disk, one table row for each, and what their parameters hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from scsi_backend.handlers.vdisk import Space
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.statistics import Counters
from scsi_backend.t10 import log_pages
from scsi_backend.t10.log_pages import LogPage, ParameterControl, counter


class LogView(NamedTuple):
    """What the values are taken from; of the counters, those since the page was reset."""

    unit: LogicalUnit
    counters: Counters
    space: Space


Value = Callable[[LogView], bytes]


class Parameter(NamedTuple):
    """A log parameter: where its value comes from, and what kind of value that is."""

    value: Value
    control: ParameterControl = ParameterControl.BINARY_LIST


@dataclass(frozen=True, slots=True)
class LogPageRow:
    """A page: its parameters by ascending code."""

    parameters: Mapping[int, Parameter]
    needs_space: bool = False
    applies: Callable[[LogicalUnit], bool] = lambda unit: True

    @property
    def is_counted(self) -> bool:
        """Whether there are counters in it, which could have thresholds and can be reset."""
        return any(each.control is ParameterControl.COUNTER for each in self.parameters.values())


def _counter(value: Value) -> Parameter:
    return Parameter(value, ParameterControl.COUNTER)


def _never(view: LogView) -> bytes:
    return counter(0)


def _error_counters(processed: Value, uncorrected: Value) -> Mapping[int, Parameter]:
    """SPC-5 7.3.12: corrected at once, with delay, retries, all corrected, corrections; totals."""
    # An emulated disk corrects no errors: who reads gets the data, or an error.
    corrected = dict.fromkeys(range(5), _counter(_never))
    return {**corrected, 5: _counter(processed), 6: _counter(uncorrected)}


def _bytes_written(view: LogView) -> bytes:
    return counter(view.counters.write_blocks << view.unit.block_shift)


def _bytes_read(view: LogView) -> bytes:
    return counter(view.counters.read_blocks << view.unit.block_shift)


def _write_errors(view: LogView) -> bytes:
    return counter(view.counters.write_errors)


def _read_errors(view: LogView) -> bytes:
    return counter(view.counters.read_errors)


def _general_statistics(view: LogView) -> bytes:
    counters = view.counters
    return log_pages.general_statistics(
        read_commands=counters.read_commands,
        write_commands=counters.write_commands,
        blocks_received=counters.write_blocks,
        blocks_transmitted=counters.read_blocks,
    )


def _no_time_interval(view: LogView) -> bytes:
    return log_pages.no_time_interval()


def _resources(view: LogView, length_bytes: int, *, is_shared: bool) -> bytes:
    # In threshold sets of one block, which is what a THRESHOLD EXPONENT of zero means.
    return log_pages.resource_count(length_bytes >> view.unit.block_shift, is_shared=is_shared)


def _available(view: LogView) -> bytes:
    # Whoever has files in the same file system may take them first.
    return _resources(view, view.space.available_bytes, is_shared=True)


def _used(view: LogView) -> bytes:
    return _resources(view, view.space.used_bytes, is_shared=False)


def _no_temperature(view: LogView) -> bytes:
    return log_pages.no_temperature()


def _no_background_scan(view: LogView) -> bytes:
    return log_pages.no_background_scan(view.unit.statistics.power_on_minutes)


def _no_informational_exception(view: LogView) -> bytes:
    return log_pages.no_informational_exception()


def _measures_space(unit: LogicalUnit) -> bool:
    return unit.vdisk.measures_space


LOG_PAGES: Mapping[int, LogPageRow] = MappingProxyType(
    {
        LogPage.WRITE_ERROR_COUNTERS: LogPageRow(_error_counters(_bytes_written, _write_errors)),
        LogPage.READ_ERROR_COUNTERS: LogPageRow(_error_counters(_bytes_read, _read_errors)),
        LogPage.LOGICAL_BLOCK_PROVISIONING: LogPageRow(
            {1: Parameter(_available), 2: Parameter(_used)},
            needs_space=True,
            applies=_measures_space,
        ),
        LogPage.TEMPERATURE: LogPageRow({0: Parameter(_no_temperature)}),
        LogPage.BACKGROUND_SCAN: LogPageRow({0: Parameter(_no_background_scan)}),
        # Idle time is counted in the intervals that the last one gives the length of.
        LogPage.GENERAL_STATISTICS: LogPageRow(
            {1: _counter(_general_statistics), 2: _counter(_never), 3: Parameter(_no_time_interval)}
        ),
        LogPage.INFORMATIONAL_EXCEPTIONS: LogPageRow({0: Parameter(_no_informational_exception)}),
    }
)
