# SPDX-License-Identifier: GPL-2.0-or-later
"""The names by which the kernel knows our targets and LUNs, and by which a later daemon finds them.

Everything follows from the configuration, so that what a killed daemon has left is recognised.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote

from scsi_backend.target.lun_map import LunEntry

# The first part of dev_config, which says whose a TCMU device is.
OWNER: Final = "scst-bridge"
_DIGEST_DIGITS: Final = 16
# A folder's name has 255 bytes, as has dev_config; the rest is for what stands beside it.
_MAX_QUOTED_BYTES: Final = 200


def port_name(target: str) -> str:
    """The SCSI port of a target: a locally assigned NAA (SPC-5 7.7.6.4) made from its name."""
    return _naa(f"{OWNER} target {target}")


def initiator_name(target: str, session: str) -> str:
    """The initiator port of a session with a target."""
    return _naa(f"{OWNER} session {session} {target}")


def check_target_name(name: str) -> None:
    """Check that the kernel has room for a name; raises ValueError."""
    if len(_quoted(name)) > _MAX_QUOTED_BYTES:
        raise ValueError("kernel 1: expected a shorter name, or more of its characters in ASCII")


def _naa(text: str) -> str:
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return f"naa.3{digest[: _DIGEST_DIGITS - 1]}"


@dataclass(frozen=True, slots=True)
class LunName:
    """A LUN of a target."""

    target: str
    lun: int

    def __str__(self) -> str:
        return f"target {self.target}: LUN {self.lun}"

    @property
    def device(self) -> str:
        """Its folder in configfs."""
        return f"{_quoted(self.target)}.{self.lun}"


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """``dev_config``: which LUN a TCMU device is, and a digest of what must not change under it."""

    name: LunName
    identity: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What a device says of itself; None for somebody else's."""
        parts = text.strip().split("/")
        if len(parts) != 4 or parts[0] != OWNER or not parts[2].isdecimal():
            return None
        return cls(LunName(unquote(parts[1], errors="surrogateescape"), int(parts[2])), parts[3])

    def __str__(self) -> str:
        return f"{OWNER}/{_quoted(self.name.target)}/{self.name.lun}/{self.identity}"


def identity_of(entry: LunEntry) -> str:
    """A digest of what an initiator remembers of a LUN, and would be misled by if it changed."""
    vdisk = entry.unit.vdisk
    # Never more than that: a later version must take over what this one has left.
    facts = (
        vdisk.name,
        vdisk.block_size_bytes,
        vdisk.identity.t10_dev_id,
        vdisk.identity.usn,
        vdisk.identity.naa_id,
        vdisk.is_removable,
        entry.is_read_only or vdisk.is_read_only,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:_DIGEST_DIGITS]


def _quoted(name: str) -> str:
    # The kernel splits its parameters at commas, and paths at slashes.
    return quote(name, safe="", errors="surrogateescape")
