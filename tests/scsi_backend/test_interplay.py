# SPDX-License-Identifier: GPL-2.0-or-later
"""Random orders of commands, task management, changes of state and slow or failing storage.

Three initiators have two disks through two ports. Whatever meets, each command ends exactly once,
each function is complete, no defect shows as INTERNAL TARGET FAILURE, nothing is left behind that
keeps commands waiting, and the disks can be used again.
"""

from __future__ import annotations

import errno
import random

import pytest

from scsi_backend.handlers.vdisk import Extent
from scsi_backend.servers.disk import disk
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.status import Status
from scsi_backend.target.device_group import DeviceGroup, TargetGroup
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.copies import cscd, extended_copy, naa, parameter_list, receive, segment
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending
from tests.scsi_backend.ports import set_groups

SEEDS = range(40)
STEPS = 150
BLOCKS = 64
OPERATIONS = ("write", "read", "sync", "unmap", "extents")
ATTRIBUTES = (*[TaskAttribute.SIMPLE] * 4, TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE)
# CDB, data out, room for data in.
Sent = tuple[bytes, bytes | None, int | None]


class Site:
    """The disks, the ports, the sessions, and what was sent through them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.vdisks = [self._vdisk(number) for number in (0, 1)]
        self.units = [disk(vdisk) for vdisk in self.vdisks]
        self.targets = [self._target(port) for port in (1, 2)]
        self.group = DeviceGroup("group")
        self.port_groups = [
            TargetGroup(f"group{number}", number, [target])
            for number, target in enumerate(self.targets, 1)
        ]
        for port_group in self.port_groups:
            self.group.add_target_group(port_group)
        for unit in self.units:
            self.group.add_device(unit)
        self.sessions = [self.targets[each % 2].open_session(f"i{each}") for each in range(3)]
        self.sent: list[Pending] = []
        self.expected = self.finished = 0

    def _vdisk(self, number: int) -> FaultyVdisk:
        vdisk = FaultyVdisk(BLOCKS, is_thin=self._odds(0.5), naa_id=naa(number))
        vdisk.tst = self.rng.choice((0, 1))
        vdisk.is_removable = self._odds(0.6)
        vdisk.has_explicit_alua = True
        vdisk.runs = [Extent(BLOCKS * 512, is_mapped=True)]
        return vdisk

    def _target(self, port: int) -> Target:
        target = Target("scst_local", f"target{port}", port)
        for lun, unit in enumerate(self.units):
            target.add_lun(lun, LunEntry(unit))
        target.is_enabled = True
        return target

    def _odds(self, probability: float) -> bool:
        return self.rng.random() < probability

    def finish(self, *response: object) -> None:
        """Count the end of a function, or of a change of state."""
        self.finished += 1

    def step(self) -> None:
        """Let something happen."""
        for vdisk in self.vdisks:
            vdisk.is_held = self._odds(0.7)
            vdisk.immediate_bytes = self.rng.choice((NOT_NOW, None, 512))
            name = self.rng.choice(OPERATIONS)
            vdisk.faults.errno_of = {name: errno.EIO} if self._odds(0.05) else {}
        actions = (self._send, self._release, self._manage, self._resize, self._set_state)
        weights = (60, 25, 7, 3, 2)
        self.rng.choices((*actions, self._log_in_again), (*weights, 2))[0]()

    def _send(self) -> None:
        pending = Pending(*self._command())
        self.sent.append(pending)
        session, attribute = self.rng.choice(self.sessions), self.rng.choice(ATTRIBUTES)
        session.submit(self.rng.randrange(2), pending.command, attribute)

    def _release(self) -> None:
        for vdisk in self.vdisks:
            if vdisk.held:
                vdisk.release(self.rng.randrange(len(vdisk.held)))

    def _manage(self) -> None:
        self.expected += 1
        function, lun = self.rng.randint(1, 6), self.rng.randrange(2)
        self.rng.choice(self.sessions).manage(function, lun, lambda command: True, self.finish)

    def _resize(self) -> None:
        number = self.rng.randrange(2)
        self.vdisks[number].new_block_count = self.rng.choice((BLOCKS, BLOCKS - 16))
        self.units[number].resync_size()

    def _set_state(self) -> None:
        self.expected += 1
        state = self.rng.choice(list(AccessState))
        self.group.set_state(self.rng.choice(self.port_groups), state, self.finish)

    def _log_in_again(self) -> None:
        number = self.rng.randrange(3)
        self.sessions[number].close()
        self.sessions[number] = self.targets[number % 2].open_session(f"i{number}")

    def _command(self) -> Sent:
        rng = self.rng
        lba, blocks = rng.randrange(BLOCKS - 4), rng.randint(1, 4)
        moved = parameter_list(
            [cscd(0), cscd(1)],
            [segment(rng.randrange(2), rng.randrange(2), blocks, lba, rng.randrange(BLOCKS))],
            list_identifier=rng.randrange(3),
        )
        flags = rng.choice((0, 0x20, 0x80, 0xA0))
        # D_SENSE; QUEUE ALGORITHM MODIFIER and QERR; SWP; TAS.
        bits = (rng.choice((0, 4)), rng.choice((0, 0x10, 0x12, 0x16)), rng.choice((0, 0, 8)), 0x40)
        control = bytes((0x0A, 0x0A, *bits)) + bytes.fromhex("0000ffff0000")
        states = set_groups((rng.randrange(4), rng.randint(1, 2)))
        reads: list[Sent] = [(cdbs.block(cdbs.READ, 16, lba, blocks), None, blocks * 512)]
        writes: list[Sent] = [(cdbs.block(cdbs.WRITE, 16, lba, blocks), bytes(blocks * 512), None)]
        others: list[Sent] = [
            (cdbs.compare_and_write(lba, 1), bytes(1024), None),
            (cdbs.sanitize(cdbs.OVERWRITE, 5, flags), bytes((1, 0, 0, 1, 0x5A)), None),
            (cdbs.sanitize(cdbs.EXIT_FAILURE_MODE), None, None),
            (cdbs.format_unit(0x10), bytes((0, rng.choice((0, 2)), 0, 0)), None),
            (cdbs.raw(f"1b0{rng.randrange(2)}00000{rng.randrange(4)}00"), None, None),
            (cdbs.raw(f"1e0000000{rng.randrange(2)}00"), None, None),
            (cdbs.raw("151000001000"), bytes(4) + control, None),
            (extended_copy(len(moved)), moved, None),
            (receive(rng.choice((0, 4)), rng.randrange(3), 64), None, 64),
            (cdbs.raw("4d004c000000000000ff00"), None, 255),
            (cdbs.raw("35000000000000000000"), None, None),
            (*states, None),
            (cdbs.raw("030000001200"), None, 18),
            (cdbs.raw("3b0a0000000000000400"), bytes(4), None),
        ]
        return rng.choice(rng.choice((reads, writes, others, others)))

    def settle(self) -> None:
        """Let the storage do what it was asked for, and no longer fail."""
        for vdisk in self.vdisks:
            vdisk.faults.errno_of, vdisk.is_held = {}, False
        while any(vdisk.held for vdisk in self.vdisks):
            for vdisk in self.vdisks:
                vdisk.release_all()

    def recover(self) -> None:
        """Undo what was asked for: states, an ejected medium, a failed operation."""
        for port_group in self.port_groups:
            self.group.set_state(port_group, AccessState.ACTIVE)
        for lun, unit in enumerate(self.units):
            unit.reset()
            initiator = Initiator(self.sessions[0], lun)
            for cdb, data in (
                (cdbs.raw("1b0000000300"), None),
                (cdbs.sanitize(cdbs.OVERWRITE, 5), bytes((1, 0, 0, 1, 0x5A))),
                (cdbs.format_unit(0), None),
            ):
                take_attentions(self.sessions[0].nexuses[lun])
                initiator.send(cdb, data)


def take_attentions(nexus: ItlNexus) -> None:
    """Leave no unit attention pending."""
    while nexus.take_unit_attention() is not None:
        pass


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_ends_once_and_leaves_nothing_behind(seed: int) -> None:
    site = Site(random.Random(seed))
    for _ in range(STEPS):
        site.step()
    site.settle()
    assert {pending.completions for pending in site.sent} == {1}
    assert site.finished == site.expected
    codes = {pending.command.sense.code for pending in site.sent if pending.command.sense}
    assert AdditionalSense.INTERNAL_TARGET_FAILURE not in codes
    site.recover()
    for unit in site.units:
        assert (list(unit.outstanding()), unit.operation, unit.lock.is_engaged) == ([], None, False)
    for session in site.sessions:
        for lun, nexus in session.nexuses.items():
            take_attentions(nexus)
            outcome = Initiator(session, lun).send(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
            assert (outcome.status, len(outcome.data)) == (Status.GOOD, 512)
