# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client against the local server."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.exchange import Request, run_blocking
from bridges.local.client import LocalClient, LocalError
from bridges.lun import probe
from bridges.recovery import Reply
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.cdb import read_16, write_16
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import ManagementResponse, TaskManagementFunction
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.site import Site, wait_until
from tests.scsi_backend.cdbs import READ, TEST_UNIT_READY, block, raw
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk

BLOCK = 512
MAX_DATA_BYTES = 32 << 20


def view(size_bytes: int) -> memoryview:
    return memoryview(bytearray(size_bytes))


def ready(site: Site, name: str = "") -> LocalClient:
    """A client whose power-on unit attention is out of the way."""
    client = LocalClient.connect(site.path, name)
    reply = client.execute(Request(TEST_UNIT_READY))
    assert reply == Reply(Status.CHECK_CONDITION, sense_data.RESET_OCCURRED, 0)
    return client


@pytest.fixture
def client(site: Site) -> Iterator[LocalClient]:
    with ready(site) as client:
        yield client


class TestConnect:
    def test_client_learns_who_and_where_it_is(self, new_site: NewSite) -> None:
        site = new_site()
        first, second = FaultyVdisk(8), FaultyVdisk(8)
        first.name, second.name = "first", "second"
        site.add_target("disks", first, second)
        site.start()
        with LocalClient.connect(site.path, "second", label="test") as client:
            assert client.initiator_name == f"local:uid={os.getuid()},test"
            assert (client.lun, client.max_data_bytes) == (1, MAX_DATA_BYTES)
        with LocalClient.connect(site.path, "disks") as client:
            assert client.lun == 0

    def test_commands_go_to_the_lun_of_the_named_device(self, new_site: NewSite) -> None:
        site = new_site()
        first, second = FaultyVdisk(8), FaultyVdisk(16)
        first.name, second.name = "first", "second"
        site.add_target("disks", first, second)
        site.start()
        found = view(8)
        capacity = Request(raw("25"), found)
        with LocalClient.connect(site.path, "second") as client:
            assert client.execute(Request(TEST_UNIT_READY)).status == Status.CHECK_CONDITION
            client.execute(capacity)
            assert found == bytes.fromhex("0000000f 00000200")
            assert client.execute(Request(TEST_UNIT_READY), 0).status == Status.CHECK_CONDITION
            client.execute(capacity, 0)
            assert found == bytes.fromhex("00000007 00000200")

    def test_absent_socket_is_named(self, tmp_path: Path) -> None:
        path = str(tmp_path / "nothing")
        with pytest.raises(LocalError, match=f"{path}: cannot connect: No such file"):
            LocalClient.connect(path)

    def test_socket_without_a_server_is_named(self, tmp_path: Path) -> None:
        path = str(tmp_path / "stale")
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(path)
        with pytest.raises(LocalError, match=f"{path}: cannot connect: Connection refused"):
            LocalClient.connect(path)

    @pytest.mark.parametrize(
        ("name", "label", "message"),
        [("n" * 257, "", "name of 257 bytes"), ("", "l" * 65, "label of 65 bytes")],
    )
    def test_names_that_do_not_fit_are_refused(self, name: str, label: str, message: str) -> None:
        with pytest.raises(LocalError, match=message):
            LocalClient.connect("/nowhere", name, label=label)

    def test_refusal_is_passed_on(self, site: Site) -> None:
        with pytest.raises(LocalError, match=r"the server refused: no target .* named 'other'"):
            LocalClient.connect(site.path, "other")


class TestCommands:
    def test_data_moves_both_ways(self, client: LocalClient) -> None:
        data = os.urandom(8 * BLOCK)
        reply = client.execute(Request(write_16(8, 8), None, memoryview(data)))
        assert reply == Reply(Status.GOOD, None, 0)
        found = view(8 * BLOCK)
        reply = client.execute(Request(read_16(8, 8), found))
        assert reply == Reply(Status.GOOD, None, len(found))
        assert found == data

    def test_longest_transfer_moves_both_ways(self, client: LocalClient) -> None:
        data = random.Random(1).randbytes(MAX_DATA_BYTES)
        blocks = MAX_DATA_BYTES // BLOCK
        reply = client.execute(Request(write_16(0, blocks), None, memoryview(data)))
        assert reply.status == Status.GOOD
        found = view(MAX_DATA_BYTES)
        reply = client.execute(Request(read_16(0, blocks), found))
        assert reply == Reply(Status.GOOD, None, MAX_DATA_BYTES)
        assert found == data

    @pytest.mark.parametrize(
        "size_bytes", [BLOCK, 64 << 10, (64 << 10) + BLOCK, 300 << 10, 5 << 20]
    )
    def test_transfers_of_many_sizes_alternate_with_short_commands(
        self, client: LocalClient, size_bytes: int
    ) -> None:
        data = random.Random(size_bytes).randbytes(size_bytes)
        blocks = size_bytes // BLOCK
        for lba in (0, 7, 4096):
            tags = [
                client.submit(0, TEST_UNIT_READY),
                client.submit(0, write_16(lba, blocks), None, memoryview(data)),
                client.submit(0, TEST_UNIT_READY),
            ]
            assert [client.wait(tag).status for tag in tags] == [Status.GOOD] * 3
            found = view(size_bytes)
            assert client.execute(Request(read_16(lba, blocks), found)).status == Status.GOOD
            assert found == data

    def test_sense_data_is_decoded(self, client: LocalClient) -> None:
        reply = client.execute(Request(block(READ, 10, 1 << 20, 1), view(BLOCK)))
        assert reply.status == Status.CHECK_CONDITION
        assert str(reply.sense) == (
            "ILLEGAL REQUEST 21/00 LOGICAL BLOCK ADDRESS OUT OF RANGE information=0x100000"
            " (CDB byte 2 bit 7)"
        )
        assert reply.data_in_length == 0

    def test_short_data_in_leaves_the_rest_of_the_buffer_alone(self, client: LocalClient) -> None:
        buffer = memoryview(bytearray(b"\xee" * 100))
        reply = client.execute(Request(raw("1200000024"), buffer))
        assert reply == Reply(Status.GOOD, None, 36)
        assert bytes(buffer[36:]) == b"\xee" * 64

    def test_absent_lun_answers(self, client: LocalClient) -> None:
        reply = client.execute(Request(TEST_UNIT_READY), 16383)
        assert reply.sense == sense_data.LUN_NOT_SUPPORTED

    def test_exchanges_run_over_the_client(self, site: Site) -> None:
        with LocalClient.connect(site.path) as client:
            info = run_blocking(probe(), client.execute)
        assert (info.block_size_bytes, info.size_bytes) == (BLOCK, 64 << 20)

    def test_many_commands_are_waited_for_in_any_order(self, client: LocalClient) -> None:
        source = random.Random(2)
        for lba in range(512):
            data = memoryview(lba.to_bytes(2, "big") * 256)
            assert client.execute(Request(write_16(lba, 1), None, data)).status == Status.GOOD
        outstanding = []
        for _ in range(2000):
            lba = source.randrange(512)
            buffer = view(BLOCK)
            outstanding.append((client.submit(0, read_16(lba, 1), buffer), lba, buffer))
        source.shuffle(outstanding)
        for tag, lba, buffer in outstanding:
            assert client.wait(tag) == Reply(Status.GOOD, None, BLOCK)
            assert buffer == lba.to_bytes(2, "big") * 256

    def test_responses_that_come_in_another_order_find_their_commands(
        self, new_site: NewSite
    ) -> None:
        site = new_site()
        vdisk = FaultyVdisk(64)
        content = vdisk.fill()
        vdisk.immediate_bytes = NOT_NOW
        vdisk.is_held = True
        site.add_target("slow", vdisk)
        site.start()
        with ready(site) as client:
            buffers = [view(BLOCK) for _ in range(10)]
            tags = [client.submit(0, read_16(lba, 1), buffers[lba]) for lba in range(10)]
            wait_until(lambda: len(vdisk.held) == 10, "all commands are under way")
            for index in (9, 0, 4, 4, 0, 0, 3, 1, 1, 0):
                site.call(lambda index=index: vdisk.release(index))  # type: ignore[misc]
            for tag in tags:
                assert client.wait(tag) == Reply(Status.GOOD, None, BLOCK)
            assert b"".join(map(bytes, buffers)) == content[: 10 * BLOCK]

    def test_more_responses_than_the_server_queues_do_not_block_sending(
        self, client: LocalClient
    ) -> None:
        # 40 MiB of responses that are not waited for, then 40 MiB of data-out.
        buffers = [view(1 << 20) for _ in range(40)]
        tags = [client.submit(0, read_16(0, 2048), buffer) for buffer in buffers]
        payload = view(1 << 20)
        tags += [client.submit(0, write_16(0, 2048), None, payload) for _ in range(40)]
        for tag in reversed(tags):
            assert client.wait(tag).status == Status.GOOD

    def test_tag_is_waited_for_once(self, client: LocalClient) -> None:
        tag = client.submit(0, TEST_UNIT_READY)
        client.wait(tag)
        with pytest.raises(KeyError, match=f"tag {tag} is not outstanding"):
            client.wait(tag)

    @pytest.mark.parametrize(
        ("lun", "cdb", "data_in_bytes", "data_out_bytes", "message"),
        [
            (0, b"", 0, 0, "CDB of 0 bytes"),
            (0, bytes(261), 0, 0, "CDB of 261 bytes"),
            (0, bytes(6), MAX_DATA_BYTES + 1, 0, "33554433 bytes of data"),
            (0, bytes(6), 0, MAX_DATA_BYTES + 1, "33554433 bytes of data"),
            (16384, bytes(6), 0, 0, "LUN 16384: expected 0 to 16383"),
        ],
    )
    def test_command_that_the_protocol_has_no_room_for_is_not_sent(
        self,
        client: LocalClient,
        lun: int,
        cdb: bytes,
        data_in_bytes: int,
        data_out_bytes: int,
        message: str,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            client.submit(lun, cdb, view(data_in_bytes), view(data_out_bytes))
        assert client.execute(Request(TEST_UNIT_READY)).status == Status.GOOD

    def test_closed_client_says_so(self, client: LocalClient) -> None:
        tag = client.submit(0, TEST_UNIT_READY)
        client.close()
        with pytest.raises(LocalError, match="the connection was closed"):
            client.wait(tag)
        with pytest.raises(LocalError, match="the connection was closed"):
            client.submit(0, TEST_UNIT_READY)


class TestTasks:
    def test_reset_of_the_unit_is_heard_of_by_everybody(self, site: Site) -> None:
        with ready(site) as one, ready(site) as other:
            found = one.manage(TaskManagementFunction.LOGICAL_UNIT_RESET, 0)
            assert found == ManagementResponse.FUNCTION_COMPLETE
            for client in (one, other):
                reply = client.execute(Request(TEST_UNIT_READY))
                assert reply.sense == sense_data.BUS_DEVICE_RESET

    def test_ordered_write_is_seen_by_the_read_that_follows_it(self, client: LocalClient) -> None:
        found, written = view(BLOCK), memoryview(b"\xab" * BLOCK)
        write = client.submit(0, write_16(0, 1), None, written, TaskAttribute.ORDERED)
        read = client.submit(0, read_16(0, 1), found)
        assert [client.wait(tag).status for tag in (write, read)] == [Status.GOOD] * 2
        assert found == written

    def test_task_that_has_ended_does_not_exist(self, client: LocalClient) -> None:
        tag = client.submit(0, TEST_UNIT_READY)
        client.wait(tag)
        found = client.manage(TaskManagementFunction.ABORT_TASK, 0, tag)
        assert found == ManagementResponse.TASK_DOES_NOT_EXIST
