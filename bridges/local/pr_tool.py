# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge pr``: persistent reservations from the command line, and their outcome as text.

Pure functions around one ``UnitClient``; printing, and finding the socket, are the command line's
business. Keys, types and names are sent as they were given, for the device server to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bridges.exchange import Request
from bridges.local.cdb_tool import EXIT_FAILED, EXIT_GOOD, describe_sense
from bridges.local.unit_client import Place, UnitClient, connected
from scsi_backend.t10 import persistent_reservation as pr
from scsi_backend.t10.additional_sense import additional_sense_text
from scsi_backend.t10.cdb import inquiry
from scsi_backend.t10.cdb_reservation import persistent_reserve_in, persistent_reserve_out
from scsi_backend.t10.designator import relative_target_port_of
from scsi_backend.t10.persistent_reports import Capabilities, FullStatuses, HeldReservation, Keys
from scsi_backend.t10.persistent_reservation import (
    FullStatus,
    ItNexusId,
    PrInAction,
    PrOutAction,
    key_text,
    type_text,
)
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status, status_text
from scsi_backend.t10.transport_id import initiator_text, named_transport_id
from scsi_backend.t10.vpd import VpdPage

# What the allocation length of PERSISTENT RESERVE IN can say.
_MAX_DATA_BYTES: Final = 0xFFFF
_PAGE_BYTES: Final = 0xFFFF
# What a session begins with; it says nothing about reservations.
_RESET_ASC: Final = 0x29


@dataclass(frozen=True, slots=True)
class Change:
    """A PERSISTENT RESERVE OUT; which of these count depends on the service action.

    ``initiators`` are registered too, or of REGISTER AND MOVE the one that is to have the
    reservation. Its port is ``target_port``; None is that through which the command goes.
    """

    action: PrOutAction
    key: int = 0
    action_key: int = 0
    type: int = 0
    persists: bool = False
    all_target_ports: bool = False
    initiators: tuple[str, ...] = ()
    target_port: int | None = None
    unregisters: bool = False


def read(place: Place, action: PrInAction) -> tuple[str, int]:
    """Ask with PERSISTENT RESERVE IN; return the outcome as text and an exit status.

    The exit status is 0 for GOOD, else 2. Raises ValueError for a LUN that is not the named
    device's and for data that make no sense, LocalError for a server that cannot be used.
    """
    with connected(place) as unit:
        data_in = memoryview(bytearray(_MAX_DATA_BYTES))
        cdb = persistent_reserve_in(action, len(data_in))
        reply = unit.execute(Request(cdb, data_in))
        lines = [*_head(unit, action.name, reply.status, reply.sense)]
    if reply.status == Status.GOOD:
        lines += _REPORTS[action](data_in[: reply.data_in_length])
    return "\n".join(lines), _exit_status(reply.status)


def change(place: Place, wanted: Change) -> tuple[str, int]:
    """Ask for a change with PERSISTENT RESERVE OUT; see ``read``.

    Raises ValueError also for names that no initiator can have.
    """
    names = [named_transport_id(name) for name in wanted.initiators]
    with connected(place) as unit:
        data_out = _parameter_list(unit, wanted, names)
        cdb = persistent_reserve_out(wanted.action, wanted.type, len(data_out))
        reply = unit.execute(Request(cdb, data_out=memoryview(data_out)))
        lines = [*_head(unit, wanted.action.name, reply.status, reply.sense)]
    return "\n".join(lines), _exit_status(reply.status)


def _parameter_list(unit: UnitClient, wanted: Change, names: list[bytes]) -> bytes:
    flags = pr.APTPL_BIT if wanted.persists else 0
    if wanted.action is PrOutAction.REGISTER_AND_MOVE:
        flags |= pr.MOVE_UNREG_BIT if wanted.unregisters else 0
        port = _own_port(unit) if wanted.target_port is None else wanted.target_port
        heir = ItNexusId(names[0], port)
        return pr.move_parameter_list(wanted.key, wanted.action_key, flags, heir)
    flags |= pr.ALL_TG_PT_BIT if wanted.all_target_ports else 0
    return pr.parameter_list(wanted.key, wanted.action_key, flags, names)


def _own_port(unit: UnitClient) -> int:
    """Ask which relative target port the session is at."""
    data_in = memoryview(bytearray(_PAGE_BYTES))
    reply = unit.execute(Request(inquiry(len(data_in), VpdPage.DEVICE_IDENTIFICATION), data_in))
    port = relative_target_port_of(data_in[: reply.data_in_length])
    if port is None:
        raise ValueError("the unit does not say which target port this is: expected its number")
    return port


def _head(unit: UnitClient, name: str, status: int, sense: Sense | None) -> Iterator[str]:
    """Yield what the initiator had missed, and how the command ended."""
    for attention in unit.attentions:
        if attention.asc != _RESET_ASC:
            text = additional_sense_text(attention.code)
            yield f"unit attention: {text} ({attention.asc:02X}h/{attention.ascq:02X}h)"
    yield f"{name.replace('_', ' ')}: {status_text(status)}"
    if sense is not None:
        yield from describe_sense(sense)


def _exit_status(status: int) -> int:
    return EXIT_GOOD if status == Status.GOOD else EXIT_FAILED


def _keys(data: memoryview) -> Iterator[str]:
    found = Keys.parse(data)
    yield f"  generation: {found.generation}"
    yield f"  keys: {_listed([key_text(key) for key in found.keys])}"
    yield from _lacking(found.lacking)


def _reservation(data: memoryview) -> Iterator[str]:
    found = HeldReservation.parse(data)
    yield f"  generation: {found.generation}"
    if found.type is None or found.key is None:
        yield "  reservation: none"
        return
    scope = "logical unit" if found.scope == pr.SCOPE_LOGICAL_UNIT else f"scope {found.scope:X}h"
    yield f"  reservation: {type_text(found.type)}, {scope}, key {key_text(found.key)}"


def _capabilities(data: memoryview) -> Iterator[str]:
    found = Capabilities.parse(data)
    for name, value in (
        ("compatible reservation handling (CRH)", found.has_compatible_handling),
        ("specified initiator ports (SIP_C)", found.takes_initiator_ports),
        ("all target ports (ATP_C)", found.takes_all_target_ports),
        ("persist through power loss: possible (PTPL_C)", found.can_persist),
        ("persist through power loss: active (PTPL_A)", found.persists),
    ):
        yield f"  {name}: {'yes' if value else 'no'}"
    yield f"  allowed commands (ALLOW COMMANDS): {found.allow_commands:03b}b"
    if found.types is not None:
        yield f"  types: {_listed([type_text(kind) for kind in sorted(found.types)])}"


def _full_status(data: memoryview) -> Iterator[str]:
    found = FullStatuses.parse(data)
    yield f"  generation: {found.generation}"
    yield f"  registrants: {len(found.registrants) or 'none'}"
    for each in found.registrants:
        yield f"    {_registrant(each)}"
    yield from _lacking(found.lacking)


def _registrant(status: FullStatus) -> str:
    who = initiator_text(status.nexus.transport_id)
    port = status.nexus.relative_target_port
    holder = f", holds {type_text(status.type)}" if status.is_holder else ""
    return f"{who} at target port {port}: key {key_text(status.key)}{holder}"


def _listed(words: list[str]) -> str:
    return ", ".join(words) or "none"


def _lacking(count_bytes: int) -> Iterator[str]:
    if count_bytes:
        yield f"  {count_bytes} bytes more did not fit into an answer"


_REPORTS: Mapping[PrInAction, Callable[[memoryview], Iterator[str]]] = MappingProxyType(
    {
        PrInAction.READ_KEYS: _keys,
        PrInAction.READ_RESERVATION: _reservation,
        PrInAction.REPORT_CAPABILITIES: _capabilities,
        PrInAction.READ_FULL_STATUS: _full_status,
    }
)
