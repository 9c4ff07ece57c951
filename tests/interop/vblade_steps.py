# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames for vblade and for us, and those to which vblade's answer is not the right one."""

from __future__ import annotations

from typing import Final, NamedTuple

# Hosts besides the client.
OTHER: Final = "0200000000aa"
THIRD: Final = "0200000000bb"


class Step(NamedTuple):
    """A frame: ``rest`` is the header's from the slot on and the argument, in hex, then ``data``.

    %T is the tag, %C the client's MAC. ``how`` is empty, another source, ``*SHELF`` or ``^FLAGS``.
    """

    name: str
    how: str
    rest: str
    data: bytes

    def frame(self, target: str, client: str, tag: int) -> bytes:
        """The frame from the client to a target, whose MACs are given in hex."""
        source, flags, shelf = client, "10", "0001"
        if self.how.startswith("*"):
            shelf = self.how[1:]
        elif self.how.startswith("^"):
            flags = self.how[1:]
        elif self.how:
            source = self.how
        rest = self.rest.replace("%T", f"{tag:08x}").replace("%C", client)
        return bytes.fromhex(f"{target} {source} 88a2 {flags} 00 {shelf} {rest}") + self.data


# In this order: some change what those behind them see. Deleting from the mask list is left out,
# because vblade 25 overruns a buffer and aborts.
STEPS: Final = (
    Step("config: read", "", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("config: read with garbage", "", "01 01 %T eded eded ed e0 0400", b"\xed" * 1024),
    Step("config: test the empty string", "", "01 01 %T 0000 0000 00 01 0000", b""),
    Step("config: test another string", "", "01 01 %T 0000 0000 00 01 0001", b"x"),
    Step("config: prefix, empty", "", "01 01 %T 0000 0000 00 02 0000", b""),
    Step("config: set", "", "01 01 %T 0000 0000 00 03 0005", b"hello"),
    Step("config: set the same", "", "01 01 %T 0000 0000 00 03 0005", b"hello"),
    Step("config: set another", "", "01 01 %T 0000 0000 00 03 0005", b"world"),
    Step("config: test", "", "01 01 %T 0000 0000 00 01 0005", b"hello"),
    Step("config: test a part", "", "01 01 %T 0000 0000 00 01 0004", b"hell"),
    Step("config: prefix", "", "01 01 %T 0000 0000 00 02 0004", b"hell"),
    Step("config: no prefix", "", "01 01 %T 0000 0000 00 02 0004", b"help"),
    Step("config: force set", "", "01 01 %T 0000 0000 00 04 0003", b"new"),
    Step("config: code 5", "", "01 01 %T 0000 0000 00 05 0000", b""),
    Step("config: code 15", "", "01 01 %T 0000 0000 00 0f 0000", b""),
    Step("config: longer than the frame", "", "01 01 %T 0000 0000 00 04 0009", b"short"),
    Step("config: longer than 1024", "", "01 01 %T 0000 0000 00 04 0401", b"z" * 1025),
    Step("config: clear", "", "01 01 %T 0000 0000 00 04 0000", b""),
    Step("config: short of its argument", "", "01 01 %T 0000 0000", b""),
    Step("address: any shelf", "*ffff", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("address: any slot", "", "ff 01 %T 0000 0000 00 00 0000", b""),
    Step("address: anybody", "*ffff", "ff 01 %T 0000 0000 00 00 0000", b""),
    Step("address: other shelf", "*0002", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("address: other slot", "", "02 01 %T 0000 0000 00 00 0000", b""),
    Step("command 4", "", "01 04 %T", bytes(36)),
    Step("command 239", "", "01 ef %T", bytes(36)),
    Step("command 240", "", "01 f0 %T", bytes(36)),
    Step("command 255", "", "01 ff %T", bytes(36)),
    Step("version 0", "^00", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("version 2", "^20", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("response", "^18", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("stray error flag", "^14", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("reserved flags", "^13", "01 01 %T 0000 0000 00 00 0000", b""),
    Step("mask: read", "", "01 02 %T 00 00 00 00", bytes(32)),
    Step("mask: code 2", "", "01 02 %T 00 02 00 00", bytes(32)),
    Step("mask: add", "", "01 02 %T 00 01 00 01 00 01 %C", bytes(24)),
    Step("mask: read again", "", "01 02 %T 00 00 00 00", bytes(32)),
    Step("mask: add again", "", "01 02 %T 00 01 00 01 00 01 %C", bytes(24)),
    Step("mask: bad directive", "", "01 02 %T 00 01 00 01 00 09 %C", bytes(24)),
    Step("mask: add another", "", f"01 02 %T 00 01 00 01 00 01 {OTHER}", bytes(24)),
    Step("mask: from who is not in it", THIRD, "01 01 %T 0000 0000 00 00 0000", b""),
    Step("mask: from who is in it", OTHER, "01 01 %T 0000 0000 00 00 0000", b""),
    Step("reserve: read", "", "01 03 %T 00 00", bytes(34)),
    Step("reserve: code 3", "", "01 03 %T 03 00", bytes(34)),
    Step("reserve: set", "", "01 03 %T 01 01 %C", bytes(28)),
    Step("reserve: set by another", OTHER, f"01 03 %T 01 01 {OTHER}", bytes(28)),
    Step("reserve: read by another", OTHER, "01 03 %T 00 00", bytes(34)),
    Step("reserved: read", OTHER, "01 00 %T 40 00 01 24 070000000000 0000", bytes(24)),
    Step("reserved: write", OTHER, "01 00 %T 41 00 01 34 070000000000 0000", bytes(512)),
    Step("reserved: flush", OTHER, "01 00 %T 00 00 00 e7 000000000000 0000", bytes(24)),
    Step("reserved: check power", OTHER, "01 00 %T 00 00 00 e5 000000000000 0000", bytes(24)),
    Step("reserved: config", OTHER, "01 01 %T 0000 0000 00 00 0000", b""),
    Step("reserved: force set", OTHER, "01 01 %T 0000 0000 00 04 0000", b""),
    Step("reserved: mask", OTHER, "01 02 %T 00 00 00 00", bytes(32)),
    Step("reserved: own read", "", "01 00 %T 40 00 01 24 070000000000 0000", bytes(24)),
    Step("reserve: force by another", OTHER, f"01 03 %T 02 02 {OTHER} %C", bytes(22)),
    Step("reserve: release", "", "01 03 %T 01 00", bytes(34)),
    Step("reserve: count beyond the frame", "", "01 03 %T 01 09 %C", bytes(28)),
    Step("ata: read LBA48", "", "01 00 %T 40 00 02 24 070000000000 0000", bytes(24)),
    Step("ata: read LBA28", "", "01 00 %T 00 00 02 20 070000e00000 0000", bytes(24)),
    Step("ata: write LBA48", "", "01 00 %T 41 00 02 34 090000000000 0000", b"w" * 1024),
    Step("ata: write LBA28", "", "01 00 %T 01 00 01 30 0b0000e00000 0000", b"v" * 512),
    Step("ata: write A", "", "01 00 %T 43 00 01 34 0c0000000000 0000", b"a" * 512),
    Step("ata: read what was written", "", "01 00 %T 40 00 02 24 0a0000000000 0000", bytes(24)),
    Step("ata: read the last sector", "", "01 00 %T 40 00 01 24 ff0300000000 0000", bytes(24)),
    Step("ata: read past the end", "", "01 00 %T 40 00 02 24 ff0300000000 0000", bytes(24)),
    Step("ata: write past the end", "", "01 00 %T 41 00 02 34 ff0300000000 0000", bytes(1024)),
    Step("ata: read count 0", "", "01 00 %T 40 00 00 24 070000000000 0000", bytes(24)),
    Step("ata: read count 3", "", "01 00 %T 40 00 03 24 070000000000 0000", bytes(24)),
    Step("ata: write short of data", "", "01 00 %T 41 00 02 34 0d0000000000 0000", bytes(512)),
    Step("ata: write without W", "", "01 00 %T 40 00 01 34 0d0000000000 0000", bytes(512)),
    Step("ata: read with W", "", "01 00 %T 41 00 01 24 0d0000000000 0000", bytes(512)),
    Step("ata: EXT without E", "", "01 00 %T 00 00 01 24 070000000000 0000", bytes(24)),
    Step("ata: EXT without E, and flags", "", "01 00 %T 00 00 01 24 070000e00000 0000", bytes(24)),
    Step("ata: check power", "", "01 00 %T 00 00 00 e5 000000a00000 0000", bytes(24)),
    Step("ata: flush", "", "01 00 %T 00 00 00 e7 000000a00000 0000", bytes(24)),
    Step("ata: flush EXT", "", "01 00 %T 40 00 00 ea 000000000000 0000", bytes(24)),
    Step("ata: unknown", "", "01 00 %T 00 00 01 ff 000000a00000 0000", bytes(24)),
    Step("ata: NOP", "", "01 00 %T 00 00 00 00 000000a00000 0000", bytes(24)),
    Step("ata: identify with count 2", "", "01 00 %T 00 00 02 ec 000000a00000 0000", bytes(24)),
    Step("ata: short of its argument", "", "01 00 %T 40 00 01 24", b""),
)

# Where the answers are not the same, and why ours is the right one.
DIFFERENCES: Final = {
    "config: longer than the frame": "vblade stores what lies in its buffer behind the frame",
    "config: longer than 1024": "vblade is silent: a bad argument is to be told",
    "version 0": "vblade looks at no version: error 5",
    "version 2": "vblade looks at no version: error 5",
    "stray error flag": "vblade sends the request's error flag back without an error",
    "reserved flags": "vblade sends reserved flags back, which are to be zero",
    "reserve: count beyond the frame": "an error has the argument that it is about",
    "ata: read count 0": "zero is 65536 sectors: vblade claims success and sends none",
    "ata: read count 3": "an AoE error makes Linux try again for minutes: ABRT",
    "ata: write short of data": "an AoE error makes Linux try again for minutes: ABRT",
    "ata: write without W": "vblade writes, and answers with 512 bytes that nobody asked for",
    "ata: read with W": "vblade claims success and sends no data",
    "ata: EXT without E, and flags": "vblade takes the device register for LBA 31:24",
    "ata: flush": "vblade flushes nothing, and its status lacks DRDY",
    "ata: flush EXT": "vblade has none",
    "ata: identify with count 2": "an AoE error makes Linux try again for minutes: ABRT",
}
