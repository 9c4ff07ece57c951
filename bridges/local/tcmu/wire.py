# SPDX-License-Identifier: GPL-2.0-or-later
"""TCMU's memory, as kernel and handler share it: mailbox, entries of the command ring, responses.

The mapping has the mailbox first, then the command ring (``cmdr_off``, ``cmdr_size``), then the
data area. Every offset in an entry counts from the start of the mapping; numbers are native.
Source: Linux, include/uapi/linux/target_core_user.h, mailbox version 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Self


class RingError(Exception):
    """The shared memory is not what it should be."""


class Opcode(IntEnum):
    """What an entry is: the low three bits of its first word."""

    PAD = 0
    CMD = 1
    TMR = 2


OPCODE_MASK: Final = 0x7


class Capability(IntFlag):
    """Flags of the mailbox: what the kernel can do."""

    OUT_OF_ORDER = 0x1
    READ_LEN = 0x2
    TMR = 0x4
    KEEP_BUF = 0x8


class UserFlag(IntFlag):
    """What the handler tells of a command."""

    UNKNOWN_OP = 0x1
    READ_LEN = 0x2


class Tmr(IntEnum):
    """Task management functions that the kernel has carried out, or is about to."""

    UNKNOWN = 0
    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LUN_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    # By PREEMPT AND ABORT, where the kernel has the reservations.
    LUN_RESET_PRO = 128


MAILBOX_VERSION: Final = 2
MAILBOX = struct.Struct("=HHIII")
# As indices of 32-bit words; the handler's own word has a cache line for itself.
HEAD_WORD: Final = 3
TAIL_WORD: Final = 16

# Entries and their lengths are aligned to this.
ALIGNMENT: Final = 8
# len_op@0 cmd_id@4 kflags@6 uflags@7
HEADER = struct.Struct("=IHBB")
# len_op@0 cmd_id@4 iov_cnt@8 iov_bidi_cnt@12 cdb_off@24, and the first iov@48.
COMMAND = struct.Struct("=IHxxII8xQ16xQQ")
IOV_AT: Final = 48
IOV = struct.Struct("=QQ")
# The kernel makes no command's entry shorter, so that the response has room in it.
MIN_COMMAND_BYTES: Final = 112

# type@8 cmd_cnt@12; the command ids @32.
TMR = struct.Struct("=8xB3xI")
TMR_IDS_AT: Final = 32

# A response lies over the request: cmd_id@4 kflags@6 uflags@7 scsi_status@8 read_len@12 sense@16
RESPONSE_AT: Final = 4
RESPONSE = struct.Struct("=HBBB3xI")
SENSE_AT: Final = 16
SENSE_BYTES: Final = 96
USER_FLAGS_AT: Final = 7


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The fixed fields at the start of the mapping."""

    version: int
    flags: int
    ring_offset_bytes: int
    ring_bytes: int

    @classmethod
    def parse(cls, memory: memoryview) -> Self:
        """Read and check it; raises RingError."""
        if len(memory) < (TAIL_WORD + 1) * 4:
            raise RingError(f"mapping of {len(memory)} bytes: too short for a mailbox")
        mailbox = cls(*MAILBOX.unpack_from(memory)[:4])
        if mailbox.version != MAILBOX_VERSION:
            raise RingError(f"mailbox version {mailbox.version}: expected {MAILBOX_VERSION}")
        if not mailbox.flags & Capability.OUT_OF_ORDER:
            raise RingError("this kernel cannot take responses out of order")
        end = mailbox.ring_offset_bytes + mailbox.ring_bytes
        if (
            mailbox.ring_offset_bytes < (TAIL_WORD + 1) * 4
            or mailbox.ring_offset_bytes % ALIGNMENT
            or mailbox.ring_bytes % ALIGNMENT
            or not 0 < end <= len(memory)
        ):
            raise RingError(
                f"command ring of {mailbox.ring_bytes} bytes at {mailbox.ring_offset_bytes}"
                f" in a mapping of {len(memory)}"
            )
        return mailbox


@dataclass(frozen=True, slots=True)
class TaskManagement:
    """A task management function, with the commands that it hit."""

    function: int
    command_ids: tuple[int, ...]
