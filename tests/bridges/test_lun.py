# SPDX-License-Identifier: GPL-2.0-or-later
"""Probing a LUN: the backend's own devices, and devices that lack pages or send odd ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridges.exchange import Request, run_blocking
from bridges.lun import LunInfo, probe
from bridges.recovery import Reply, ScsiError, reply_of
from scsi_backend.handlers.registry import HANDLERS
from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.faulty_lun import sense
from tests.scsi_backend.reserving import EA, reserve, sign_in

SIZE_BYTES = 1 << 20


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend(SyncEngine())
    yield made
    made.close()


def probe_device(
    backend: Backend,
    handler: str,
    words: dict[str, str],
    *,
    lun: int = 0,
    is_read_only: bool = False,
) -> LunInfo:
    """Open a device with these attributes, and probe it as LUN ``lun`` of a target."""
    attributes = HANDLERS[handler].attributes.model_validate(words)
    unit = backend.add_device(handler, "disk0", attributes)
    return probe_unit(backend, unit, lun=lun, is_read_only=is_read_only)


def probe_unit(
    backend: Backend, unit: LogicalUnit, *, lun: int = 0, is_read_only: bool = False
) -> LunInfo:
    """Probe a device as LUN ``lun`` of a target."""
    target = backend.add_target("nbd", "target")
    target.add_lun(lun, LunEntry(unit, is_read_only))
    target.is_enabled = True
    nexus = target.open_session("initiator").nexuses[lun]

    def execute(request: Request) -> Reply:
        command = Command(request.cdb, request.data_in, request.data_out, lambda command: None)
        nexus.submit(command)
        return reply_of(command)

    return run_blocking(probe(), execute)


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE_BYTES))
    return str(path)


def test_a_thick_disk_of_512_byte_blocks(backend: Backend, image: str) -> None:
    info = probe_device(backend, "vdisk_fileio", {"filename": image})
    assert (info.block_size_bytes, info.block_count) == (512, 2048)
    assert info.size_bytes == SIZE_BYTES
    assert info.physical_block_exponent == 3
    assert (info.is_read_only, info.has_fua, info.has_volatile_cache) == (False, True, True)
    assert (info.is_rotational, info.is_removable) == (True, False)
    assert (info.is_thin_provisioned, info.can_unmap) == (False, False)
    assert (info.limits.max_unmap, info.limits.max_transfer) == (0, 65536)
    assert (info.limits.optimal_granularity, info.limits.max_write_same) == (8, 524288)
    assert not info.provisioning.has_unmap
    assert (info.vendor, info.product, info.revision) == ("SCST_FIO", "disk0", "0100")
    assert len(info.serial) >= 6
    assert int(info.serial, 16) < 1 << 32
    assert info.naa_id is not None
    assert info.naa_id[0] >> 4 == 3


def test_a_thin_disk_of_4096_byte_blocks(backend: Backend, image: str) -> None:
    info = probe_device(
        backend,
        "vdisk_fileio",
        {"filename": image, "blocksize": "4096", "thin_provisioned": "1"},
    )
    assert (info.block_size_bytes, info.block_count, info.size_bytes) == (4096, 256, SIZE_BYTES)
    assert info.physical_block_exponent == 0
    assert (info.is_thin_provisioned, info.can_unmap) == (True, True)
    ways = info.provisioning
    assert (ways.has_unmap, ways.has_write_same_16, ways.reads_zeros) == (True, True, True)
    assert (info.limits.max_unmap, info.limits.unmap_granularity) == (1 << 20, 1)
    assert info.limits.max_unmap_descriptors == 256


@pytest.mark.parametrize(
    ("words", "attribute", "expected"),
    [
        ({"read_only": "1"}, "is_read_only", True),
        ({"read_only": "1"}, "has_volatile_cache", False),
        ({"rotational": "0"}, "is_rotational", False),
        ({"rotational": "1"}, "is_rotational", True),
        ({"removable": "1"}, "is_removable", True),
        ({"write_through": "1"}, "has_volatile_cache", False),
        ({"nv_cache": "1"}, "has_volatile_cache", False),
        ({}, "can_change_write_cache", True),
        ({"write_through": "1"}, "can_change_write_cache", True),
        ({"nv_cache": "1"}, "can_change_write_cache", False),
        ({"usn": "serial 17"}, "serial", "serial 17"),
        ({"prod_id": "My disk"}, "product", "My disk"),
        ({"naa_id": "0x5000c5001234abcd"}, "naa_id", bytes.fromhex("5000c5001234abcd")),
        ({"naa_id": "6" + "0123456789abcde" * 2 + "f"}, "naa_id", None),
    ],
)
def test_attributes_are_seen(
    backend: Backend, image: str, words: dict[str, str], attribute: str, expected: object
) -> None:
    info = probe_device(backend, "vdisk_fileio", {"filename": image, **words})
    if expected is None:
        expected = bytes.fromhex(words["naa_id"])
    assert getattr(info, attribute) == expected


def test_a_read_only_lun_of_a_writable_disk(backend: Backend, image: str) -> None:
    info = probe_device(backend, "vdisk_fileio", {"filename": image}, lun=7, is_read_only=True)
    assert info.is_read_only
    # Others may write to it, so there is a cache to flush.
    assert info.has_volatile_cache
    assert not info.can_change_write_cache


def test_a_cache_that_a_reservation_hides_is_taken_for_volatile(
    backend: Backend, image: str
) -> None:
    words = {"filename": image}
    attributes = HANDLERS["vdisk_fileio"].attributes.model_validate(words)
    unit = backend.add_device("vdisk_fileio", "disk0", attributes)
    reserve(sign_in(unit, "somebody else"), 1, EA)
    info = probe_unit(backend, unit)
    assert info.has_volatile_cache
    # What is not known to work is not used.
    assert (info.has_fua, info.can_change_write_cache) == (False, False)


def test_a_disk_larger_than_32_bits_of_blocks(backend: Backend) -> None:
    info = probe_device(backend, "vdisk_nullio", {"size_mb": str(3 << 20)})
    assert info.block_count == 3 << 31
    assert info.size_bytes == 3 << 40


def test_a_tail_shorter_than_a_block_is_not_there(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(bytes(4096 * 3 + 4095))
    info = probe_device(backend, "vdisk_fileio", {"filename": str(path), "blocksize": "4096"})
    assert info.size_bytes == 4096 * 3


def capacity(
    last_lba: int, block_size_bytes: int, exponent: int = 0, provisioning: int = 0
) -> bytes:
    return struct.pack(">QIBBH16x", last_lba, block_size_bytes, 0, exponent, provisioning)


def mode_sense(page: bytes, device_specific: int = 0, descriptor: bytes = b"") -> bytes:
    length = 6 + len(descriptor) + len(page)
    return (
        struct.pack(">HBBBxH", length, 0, device_specific, 0, len(descriptor)) + descriptor + page
    )


CACHING_WCE = bytes((0x08, 0x12, 0x04)) + bytes(17)


@dataclass
class Device:
    """A device with just the data it was given; all else is an ILLEGAL REQUEST."""

    inquiry: bytes = bytes(5)
    pages: dict[int, bytes] = field(default_factory=dict)
    capacity: bytes = field(default_factory=lambda: capacity(99, 512))
    # Current values, and which of them may be changed.
    mode: bytes | None = None
    changeable: bytes | None = None
    refusal: str = "05/24/00"
    not_ready: str | None = None

    def execute(self, request: Request) -> Reply:
        """See ``run_blocking``."""
        opcode = request.cdb[0]
        if opcode == 0x00 and self.not_ready:
            return Reply(Status.CHECK_CONDITION, sense(self.not_ready), 0)
        data = self._data(request.cdb, opcode)
        if data is None:
            return Reply(Status.CHECK_CONDITION, sense(self.refusal), 0)
        if opcode == 0x00:
            return Reply(Status.GOOD, None, 0)
        assert request.data_in is not None
        length = min(len(data), len(request.data_in))
        request.data_in[:length] = data[:length]
        return Reply(Status.GOOD, None, length)

    def _data(self, cdb: bytes, opcode: int) -> bytes | None:
        if opcode == 0x00:
            return b""
        if opcode == 0x12:
            return self.pages.get(cdb[2]) if cdb[1] & 1 else self.inquiry
        if opcode == 0x9E:
            return self.capacity
        if opcode != 0x5A:
            return None
        return {0x08: self.mode, 0x48: self.changeable}[cdb[2]]


def vpd(code: int, body: bytes) -> dict[int, bytes]:
    return {code: struct.pack(">BBH", 0, code, len(body)) + body}


@pytest.mark.parametrize("refusal", ["05/24/00", "05/20/00", "04/44/00"])
def test_a_device_without_optional_pages(refusal: str) -> None:
    info = run_blocking(probe(), Device(refusal=refusal).execute)
    assert (info.block_size_bytes, info.block_count, info.size_bytes) == (512, 100, 51200)
    assert (info.is_read_only, info.has_fua, info.has_volatile_cache) == (False, False, False)
    assert (info.is_rotational, info.is_removable, info.can_unmap) == (False, False, False)
    assert (info.vendor, info.product, info.revision, info.serial) == ("", "", "", "")
    assert info.naa_id is None
    limits = info.limits
    assert (limits.max_transfer, limits.max_unmap, limits.max_write_same) == (0, 0, 0)


def test_short_pages_count_as_zeros_behind_their_end() -> None:
    pages = vpd(0xB0, bytes(4)) | vpd(0xB1, b"\x1c") | vpd(0xB2, b"\0") | vpd(0x80, b"")
    device = Device(pages=pages, mode=bytes(4))
    info = run_blocking(probe(), device.execute)
    assert (info.limits.max_transfer, info.is_rotational, info.serial) == (0, False, "")
    assert (info.has_volatile_cache, info.can_unmap) == (False, False)


@pytest.mark.parametrize(
    ("rate", "is_rotational"),
    [(0, False), (1, False), (0x0400, False), (0x0401, True), (7200, True), (0xFFFF, True)],
)
def test_the_rotation_rate_tells_what_rotates(rate: int, is_rotational: bool) -> None:
    device = Device(pages=vpd(0xB1, struct.pack(">H", rate).ljust(60, b"\0")))
    assert run_blocking(probe(), device.execute).is_rotational is is_rotational


@pytest.mark.parametrize(
    ("capacity_flags", "lbp_flags", "expected"),
    [
        (0x8000, 0x80, True),  # UNMAP
        (0x8000, 0x40, True),  # WRITE SAME(16) with UNMAP
        (0x8000, 0x20, False),  # WRITE SAME(10) is not used here
        (0x8000, 0x00, False),
        (0x0000, 0xE0, False),  # no LBPME: fully provisioned
        (0x4000, 0xE0, False),
    ],
)
def test_unmapping_takes_lbpme_and_a_command(
    capacity_flags: int, lbp_flags: int, expected: bool
) -> None:
    device = Device(
        pages=vpd(0xB2, bytes((0, lbp_flags, 2, 0))),
        capacity=capacity(99, 512, 0, capacity_flags),
    )
    assert run_blocking(probe(), device.execute).can_unmap is expected


@pytest.mark.parametrize(
    ("descriptor_bytes", "device_specific"), [(0, 0x10), (8, 0x90), (16, 0x80), (8, 0)]
)
def test_the_caching_page_is_found_behind_block_descriptors(
    descriptor_bytes: int, device_specific: int
) -> None:
    mode = mode_sense(CACHING_WCE, device_specific, b"\xff" * descriptor_bytes)
    info = run_blocking(probe(), Device(mode=mode).execute)
    assert info.has_volatile_cache
    assert info.is_read_only is bool(device_specific & 0x80)
    assert info.has_fua is bool(device_specific & 0x10)
    without = mode_sense(bytes((0x08, 0x12, 0xFB)) + bytes(17), 0, b"\xff" * descriptor_bytes)
    assert not run_blocking(probe(), Device(mode=without).execute).has_volatile_cache
    assert not info.can_change_write_cache
    changing = run_blocking(probe(), Device(mode=without, changeable=mode).execute)
    assert (changing.has_volatile_cache, changing.can_change_write_cache) == (False, True)


T10 = bytes((0x02, 0x01, 0, 8)) + b"SCST_FIO"
PORT_NAA = bytes((0x01, 0x13, 0, 8)) + bytes.fromhex("5111111111111111")
EUI64 = bytes((0x01, 0x02, 0, 8)) + bytes.fromhex("2222222222222222")
NAA = bytes((0x01, 0x03, 0, 8)) + bytes.fromhex("5333333333333333")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (T10 + PORT_NAA + EUI64 + NAA, "5333333333333333"),
        (NAA + PORT_NAA, "5333333333333333"),
        (PORT_NAA + T10, None),
        (b"", None),
        (b"\x01\x03", None),
    ],
)
def test_the_naa_designator_is_the_logical_units(body: bytes, expected: str | None) -> None:
    info = run_blocking(probe(), Device(pages=vpd(0x83, body)).execute)
    assert info.naa_id == (bytes.fromhex(expected) if expected else None)


def test_text_fields_lose_their_padding() -> None:
    inquiry = (
        bytes((0, 0x80, 6, 2, 31, 0, 0, 2)) + b"ACME    " + b"Disk\xff".ljust(16, b"\0") + b"1.0 "
    )
    pages = vpd(0x80, b"   SN 1  ")
    info = run_blocking(probe(), Device(inquiry=inquiry, pages=pages).execute)
    assert (info.vendor, info.product, info.revision) == ("ACME", "Disk\ufffd", "1.0")
    assert (info.serial, info.is_removable) == ("SN 1", True)


def test_a_lun_that_is_not_ready_cannot_be_probed() -> None:
    with pytest.raises(ScsiError, match="TEST UNIT READY: NOT READY 3A/00"):
        run_blocking(probe(), Device(not_ready="02/3A/00").execute)


def test_a_lun_without_capacity_cannot_be_probed() -> None:
    class Capless(Device):
        def _data(self, cdb: bytes, opcode: int) -> bytes | None:
            return None if opcode == 0x9E else super()._data(cdb, opcode)

    with pytest.raises(ScsiError, match="ILLEGAL REQUEST 20/00"):
        run_blocking(probe(), Capless(refusal="05/20/00").execute)
