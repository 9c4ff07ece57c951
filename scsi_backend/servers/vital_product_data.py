# SPDX-License-Identifier: GPL-2.0-or-later
"""The vital product data of an emulated disk, one table row for each page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scsi_backend.servers.command import Nexus
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10 import vpd
from scsi_backend.t10.vpd import BlockLimits, Provisioning, VpdPage

# The unit in which the page cache and most file systems allocate.
_GRANULARITY_BYTES = 4096
# SCST's opt_trans_len.
_OPTIMAL_TRANSFER_BYTES = 512 << 10
_MAX_UNMAP_BYTES = 4 << 30
MAX_UNMAP_DESCRIPTORS = 255
_MAX_WRITE_SAME_BYTES = 256 << 20
# What the one-byte length of COMPARE AND WRITE can say.
_MAX_COMPARE_AND_WRITE_BLOCKS = 255


@dataclass(frozen=True, slots=True)
class _Page:
    build: Callable[[LogicalUnit, Nexus], bytes]
    applies: Callable[[LogicalUnit], bool] = lambda unit: True


def _supported(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return vpd.supported_pages(
        [VpdPage(code) for code, row in VPD_PAGES.items() if row.applies(unit)]
    )


def _serial(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return vpd.unit_serial_number(unit.vdisk.identity.usn)


def _identification(unit: LogicalUnit, nexus: Nexus) -> bytes:
    identity, groups = unit.vdisk.identity, unit.port_groups
    port = nexus.relative_target_port
    return vpd.device_identification(
        vendor=identity.vendor,
        t10_dev_id=identity.t10_dev_id,
        naa_id=identity.naa_id,
        relative_target_port=port,
        target_port_group=None if groups is None else groups.group_id_of(port),
    )


def block_limits(unit: LogicalUnit) -> BlockLimits:
    """The limits that the device server enforces."""
    shift = unit.block_shift
    is_thin = unit.vdisk.is_thin_provisioned
    return BlockLimits(
        optimal_granularity=_GRANULARITY_BYTES >> shift,
        max_transfer=unit.max_transfer_blocks,
        optimal_transfer=_OPTIMAL_TRANSFER_BYTES >> shift,
        max_unmap=_MAX_UNMAP_BYTES >> shift if is_thin else 0,
        max_unmap_descriptors=MAX_UNMAP_DESCRIPTORS if is_thin else 0,
        unmap_granularity=_GRANULARITY_BYTES >> shift if is_thin else 0,
        max_write_same=_MAX_WRITE_SAME_BYTES >> shift,
        is_write_same_non_zero=True,
        # Its data-out buffer holds each block twice.
        max_compare_and_write=min(_MAX_COMPARE_AND_WRITE_BLOCKS, unit.max_transfer_blocks // 2),
    )


def _limits(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return block_limits(unit).serialize()


def _characteristics(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return vpd.block_device_characteristics(is_rotational=unit.vdisk.is_rotational)


def _provisioning(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return Provisioning(
        has_unmap=True,
        has_write_same_16=True,
        has_write_same_10=True,
        reads_zeros=True,
        is_thin=True,
    ).serialize()


def _is_thin(unit: LogicalUnit) -> bool:
    return unit.vdisk.is_thin_provisioned


VPD_PAGES: Mapping[int, _Page] = MappingProxyType(
    {
        VpdPage.SUPPORTED_VPD_PAGES: _Page(_supported),
        VpdPage.UNIT_SERIAL_NUMBER: _Page(_serial),
        VpdPage.DEVICE_IDENTIFICATION: _Page(_identification),
        VpdPage.BLOCK_LIMITS: _Page(_limits),
        VpdPage.BLOCK_DEVICE_CHARACTERISTICS: _Page(_characteristics),
        VpdPage.LOGICAL_BLOCK_PROVISIONING: _Page(_provisioning, _is_thin),
    }
)
