# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of target drivers and of their targets, and how each driver names targets."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bridges.access import AccessRules, Rule, parse_rule
from bridges.aoe.acl import parse_host_mac
from bridges.aoe.address import parse_address
from bridges.aoe.policy import DEFAULT_IDLE_TIMEOUT_S, ReservationConflict
from bridges.listen import Listen, TlsMode, check_rules
from bridges.listeners import MAX_SOCKET_PATH_BYTES, Address, is_socket_path
from bridges.local.tcmu.naming import check_target_name as check_kernel_name
from bridges.stream import MAX_PENDING_BYTES
from bridges.stream_server import MAX_CONNECTIONS
from scsi_backend.handlers.attributes import AbsolutePath, Flag, Number

NBD_PORT = 10809
DEFAULT_LOCAL_SOCKET = "/run/scst-bridge/local.sock"
# SCST's name for the session of the local host.
DEFAULT_SESSION_NAME = "scst_local_host"
_MAX_SESSION_NAME = 63
# A day; the kernel counts milliseconds in 32 bits.
_MAX_TIME_OUT_S = 86400
# A connection with less would stop after each request of a usual size.
_MIN_CONNECTION_MEMORY_BYTES = 64 << 10
# IFNAMSIZ less the terminating NUL.
_MAX_INTERFACE_NAME = 15
# Relative target ports and target port groups have 16 bits, and zero is none of them.
_MAX_IDENTIFIER = 0xFFFF


def _rule(value: Any) -> Any:
    return parse_rule(value) if isinstance(value, str) else value


def _tls_mode(value: Any) -> Any:
    if value not in tuple(TlsMode):
        raise ValueError(f"expected {', '.join(TlsMode)}")
    return TlsMode(value)


def _connection_memory(value: int) -> int:
    if value < _MIN_CONNECTION_MEMORY_BYTES:
        raise ValueError(f"expected at least {_MIN_CONNECTION_MEMORY_BYTES}")
    return value


def _connections(value: int) -> int:
    if value < 1:
        raise ValueError("expected at least 1")
    return value


def _identifier(value: int) -> int:
    if not 1 <= value <= _MAX_IDENTIFIER:
        raise ValueError(f"expected 1 to {_MAX_IDENTIFIER}")
    return value


def _interface(value: str) -> str:
    if (
        not 0 < len(value.encode()) <= _MAX_INTERFACE_NAME
        or "/" in value
        or not value.isprintable()
    ):
        raise ValueError("expected the name of a network interface, or a pattern as in eth*")
    return value


def _mac(value: Any) -> Any:
    return parse_host_mac(value) if isinstance(value, str) else value


def _reservation_conflict(value: Any) -> Any:
    if value not in tuple(ReservationConflict):
        raise ValueError(f"expected {' or '.join(ReservationConflict)}")
    return ReservationConflict(value)


def _socket_path(value: str) -> str:
    if not is_socket_path(value):
        raise ValueError(f"expected an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes")
    return value


def _session_name(value: str) -> str:
    if not 0 < len(value) <= _MAX_SESSION_NAME or not (value.isascii() and value.isprintable()):
        raise ValueError(f"expected 1 to {_MAX_SESSION_NAME} printable ASCII characters")
    return value


def _time_out(value: int) -> int:
    if not 0 < value <= _MAX_TIME_OUT_S:
        raise ValueError(f"expected 1 to {_MAX_TIME_OUT_S}")
    return value


class DriverAttributes(BaseModel):
    """Base of every driver's own attributes."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class Terms:
    """Marks an attribute whose lines may have a block, and how that is read.

    The value of a line with a block is the pair of its word and the model. ``subject`` is what a
    word is about: there is one line for each.
    """

    model: type[BaseModel]
    subject: Callable[[str], object]


Connections = Annotated[Number, AfterValidator(_connections)]
Rules = tuple[Annotated[Rule, BeforeValidator(_rule)], ...]


class ListenTerms(BaseModel):
    """The block of a ``listen`` line."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    tls: Annotated[TlsMode, BeforeValidator(_tls_mode)] = Field(
        TlsMode.OFF, description="off, on (who asks for it gets it) or require"
    )
    allow: Rules = Field((), description="who may connect; everybody where there is no such line")
    deny: Rules = Field((), description="who may not connect, although allowed")
    max_connections: Connections | None = Field(None, description="connections by this listener")


def _listen(value: Any, info: ValidationInfo) -> Any:
    """Join an address and its terms; what is wrong with them together belongs to their line."""
    if isinstance(value, Listen):
        return value
    word, terms = (value, ListenTerms()) if isinstance(value, str) else value
    address = Address.parse(word, NBD_PORT)
    access = AccessRules(terms.allow, terms.deny)
    check_rules(address, access)
    if terms.tls is not TlsMode.OFF and info.data.get("tls_certificates") is None:
        raise ValueError(f"tls {terms.tls}: expected tls_certificates in the driver's section")
    # Missing if it is wrong itself, of which the user hears first.
    memory = info.data.get("connection_memory", MAX_PENDING_BYTES)
    return Listen(address, terms.tls, access, terms.max_connections, memory)


def _address_or_word(word: str) -> object:
    """Where a word means to listen; what is no address is found out elsewhere."""
    try:
        return Address.parse(word, NBD_PORT)
    except ValueError:
        return word


Listens = tuple[Annotated[Listen, BeforeValidator(_listen)], ...]


class NbdAttributes(DriverAttributes):
    """TARGET_DRIVER nbd. What ``listen`` lines are checked against comes before them."""

    tls_certificates: AbsolutePath | None = Field(
        None,
        description="folder with ca-cert.pem, server-cert.pem, server-key.pem, perhaps ca-crl.pem",
    )
    tls_verify_peer: Flag = Field(False, description="ask clients for certificates and verify them")
    connection_memory: Annotated[Number, AfterValidator(_connection_memory)] = Field(
        MAX_PENDING_BYTES,
        description="bytes that the requests of a connection may keep busy; longer ones go alone",
    )
    max_connections: Connections = Field(
        MAX_CONNECTIONS, description="connections by all listeners together"
    )
    listen: Annotated[Listens, Terms(ListenTerms, _address_or_word)] = Field(
        (),
        description="HOST:PORT, [IPv6]:PORT, unix:/PATH, vsock:PORT, systemd, stdio; one line each",
    )

    @field_validator("tls_verify_peer")
    @classmethod
    def _has_certificates(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("tls_certificates") is None:
            raise ValueError("expected tls_certificates as well")
        return value

    @model_validator(mode="after")
    def _listens_somewhere(self) -> Self:
        if not self.listen:
            raise ValueError("listen is required")
        return self


Macs = tuple[Annotated[bytes, BeforeValidator(_mac)], ...]


class AoeAttributes(DriverAttributes):
    """TARGET_DRIVER aoe."""

    state_directory: AbsolutePath | None = Field(
        None,
        description="folder in which targets keep config string, mask list and reserve list",
    )
    idle_timeout: Number = Field(
        DEFAULT_IDLE_TIMEOUT_S,
        description="seconds without commands after which a session ends; 0 is never",
    )

    interface: tuple[Annotated[str, AfterValidator(_interface)], ...] = Field(
        (), description="network interface to answer on, or a pattern as in eth*; one line each"
    )

    @model_validator(mode="after")
    def _answers_somewhere(self) -> Self:
        if not self.interface:
            raise ValueError("interface is required")
        return self


class LocalAttributes(DriverAttributes):
    """TARGET_DRIVER scst_local."""

    socket: Annotated[str, AfterValidator(_socket_path)] = Field(
        DEFAULT_LOCAL_SOCKET, description="path of the unix socket for local programs"
    )


Identifier = Annotated[Number, AfterValidator(_identifier)]


class TargetAttributes(BaseModel):
    """What every target has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: Flag = Field(False, description="whether initiators can log in")
    rel_tgt_id: Identifier | None = Field(
        None, description="relative target port identifier (the first that is free)"
    )


class LocalTargetAttributes(TargetAttributes):
    """A target of the scst_local driver."""

    kernel: Flag = Field(False, description="the LUNs are SCSI disks of this host (see Kernel)")
    session_name: Annotated[str, AfterValidator(_session_name)] = Field(
        DEFAULT_SESSION_NAME, description="the kernel's name as an initiator"
    )
    cmd_time_out: Annotated[Number, AfterValidator(_time_out)] = Field(
        30, description="seconds that the kernel waits for a command of its own"
    )


class AoeTargetAttributes(TargetAttributes):
    """A target of the aoe driver."""

    interface: tuple[Annotated[str, AfterValidator(_interface)], ...] = Field(
        (), description="which of the driver's interfaces lead here; all, where there is no line"
    )
    durable: Flag = Field(
        True, description="writes are on stable storage before their reply (see Durability)"
    )
    allow: Macs = Field(
        (), description="MAC address that is heard; every one where there is no such line"
    )
    deny: Macs = Field((), description="MAC address that is not heard, although allowed")
    in_band_editing: Flag = Field(
        True, description="frames may change config string, mask list and reserve list"
    )
    write_cache_control: Flag = Field(
        False,
        description="SET FEATURES may turn the device's write cache on and off",
    )
    reservation_conflict: Annotated[ReservationConflict, BeforeValidator(_reservation_conflict)] = (
        Field(
            ReservationConflict.ATA,
            description="ata: ABRT, clients fail at once; aoe: AoE error 6, they go on trying",
        )
    )


def _nbd_name(name: str) -> None:
    if "/" in name:
        raise ValueError("expected a name without '/', which separates the LUN")


def _any_name(name: str) -> None:
    """Any name will do."""


def _one_lun(luns: Collection[int]) -> None:
    # AoE addresses targets, not LUNs. Without any, nobody is shown the target.
    if luns and 0 not in luns and len(luns) != 1:
        raise ValueError("expected LUN 0, or only one LUN")


def _kernel_takes(name: str, attributes: TargetAttributes) -> None:
    if isinstance(attributes, LocalTargetAttributes) and attributes.kernel:
        check_kernel_name(name)


def _any_target(name: str, attributes: TargetAttributes) -> None:
    """Any attributes will do for any name."""


def _any_luns(luns: Collection[int]) -> None:
    """Any LUNs will do."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How the sections of one target driver are read; the checks raise ValueError."""

    attributes: type[DriverAttributes]
    target_attributes: type[TargetAttributes]
    check_target_name: Callable[[str], object]
    check_luns: Callable[[Collection[int]], object]
    # The only block size that the protocol has, if so.
    block_size_bytes: int | None = None
    # What a name must be like because of the attributes.
    check_target: Callable[[str, TargetAttributes], object] = _any_target


DRIVERS = MappingProxyType(
    {
        "nbd": Driver(NbdAttributes, TargetAttributes, _nbd_name, _any_luns),
        "aoe": Driver(AoeAttributes, AoeTargetAttributes, parse_address, _one_lun, 512),
        "scst_local": Driver(
            LocalAttributes,
            LocalTargetAttributes,
            _any_name,
            _any_luns,
            check_target=_kernel_takes,
        ),
    }
)
