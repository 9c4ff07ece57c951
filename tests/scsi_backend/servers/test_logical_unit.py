# SPDX-License-Identifier: GPL-2.0-or-later
"""Logical units: the dispatch table as it is built, and the nexuses that hear of changes."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.servers.command import Command, Execute
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import (
    WRITE_PROTECTION,
    CommandRow,
    Layer,
    LogicalUnit,
    Restriction,
    TargetPort,
    invalid_opcode,
    software_write_protected,
    write_protected,
)
from scsi_backend.t10 import sense
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.mode_values import ModeValues
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.locking import join


class Listener:
    """A nexus that only listens."""

    def __init__(self) -> None:
        self.heard: list[Sense] = []
        self.outstanding: set[Command] = set()
        self.aborted: set[Command] = set()
        self.id = ItNexusId(transport_id("test"), 1)

    def recompose(self) -> None:
        """See ``AttachedNexus``."""

    def establish_unit_attention(self, sense: Sense) -> None:
        """See ``AttachedNexus``."""
        self.heard.append(sense)


def answer(command: Command) -> None:
    command.complete()


def bind_answer(unit: LogicalUnit) -> Execute:
    return answer


ROWS = (
    CommandRow(Opcode.TEST_UNIT_READY, bind_answer),
    CommandRow(Opcode.INQUIRY, bind_answer, skips_attention=True),
    CommandRow(Opcode.WRITE_10, bind_answer, writes_medium=True),
)


def test_table_has_256_entries_and_only_the_rows_are_known() -> None:
    table = LogicalUnit(FaultyVdisk(), ROWS).dispatch
    known = {opcode for opcode, execute in enumerate(table) if execute is not invalid_opcode}
    assert (len(table), known) == (256, {0x00, 0x12, 0x2A})


def test_rows_may_be_any_iterable_and_can_be_looked_at() -> None:
    unit = LogicalUnit(FaultyVdisk(), iter(ROWS))
    assert {opcode: list(rows) for opcode, rows in unit.rows.items()} == {
        row.opcode: [row] for row in ROWS
    }
    assert unit.attention_exempt == {Opcode.INQUIRY}


def test_command_that_the_device_does_not_support_is_unknown() -> None:
    row = CommandRow(
        Opcode.UNMAP, bind_answer, is_supported=lambda vdisk: vdisk.is_thin_provisioned
    )
    for is_thin, execute in [(False, invalid_opcode), (True, answer)]:
        unit = LogicalUnit(FaultyVdisk(is_thin=is_thin), (*ROWS, row))
        assert unit.dispatch[Opcode.UNMAP] is execute
        assert (Opcode.UNMAP in unit.rows) is is_thin


def test_read_only_medium_protects_its_writing_opcodes() -> None:
    unit = LogicalUnit(FaultyVdisk(read_only=True), ROWS)
    table = unit.dispatch_in_force
    protected = {opcode for opcode, execute in enumerate(table) if execute is write_protected}
    assert unit.is_write_protected
    assert protected == {0x2A}


def refuse(command: Command) -> None:
    command.check_condition(sense.LUN_NOT_SUPPORTED)


WRITES_REFUSED = Restriction(lambda row: row.writes_medium, refuse)
ALL_REFUSED = Restriction(lambda row: True, refuse)


def test_restriction_is_in_force_until_it_is_lifted() -> None:
    unit = LogicalUnit(FaultyVdisk(), ROWS)
    unit.restrict(Layer.OPERATION, WRITES_REFUSED)
    assert unit.dispatch_in_force[0x2A] is refuse
    assert unit.dispatch_in_force[0x00] is answer
    unit.restrict(Layer.OPERATION, None)
    assert unit.dispatch_in_force is unit.dispatch


def test_later_layer_answers_first_whichever_came_first() -> None:
    unit = LogicalUnit(FaultyVdisk(), ROWS)
    unit.restrict(Layer.OPERATION, ALL_REFUSED)
    unit.restrict(Layer.WRITE_PROTECTION, WRITE_PROTECTION)
    assert unit.dispatch_in_force[0x2A] is refuse
    unit.restrict(Layer.OPERATION, None)
    assert unit.dispatch_in_force[0x2A] is write_protected


def test_restriction_leaves_unknown_opcodes_unknown() -> None:
    unit = LogicalUnit(FaultyVdisk(), ROWS)
    unit.restrict(Layer.OPERATION, ALL_REFUSED)
    assert unit.dispatch_in_force[0xC0] is invalid_opcode


@pytest.mark.parametrize(
    ("cdb", "code"),
    [
        ("9e10", None),
        ("9e12", sense.LUN_NOT_SUPPORTED.code),
        ("9e13", AdditionalSense.INVALID_FIELD_IN_CDB),
        ("7f000000000000180009", None),
        ("7f00000000000018000b", sense.LUN_NOT_SUPPORTED.code),
        ("7f00000000000018000c", AdditionalSense.INVALID_FIELD_IN_CDB),
    ],
)
def test_restriction_can_be_on_some_service_actions(cdb: str, code: int | None) -> None:
    rows = (
        CommandRow(Opcode.SERVICE_ACTION_IN_16, bind_answer, service_action=0x10),
        CommandRow(
            Opcode.SERVICE_ACTION_IN_16, bind_answer, service_action=0x12, writes_medium=True
        ),
        CommandRow(Opcode.VARIABLE_LENGTH, bind_answer, service_action=0x0009),
        CommandRow(Opcode.VARIABLE_LENGTH, bind_answer, service_action=0x000B, writes_medium=True),
    )
    unit = LogicalUnit(FaultyVdisk(), rows)
    unit.restrict(Layer.OPERATION, WRITES_REFUSED)
    outcome = join(unit).send(bytes.fromhex(cdb).ljust(32, b"\0"))
    assert (None if outcome.sense is None else outcome.sense.code) == code


@pytest.mark.parametrize(
    ("vdisk", "is_write_through"),
    [
        (FaultyVdisk(), False),
        (FaultyVdisk(write_through=True), True),
        (FaultyVdisk(nv_cache=True), False),
        (FaultyVdisk(nv_cache=True, write_through=True), False),
        (FaultyVdisk(read_only=True), False),
        (VdiskNullio("n", NullioAttributes(size_mb=1)), False),
    ],
)
def test_writes_are_stable_at_once_only_with_write_through(
    vdisk: FaultyVdisk, is_write_through: bool
) -> None:
    assert disk(vdisk).is_write_through is is_write_through


@pytest.mark.parametrize(("block_size_bytes", "blocks"), [(512, 65536), (4096, 8192)])
def test_largest_transfer_is_32_mib(block_size_bytes: int, blocks: int) -> None:
    assert disk(FaultyVdisk(16, block_size_bytes)).max_transfer_blocks == blocks


def test_every_attached_nexus_hears_of_a_change() -> None:
    unit = disk(FaultyVdisk())
    first, second, gone = Listener(), Listener(), Listener()
    for nexus in (first, second, gone):
        unit.attach(nexus)
    unit.detach(gone)
    unit.raise_unit_attention(sense.CAPACITY_CHANGED)
    heard = [first.heard, second.heard, gone.heard]
    assert heard == [[sense.CAPACITY_CHANGED], [sense.CAPACITY_CHANGED], []]


def test_whoever_caused_a_change_need_not_hear_of_it() -> None:
    unit = disk(FaultyVdisk())
    first, second = Listener(), Listener()
    for nexus in (first, second):
        unit.attach(nexus)
    unit.raise_unit_attention(sense.MODE_PARAMETERS_CHANGED, but=first)
    assert [first.heard, second.heard] == [[], [sense.MODE_PARAMETERS_CHANGED]]


def test_ports_are_listed_once_by_relative_identifier() -> None:
    unit = disk(FaultyVdisk())
    assert list(unit.ports) == []
    far, near = TargetPort(9, "nbd/far"), TargetPort(2, "nbd/near")
    for port in (far, near, TargetPort(9, "nbd/far")):
        unit.add_port(port)
    assert list(unit.ports) == [near, far]


def test_software_write_protection_is_laid_over_the_writing_opcodes() -> None:
    unit = LogicalUnit(FaultyVdisk(), ROWS)
    unit.modes.put(ModeValues(wce=True, swp=True))
    table = unit.dispatch_in_force
    protected = {opcode for opcode, entry in enumerate(table) if entry is software_write_protected}
    assert unit.is_write_protected
    assert protected == {0x2A}
    unit.modes.put(ModeValues(wce=True))
    assert unit.dispatch_in_force is unit.dispatch


def test_modes_are_those_of_the_vdisk_until_they_are_changed() -> None:
    vdisk = FaultyVdisk()
    unit = disk(vdisk)
    assert unit.control == ModeValues(wce=True)
    unit.modes.put(ModeValues(wce=False, d_sense=True))
    assert (vdisk.has_volatile_cache, unit.is_write_through) == (False, True)
    assert unit.uses_descriptor_sense
    unit.reset()
    assert (vdisk.has_volatile_cache, unit.is_write_through) == (True, False)
    assert not unit.uses_descriptor_sense


def test_new_size_is_taken_over_and_told() -> None:
    vdisk = FaultyVdisk(blocks=100)
    unit, nexus = disk(vdisk), Listener()
    unit.attach(nexus)
    vdisk.new_block_count = 200
    assert unit.resync_size()
    assert unit.block_count == 200
    assert nexus.heard == [sense.CAPACITY_CHANGED]


def test_same_size_is_told_to_nobody() -> None:
    unit, nexus = disk(FaultyVdisk()), Listener()
    unit.attach(nexus)
    assert not unit.resync_size()
    assert nexus.heard == []
