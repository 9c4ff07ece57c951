# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's session with a target: when it is there, and which LUNs it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridges.local.tcmu.naming import LunName
from bridges.local.tcmu.port import KernelExport, KernelPort
from scsi_backend.servers.command import Command
from scsi_backend.t10.status import Status
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.last_flush import LastFlush
from tests.bridges.local.tcmu.serving import T0, T1, House, house
from tests.scsi_backend import cdbs


class Bench:
    """A house, its target's port, and how often that told of a change."""

    def __init__(self, made: House) -> None:
        self.made = made
        self.changes = 0
        self.export: KernelExport = made.export()
        self.target = self.export.target
        self.port = KernelPort(self.export, self.changed)

    def changed(self) -> None:
        """Count."""
        self.changes += 1


@pytest.fixture
def bench() -> Iterator[Bench]:
    with house() as made:
        yield Bench(made)


def names(bench: Bench) -> list[LunName]:
    """The LUNs that the kernel has."""
    return list(bench.port.leads())


def test_kernel_logs_in_by_its_name_once(bench: Bench) -> None:
    assert names(bench) == names(bench) == [T0, T1]
    assert [each.initiator_name for each in bench.target.sessions] == ["session"]
    assert [lead.cmd_time_out_s for lead in bench.port.leads().values()] == [30, 30]


def test_same_lun_is_the_same_lead(bench: Bench) -> None:
    assert bench.port.leads() == bench.port.leads()


def test_changes_are_told_and_seen(bench: Bench) -> None:
    assert names(bench) == [T0, T1]
    bench.target.configure(luns={1: bench.made.entry("a")})
    assert bench.changes == 1
    assert [lead.unit.name for lead in bench.port.leads().values()] == ["a"]


def test_kernel_logs_in_when_the_target_is_open_to_it(bench: Bench) -> None:
    bench.target.is_enabled = False
    assert names(bench) == []
    assert bench.target.sessions == ()
    bench.target.is_enabled = True
    assert names(bench) == [T0, T1]


def test_group_of_the_kernel_has_luns_of_its_own(bench: Bench) -> None:
    patterns = (InitiatorPattern.parse("sess*"),)
    bench.target.configure(groups=[InitiatorGroup("g", patterns, {1: bench.made.entry("a")})])
    assert names(bench) == [T1]


def test_new_disk_depends_on_no_flush_of_the_old_device(bench: Bench) -> None:
    session = bench.port.leads()[T0].session
    session.depend_on(0, LastFlush("gone"))
    bench.port.leads()
    nexus = session.nexuses[0]
    nexus.take_unit_attention()
    flushes: list[int | None] = []
    cdb = cdbs.raw("91")
    nexus.submit(Command(cdb, None, None, lambda command: flushes.append(command.status)))
    assert flushes == [Status.GOOD]


def test_nothing_is_reached_or_told_after_the_end(bench: Bench) -> None:
    lead = bench.port.leads()[T0]
    bench.port.close()
    assert bench.target.sessions == ()
    assert not lead.is_current
    command = Command(cdbs.TEST_UNIT_READY, None, None, lambda command: None)
    lead.nexus.receive(command)
    assert command.status == Status.CHECK_CONDITION
    assert command.encoded_sense()[12] == 0x25
    bench.target.configure(luns={})
    assert bench.changes == 0
