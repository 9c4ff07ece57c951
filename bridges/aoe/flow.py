# SPDX-License-Identifier: GPL-2.0-or-later
"""What a port remembers of one initiator's READs and WRITEs to one target, so that frames are not
asked the same questions again.

A flow is found by the first 20 bytes of a frame, and a plan in it by the four bytes that hold the
flags and the command. Both are made by the target's own rules (``AoeTarget.concerns``,
``ata.decode``) once it has answered such a frame, and are forgotten as soon as anything changes
that decided about them. What has no flow or no plan is the target's to answer.

Source: AoEr11 2 for the places in a frame.
"""

from __future__ import annotations

import struct
from typing import Final

from bridges.aoe import wire
from bridges.aoe.ata import COMMANDS, AtaStatus, Function, LbaWidth, decode
from bridges.aoe.operation import Port
from bridges.aoe.sessions import Initiator
from bridges.aoe.target import AoeTarget
from bridges.aoe.wire import AtaArgument, AtaFlag, Header
from scsi_backend.t10 import cdb
from scsi_backend.target.nexus import ItlNexus

KEY_BYTES: Final = 20
# More than that are forged addresses, or nonsense in fields that mean nothing.
MAX_FLOWS: Final = 1024
_MAX_PLANS: Final = 64

# What stands before the tag in a reply: destination, source, type, version and flags, no error.
_PREFIX = struct.Struct(">6s6sHBBHBB")
_RESPONSE: Final = wire.VERSION << 4 | int(wire.HeaderFlag.RESPONSE)
# Flags, error/feature, sector count, command/status, as they lie in the frame.
_CODE = struct.Struct("<BBBB")
_ATA_FLAGS: Final = int(AtaFlag.E | AtaFlag.D | AtaFlag.A | AtaFlag.W)
_FUNCTIONS: Final = frozenset({Function.READ, Function.WRITE, Function.WRITE_FUA})


class Plan:
    """What one combination of flags and command asks for, and how it is answered if it succeeds.

    ``request_bytes`` is the least that the frame must have, ``reply_code`` what stands in the
    place of flags and command in the reply; ``cdb_flags`` is byte 1 of WRITE(16).
    """

    __slots__ = (
        "cdb_flags",
        "code",
        "data_bytes",
        "is_write",
        "reply_bytes",
        "reply_code",
        "request_bytes",
        "sectors",
    )

    def __init__(self, code: bytes, sectors: int, *, is_write: bool, is_stable: bool) -> None:
        self.code = code
        self.sectors = sectors
        self.data_bytes = sectors * wire.SECTOR_BYTES
        self.is_write = is_write
        self.cdb_flags = cdb.FUA_BIT if is_stable else 0
        data_out, data_in = (self.data_bytes, 0) if is_write else (0, self.data_bytes)
        self.request_bytes = wire.ATA_DATA_OFFSET + data_out
        self.reply_bytes = max(wire.ATA_DATA_OFFSET + data_in, wire.MIN_FRAME_BYTES)
        self.reply_code = _CODE.pack(code[0] & _ATA_FLAGS, 0, 0, int(AtaStatus.DRDY))


class Flow:
    """Frames with the same 20 bytes in front: one initiator, one target, one way to address it."""

    __slots__ = (
        "_limit_sectors",
        "initiator",
        "key",
        "nexus",
        "order",
        "plans",
        "prefix",
    )

    def __init__(
        self,
        key: bytes,
        prefix: bytes,
        initiator: Initiator,
        nexus: ItlNexus,
        limit_sectors: int,
    ) -> None:
        self.key = key
        self.prefix = prefix
        self.order = initiator.disk.order
        self.initiator = initiator
        self.nexus = nexus
        self.plans: dict[bytes, Plan] = {}
        self._limit_sectors = limit_sectors

    def learn(self, code: bytes) -> None:
        """Make a plan for a combination of flags and command, if it is a READ or a WRITE.

        Only those with an LBA of 48 bits in the registers: what an LBA28 command means depends on
        the register that holds its upper bits.
        """
        flags, _, _, opcode = _CODE.unpack(code)
        command = COMMANDS[opcode]
        if (
            command is None
            or command.function not in _FUNCTIONS
            or command.width is not LbaWidth.LBA48
            or not flags & AtaFlag.E
        ):
            return
        argument = AtaArgument._make((*_CODE.unpack(code), 0, 0))
        request = decode(command, argument, self._limit_sectors)
        if request is None:
            return
        if len(self.plans) >= _MAX_PLANS:
            self.plans.clear()
        self.plans[code] = Plan(
            code,
            request.length_sectors,
            is_write=command.function is not Function.READ,
            is_stable=self.initiator.disk.durable or command.function is Function.WRITE_FUA,
        )


def flow_of(key: bytes, target: AoeTarget, port: Port) -> Flow | None:
    """Return what is to be remembered of frames that begin like this, None for nothing."""
    header = Header.parse(key + bytes(wire.HEADER_BYTES - KEY_BYTES))
    if (
        header.version != wire.VERSION
        or header.command != wire.Command.ISSUE_ATA_COMMAND
        or header.has_wildcard
        or not target.concerns(header, port)
        or not target.admits_data(header.source)
    ):
        return None
    initiator = target.initiator(header.source)
    if initiator is None or initiator.client is None:
        return None
    prefix = _PREFIX.pack(
        header.source,
        port.mac,
        wire.ETHERTYPE,
        _RESPONSE,
        0,
        header.major,
        header.minor,
        header.command,
    )
    nexus = initiator.client.nexus
    return Flow(key, prefix, initiator, nexus, port.sector_count)
