# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads or writes sectors that a disk cannot, and prints how many milliseconds EIO takes to come.

Usage: time_eio.py read|write DEVICE LBA SECTORS
The figure is the median, since a virtual machine may stand still for a while. A process of its own
for each sector would take longer to start than the command does.
"""

from __future__ import annotations

import errno
import mmap
import os
import statistics
import sys
import time

SECTOR_BYTES = 512


def main(verb: str, device: str, lba: str, sectors: str) -> None:
    """Raises RuntimeError for a sector that works, OSError for another failure than EIO."""
    descriptor = os.open(device, os.O_RDWR | os.O_DIRECT)
    # O_DIRECT wants aligned memory; a mapping begins with a page.
    buffer = memoryview(mmap.mmap(-1, mmap.PAGESIZE))[:SECTOR_BYTES]
    transfer = {"read": os.preadv, "write": os.pwritev}[verb]
    waited_ms = []
    for sector in range(int(lba), int(lba) + int(sectors)):
        begin_s = time.monotonic()
        try:
            transfer(descriptor, [buffer], sector * SECTOR_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        else:
            raise RuntimeError(f"{verb} of sector {sector} works")
        waited_ms.append((time.monotonic() - begin_s) * 1000)
    print("each:", *(f"{ms:.1f}" for ms in waited_ms), file=sys.stderr)
    print(round(statistics.median(waited_ms)))


if __name__ == "__main__":
    main(*sys.argv[1:])
