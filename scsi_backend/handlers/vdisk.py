# SPDX-License-Identifier: GPL-2.0-or-later
"""What every emulated disk is: an identity, a geometry, and storage addressed in bytes.

A handler knows nothing of CDBs. Its storage operations have the two steps of ``BackingFile``:
``read_now`` and ``write_now`` do what can be done at once, and the others report later through
``done(result)``, a byte count or a negated errno.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from scsi_backend.handlers.attributes import VdiskAttributes
from scsi_backend.io.engine import Done
from scsi_backend.io.file import Transfer
from scsi_backend.io.located import Located
from scsi_backend.io.scatter import Buffer

REVISION_LEVEL = "0100"


@dataclass(frozen=True, slots=True)
class Identity:
    """How a device names itself to initiators."""

    vendor: str
    product: str
    revision: str
    t10_dev_id: str
    usn: str
    naa_id: bytes | None = None
    eui64_id: bytes | None = None
    # The tail of the T10 vendor ID designator.
    vend_specific_id: str = ""
    scsi_device_name: str = ""
    inq_vend_specific: bytes = b""


@dataclass(slots=True)
class Extent:
    """A run of bytes that is stored (``is_mapped``) or a hole that reads as zeros."""

    length_bytes: int
    is_mapped: bool


@dataclass(slots=True)
class Space:
    """What a disk takes in its backing store, and what that could give it yet."""

    used_bytes: int = 0
    available_bytes: int = 0


class Vdisk(ABC):
    """An emulated disk. ``block_count`` changes only in ``reread_size``."""

    handler: ClassVar[str]
    vendor: ClassVar[str]
    # Whether what is written can be read again.
    keeps_data: ClassVar[bool] = True
    read_now: Transfer
    write_now: Transfer

    def __init__(self, name: str, attributes: VdiskAttributes, size_bytes: int) -> None:
        self.name = name
        self.identity = _identity(name, self.vendor, attributes)
        self.block_size_bytes = attributes.blocksize
        self.block_count = size_bytes // attributes.blocksize
        self.is_read_only = attributes.read_only
        self.is_rotational = attributes.rotational
        self.is_removable = attributes.removable
        # Task set type of the control mode page: 1 is one for each I_T nexus, 0 one for all.
        self.tst = attributes.tst
        # Whether initiators may change access states, where the device is in a device group.
        self.has_explicit_alua = attributes.expl_alua
        # READ CAPACITY(16): how many logical blocks there are in a physical one.
        self.tells_physical_blocks = attributes.lb_per_pb_exp
        # Whether 32-byte commands are served, for which SBC-4 wants type 2 protection.
        self.has_long_cdbs = attributes.long_cdbs
        self.is_thin_provisioned = False
        # Whether ``measure_space`` says more than that everything is stored.
        self.measures_space = False
        # Whether a write may be lost until a flush (WCE of the caching mode page), and whether
        # a flush has anything to do.
        self.has_volatile_cache = False
        self.needs_sync = False
        # With so little space left, nexuses are told (``ThinThreshold``); zero: never.
        self.soft_threshold_bytes = 0
        # How much ``write_atomic`` takes; zero where there is no such thing.
        self.max_atomic_bytes = 0

    def locate_now(self, offset_bytes: int, length_bytes: int) -> Located | None:
        """Say where a range lies, if it can be sent from there at once; None to have it read."""
        return None

    def find_hole(self, offset_bytes: int, length_bytes: int, done: Done) -> bool:
        """Begin to find out whether nothing is stored in a range; tell whether that was begun.

        ``done`` gets 1 for a hole, 0 where there are data, or a negated errno.
        """
        return False

    @abstractmethod
    def read(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Fill ``view``; fewer bytes than its length mean that the backing store is too short."""

    @abstractmethod
    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Write all of ``view``."""

    def read_medium(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """Fill ``view`` from where a power failure cannot reach, not from a cache before it."""
        self.read(view, offset_bytes, done)

    def write_atomic(self, view: memoryview, offset_bytes: int, done: Done) -> None:
        """Write up to ``max_atomic_bytes`` and make them stable, or change nothing.

        That holds if the write fails, and if it is cut off by the end of the process or of power:
        then it is undone when the disk is opened again.
        """
        done(-errno.EOPNOTSUPP)

    @abstractmethod
    def sync(self, done: Done) -> None:
        """Make every finished write survive a power failure, then call ``done(0)``."""

    def sync_medium(self, done: Done) -> None:
        """As ``sync``, but empty a cache that counts as non-volatile, too."""
        self.sync(done)

    @abstractmethod
    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """Deallocate a range, which then reads as zeros."""

    @abstractmethod
    def write_zeros(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """Make a range read as zeros and keep its space; EOPNOTSUPP where only writing does."""

    @abstractmethod
    def read_ahead(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """Begin to bring a range into the cache."""

    @abstractmethod
    def extents(self, offset_bytes: int, limit: int, runs: list[Extent], done: Done) -> None:
        """Append up to ``limit`` runs from ``offset_bytes`` to the end of the disk to ``runs``."""

    def measure_space(self, space: Space, done: Done) -> None:
        """Fill in ``space``; of a disk that is all there, nothing else can be asked for."""
        space.used_bytes = self.block_count * self.block_size_bytes
        done(0)

    @abstractmethod
    def reread_size(self) -> bool:
        """Look at the backing store's size again; tell whether ``block_count`` changed."""

    @abstractmethod
    def close(self) -> None:
        """Release the backing store; no operation may be outstanding."""


def _identity(name: str, vendor: str, attributes: VdiskAttributes) -> Identity:
    # As SCST: a number made from the name, so that it is stable over restarts.
    number = f"{crc32c(name.encode() + bytes(1)):x}"
    t10_dev_id = attributes.t10_dev_id or f"{number}-{name}"[:25]
    usn = attributes.usn or number
    naa_id = attributes.naa_id
    if naa_id is None and attributes.eui64_id is None:
        naa_id = _locally_assigned_naa(t10_dev_id, usn)
    return Identity(
        vendor=attributes.t10_vend_id or vendor,
        product=attributes.prod_id or name[:16],
        revision=attributes.prod_rev_lvl or REVISION_LEVEL,
        t10_dev_id=t10_dev_id,
        usn=usn,
        naa_id=naa_id,
        eui64_id=attributes.eui64_id,
        vend_specific_id=attributes.vend_specific_id or t10_dev_id,
        scsi_device_name=attributes.scsi_device_name or "",
        inq_vend_specific=(attributes.inq_vend_specific or "").encode("ascii"),
    )


def _locally_assigned_naa(t10_dev_id: str, usn: str) -> bytes:
    """An NAA 3 designator (SPC-5 7.7.6.6), for which nobody has to own an identifier.

    Deviation: SCST makes an EUI-64 of the first eight characters of ``t10_dev_id``, which no
    registry has assigned to it.
    """
    digest = sha256(f"{t10_dev_id}\0{usn}".encode()).digest()
    return bytes((0x30 | digest[0] & 0x0F,)) + digest[1:8]


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of a few bytes, with SCST's seed of zero and no final inversion."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value
