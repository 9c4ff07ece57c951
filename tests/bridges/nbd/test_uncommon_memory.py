# SPDX-License-Identifier: GPL-2.0-or-later
"""What a READ of some bytes of a block keeps busy besides its reply."""

from __future__ import annotations

from tests.bridges.nbd.conftest import OpenLink
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk

BLOCK = 4096


def test_block_of_a_partial_read_counts_until_it_ends(open_link: OpenLink) -> None:
    vdisk = FaultyVdisk(blocks=16, block_size_bytes=BLOCK)
    vdisk.immediate_bytes = NOT_NOW
    vdisk.is_held = True
    link = open_link(vdisk, knows_block_sizes=False)
    for cookie in range(10):
        link.send(link.read(cookie, cookie * BLOCK + 1, 1))
    assert link.connection.held_bytes == 10 * BLOCK
    vdisk.faults.errno_at[3] = 5
    vdisk.release_all()
    assert link.connection.held_bytes == 0
    assert link.errors() == [(cookie, 5 if cookie == 3 else 0) for cookie in range(10)]
