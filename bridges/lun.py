# SPDX-License-Identifier: GPL-2.0-or-later
"""What a front-end knows of a LUN, and how it asks: all through CDBs, as any initiator would."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bridges.exchange import Exchange, Request, succeed
from bridges.recovery import ScsiError
from scsi_backend.t10 import cdb, mode_pages
from scsi_backend.t10.mode_pages import PageControl
from scsi_backend.t10.status import Status
from scsi_backend.t10.vpd import BlockLimits, Provisioning, VpdPage

_ALLOCATION_BYTES = 255
_NO_LIMITS = BlockLimits.parse(b"")
_NO_PROVISIONING = Provisioning.parse(b"")
# Of a device that somebody has reserved, who may be gone when it comes to writing.
_VOLATILE = bytes(8) + bytes((mode_pages.ModePage.CACHING, 0, mode_pages.WCE_BIT))


@dataclass(frozen=True, slots=True)
class LunInfo:
    """A LUN's geometry, limits and identity; lengths in ``limits`` are in logical blocks."""

    block_size_bytes: int
    block_count: int
    physical_block_exponent: int
    is_read_only: bool
    has_fua: bool
    has_volatile_cache: bool
    is_rotational: bool
    is_removable: bool
    is_thin_provisioned: bool
    limits: BlockLimits
    provisioning: Provisioning
    vendor: str
    product: str
    revision: str
    serial: str
    naa_id: bytes | None
    # Whether this initiator may turn it on and off by MODE SELECT.
    can_change_write_cache: bool = False

    @property
    def size_bytes(self) -> int:
        """The capacity."""
        return self.block_count * self.block_size_bytes

    @property
    def can_unmap(self) -> bool:
        """Whether deallocating does anything (LBPME, and a command for it)."""
        ways = self.provisioning
        return self.is_thin_provisioned and (ways.has_unmap or ways.has_write_same_16)


def probe() -> Exchange[LunInfo]:
    """Ask a LUN what it is; optional pages that it lacks count as empty."""
    succeed((yield Request(cdb.TEST_UNIT_READY)))
    standard = yield from _data_in(cdb.inquiry(_ALLOCATION_BYTES), _ALLOCATION_BYTES)
    standard = standard.ljust(36, b"\0")
    serial = yield from _vpd(VpdPage.UNIT_SERIAL_NUMBER)
    identification = yield from _vpd(VpdPage.DEVICE_IDENTIFICATION)
    limits = yield from _vpd(VpdPage.BLOCK_LIMITS)
    characteristics = yield from _vpd(VpdPage.BLOCK_DEVICE_CHARACTERISTICS)
    provisioning = yield from _vpd(VpdPage.LOGICAL_BLOCK_PROVISIONING)
    capacity = yield from _data_in(cdb.read_capacity_16(), 32)
    last_lba, block_size, _, exponent, flags = struct.unpack_from(
        ">QIBBB", capacity.ljust(32, b"\0")
    )
    mode = yield from _caching_mode(PageControl.CURRENT, _VOLATILE)
    changeable = yield from _caching_mode(PageControl.CHANGEABLE, b"")
    rotation = int.from_bytes(characteristics[4:6], "big")
    return LunInfo(
        block_size_bytes=block_size,
        block_count=last_lba + 1,
        physical_block_exponent=exponent & 0x0F,
        is_read_only=bool(mode[3] & mode_pages.WP_BIT),
        has_fua=bool(mode[3] & mode_pages.DPOFUA_BIT),
        has_volatile_cache=_has_wce(mode),
        # SBC-4 table 244: 0401h and up are rotations per minute.
        is_rotational=rotation >= 0x0401,
        is_removable=bool(standard[1] & 0x80),
        is_thin_provisioned=bool(flags & 0x80),
        limits=BlockLimits.parse(limits) if limits else _NO_LIMITS,
        provisioning=Provisioning.parse(provisioning) if provisioning else _NO_PROVISIONING,
        vendor=_text(standard[8:16]),
        product=_text(standard[16:32]),
        revision=_text(standard[32:36]),
        serial=_text(serial[4:]),
        naa_id=_naa_designator(identification[4:]),
        can_change_write_cache=_has_wce(changeable),
    )


def _caching_mode(control: PageControl, hidden: bytes) -> Exchange[bytes]:
    """Nothing for a device that lacks the page; ``hidden`` where a reservation keeps it secret."""
    command = cdb.mode_sense_10(mode_pages.ModePage.CACHING, _ALLOCATION_BYTES, control)
    mode = b""
    try:
        mode = yield from _data_in(command, _ALLOCATION_BYTES)
    except ScsiError as error:
        if error.reply.status == Status.RESERVATION_CONFLICT:
            mode = hidden
    return mode.ljust(8, b"\0")


def _has_wce(mode: bytes) -> bool:
    # Some devices send block descriptors in spite of DBD.
    page = mode[8 + int.from_bytes(mode[6:8], "big") :].ljust(3, b"\0")
    return bool(page[2] & mode_pages.WCE_BIT)


def _data_in(command: bytes, allocation_bytes: int) -> Exchange[bytes]:
    buffer = memoryview(bytearray(allocation_bytes))
    reply = succeed((yield Request(command, buffer)))
    return bytes(buffer[: reply.data_in_length])


def _optional(exchange: Exchange[bytes]) -> Exchange[bytes]:
    try:
        return (yield from exchange)
    except ScsiError:
        return b""


def _vpd(page: VpdPage) -> Exchange[bytes]:
    return (yield from _optional(_data_in(cdb.inquiry(_ALLOCATION_BYTES, page), _ALLOCATION_BYTES)))


def _text(field: bytes) -> str:
    return field.decode("ascii", "replace").strip(" \0")


def _naa_designator(body: bytes) -> bytes | None:
    """Find the NAA designator of the logical unit in VPD 83h (SPC-5 7.7.6)."""
    position = 0
    while position + 4 <= len(body):
        association_and_type, length = body[position + 1], body[position + 3]
        if association_and_type & 0x3F == 0x03:
            return body[position + 4 : position + 4 + length]
        position += 4 + length
    return None
