# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that are logged in while their initiator gets other LUNs: what a SCSI initiator sees."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

import pytest

from bridges.exchange import Request
from bridges.local.client import LocalClient, LocalError
from bridges.recovery import Reply
from scsi_backend.servers.disk import disk
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.cdb import read_16, write_16
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.site import Site, wait_until
from tests.scsi_backend.cdbs import TEST_UNIT_READY, raw
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern
from tests.scsi_backend.reserving import RESERVE, WE, pr_in, pr_out

BLOCK = 512
KEY = 0xABC
REGISTER_AND_IGNORE = 6
CONFLICT = Reply(Status.RESERVATION_CONFLICT, None, 0)
GOOD = Reply(Status.GOOD, None, 0)


def failure(sense: Sense) -> Reply:
    return Reply(Status.CHECK_CONDITION, sense, 0)


LOST = failure(sense_data.LUN_NOT_SUPPORTED)
RESET = failure(sense_data.RESET_OCCURRED)
LUNS_CHANGED = failure(sense_data.REPORTED_LUNS_CHANGED)
OTHER_DEVICE = failure(sense_data.INQUIRY_DATA_CHANGED)


class House:
    """A target whose LUN 0 is disk ``a``, and what a client without a label asks of it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.a, self.b = FaultyVdisk(64), FaultyVdisk(64)
        for first, vdisk in ((0, self.a), (1000, self.b)):
            vdisk.data[:] = b"".join(pattern(first + lba, BLOCK) for lba in range(64))
        self.target: Target = site.add_target("disks", self.a)
        self.first = self.target.luns[0]
        self.second = LunEntry(disk(self.b))
        site.start()

    def map(self, luns: dict[int, LunEntry], groups: Iterable[InitiatorGroup] = ()) -> None:
        """Change the target's LUNs and groups."""
        self.site.call(lambda: self.target.configure(luns=luns, groups=groups))

    def map_in_group(self, pattern: str, luns: dict[int, LunEntry]) -> None:
        """Give some initiators LUNs of their own."""
        groups = [InitiatorGroup("g", (InitiatorPattern.parse(pattern),), luns)]
        self.site.call(lambda: self.target.configure(groups=groups))


@pytest.fixture
def house(new_site: NewSite) -> House:
    return House(new_site())


@pytest.fixture(params=[0, 1 << 20], ids=["framed", "shared"])
def client(house: House, request: pytest.FixtureRequest) -> Iterator[LocalClient]:
    """A client that has heard of the reset, without and with shared memory."""
    shared_bytes: int = request.param
    with LocalClient.connect(house.site.path, "disks", shared_bytes=shared_bytes) as client:
        assert client.execute(Request(TEST_UNIT_READY)) == RESET
        assert client.execute(Request(TEST_UNIT_READY)) == GOOD
        yield client


def ask(client: LocalClient, lun: int = 0) -> Reply:
    return client.execute(Request(TEST_UNIT_READY), lun)


def read(client: LocalClient, lba: int, lun: int = 0) -> bytes:
    found = memoryview(bytearray(BLOCK))
    assert client.execute(Request(read_16(lba, 1), found), lun).status == Status.GOOD
    return bytes(found)


def reported_luns(client: LocalClient) -> list[int]:
    found = memoryview(bytearray(264))
    reply = client.execute(Request(raw("a0 00 00 000000 00000108 0000"), found))
    assert reply.status == Status.GOOD
    return [int.from_bytes(found[at : at + 2], "big") for at in range(8, reply.data_in_length, 8)]


def reserve_out(client: LocalClient, action: int, key: int, new_key: int) -> Reply:
    data = memoryview(struct.pack(">QQ8x", key, new_key))
    return client.execute(Request(pr_out(action, WE, len(data)), None, data))


def keys(client: LocalClient) -> list[int]:
    found = memoryview(bytearray(264))
    reply = client.execute(Request(pr_in(0, 264), found))
    assert reply.status == Status.GOOD
    return [key for (key,) in struct.iter_unpack(">Q", found[8 : reply.data_in_length])]


def test_another_device_says_that_it_is_another(house: House, client: LocalClient) -> None:
    assert read(client, 3) == pattern(3, BLOCK)
    house.map({0: house.second})
    assert [ask(client) for _ in range(3)] == [RESET, OTHER_DEVICE, GOOD]
    assert read(client, 3) == pattern(1003, BLOCK)


def test_more_luns_are_told_on_those_there_are(house: House, client: LocalClient) -> None:
    house.map({0: house.first, 5: house.second})
    assert [ask(client) for _ in range(2)] == [LUNS_CHANGED, GOOD]
    assert reported_luns(client) == [0, 5]
    assert [ask(client, 5) for _ in range(2)] == [RESET, GOOD]
    assert read(client, 1, 5) == pattern(1001, BLOCK)


def test_a_lun_that_is_taken_away_is_none_until_it_comes_back(
    house: House, client: LocalClient
) -> None:
    house.map({5: house.second})
    assert [ask(client) for _ in range(2)] == [LOST, LOST]
    write = Request(write_16(0, 1), None, memoryview(bytes(BLOCK)))
    assert client.execute(write) == LOST
    house.map({0: house.first, 5: house.second})
    assert [ask(client) for _ in range(3)] == [RESET, LUNS_CHANGED, GOOD]
    assert read(client, 0) == pattern(0, BLOCK)


def test_a_target_that_is_disabled_has_no_luns_for_who_is_in(
    house: House, client: LocalClient
) -> None:
    house.site.call(lambda: house.target.configure(is_enabled=False))
    assert ask(client) == LOST
    with pytest.raises(LocalError, match="target disks is not enabled"):
        LocalClient.connect(house.site.path, "disks")
    house.site.call(lambda: house.target.configure(is_enabled=True))
    assert ask(client) == RESET


def test_write_protection_comes_and_goes(house: House, client: LocalClient) -> None:
    write = Request(write_16(0, 1), None, memoryview(bytes(BLOCK)))
    for is_read_only in (True, False):
        house.map({0: LunEntry(house.first.unit, is_read_only)})
        assert [ask(client) for _ in range(3)] == [RESET, OTHER_DEVICE, GOOD]
        assert (client.execute(write) == GOOD) is not is_read_only


def test_what_is_under_way_when_its_lun_goes_still_ends(house: House, client: LocalClient) -> None:
    house.a.immediate_bytes = NOT_NOW
    house.a.is_held = True
    found = client.buffer(BLOCK)
    tag = client.submit(0, read_16(2, 1), found)
    wait_until(lambda: len(house.a.held) == 1, "the command is under way")
    house.map({0: house.second})
    house.site.call(house.a.release_all)
    assert client.wait(tag).status == Status.GOOD
    assert found == pattern(2, BLOCK)


def test_a_registration_stays_while_its_lun_does(house: House, client: LocalClient) -> None:
    assert reserve_out(client, REGISTER_AND_IGNORE, 0, KEY) == GOOD
    assert reserve_out(client, RESERVE, KEY, 0) == GOOD
    with LocalClient.connect(house.site.path, "disks", label="other") as other:
        write = Request(write_16(0, 1), None, memoryview(bytes(BLOCK)))
        assert ask(other) == RESET
        assert other.execute(write) == CONFLICT
        house.map_in_group(f"local:uid={os.getuid()}", {0: house.first, 1: house.second})
        # Who was moved hears of one LUN more, and nobody of a reset.
        assert [ask(client) for _ in range(2)] == [LUNS_CHANGED, GOOD]
        assert ask(other) == GOOD
        assert keys(client) == [KEY]
        assert client.execute(write) == GOOD
        assert other.execute(write) == CONFLICT
        # Its holder is known again even when its LUN was away for a time.
        house.map_in_group(f"local:uid={os.getuid()}", {1: house.second})
        assert ask(client) == LOST
        assert other.execute(write) == CONFLICT
        house.map_in_group(f"local:uid={os.getuid()}", {0: house.first})
        assert [ask(client) for _ in range(3)] == [RESET, LUNS_CHANGED, GOOD]
        assert client.execute(write) == GOOD
