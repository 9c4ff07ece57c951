# SPDX-License-Identifier: GPL-2.0-or-later
"""The copy manager at work: processes the segments of one EXTENDED COPY (SPC-4 5.17.7.4, 6.4.6).

It is an application client of the logical units it copies between, and sends its INQUIRY, READ
CAPACITY, PRE-FETCH, READ and WRITE commands through the initiator's own nexuses. So an initiator
can copy to and from what it could read and write itself, and no more; write protection,
reservations, unit attentions and atomic commands are those nexuses' business.

Data moves in pieces through one buffer. Where source and destination overlap, they move in the
order in which nothing is overwritten before it was read.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from scsi_backend.io.engine import Done
from scsi_backend.servers.command import CheckCondition, Command, Reachable
from scsi_backend.servers.copy_list import CopyList, cscd_offset
from scsi_backend.servers.copy_results import CopyOperation
from scsi_backend.servers.steps import Steps
from scsi_backend.t10 import cdb
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.designator import Designator, logical_unit_designators
from scsi_backend.t10.extended_copy import BlockSegment
from scsi_backend.t10.sense import FieldPointer, Sense, SenseKey
from scsi_backend.t10.status import Status
from scsi_backend.t10.vpd import VpdPage

_PIECE_BYTES = 1 << 20
_INQUIRY_BYTES = 1024
_CAPACITY = struct.Struct(">QI")
_CDB_BYTES = 16
_SUCCESS = frozenset({Status.GOOD, Status.CONDITION_MET})

# Where a segment descriptor has its fields, and a CSCD descriptor its own.
_SOURCE_AT, _DESTINATION_AT, _BLOCKS_AT, _SOURCE_LBA_AT, _DESTINATION_LBA_AT = 4, 6, 10, 12, 20
_DISK_BLOCK_LENGTH_AT = 29

_Operation = Callable[[Done], None]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A logical unit in reach, by what its VPD 83h page says."""

    nexus: Reachable
    device_type: int
    designators: frozenset[Designator]


@dataclass(frozen=True, slots=True)
class _Device:
    """A copy source or destination: CSCD descriptor ``index``, found, with its capacity."""

    index: int
    unit: _Unit
    block_bytes: int
    block_count: int


@dataclass(frozen=True, slots=True)
class _Move:
    """A segment whose devices are known; all in bytes."""

    source: _Device
    destination: _Device
    source_at: int
    destination_at: int
    length: int

    def positions(self) -> Sequence[int]:
        """Where pieces begin, in the order to copy them."""
        ascending = range(0, self.length, _PIECE_BYTES)
        is_same = self.source.unit.designators == self.destination.unit.designators
        would_overwrite = self.source_at < self.destination_at < self.source_at + self.length
        return ascending[::-1] if is_same and would_overwrite else ascending


class _Part(Command):
    """A command of the copy manager's own. Of its failure the EXTENDED COPY tells."""

    def check_condition(self, sense: Sense) -> None:
        """End the command with CHECK CONDITION, which QERR is not to know of."""
        self.data_in_length = 0
        self.complete(Status.CHECK_CONDITION, sense)


class CopyManager:
    """Does what the parameter list of one EXTENDED COPY, ``command``, says."""

    def __init__(self, copy_list: CopyList, command: Command, operation: CopyOperation) -> None:
        self._list = copy_list
        self._command = command
        self._unidentified = deque(command.nexus.reachable_units())
        self._operation = operation
        self._units: dict[Designator, list[_Unit]] = {}
        self._devices: dict[int, _Device] = {}
        self._buffer = memoryview(b"")
        self._segment = 0

    def steps(self) -> Steps:
        """Process the segments in order; raises CheckCondition with COPY ABORTED.

        An EXTENDED COPY that task management has aborted just ends.
        """
        self._buffer = memoryview(bytearray(_PIECE_BYTES))
        for number, segment in enumerate(self._list.segments):
            if self._is_aborted:
                return
            self._segment = number
            self._operation.segments_processed = number + 1
            move = yield from self._prepare(segment)
            yield from self._copy(move)

    @property
    def _is_aborted(self) -> bool:
        return self._command in self._command.nexus.aborted

    def _look_for(self, designator: Designator) -> Generator[_Operation, int, _Unit | None]:
        """The unit of that name; of an initiator's several ways to it, one that may write."""
        while True:
            named = self._units.get(designator, [])
            writable = [unit for unit in named if not unit.nexus.is_write_protected]
            if writable or not self._unidentified:
                return next(iter(writable or named), None)
            yield from self._identify(self._unidentified.popleft())

    def _identify(self, nexus: Reachable) -> Steps:
        page = bytearray(_INQUIRY_BYTES)
        inquiry = cdb.inquiry(_INQUIRY_BYTES, VpdPage.DEVICE_IDENTIFICATION)
        answer = yield from _send(nexus, inquiry, data_in=memoryview(page))
        if answer.status == Status.GOOD:
            found = logical_unit_designators(bytes(page[: answer.data_in_length]))
            unit = _Unit(nexus, page[0] & 0x1F, found)
            for designator in found:
                self._units.setdefault(designator, []).append(unit)

    def _prepare(self, segment: BlockSegment) -> Generator[_Operation, int, _Move]:
        """Find a segment's devices, and check its blocks against theirs."""
        source = yield from self._device(segment.source, _SOURCE_AT)
        destination = yield from self._device(segment.destination, _DESTINATION_AT)
        counted = destination if segment.is_destination_count else source
        length = segment.blocks * counted.block_bytes
        if length % source.block_bytes or length % destination.block_bytes:
            # Deviation: so with PAD or CAT, which would have a part of a block made up or kept.
            raise self._aborted(AdditionalSense.UNEXPECTED_INEXACT_SEGMENT, _in_segment(_BLOCKS_AT))
        for device, lba, at_byte in (
            (source, segment.source_lba, _SOURCE_LBA_AT),
            (destination, segment.destination_lba, _DESTINATION_LBA_AT),
        ):
            if length and lba + length // device.block_bytes > device.block_count:
                raise self._invalid(_in_segment(at_byte))
        return _Move(
            source,
            destination,
            segment.source_lba * source.block_bytes,
            segment.destination_lba * destination.block_bytes,
            length,
        )

    def _device(self, index: int, at_byte: int) -> Generator[_Operation, int, _Device]:
        """The device of a CSCD descriptor ID, which the segment has at this byte."""
        if index >= len(self._list.descriptors):
            raise self._invalid(_in_segment(at_byte))
        if index not in self._devices:
            is_destination = at_byte == _DESTINATION_AT
            self._devices[index] = yield from self._find(index, is_destination=is_destination)
        return self._devices[index]

    def _find(self, index: int, *, is_destination: bool) -> Generator[_Operation, int, _Device]:
        descriptor, at_byte = self._list.descriptors[index], cscd_offset(index)
        unit = yield from self._look_for(descriptor.designator)
        if unit is None or descriptor.is_null:
            code = AdditionalSense.COPY_TARGET_DEVICE_NOT_REACHABLE
            raise self._aborted(code, _in_list(at_byte))
        if descriptor.device_type != unit.device_type:
            code = AdditionalSense.INCORRECT_COPY_TARGET_DEVICE_TYPE
            raise self._aborted(code, _in_list(at_byte + 1))
        capacity = bytearray(32)
        answer = yield from _send(
            unit.nexus, cdb.read_capacity_16(len(capacity)), data_in=memoryview(capacity)
        )
        self._check(answer, index, is_destination=is_destination)
        last_lba, block_bytes = _CAPACITY.unpack_from(capacity)
        if descriptor.disk_block_length_bytes != block_bytes:
            raise self._invalid(_in_list(at_byte + _DISK_BLOCK_LENGTH_AT))
        return _Device(index, unit, block_bytes, last_lba + 1)

    def _copy(self, move: _Move) -> Steps:
        source, destination = move.source, move.destination
        positions = move.positions()
        contiguous = 0
        # What is left of the segment, once any of it has been written.
        residual: int | None = None
        for number, position in enumerate(positions):
            if self._is_aborted:
                return
            self._check_reach(move, residual)
            piece = self._buffer[: min(_PIECE_BYTES, move.length - position)]
            answer = yield from self._read(move, position, piece)
            self._check(answer, source.index, residual)
            if number + 1 < len(positions):
                # Lets the event loop go on as well, however fast the storage is.
                answer = yield from self._pre_fetch(move, positions[number + 1])
                self._check(answer, source.index, residual)
            answer = yield from self._write(move, position, piece)
            self._check(answer, destination.index, residual, is_destination=True)
            self._operation.written_bytes += len(piece)
            if position == contiguous:
                contiguous += len(piece)
            residual = (move.length - contiguous) // destination.block_bytes

    def _check_reach(self, move: _Move, residual: int | None) -> None:
        """End the copy when the initiator has lost a LUN, or its session."""
        reachable = self._command.nexus.reachable_units()
        for device in (move.source, move.destination):
            if device.unit.nexus not in reachable:
                code = AdditionalSense.COPY_TARGET_DEVICE_NOT_REACHABLE
                raise self._aborted(code, _in_list(cscd_offset(device.index)), residual)

    def _read(
        self, move: _Move, position: int, piece: memoryview
    ) -> Generator[_Operation, int, Command]:
        device = move.source
        lba = (move.source_at + position) // device.block_bytes
        read = cdb.read_16(lba, len(piece) // device.block_bytes)
        return (yield from _send(device.unit.nexus, read, data_in=piece))

    def _pre_fetch(self, move: _Move, position: int) -> Generator[_Operation, int, Command]:
        device = move.source
        lba = (move.source_at + position) // device.block_bytes
        length = min(_PIECE_BYTES, move.length - position)
        pre_fetch = cdb.pre_fetch_16(lba, length // device.block_bytes)
        return (yield from _send(device.unit.nexus, pre_fetch))

    def _write(
        self, move: _Move, position: int, piece: memoryview
    ) -> Generator[_Operation, int, Command]:
        device = move.destination
        lba = (move.destination_at + position) // device.block_bytes
        write = cdb.write_16(lba, len(piece) // device.block_bytes)
        return (yield from _send(device.unit.nexus, write, data_out=piece))

    def _check(
        self,
        answer: Command,
        index: int,
        residual: int | None = None,
        *,
        is_destination: bool = False,
    ) -> None:
        """End the copy if a device did not do what it was told, with what it said."""
        if answer.status in _SUCCESS:
            return
        sense = Sense(
            SenseKey.COPY_ABORTED,
            AdditionalSense.THIRD_PARTY_DEVICE_FAILURE,
            information=residual,
            field_pointer=_in_list(cscd_offset(index)),
            copy_failure=CopyFailure(self._segment, answer.status, answer.sense, is_destination),
        )
        raise CheckCondition(sense)

    def _invalid(self, pointer: FieldPointer) -> CheckCondition:
        # T10 names no additional sense code for a descriptor that does not fit its devices.
        return self._aborted(AdditionalSense.NO_ADDITIONAL_SENSE_INFORMATION, pointer)

    def _aborted(
        self, code: AdditionalSense, pointer: FieldPointer, residual: int | None = None
    ) -> CheckCondition:
        failure = CopyFailure(self._segment)
        sense = Sense(SenseKey.COPY_ABORTED, code, residual, pointer, copy_failure=failure)
        return CheckCondition(sense)


def _send(
    nexus: Reachable,
    command_descriptor: bytes,
    *,
    data_in: memoryview | None = None,
    data_out: memoryview | None = None,
) -> Generator[_Operation, int, Command]:
    """Send a command, and return it when it has ended."""
    sent: list[Command] = []

    def submit(done: Done) -> None:
        command = _Part(
            command_descriptor.ljust(_CDB_BYTES, b"\0"), data_in, data_out, lambda _: done(0)
        )
        sent.append(command)
        nexus.submit_within(command)

    yield submit
    return sent[0]


def _in_segment(byte: int) -> FieldPointer:
    return FieldPointer(byte, in_cdb=False, in_segment=True)


def _in_list(byte: int) -> FieldPointer:
    return FieldPointer(byte, in_cdb=False)
