# SPDX-License-Identifier: GPL-2.0-or-later
"""The local server and clients that do not read, or send what no client should."""

from __future__ import annotations

import logging
import random
import socket
import threading
from contextlib import closing

from bridges.exchange import Request
from bridges.local import wire
from bridges.local.client import LocalClient
from bridges.local.wire import CommandFrame, FrameType, HelloReply, HelloRequest
from bridges.stream import MAX_PENDING_BYTES
from scsi_backend.t10.cdb import read_16, write_16
from scsi_backend.t10.status import Status
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.peer import connect, frames, log_in, receive_to_end
from tests.bridges.local.site import DEADLINE_S, Site, wait_until
from tests.scsi_backend.cdbs import TEST_UNIT_READY, raw, unmap, unmap_list
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512


class TestBackPressure:
    def test_client_that_takes_no_responses_does_not_fill_the_memory(
        self, new_site: NewSite
    ) -> None:
        site = new_site()
        vdisk = FaultyVdisk(4096)
        site.add_target("disk", vdisk)
        site.start()
        with log_in(site) as sock:
            sock.sendall(CommandFrame(0, 0, TEST_UNIT_READY).serialize())
            commands = CommandFrame(1, 0, read_16(0, 2048), 1 << 20).serialize() * 200
            sock.sendall(commands)
            wait_until(lambda: site.sgv.in_use_bytes >= MAX_PENDING_BYTES, "the memory is used")
            # Another client is served, so the server has come to rest with this one.
            for _ in range(100):
                LocalClient.connect(site.path).close()
            assert site.sgv.in_use_bytes < 4 * MAX_PENDING_BYTES
            assert vdisk.names.count("read_now") < 40
            data = receive_some(sock, 200 << 20)
            statuses = [frame.status for frame, _ in frames(data)]
        assert statuses == [Status.CHECK_CONDITION] + [Status.GOOD] * 200


def receive_some(sock: socket.socket, at_least_bytes: int) -> bytes:
    """Receive until there are as many bytes, and whatever came with the last of them."""
    data = bytearray()
    while len(data) < at_least_bytes:
        piece = sock.recv(1 << 20)
        assert piece
        data += piece
    while len(data) < at_least_bytes + 200 * wire.RESPONSE.size + wire.RESPONSE.size + 18:
        data += sock.recv(1 << 20)
    return bytes(data)


SAMPLES = [
    CommandFrame(1, 0, TEST_UNIT_READY).serialize(),
    CommandFrame(2, 0, raw("1200000060"), 96).serialize(),
    CommandFrame(3, 0, raw("1201800060"), 96).serialize(),
    CommandFrame(4, 0, raw("a00000000000000001000000"), 256).serialize(),
    CommandFrame(5, 0, raw("9e10").ljust(16), 32).serialize(),
    CommandFrame(6, 0, read_16(0, 8), 8 * BLOCK).serialize(),
    CommandFrame(7, 0, write_16(8, 8), 0, 8 * BLOCK).serialize() + bytes(8 * BLOCK),
    CommandFrame(8, 0, unmap(24), 0, 24).serialize() + unmap_list((0, 8)),
    CommandFrame(9, 300, bytes(range(0x7F, 0x7F + 32)), 64).serialize(),
    CommandFrame(10, 0, raw("5a003f00000000010000"), 256).serialize(),
]
MUTATIONS = 10_000


def mutated(source: random.Random) -> bytes:
    """A few frames, at least one of which has bytes changed, dropped or added."""
    chosen = [bytearray(source.choice(SAMPLES)) for _ in range(source.randint(1, 3))]
    victim = source.choice(chosen)
    for _ in range(source.randint(1, 4)):
        # Most of what can go wrong is in the header and the CDB.
        reach = min(len(victim), source.choice((32, 48, 1 << 20)))
        victim[source.randrange(reach)] = source.choice((0, 1, 0x7F, 0xFF, source.randrange(256)))
    if source.random() < 0.2:
        del victim[source.randrange(len(victim)) :]
    if source.random() < 0.1:
        victim += source.randbytes(source.randint(1, 100))
    return b"".join(chosen)


class GoodClient(threading.Thread):
    """Writes and reads back for as long as it is let; pytest reports what it raises."""

    def __init__(self, path: str) -> None:
        super().__init__(name="good client")
        self.path = path
        self.is_to_end = threading.Event()
        self.rounds = 0
        self.has_ended_well = False

    def run(self) -> None:
        with LocalClient.connect(self.path, "good") as client:
            client.execute(Request(TEST_UNIT_READY))
            while not self.is_to_end.is_set():
                self._round(client)
        self.has_ended_well = True

    def _round(self, client: LocalClient) -> None:
        data = self.rounds.to_bytes(8, "big") * 512
        lba = self.rounds % 128 * 8
        written = client.execute(Request(write_16(lba, 8), None, memoryview(data)))
        found = memoryview(bytearray(4096))
        read = client.execute(Request(read_16(lba, 8), found))
        assert (written.status, read.status) == (Status.GOOD, Status.GOOD)
        assert found == data
        self.rounds += 1


def test_mutated_frames_neither_stop_the_server_nor_disturb_another_client(site: Site) -> None:
    logging.getLogger("bridges.stream").setLevel(logging.ERROR)
    site.call(lambda: site.add_file_target("good", 1 << 20))
    good = GoodClient(site.path)
    good.start()
    source = random.Random(20_000_101)
    hello = HelloRequest("disk", "evil").serialize()
    errors = 0
    try:
        for _ in range(MUTATIONS):
            with connect(site) as sock:
                sock.sendall(hello + mutated(source))
                sock.shutdown(socket.SHUT_WR)
                data = receive_to_end(sock)
            if not data:
                # All of it was received at once, with the end behind it: nobody to answer.
                continue
            parsed = HelloReply.parse(data)
            assert parsed is not None
            kinds = [frame.kind for frame, _ in frames(data[parsed[1] :])]
            assert FrameType.ERROR not in kinds[:-1]
            errors += FrameType.ERROR in kinds
    finally:
        good.is_to_end.set()
        good.join(DEADLINE_S)
        logging.getLogger("bridges.stream").setLevel(logging.NOTSET)
    assert good.has_ended_well
    assert good.rounds > 100
    assert MUTATIONS // 10 < errors < MUTATIONS
    with closing(LocalClient.connect(site.path, "disk")) as client:
        assert client.execute(Request(raw("12"))).status == Status.GOOD
    site.wait_for_no_sessions()
