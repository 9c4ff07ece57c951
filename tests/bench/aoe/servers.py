# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that are compared over AoE: one table, and for each row what to start.

Each runs on a host of its own, so that none sees the frames of another, and durable cells have
processes of their own. Plans are data; stations.py carries them out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.aoe.cells import AoeCell
from tests.bench.aoe.frames import SHELF, SLOT

# What the window needs, and some more.
VBLADE_BUFFERS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server works: its interface, the image that it serves, and its configuration."""

    interface: str
    mtu: int
    image: Path
    config: Path
    is_durable: bool


@dataclass(frozen=True, slots=True)
class AoeServer:
    """One server: `key` for the command line, `name` for the tables, and its command line.

    One that `stores` nothing is not asked for what was written, nor for durability.
    """

    key: str
    name: str
    command: Callable[[Place], tuple[str, ...]]
    is_ours: bool = False
    stores: bool = True

    def takes(self, cell: AoeCell) -> bool:
        """Whether the cell is anything to this server."""
        return self.stores or not cell.is_durable


def scst_config(place: Place) -> str:
    """The scst.conf of our daemon."""
    durable = "" if place.is_durable else "        durable 0\n"
    return f"""\
HANDLER vdisk_fileio {{
    DEVICE disk0 {{
        filename "{place.image}"
        blocksize 512
    }}
}}
TARGET_DRIVER aoe {{
    interface {place.interface}
    TARGET e{SHELF}.{SLOT} {{
        LUN 0 disk0
{durable}        enabled 1
    }}
}}
"""


def _ours(place: Place) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("scst-bridge")), "serve", str(place.config))


def _vblade(place: Place) -> tuple[str, ...]:
    sync = ("-s",) if place.is_durable else ()
    where = (str(SHELF), str(SLOT), place.interface, str(place.image))
    return ("vblade", "-b", str(VBLADE_BUFFERS), *sync, *where)


def _reflector(place: Place) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.bench.aoe.reflector", place.interface, str(place.mtu))


# In the order of the tables' columns.
SERVERS = (
    AoeServer("ours", "ours", _ours, is_ours=True),
    AoeServer("vblade", "vblade", _vblade),
    AoeServer("reflector", "no disk", _reflector, stores=False),
)
