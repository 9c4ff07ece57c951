# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes with which a device is created, by handler, under SCST's names and defaults.

Values come as the words of a configuration file. A model rejects what it does not know and says
what it expected; who reads the file adds where the word stands.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# SCST reads numbers with strtoull(..., 0): decimal, 0x hexadecimal, 0 octal.
_NUMBER = re.compile(r"0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*")
# SPC-5 7.7.6.6: NAA 2, 3 and 5 have 8 bytes, NAA 6 has 16.
_NAA = re.compile(r"[235][0-9a-f]{15}|6[0-9a-f]{31}")
# SPC-5 7.7.6.5: 8, 12 or 16 bytes.
_EUI_64 = re.compile(r"(?:[0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{32})")
# DESIGNATOR LENGTH is one byte and a multiple of four, and a null ends the name.
_MAX_SCSI_NAME = 251

# What a signed 64-bit offset has room for; clients use those.
_MAX_SIZE_BYTES = (1 << 63) - 1


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.lower()
    if not _NUMBER.fullmatch(text):
        raise ValueError("expected a number")
    return int(text, 8 if text.isdigit() and text[0] == "0" else 0)


def _flag(value: Any) -> bool:
    if value in (True, False, "0", "1"):
        return value in (True, "1")
    raise ValueError("expected 0 or 1")


def _absolute_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("expected an absolute path")
    return value


def _block_size(value: int) -> int:
    if value not in (512, 4096):
        raise ValueError("expected 512 or 4096")
    return value


def _task_set_type(value: int) -> int:
    if value not in (0, 1):
        raise ValueError("expected 0 or 1")
    return value


def _printable(limit: int) -> AfterValidator:
    def check(value: str) -> str:
        if not 0 < len(value) <= limit or not (value.isascii() and value.isprintable()):
            raise ValueError(f"expected 1 to {limit} printable ASCII characters")
        return value

    return AfterValidator(check)


def _hex(pattern: re.Pattern[str], expected: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        digits = value.lower().removeprefix("0x")
        if not pattern.fullmatch(digits):
            raise ValueError(f"expected {expected}")
        return bytes.fromhex(digits)

    return BeforeValidator(check)


Flag = Annotated[bool, BeforeValidator(_flag)]
Number = Annotated[int, BeforeValidator(_number), Field(ge=0)]
BlockSize = Annotated[Number, AfterValidator(_block_size)]
# THRESHOLD COUNT of mode page 1Ch, subpage 02h, has 32 bits.
ThresholdMb = Annotated[Number, Field(lt=1 << 32)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]
TaskSetType = Annotated[Number, AfterValidator(_task_set_type)]
NaaId = Annotated[
    bytes, _hex(_NAA, "16 hex digits beginning with 2, 3 or 5, or 32 beginning with 6")
]
Eui64Id = Annotated[bytes, _hex(_EUI_64, "16, 24 or 32 hex digits")]


class VdiskAttributes(BaseModel):
    """What every emulated disk has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocksize: BlockSize = Field(512, description="logical block length in bytes: 512 or 4096")
    read_only: Flag = Field(False, description="refuse commands that write the medium")
    rotational: Flag = Field(True, description="VPD B1h: 1 says 15000 rpm, 0 non-rotating")
    removable: Flag = Field(False, description="the RMB bit of the standard INQUIRY data")
    lb_per_pb_exp: Flag = Field(
        True, description="READ CAPACITY(16): 0 hides that physical blocks have 4096 bytes"
    )
    long_cdbs: Flag = Field(
        False, description="serve 32-byte READ, WRITE and the like, which need no protection here"
    )
    t10_dev_id: Annotated[str, _printable(25)] | None = Field(
        None, description="T10 vendor ID designator of VPD 83h (made from the device's name)"
    )
    usn: Annotated[str, _printable(20)] | None = Field(
        None, description="unit serial number, VPD 80h (made from the device's name)"
    )
    prod_id: Annotated[str, _printable(16)] | None = Field(
        None, description="product identification (the device's name)"
    )
    prod_rev_lvl: Annotated[str, _printable(4)] | None = Field(
        None, description="product revision level (0100)"
    )
    t10_vend_id: Annotated[str, _printable(8)] | None = Field(
        None, description="T10 vendor identification (SCST_FIO)"
    )
    vend_specific_id: Annotated[str, _printable(128)] | None = Field(
        None, description="what follows the vendor in the designator of VPD 83h (t10_dev_id)"
    )
    scsi_device_name: Annotated[str, _printable(_MAX_SCSI_NAME)] | None = Field(
        None, description="SCSI name string designator of VPD 83h"
    )
    eui64_id: Eui64Id | None = Field(None, description="EUI-64 designator of VPD 83h, in hex")
    naa_id: NaaId | None = Field(
        None,
        description="NAA designator of VPD 83h, in hex (locally assigned, made from t10_dev_id"
        " and usn, where there is no eui64_id)",
    )
    inq_vend_specific: Annotated[str, _printable(160)] | None = Field(
        None, description="vendor specific INQUIRY data: from byte 36 if it fits, else from 96"
    )
    tst: TaskSetType = Field(
        1, description="task set type: 1 is one for each I_T nexus, 0 one for all"
    )
    mode_pages_file: AbsolutePath | None = Field(
        None, description="absolute path of the file for saved mode pages; nothing is saved without"
    )
    pr_file_name: AbsolutePath | None = Field(
        None,
        description="absolute path of the file for persistent reservations"
        " (/var/lib/scst/pr/ and the device's name)",
    )
    expl_alua: Flag = Field(
        False, description="initiators may change access states (SET TARGET PORT GROUPS)"
    )


class FileioAttributes(VdiskAttributes):
    """vdisk_fileio: a file or block device, through the page cache."""

    filename: AbsolutePath = Field(description="absolute path of the backing file; required")
    write_through: Flag = Field(False, description="each write is stable before its status")
    nv_cache: Flag = Field(
        False, description="the cache survives a power failure: flushes do nothing, WCE is 0"
    )
    thin_provisioned: Flag = Field(False, description="UNMAP, LBPME, VPD B2h")
    tp_soft_threshold_mb: ThresholdMb = Field(
        0,
        description="thin: MiB; unit attention 38/07 when the file system has no more; 0: never",
    )
    atomic_journal: AbsolutePath | None = Field(
        None, description="file (1 MiB) for undoing WRITE ATOMIC, which there is not without"
    )

    @model_validator(mode="after")
    def _threshold_is_for_thin_disks(self) -> Self:
        if self.tp_soft_threshold_mb and not self.thin_provisioned:
            raise ValueError("tp_soft_threshold_mb needs thin_provisioned")
        return self

    @model_validator(mode="after")
    def _journal_is_for_writing_and_not_the_disk(self) -> Self:
        if self.atomic_journal is not None and self.read_only:
            raise ValueError("read_only excludes atomic_journal")
        if self.atomic_journal == self.filename:
            raise ValueError("filename and atomic_journal must differ")
        return self

    @model_validator(mode="after")
    def _read_only_excludes_write_caching(self) -> Self:
        if self.read_only and (self.write_through or self.nv_cache):
            raise ValueError("read_only excludes write_through and nv_cache")
        return self

    @model_validator(mode="after")
    def _mode_pages_are_not_the_disk(self) -> Self:
        if self.mode_pages_file == self.filename:
            raise ValueError("mode_pages_file and filename are one file")
        return self


class NullioAttributes(VdiskAttributes):
    """vdisk_nullio: no storage; writes vanish, reads give zeros."""

    size: Number | None = Field(None, description="size in bytes (2.5 TiB)")
    size_mb: Number | None = Field(None, description="size in MiB, instead of size")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size is not None and self.size_mb is not None:
            raise ValueError("size and size_mb exclude each other")
        if not 0 < self.size_bytes <= _MAX_SIZE_BYTES or self.size_bytes % self.blocksize:
            raise ValueError("expected a size below 2^63 that is a multiple of blocksize")
        return self

    @property
    def size_bytes(self) -> int:
        """The size in force."""
        if self.size is not None:
            return self.size
        return 5 << 39 if self.size_mb is None else self.size_mb << 20
