# SPDX-License-Identifier: GPL-2.0-or-later
"""The server on real sockets: many clients, rude clients, and stopping while they are at work."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from bridges.listen import Listen
from bridges.listeners import Address
from bridges.nbd.server import NbdServer
from bridges.stream import MAX_PENDING_BYTES
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.conftest import Serve
from tests.bridges.nbd.proto import DISC, EIO, FLUSH, FUA, READ, TRIM, WRITE, WRITE_ZEROES
from tests.bridges.nbd.serving import DEADLINE_S, Serving, open_descriptors
from tests.scsi_backend.fakes import FaultyVdisk, pattern

BLOCK = 512
MIB = 1 << 20
LATER = -11
OpenUnit = Callable[[Backend], LogicalUnit]


def _slow_disk(blocks: int = 16384) -> FaultyVdisk:
    """A disk whose operations end when the test says so."""
    vdisk = FaultyVdisk(blocks)
    vdisk.immediate_bytes = LATER
    vdisk.is_held = True
    return vdisk


def _unit(vdisk: FaultyVdisk) -> OpenUnit:
    return lambda backend: disk(vdisk)


@pytest.fixture
def serving(serve: Serve, image: OpenUnit) -> Serving:
    """A server of one file-backed disk."""
    return serve(disk=image)


@pytest.mark.parametrize("door", ["tcp", "unix"])
def test_every_request_over_a_socket(serving: Serving, door: str) -> None:
    with Client(getattr(serving, door)()).begin("disk") as client:
        assert client.size_bytes == 64 * MIB
        payload = pattern(1, 128 << 10)
        client.write(MIB, payload)
        client.write(8 * MIB, payload[:BLOCK], FUA)
        assert client.call(FLUSH) == (0, b"")
        assert client.read(MIB, len(payload)) == payload
        assert client.call(WRITE_ZEROES, MIB, 4096) == (0, b"")
        assert client.call(TRIM, MIB + 4096, 4096) == (0, b"")
        assert client.call(proto.CACHE, MIB, 4096) == (0, b"")
        assert client.read(MIB, 16384) == bytes(8192) + payload[8192:16384]
        client.leave()
    serving.until(serving.is_idle)


@pytest.mark.parametrize("size_mib", [16, 32])
def test_the_longest_payloads(serving: Serving, size_mib: int) -> None:
    # Half of that, and all of it, is as much as a connection may have pending.
    payload = random.Random(1).randbytes(size_mib * MIB)
    with Client(serving.unix()).begin("disk") as client:
        client.write(BLOCK, payload)
        assert client.read(BLOCK, len(payload)) == payload


def test_many_connections_share_the_disk_and_the_session(serving: Serving) -> None:
    clients = [Client(serving.unix() if n % 2 else serving.tcp()).begin("disk") for n in range(40)]
    assert serving.call(lambda: serving.server.connections) == 40
    # One initiator is this process's user, the other 127.0.0.1.
    assert serving.call(lambda: serving.sessions) == 2
    for number, client in enumerate(clients):
        client.write(number * 4096, pattern(number, 4096))
    for number, client in enumerate(reversed(clients)):
        assert client.read(number * 4096, 4096) == pattern(number, 4096)
    for client in clients:
        with client:
            client.leave()
    serving.until(serving.is_idle)


def test_requests_of_many_connections_at_once_do_not_mix(serving: Serving) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        chooser = random.Random(number)
        base = number * 8 * MIB
        try:
            with Client(serving.unix()).begin("disk") as client:
                for _ in range(25):
                    length = chooser.choice((BLOCK, 4096, 65536, 200 << 10))
                    offset = base + chooser.randrange(0, 4 * MIB, BLOCK)
                    payload = chooser.randbytes(length)
                    client.write(offset, payload)
                    assert client.read(offset, length) == payload
        except (AssertionError, OSError, EOFError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert failures == []


def test_a_storm_of_connections_leaves_nothing_behind(serving: Serving) -> None:
    chooser = random.Random(7)
    with Client(serving.tcp()).begin("disk") as witness:
        before = open_descriptors()
        for number in range(500):
            client = Client(serving.unix() if number % 2 else serving.tcp())
            if number % 4 < 2:
                _leave_in_the_middle(client, chooser)
            else:
                client.begin("disk")
                assert client.read(number * BLOCK, BLOCK) == bytes(BLOCK)
                if number % 8 < 4:
                    client.leave()
            client.sock.close()
        serving.until(lambda: serving.server.connections == 1 and serving.sessions == 1)
        assert open_descriptors() == before
        assert witness.read(0, BLOCK) == bytes(BLOCK)
        # Two chunks: the witness's.
        assert serving.call(lambda: len(serving.sgv.in_use)) == 2


def _leave_in_the_middle(client: Client, chooser: random.Random) -> None:
    """Send some part of a handshake and a request, then hang up, now and then with a reset."""
    write = proto.write(1, 0, bytes(BLOCK))
    stream = proto.FIXED_NEWSTYLE_NO_ZEROES + proto.option(3) + proto.go("disk")
    refused = proto.write(2, 1 << 40, bytes(100 << 10))
    stream += proto.request(READ, 3, 0, MIB) + write + refused
    client.send(stream[: chooser.randrange(len(stream))])
    if chooser.random() < 0.5:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _send_for_ever(sock: socket.socket, stream: bytes) -> None:
    while True:
        sock.send(stream)


def test_a_client_that_never_reads_does_not_disturb_another(serve: Serve) -> None:
    vdisk = FaultyVdisk(64 * MIB // BLOCK)
    serving = serve(disk=_unit(vdisk))
    deaf = Client(serving.unix()).begin("disk")
    with deaf, Client(serving.unix()).begin("disk") as other:
        deaf.sock.setblocking(False)
        requests = b"".join(proto.request(READ, n, 0, MIB) for n in range(100))
        with pytest.raises(BlockingIOError):
            _send_for_ever(deaf.sock, requests)
        for number in range(50):
            other.write(number * BLOCK, pattern(number, BLOCK))
            assert other.read(number * BLOCK, BLOCK) == pattern(number, BLOCK)
        # One reply may begin below the limit and end above it; buffers are powers of two.
        limit = 2 * (MAX_PENDING_BYTES + 2 * MIB)
        assert serving.call(lambda: serving.sgv.in_use_bytes) < limit
    serving.until(serving.is_idle)


def test_reads_that_wait_for_the_disk_are_bounded(serve: Serve) -> None:
    vdisk = _slow_disk()
    serving = serve(disk=_unit(vdisk))
    with Client(serving.unix()).begin("disk") as client:
        client.send(*(proto.request(READ, n, 0, MIB) for n in range(1000)))
        serving.until(lambda: len(vdisk.held) * (MIB + 16) >= MAX_PENDING_BYTES - MIB)
        assert serving.call(lambda: serving.sgv.in_use_bytes) < 3 * MAX_PENDING_BYTES
        for number in range(1000):
            serving.until(lambda: len(vdisk.held) > 0)
            serving.call(vdisk.release)
            assert client.reply(MIB)[:2] == (number, 0)


def test_a_client_killed_while_its_writes_are_under_way(serve: Serve) -> None:
    vdisk = _slow_disk()
    serving = serve(disk=_unit(vdisk))
    short, long = pattern(1, 4096), pattern(2, 300 << 10)
    client = Client(serving.unix()).begin("disk")
    client.send(proto.write(1, 0, short), proto.write(2, MIB, long), proto.write(3, 0, long)[:999])
    serving.until(lambda: len(vdisk.held) == 2)
    client.sock.close()
    with Client(serving.unix()).begin("disk") as other:
        # More traffic through the memory that might have been given back too early.
        other.send(*(proto.request(FLUSH, n) for n in range(100)))
        serving.until(lambda: len(vdisk.held) == 102)
        serving.call(vdisk.release_all)
        for _ in range(100):
            assert other.reply()[1] == 0
        other.leave()
    assert vdisk.blocks(0, 8) == short
    assert vdisk.blocks(MIB // BLOCK, 600) == long
    serving.until(serving.is_idle)


@pytest.mark.parametrize("refused", [True, False])
def test_a_client_killed_within_a_payload(serving: Serving, refused: bool) -> None:
    client = Client(serving.unix()).begin("disk")
    offset = 1 << 40 if refused else 0
    client.send(proto.request(WRITE, 1, offset, MIB), bytes(100 << 10))
    client.sock.close()
    serving.until(serving.is_idle)


def test_disconnecting_waits_for_the_replies(serve: Serve) -> None:
    vdisk = _slow_disk()
    serving = serve(disk=_unit(vdisk))
    with Client(serving.tcp()).begin("disk") as client:
        client.send(*(proto.write(n, n * BLOCK, bytes(BLOCK)) for n in range(20)))
        client.send(proto.request(DISC, 99))
        serving.until(lambda: len(vdisk.held) == 20)
        serving.call(vdisk.release_all)
        assert sorted(client.reply()[:2] for _ in range(20)) == [(n, 0) for n in range(20)]
        assert client.is_ended()


def test_a_client_that_only_stops_sending_still_gets_its_replies(serve: Serve) -> None:
    vdisk = _slow_disk()
    serving = serve(disk=_unit(vdisk))
    with Client(serving.tcp()).begin("disk") as client:
        client.send(*(proto.request(READ, n, 0, MIB) for n in range(4)))
        client.sock.shutdown(socket.SHUT_WR)
        serving.until(lambda: len(vdisk.held) == 4)
        serving.call(vdisk.release_all)
        assert [client.reply(MIB)[:2] for _ in range(4)] == [(n, 0) for n in range(4)]
        assert client.is_ended()


def test_replies_precede_the_end_that_bad_magic_brings(serving: Serving) -> None:
    with Client(serving.tcp()).begin("disk") as client:
        client.send(proto.request(READ, 1, 0, MIB), b"\xff" * 28)
        assert client.reply(MIB) == (1, 0, bytes(MIB))
        assert client.is_ended()


def test_a_request_may_follow_the_choice_of_the_export_at_once(serving: Serving) -> None:
    with Client(serving.unix()) as client:
        name = proto.option(proto.EXPORT_NAME, b"disk")
        client.send(proto.FIXED_NEWSTYLE, name, proto.request(READ, 1, 0, BLOCK))
        assert client.receive(18 + 10 + 124)[18:26] == (64 * MIB).to_bytes(8, "big")
        assert client.reply(BLOCK) == (1, 0, bytes(BLOCK))


def test_stopping_answers_what_is_under_way(serve: Serve) -> None:
    vdisk = _slow_disk()
    serving = serve(disk=_unit(vdisk))
    with Client(serving.tcp()).begin("disk") as client, Client(serving.unix()) as beginner:
        beginner.greet()
        client.send(proto.write(1, 0, pattern(5, BLOCK)), proto.request(READ, 2, 0, MIB))
        serving.until(lambda: len(vdisk.held) == 2)
        stopping = serving.begin_stop()
        assert beginner.is_ended()
        with pytest.raises(ConnectionRefusedError):
            serving.tcp()
        assert not stopping.done()
        serving.call(vdisk.release_all)
        assert client.reply() == (1, 0, b"")
        assert client.reply(MIB)[:2] == (2, 0)
        assert client.is_ended()
        stopping.result(DEADLINE_S)
    assert not serving.path.exists()


def test_stopping_does_not_wait_for_ever_for_a_client_that_does_not_read(serve: Serve) -> None:
    vdisk = FaultyVdisk(16 * MIB // BLOCK)
    serving = serve(disk=_unit(vdisk))
    with Client(serving.unix()).begin("disk") as client:
        client.send(*(proto.request(READ, n, 0, MIB) for n in range(64)))
        serving.until(lambda: "read_now" in vdisk.names)
        stopping = serving.begin_stop()
        assert not serving.call(stopping.done)
        serving.skip(10.1)
        stopping.result(DEADLINE_S)
        assert serving.call(lambda: serving.server.connections) == 0


@pytest.mark.parametrize("sent", [b"", proto.FIXED_NEWSTYLE, b"\0\0\0\x03" + proto.go("disk")[:-1]])
def test_a_handshake_has_half_a_minute(serving: Serving, sent: bytes) -> None:
    with Client(serving.unix()) as client, Client(serving.tcp()).begin("disk") as other:
        assert client.receive(18) == proto.GREETING
        client.send(sent)
        serving.skip(29.0)
        assert serving.call(lambda: serving.server.connections) == 2
        serving.skip(1.1)
        assert client.is_ended()
        serving.until(lambda: serving.server.connections == 1)
        # Transmission has no limit.
        serving.skip(3600.0)
        assert other.read(0, BLOCK) == bytes(BLOCK)


def test_a_resize_is_seen_by_new_clients_and_its_bounds_by_all(serve: Serve) -> None:
    vdisk = FaultyVdisk(16384)
    unit = disk(vdisk)
    serving = serve(disk=lambda backend: unit)
    with Client(serving.unix()).begin("disk") as client:
        vdisk.new_block_count = 8192
        assert serving.call(unit.resync_size)
        assert client.read(0, BLOCK) == bytes(BLOCK)
        assert client.call(READ, 8192 * BLOCK, BLOCK) == (proto.EINVAL, b"")
        with Client(serving.tcp()).begin("disk") as other:
            assert (client.size_bytes, other.size_bytes) == (16384 * BLOCK, 8192 * BLOCK)


def test_a_disk_that_fails_is_no_reason_to_hang_up(serve: Serve) -> None:
    vdisk = FaultyVdisk(16384)
    vdisk.faults.errno_at[3] = 5
    serving = serve(disk=_unit(vdisk))
    with Client(serving.unix()).begin("disk") as client:
        assert client.call(READ, 0, MIB) == (EIO, b"")
        assert client.read(4 * BLOCK, BLOCK) == bytes(BLOCK)


def test_the_socket_of_a_server_that_crashed_is_taken_over(serve: Serve, image: OpenUnit) -> None:
    serving = serve(disk=image)
    stale = serving.path.with_name("nbd1.sock")
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(stale))
        crashed.listen()
    assert stale.is_socket()
    second = serve(other=_unit(FaultyVdisk(8)))
    assert second.path == stale
    with Client(second.unix()).begin("") as client:
        assert client.size_bytes == 8 * BLOCK


def test_the_socket_of_a_live_server_is_not_taken_over(serving: Serving) -> None:
    listens = [Listen(Address(host="127.0.0.1")), Listen(Address(path=str(serving.path)))]
    second = NbdServer(serving.loop, serving.backend, listens)
    with pytest.raises(OSError, match="another server listens there"):
        serving.call(second.start)
    with Client(serving.unix()).begin("disk") as client:
        assert client.read(0, BLOCK) == bytes(BLOCK)


def test_a_file_in_the_way_of_the_socket_is_kept(serving: Serving) -> None:
    path = serving.path.with_name("precious")
    path.write_text("data")
    second = NbdServer(serving.loop, serving.backend, [Listen(Address(path=str(path)))])
    with pytest.raises(OSError, match="no socket"):
        serving.call(second.start)
    assert path.read_text() == "data"
