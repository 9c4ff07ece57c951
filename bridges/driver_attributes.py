# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of target drivers and of their targets, and how each driver names targets."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bridges.aoe.address import parse_address
from bridges.listeners import MAX_SOCKET_PATH_BYTES, Address, is_socket_path
from scsi_backend.handlers.attributes import Flag

NBD_PORT = 10809
DEFAULT_LOCAL_SOCKET = "/run/scst-bridge/local.sock"
# IFNAMSIZ less the terminating NUL.
_MAX_INTERFACE_NAME = 15


def _address(value: Any) -> Any:
    return Address.parse(value, NBD_PORT) if isinstance(value, str) else value


def _interface(value: str) -> str:
    if (
        not 0 < len(value.encode()) <= _MAX_INTERFACE_NAME
        or "/" in value
        or not value.isprintable()
    ):
        raise ValueError("expected the name of a network interface")
    return value


def _socket_path(value: str) -> str:
    if not is_socket_path(value):
        raise ValueError(f"expected an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes")
    return value


class DriverAttributes(BaseModel):
    """Base of every driver's own attributes."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class NbdAttributes(DriverAttributes):
    """TARGET_DRIVER nbd."""

    listen: tuple[Annotated[Address, BeforeValidator(_address)], ...] = Field(
        (), description="HOST:PORT, [IPv6]:PORT or unix:/PATH; one line each"
    )

    @model_validator(mode="after")
    def _listens_somewhere(self) -> Self:
        if not self.listen:
            raise ValueError("listen is required")
        return self


class AoeAttributes(DriverAttributes):
    """TARGET_DRIVER aoe."""

    interface: tuple[Annotated[str, AfterValidator(_interface)], ...] = Field(
        (), description="network interface on which targets answer; one line each"
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


class TargetAttributes(BaseModel):
    """What every target has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: Flag = Field(False, description="whether initiators can log in")


class AoeTargetAttributes(TargetAttributes):
    """A target of the aoe driver."""

    durable: Flag = Field(
        True, description="writes are on stable storage before their reply (see Durability)"
    )


def _nbd_name(name: str) -> None:
    if "/" in name:
        raise ValueError("expected a name without '/', which separates the LUN")


def _any_name(name: str) -> None:
    """Any name will do."""


def _one_lun(luns: Collection[int]) -> None:
    # AoE addresses targets, not LUNs.
    if 0 not in luns and len(luns) != 1:
        raise ValueError("expected LUN 0, or only one LUN")


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


DRIVERS = MappingProxyType(
    {
        "nbd": Driver(NbdAttributes, TargetAttributes, _nbd_name, _any_luns),
        "aoe": Driver(AoeAttributes, AoeTargetAttributes, parse_address, _one_lun, 512),
        "scst_local": Driver(LocalAttributes, TargetAttributes, _any_name, _any_luns),
    }
)
