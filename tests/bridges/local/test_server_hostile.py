# SPDX-License-Identifier: GPL-2.0-or-later
"""The local server and clients that do not read, or send what no client should."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from contextlib import closing

from bridges.exchange import Request
from bridges.local import wire
from bridges.local.area import map_area
from bridges.local.client import LocalClient
from bridges.local.hello_wire import HelloReply, HelloRequest
from bridges.local.shared_wire import AreaReply, SharedCommandFrame, area_request, nudge
from bridges.local.wire import (
    CommandFrame,
    FrameType,
    ResponseFrame,
)
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


def mutated(source: random.Random, samples: list[bytes]) -> bytes:
    """A few frames, at least one of which has bytes changed, dropped or added."""
    chosen = [bytearray(source.choice(samples)) for _ in range(source.randint(1, 3))]
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

    def __init__(self, path: str, shared_bytes: int = 0) -> None:
        super().__init__(name="good client")
        self.path = path
        self.shared_bytes = shared_bytes
        self.is_to_end = threading.Event()
        self.rounds = 0
        self.has_ended_well = False

    def run(self) -> None:
        with LocalClient.connect(self.path, "good", shared_bytes=self.shared_bytes) as client:
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
                sock.sendall(hello + mutated(source, SAMPLES))
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


AREA_BYTES = 1 << 20
SHARED_SAMPLES = [
    *SAMPLES,
    area_request(AREA_BYTES),
    nudge(11),
    SharedCommandFrame(11, 0, read_16(0, 8), 8 * BLOCK, 0, 4096, 0, 8).serialize(),
    SharedCommandFrame(12, 0, read_16(0, 8), 8 * BLOCK, 0, AREA_BYTES - 8 * BLOCK).serialize(),
    SharedCommandFrame(13, 0, write_16(8, 8), 0, 8 * BLOCK, 0, 8192, 8).serialize(),
    SharedCommandFrame(14, 0, unmap(24), 0, 24, 0, 8192, 16).serialize(),
    SharedCommandFrame(15, 0, raw("1200000060"), 96, 0, 4096, 0, 8).serialize(),
    SharedCommandFrame(16, 300, bytes(range(0x7F, 0x7F + 32)), 64, 64, 0, 0, 8).serialize(),
]


def test_mutated_frames_of_version_2_neither_stop_the_server_nor_disturb_another_client(
    site: Site,
) -> None:
    logging.getLogger("bridges.stream").setLevel(logging.ERROR)
    site.call(lambda: site.add_file_target("good", 1 << 20))
    good = GoodClient(site.path, AREA_BYTES)
    good.start()
    source = random.Random(20_000_202)
    hello = HelloRequest("disk", "evil", 1, 2).serialize()
    errors = 0
    try:
        for _ in range(MUTATIONS // 4):
            with connect(site) as sock:
                sock.sendall(hello)
                sock.recv(4096)
                sock.sendall(area_request(AREA_BYTES))
                data, descriptors, _, _ = socket.recv_fds(sock, 16, 1)
                assert AreaReply.parse(data) == AreaReply(AREA_BYTES)
                area = map_area(descriptors[0], AREA_BYTES)
                os.close(descriptors[0])
                area[:16384] = source.randbytes(16384)
                sock.sendall(mutated(source, SHARED_SAMPLES))
                sock.shutdown(socket.SHUT_WR)
                answers = receive_to_end(sock)
                area.close()
            errors += FrameType.ERROR in [answer[0].kind for answer in frames(answers)]
    finally:
        good.is_to_end.set()
        good.join(DEADLINE_S)
        logging.getLogger("bridges.stream").setLevel(logging.NOTSET)
    assert good.has_ended_well
    assert good.rounds > 100
    assert MUTATIONS // 40 < errors < MUTATIONS // 4
    site.wait_for_no_sessions()


def test_area_that_is_asked_for_with_the_hello_is_refused_and_nothing_is_overtaken(
    site: Site,
) -> None:
    with connect(site) as sock:
        hello = HelloRequest("disk", "hasty", 1, 2).serialize()
        sock.sendall(hello + area_request(AREA_BYTES) + CommandFrame(1, 0, raw("12")).serialize())
        sock.shutdown(socket.SHUT_WR)
        data = receive_to_end(sock)
    parsed = HelloReply.parse(data)
    assert parsed is not None
    reply = AreaReply(0, "the descriptor cannot be sent now").serialize()
    assert data[parsed[1] :] == reply + ResponseFrame(1, 0).serialize()


def test_client_that_dies_between_its_area_and_its_commands_leaves_nothing(site: Site) -> None:
    hello = HelloRequest("disk", "short", 1, 2).serialize()
    for ending in range(40):
        with connect(site) as sock:
            sock.sendall(hello)
            sock.recv(4096)
            rest = area_request(AREA_BYTES) + SHARED_SAMPLES[-4]
            sock.sendall(rest[: 2 * ending])
    site.wait_for_no_sessions()
    names = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [name for name in names if "memfd:scst_local" in name]
