# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``reservations`` command: who has registered, and who holds what, as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bridges.control import Command, ControlError
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.reservation_state import PrState
from scsi_backend.t10.persistent_reservation import ItNexusId, key_text, type_text
from scsi_backend.t10.transport_id import initiator_text
from scsi_backend.target.backend import Backend


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NexusRecord(_Record):
    """An initiator at a target, here or not; ``target`` is None where no target has that port.

    An initiator of this house has the name by which it logs in, any other its iSCSI name.
    """

    initiator: str
    rel_tgt_id: int
    target: str | None
    has_session: bool


class RegistrantRecord(NexusRecord):
    """A registered one; ``key`` is in hex digits."""

    key: str
    is_holder: bool


class ReservationRecord(_Record):
    """What is reserved; ``type_text`` has the type in words."""

    type: int
    type_text: str
    scope: str


class DeviceReservations(_Record):
    """The reservations of a device; ``legacy_holder`` is whose SPC-2's RESERVE is in force.

    ``kept_for`` are those whom the reserve lists of AoE targets name.
    """

    device: str
    generation: int
    has_aptpl: bool
    reservation: ReservationRecord | None
    registrants: tuple[RegistrantRecord, ...]
    legacy_holder: NexusRecord | None
    kept_for: tuple[NexusRecord, ...] = ()


class AllReservations(_Record):
    """The answer."""

    devices: tuple[DeviceReservations, ...]


class _Arguments(_Record):
    device: str | None = None


def reservations_command(backend: Backend) -> Command:
    """Return the command, which is about one device or all."""

    async def execute(arguments: Mapping[str, Any]) -> object:
        try:
            wanted = _Arguments.model_validate(dict(arguments), strict=True).device
        except ValidationError as error:
            detail = error.errors()[0]
            raise ControlError(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from error
        return reservations_of(backend, wanted).model_dump(mode="json")

    return execute


def reservations_of(backend: Backend, device: str | None = None) -> AllReservations:
    """Look at one device or all; raises ControlError."""
    if device is not None and device not in backend.devices:
        expected = ", ".join(backend.devices) or "DEVICE sections in the configuration"
        raise ControlError(f"unknown device '{device}': expected {expected}")
    targets = {
        target.relative_target_port: f"{target.driver}/{target.name}" for target in backend.targets
    }
    return AllReservations(
        devices=tuple(
            _device(unit, targets)
            for name, unit in backend.devices.items()
            if device in (None, name)
        )
    )


def _device(unit: LogicalUnit, targets: Mapping[int, str]) -> DeviceReservations:
    reservations = unit.reservations
    state, legacy = reservations.state, reservations.legacy_holder
    return DeviceReservations(
        device=unit.name,
        generation=state.generation,
        has_aptpl=state.persists,
        reservation=_reservation(state),
        registrants=tuple(_registrants(unit, state, targets)),
        legacy_holder=None if legacy is None else _nexus(unit, legacy, targets),
        kept_for=tuple(_nexus(unit, who, targets) for who in sorted(reservations.kept_for)),
    )


def _reservation(state: PrState) -> ReservationRecord | None:
    if state.reservation is None:
        return None
    kind = state.reservation.type
    return ReservationRecord(type=kind, type_text=type_text(kind), scope="logical unit")


def _registrants(
    unit: LogicalUnit, state: PrState, targets: Mapping[int, str]
) -> Iterator[RegistrantRecord]:
    for nexus, key in state.registrants.items():
        who = _nexus(unit, nexus, targets)
        yield RegistrantRecord(
            initiator=who.initiator,
            rel_tgt_id=who.rel_tgt_id,
            target=who.target,
            has_session=who.has_session,
            key=key_text(key),
            is_holder=state.is_holder(nexus),
        )


def _nexus(unit: LogicalUnit, nexus: ItNexusId, targets: Mapping[int, str]) -> NexusRecord:
    return NexusRecord(
        initiator=initiator_text(nexus.transport_id),
        rel_tgt_id=nexus.relative_target_port,
        target=targets.get(nexus.relative_target_port),
        has_session=bool(unit.reservations.nexuses_of({nexus})),
    )
