# SPDX-License-Identifier: GPL-2.0-or-later
"""One disk at NBD, ATA over Ethernet and the local socket, and who may use it at each of them.

The clients are libnbd, the tools of ``scst-bridge aoe``, and the local door's own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.packet import Raw

from bridges.aoe.address import Address
from bridges.aoe.ata import AtaStatus
from bridges.aoe.ata_codes import AtaOpcode
from bridges.aoe.wire import AtaFlag
from bridges.aoe_tools.exchange import Exchanger
from bridges.aoe_tools.layers import IssueAta
from bridges.aoe_tools.operations import find, identify
from bridges.aoe_tools.packet_link import open_link
from tests.bridges.daemon_process import DEADLINE_S, daemon
from tests.bridges.local_initiator import LocalInitiator
from tests.interop.netns import Network
from tests.scsi_backend import cdbs
from tests.scsi_backend.reservation_model import GOOD as DONE
from tests.scsi_backend.reservation_model import text

nbd = pytest.importorskip("nbd", reason="needs libnbd's module (Debian package python3-libnbd)")

IMAGE_BYTES = 1 << 20
BLOCKS = 2
BYTES = BLOCKS * 512
# Relative target ports.
PORTS = {"one": 1, "two": 2, "nbd": 3, "aoe": 4, "ata": 5}
# What a client is told that meets somebody else's reservation.
CONFLICTS = {
    "one": "conflict",
    "two": "conflict",
    "nbd": "EPERM",
    "aoe": "AoE error 6",
    # ABRT.
    "ata": "ATA error 04",
}
_CONF = """\
HANDLER vdisk_fileio {{
    DEVICE disk {{
        filename "{folder}/disk.img"
        thin_provisioned 1
        pr_file_name "{folder}/pr"
    }}
}}
TARGET_DRIVER scst_local {{
    socket "{folder}/local.sock"
    TARGET one {{
        rel_tgt_id 1
        LUN 0 disk
        enabled 1
    }}
    TARGET two {{
        rel_tgt_id 2
        LUN 0 disk
        enabled 1
    }}
}}
TARGET_DRIVER nbd {{
    listen "unix:{folder}/nbd.sock"
    TARGET disk {{
        rel_tgt_id 3
        LUN 0 disk
        enabled 1
    }}
}}
TARGET_DRIVER aoe {{
    interface {interface}
    state_directory "{folder}/aoe"
    TARGET e1.1 {{
        rel_tgt_id 4
        reservation_conflict aoe
        LUN 0 disk
        enabled 1
    }}
    TARGET e1.2 {{
        rel_tgt_id 5
        reservation_conflict ata
        LUN 0 disk
        enabled 1
    }}
}}
"""


class Door(ABC):
    """A way to the disk's first blocks; each command returns how it ends."""

    # Who the client is to the daemon.
    name: str

    @abstractmethod
    def read(self) -> str:
        """Read."""

    @abstractmethod
    def write(self, data: bytes) -> str:
        """Write."""


class NbdDoor(Door):
    """A connection of libnbd's."""

    def __init__(self, path: Path) -> None:
        self.name = f"unix:uid={os.getuid()}"
        self._handle = nbd.NBD()
        self._handle.set_export_name("disk")
        self._handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        self._handle.connect_unix(str(path))

    def read(self) -> str:
        """See ``Door.read``."""
        return self.end_of("pread", nbd.Buffer(BYTES), 0)

    def write(self, data: bytes) -> str:
        """See ``Door.write``."""
        return self.end_of("pwrite", nbd.Buffer.from_bytearray(bytearray(data)), 0)

    def end_of(self, name: str, *arguments: Any) -> str:
        """Call a method of libnbd's, by its name without ``aio_``."""
        cookie = getattr(self._handle, f"aio_{name}")(*arguments)
        try:
            while not self._handle.aio_command_completed(cookie):
                assert self._handle.poll(round(DEADLINE_S * 1000)) == 1
        except nbd.Error as error:
            return str(error.errno)
        return DONE


class AoeDoor(Door):
    """Frames to one target."""

    def __init__(self, exchanger: Exchanger, address: Address) -> None:
        self.name = exchanger.mac.hex(":")
        self._exchanger = exchanger
        self._target = find(exchanger, address)

    def read(self) -> str:
        """See ``Door.read``."""
        return self._end_of(AtaOpcode.READ_SECTORS_EXT, AtaFlag.E, b"")

    def write(self, data: bytes) -> str:
        """See ``Door.write``."""
        return self._end_of(AtaOpcode.WRITE_SECTORS_EXT, AtaFlag.E | AtaFlag.W, data)

    def identify(self) -> bytes:
        """IDENTIFY DEVICE, which must succeed."""
        return identify(self._exchanger, self._target)

    def _end_of(self, opcode: AtaOpcode, flags: AtaFlag, data: bytes) -> str:
        request = IssueAta(flags=flags.value, opcode=opcode.value, sector_count=BLOCKS) / Raw(data)
        reply = self._exchanger.first_reply(self._target.mac, self._target.address, request)
        assert reply is not None
        if reply.error:
            return f"AoE error {reply.error}"
        assert reply.argument is not None
        if reply.argument.opcode & AtaStatus.ERR:
            return f"ATA error {reply.argument.feature:02X}"
        return DONE


class LocalDoor(Door):
    """CDBs over the local socket."""

    def __init__(self, initiator: LocalInitiator) -> None:
        self.name = initiator.name
        self.initiator = initiator

    def read(self) -> str:
        """See ``Door.read``."""
        self.initiator.take_attentions()
        return text(self.initiator.send(cdbs.block(cdbs.READ, 16, 0, BLOCKS), None, BYTES))

    def write(self, data: bytes) -> str:
        """See ``Door.write``."""
        self.initiator.take_attentions()
        return text(self.initiator.send(cdbs.block(cdbs.WRITE, 16, 0, BLOCKS), data))


class House:
    """A daemon and the clients at its doors, until it is killed and started again."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network = network
        self._folder = folder
        self._image = folder / "disk.img"
        self._image.write_bytes(bytes(IMAGE_BYTES))
        self._conf = folder / "scst.conf"
        self._conf.write_text(_CONF.format(folder=folder, interface=network.target.interface))
        self._writes = 0

    @contextmanager
    def open(self) -> Iterator[Mapping[str, Door]]:
        """Start the daemon and connect to every door; the daemon is killed in the end."""
        command = self._network.target.command()
        with ExitStack() as stack:
            stack.enter_context(daemon(self._conf, command))
            doors: dict[str, Door] = {"nbd": NbdDoor(self._folder / "nbd.sock")}
            for name in ("one", "two"):
                client = LocalInitiator(self._folder / "local.sock", name, f"client {name}")
                doors[name] = LocalDoor(stack.enter_context(client))
            with self._network.client.entered():
                link = stack.enter_context(open_link(self._network.client.interface))
            exchanger = Exchanger(link, DEADLINE_S, 1)
            for name, slot in (("aoe", 1), ("ata", 2)):
                doors[name] = AoeDoor(exchanger, Address(1, slot))
            yield doors

    def check(self, doors: Mapping[str, Door], users: Set[str], readers: Set[str]) -> None:
        """See that the users can read and write, other readers read, and the rest are told why."""
        for name, door in doors.items():
            told = CONFLICTS[name]
            may_write, may_read = name in users, name in users | readers
            before = self._content()
            self._writes += 1
            data = self._writes.to_bytes(2, "big") * (BYTES // 2)
            assert door.read() == (DONE if may_read else told), name
            assert door.write(data) == (DONE if may_write else told), name
            assert self._content() == (data if may_write else before), name

    def _content(self) -> bytes:
        with self._image.open("rb") as file:
            return file.read(BYTES)
