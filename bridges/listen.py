# SPDX-License-Identifier: GPL-2.0-or-later
"""One place where a server listens, and on what terms: what a ``listen`` line says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridges.listeners import Address


class TlsMode(StrEnum):
    """NOTLS, SELECTIVETLS for every export alike, and FORCEDTLS of NBD's proto.md."""

    OFF = "off"
    ON = "on"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Listen:
    """An address with the terms for whoever connects there."""

    address: Address
    tls: TlsMode = TlsMode.OFF
