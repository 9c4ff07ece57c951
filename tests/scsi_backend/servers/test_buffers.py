# SPDX-License-Identifier: GPL-2.0-or-later
"""The buffers of a logical unit: what they hold, for whom, and for how long."""

from __future__ import annotations

import gc
import weakref

from scsi_backend.servers.buffers import DATA_BUFFER_BYTES, UnitBuffers
from scsi_backend.servers.disk import disk
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.locking import join, nexus_of


def test_data_buffer_holds_zeros_until_it_is_written() -> None:
    buffers = UnitBuffers()
    assert buffers.read_data(1, 3) == bytes(3)
    buffers.write_data(2, b"\xaa\xbb")
    assert buffers.read_data(1, 4) == b"\x00\xaa\xbb\x00"


def test_data_buffer_ends_where_it_ends() -> None:
    buffers = UnitBuffers()
    assert [len(buffers.read_data(DATA_BUFFER_BYTES - 1, n)) for n in (0, 1, 2)] == [0, 1, 1]
    buffers.write_data(DATA_BUFFER_BYTES - 1, b"\xaa")
    assert buffers.read_data(DATA_BUFFER_BYTES - 1, 1 << 24) == b"\xaa"
    assert buffers.read_data(DATA_BUFFER_BYTES, 1) == b""


def test_echo_buffers_belong_to_their_nexuses() -> None:
    unit = disk(FaultyVdisk())
    one, other = nexus_of(join(unit)), nexus_of(join(unit))
    unit.buffers.write_echo(one, b"one")
    assert (unit.buffers.read_echo(one), unit.buffers.read_echo(other)) == (b"one", None)


def test_echo_buffer_does_not_keep_its_nexus() -> None:
    unit = disk(FaultyVdisk())
    initiator = join(unit)
    gone = weakref.ref(nexus_of(initiator))
    unit.buffers.write_echo(nexus_of(initiator), b"echo")
    initiator.session.close()
    del initiator
    gc.collect()
    assert gone() is None
