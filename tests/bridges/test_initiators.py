# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions shared by the connections of one initiator, and their end with the last of these."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import repeat

import pytest

from bridges.initiators import InitiatorPool, Lease
from bridges.recovery import ScsiError
from scsi_backend.servers.disk import disk
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError
from tests.bridges.faulty_lun import FaultyLun, ManualClock, check_condition, sense
from tests.scsi_backend.fakes import FaultyVdisk

TEST_UNIT_READY = 0x00
Outcomes = list[Lease | ScsiError | TargetError]


@pytest.fixture
def lun() -> FaultyLun:
    return FaultyLun()


@pytest.fixture
def pool() -> InitiatorPool:
    return InitiatorPool(ManualClock())


def acquire(
    pool: InitiatorPool, target: Target, name: str, number: int = 0, host: str | None = None
) -> Lease:
    """Acquire a LUN that is there and answers at once."""
    outcomes: Outcomes = []
    pool.acquire(target, name, number, outcomes.append, IPv4Address(host) if host else None)
    (lease,) = outcomes
    assert isinstance(lease, Lease)
    return lease


def refused(pool: InitiatorPool, target: Target, name: str, number: int = 0) -> Exception:
    """Acquire a LUN and be refused at once; return the error."""
    outcomes: Outcomes = []
    pool.acquire(target, name, number, outcomes.append)
    (error,) = outcomes
    assert isinstance(error, (ScsiError, TargetError))
    return error


def test_connections_of_one_initiator_share_a_session_and_a_client(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    first = acquire(pool, lun.target, "10.0.0.1")
    second = acquire(pool, lun.target, "10.0.0.1")
    assert first.client is second.client
    assert first.client.info.block_count == 1024
    (session,) = lun.target.sessions
    assert session.initiator_name == "10.0.0.1"
    assert first.client.nexus is session.nexuses[0]


def test_different_initiators_have_sessions_of_their_own(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    first = acquire(pool, lun.target, "10.0.0.1")
    second = acquire(pool, lun.target, "10.0.0.2")
    assert first.client.nexus is not second.client.nexus
    assert [session.initiator_name for session in lun.target.sessions] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(("driver", "name"), [("nbd", "other"), ("aoe", "disk"), ("nbd", "disk")])
def test_different_targets_have_sessions_of_their_own(
    pool: InitiatorPool, lun: FaultyLun, driver: str, name: str
) -> None:
    other = Target(driver, name, 2)
    other.add_lun(0, LunEntry(lun.unit))
    other.is_enabled = True
    first = acquire(pool, lun.target, "10.0.0.1")
    second = acquire(pool, other, "10.0.0.1")
    assert first.client.nexus is not second.client.nexus
    assert (len(lun.target.sessions), len(other.sessions)) == (1, 1)


def test_luns_of_one_target_share_the_session_only(pool: InitiatorPool, lun: FaultyLun) -> None:
    lun.target.add_lun(3, LunEntry(FaultyLun().unit))
    first = acquire(pool, lun.target, "10.0.0.1", 0)
    second = acquire(pool, lun.target, "10.0.0.1", 3)
    assert (first.client.nexus.lun, second.client.nexus.lun) == (0, 3)
    assert first.client.nexus.session is second.client.nexus.session
    first.close()
    assert len(lun.target.sessions) == 1
    second.close()
    assert not lun.target.sessions


def test_the_session_ends_with_its_last_user(pool: InitiatorPool, lun: FaultyLun) -> None:
    leases = [acquire(pool, lun.target, "10.0.0.1") for _ in range(3)]
    for lease in leases[:2]:
        lease.close()
        assert len(lun.target.sessions) == 1
    leases[2].close()
    assert not lun.target.sessions


def test_after_the_last_user_a_new_session_is_opened(pool: InitiatorPool, lun: FaultyLun) -> None:
    first = acquire(pool, lun.target, "10.0.0.1")
    first.close()
    second = acquire(pool, lun.target, "10.0.0.1")
    assert second.client is not first.client
    assert len(lun.target.sessions) == 1


def test_a_closed_session_hears_of_nothing_any_more(pool: InitiatorPool, lun: FaultyLun) -> None:
    kept = acquire(pool, lun.target, "10.0.0.1")
    closed = acquire(pool, lun.target, "10.0.0.2")
    closed.close()
    lun.unit.raise_unit_attention(sense("06/2A/02"))
    assert kept.client.nexus.take_unit_attention() == sense("06/2A/02")
    assert closed.client.nexus.take_unit_attention() is None


def test_a_unit_attention_belongs_to_the_initiator(pool: InitiatorPool, lun: FaultyLun) -> None:
    # The first connection took the one of power on; the second meets none.
    acquire(pool, lun.target, "10.0.0.1")
    tries = lun.count(TEST_UNIT_READY)
    lease = acquire(pool, lun.target, "10.0.0.1")
    assert lun.count(TEST_UNIT_READY) == tries + 1
    assert lease.client.nexus.take_unit_attention() is None


def test_a_disabled_target_admits_nobody(pool: InitiatorPool, lun: FaultyLun) -> None:
    lun.target.is_enabled = False
    error = refused(pool, lun.target, "10.0.0.1")
    assert (type(error), str(error)) == (TargetError, "target disk is not enabled")
    lun.target.is_enabled = True
    acquire(pool, lun.target, "10.0.0.1")


def test_a_missing_lun_is_refused_and_leaves_no_session(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    error = refused(pool, lun.target, "10.0.0.1", 5)
    assert (type(error), str(error)) == (
        TargetError,
        "target disk has no LUN 5 for initiator 10.0.0.1",
    )
    assert not lun.target.sessions


def test_a_missing_lun_leaves_the_sessions_other_users_alone(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    lease = acquire(pool, lun.target, "10.0.0.1")
    refused(pool, lun.target, "10.0.0.1", 5)
    assert len(lun.target.sessions) == 1
    lease.close()
    assert not lun.target.sessions


def test_a_lun_that_cannot_be_read_is_refused_and_leaves_no_session(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    lun.answer(TEST_UNIT_READY, repeat(check_condition("02/3A/00")))
    error = refused(pool, lun.target, "10.0.0.1")
    assert isinstance(error, ScsiError)
    assert "NOT READY 3A/00" in str(error)
    assert not lun.target.sessions
    lun.answer(TEST_UNIT_READY, [])
    acquire(pool, lun.target, "10.0.0.1")


def test_a_slow_lun_is_waited_for(pool: InitiatorPool, lun: FaultyLun) -> None:
    lun.is_held = True
    outcomes: Outcomes = []
    pool.acquire(lun.target, "10.0.0.1", 0, outcomes.append)
    pool.acquire(lun.target, "10.0.0.1", 0, outcomes.append)
    assert outcomes == []
    lun.release_all()
    first, second = outcomes
    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert first.client is second.client
    first.close()
    assert len(lun.target.sessions) == 1
    second.close()
    assert not lun.target.sessions


def group(pattern: str, luns: dict[int, LunEntry]) -> InitiatorGroup:
    """A group for one pattern."""
    return InitiatorGroup("g", (InitiatorPattern.parse(pattern),), luns)


def disk_of(blocks: int, block_size_bytes: int = 512) -> LunEntry:
    """A LUN that leads to a disk of its own."""
    vdisk = FaultyVdisk(blocks, block_size_bytes)
    return LunEntry(disk(vdisk))


def test_an_initiator_has_a_session_from_each_of_its_hosts(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    lun.target.configure(groups=[group("10.0.0.0/8", {0: disk_of(50)})])
    leases = [
        acquire(pool, lun.target, "tls:CN=a", host=host)
        for host in ("10.0.0.1", "10.0.0.2", "192.0.2.1", "10.0.0.1")
    ]
    assert [lease.client.info.block_count for lease in leases] == [50, 50, 1024, 50]
    assert leases[0].client is leases[3].client
    assert [str(session.host) for session in lun.target.sessions] == [
        "10.0.0.1",
        "10.0.0.2",
        "192.0.2.1",
    ]


def test_an_initiator_without_luns_is_refused(pool: InitiatorPool, lun: FaultyLun) -> None:
    lun.target.configure(groups=[group("10.0.0.1", {})])
    error = refused(pool, lun.target, "10.0.0.1")
    assert str(error) == "target disk has no LUNs for initiator 10.0.0.1"
    assert not lun.target.sessions


def test_who_comes_later_shares_what_a_lun_has_become(pool: InitiatorPool, lun: FaultyLun) -> None:
    first = acquire(pool, lun.target, "10.0.0.1")
    lun.target.configure(luns={0: disk_of(50)})
    assert first.client.info.block_count == 1024
    second = acquire(pool, lun.target, "10.0.0.1")
    assert second.client is first.client
    assert first.client.info.block_count == 50


def test_a_lun_that_was_lost_is_missing_for_who_comes_later(
    pool: InitiatorPool, lun: FaultyLun
) -> None:
    first = acquire(pool, lun.target, "10.0.0.1")
    lun.target.configure(luns={})
    assert "has no LUN 0" in str(refused(pool, lun.target, "10.0.0.1"))
    assert len(lun.target.sessions) == 1
    first.close()
    assert not lun.target.sessions


def test_other_blocks_are_for_who_comes_later_only(pool: InitiatorPool, lun: FaultyLun) -> None:
    first = acquire(pool, lun.target, "10.0.0.1")
    lun.target.configure(luns={0: disk_of(50, 4096)})
    second = acquire(pool, lun.target, "10.0.0.1")
    third = acquire(pool, lun.target, "10.0.0.1")
    assert second.client is third.client
    assert second.client is not first.client
    assert (first.client.is_barred, second.client.is_barred) == (True, False)
    assert first.client.info.block_size_bytes == 512
    assert second.client.info.block_size_bytes == 4096
    for lease in (first, second, third):
        assert len(lun.target.sessions) == 1
        lease.close()
    assert not lun.target.sessions
