# SPDX-License-Identifier: GPL-2.0-or-later
"""The vital product data of an emulated disk, one table row for each page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scsi_backend.servers.command import Nexus
from scsi_backend.servers.copy_list import COPY_LIMITS
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10 import designation, vpd
from scsi_backend.t10.designation import Association
from scsi_backend.t10.opcodes import Opcode, Sanitize
from scsi_backend.t10.sense import MAX_ENCODED_LENGTH
from scsi_backend.t10.third_party_copy import third_party_copy
from scsi_backend.t10.vpd import BlockLimits, Provisioning, VpdPage

# The unit in which the page cache and most file systems allocate.
_GRANULARITY_BYTES = 4096
# SCST's opt_trans_len.
_OPTIMAL_TRANSFER_BYTES = 512 << 10
# A million; initiators distrust more.
_MAX_UNMAP_BLOCKS = 1 << 20
MAX_UNMAP_DESCRIPTORS = 256
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
    identity, groups, port = unit.vdisk.identity, unit.port_groups, nexus.relative_target_port
    descriptors = [
        designation.t10_vendor_id(identity.vendor, identity.vend_specific_id),
        designation.relative_target_port(port),
    ]
    group = None if groups is None else groups.group_id_of(port)
    if group is not None:
        descriptors.append(designation.target_port_group(group))
    if identity.eui64_id is not None:
        descriptors.append(designation.eui_64(identity.eui64_id))
    if identity.naa_id is not None:
        descriptors.append(designation.naa(identity.naa_id))
    if identity.scsi_device_name:
        descriptors.append(designation.scsi_device_name(identity.scsi_device_name))
    return vpd.device_identification(descriptors)


def _extended(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return vpd.ExtendedInquiry(
        has_volatile_cache=unit.vdisk.needs_sync, max_sense_bytes=MAX_ENCODED_LENGTH
    ).serialize()


def _policy(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return vpd.mode_page_policy()


def _ports(unit: LogicalUnit, nexus: Nexus) -> bytes:
    vendor = unit.vdisk.identity.vendor
    return vpd.scsi_ports(
        (
            port.relative_identifier,
            designation.t10_vendor_id(vendor, port.name, Association.TARGET_PORT),
        )
        for port in unit.ports
    )


def _third_party_copy(unit: LogicalUnit, nexus: Nexus) -> bytes:
    commands: dict[int, list[int]] = {
        opcode: [row.service_action for row in unit.rows[opcode] if row.service_action is not None]
        for opcode in (Opcode.EXTENDED_COPY, Opcode.RECEIVE_COPY_RESULTS)
    }
    return vpd.page(VpdPage.THIRD_PARTY_COPY, third_party_copy(commands, COPY_LIMITS))


def block_limits(unit: LogicalUnit) -> BlockLimits:
    """The limits that the device server enforces."""
    shift = unit.block_shift
    is_thin = unit.vdisk.is_thin_provisioned
    return BlockLimits(
        optimal_granularity=_GRANULARITY_BYTES >> shift,
        max_transfer=unit.max_transfer_blocks,
        optimal_transfer=_OPTIMAL_TRANSFER_BYTES >> shift,
        max_unmap=_MAX_UNMAP_BLOCKS if is_thin else 0,
        max_unmap_descriptors=MAX_UNMAP_DESCRIPTORS if is_thin else 0,
        unmap_granularity=_GRANULARITY_BYTES >> shift if is_thin else 0,
        max_write_same=_MAX_WRITE_SAME_BYTES >> shift,
        is_write_same_non_zero=True,
        # Its data-out buffer holds each block twice.
        max_compare_and_write=min(_MAX_COMPARE_AND_WRITE_BLOCKS, unit.max_transfer_blocks // 2),
        max_atomic=unit.vdisk.max_atomic_bytes >> shift,
    )


def _limits(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return block_limits(unit).serialize()


def _characteristics(unit: LogicalUnit, nexus: Nexus) -> bytes:
    actions = {row.service_action for row in unit.rows.get(Opcode.SANITIZE, ())}
    return vpd.block_device_characteristics(
        is_rotational=unit.vdisk.is_rotational, has_block_erase=Sanitize.BLOCK_ERASE in actions
    )


# Thresholds count sets of a mebibyte: this is the binary logarithm of its bytes.
THRESHOLD_SET_SHIFT = 20


def _provisioning(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return Provisioning(
        has_unmap=True,
        has_write_same_16=True,
        has_write_same_10=True,
        reads_zeros=True,
        is_thin=True,
        threshold_exponent=(
            THRESHOLD_SET_SHIFT - unit.block_shift if unit.vdisk.soft_threshold_bytes else 0
        ),
    ).serialize()


def _is_thin(unit: LogicalUnit) -> bool:
    return unit.vdisk.is_thin_provisioned


VPD_PAGES: Mapping[int, _Page] = MappingProxyType(
    {
        VpdPage.SUPPORTED_VPD_PAGES: _Page(_supported),
        VpdPage.UNIT_SERIAL_NUMBER: _Page(_serial),
        VpdPage.DEVICE_IDENTIFICATION: _Page(_identification),
        VpdPage.EXTENDED_INQUIRY_DATA: _Page(_extended),
        VpdPage.MODE_PAGE_POLICY: _Page(_policy),
        VpdPage.SCSI_PORTS: _Page(_ports),
        VpdPage.THIRD_PARTY_COPY: _Page(
            _third_party_copy, lambda unit: Opcode.EXTENDED_COPY in unit.rows
        ),
        VpdPage.BLOCK_LIMITS: _Page(_limits),
        VpdPage.BLOCK_DEVICE_CHARACTERISTICS: _Page(_characteristics),
        VpdPage.LOGICAL_BLOCK_PROVISIONING: _Page(_provisioning, _is_thin),
    }
)
