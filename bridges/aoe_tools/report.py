# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients found out: tables and lines for people, JSON for programs.

In JSON a config string is there twice: as text, where bytes that are none are escaped, and in hex.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from pydantic import ByteSize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridges.aoe_tools.errors import printable
from bridges.aoe_tools.identity import Feature, Identity
from bridges.aoe_tools.operations import Found

# Nobody looks at the width of a pipe.
_PIPE_WIDTH = 1000
_LABEL_WIDTH = 18


def print_found(ports: Iterable[Found], console: Console | None = None) -> None:
    """Print a table of ports, by default to standard output."""
    console = console or Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    table = Table(box=None, pad_edge=False)
    for name in ("target", "MAC"):
        table.add_column(name, no_wrap=True)
    for name in ("buffers", "sectors", "firmware"):
        table.add_column(name, justify="right")
    table.add_column("config string", overflow="fold")
    for port in ports:
        table.add_row(
            str(port.address),
            Text(port.mac.hex(":")),
            str(port.buffer_count),
            str(port.sector_count),
            f"{port.firmware_version:04x}",
            Text(printable(port.config_string)),
        )
    console.print(table, crop=False)


def found_json(ports: Iterable[Found]) -> str:
    """Return ports as a JSON array."""
    return _json(
        [
            _port(port)
            | {
                "shelf": port.address.shelf,
                "slot": port.address.slot,
                "buffer_count": port.buffer_count,
                "sector_count": port.sector_count,
                "firmware_version": port.firmware_version,
            }
            | _config(port.config_string)
            for port in ports
        ]
    )


def identity_text(port: Found, identity: Identity) -> str:
    """Return what a disk says of itself in lines."""
    lines = [f"{port.address} at {port.mac.hex(':')}", *map(_line, _facts(identity))]
    lines.append("  features:")
    lines += (f"    {_feature(feature)}" for feature in identity.features)
    return "\n".join(lines)


def _line(fact: tuple[str, str]) -> str:
    name, value = fact
    return f"  {name + ':':<{_LABEL_WIDTH}}{value}".rstrip()


def _facts(identity: Identity) -> Iterable[tuple[str, str]]:
    yield "model", identity.model
    yield "serial number", identity.serial_number
    yield "firmware", identity.firmware_revision
    size = ByteSize(identity.size_bytes).human_readable(separator=" ")
    yield "capacity", f"{identity.sectors} sectors of {identity.sector_bytes} bytes, {size}"
    first = f", LBA 0 is sector {identity.first_physical} of one" if identity.first_physical else ""
    yield "physical sector", f"{identity.physical_sector_bytes} bytes{first}"
    if identity.world_wide_name:
        yield "world wide name", identity.world_wide_name
    yield "medium", _medium(identity.rotation_rate_rpm)
    yield "standard", identity.standard or "not reported"
    if identity.has_valid_checksum is False:
        yield "checksum", "wrong"


def _medium(rotation_rate_rpm: int | None) -> str:
    if rotation_rate_rpm is None:
        return "not reported"
    return f"{rotation_rate_rpm} rpm" if rotation_rate_rpm else "does not rotate"


def _feature(feature: Feature) -> str:
    return f"{feature.name} (off)" if feature.is_enabled is False else feature.name


def identity_json(port: Found, identity: Identity) -> str:
    """Return what a disk says of itself as a JSON object."""
    features = [
        {"name": feature.name, "is_enabled": feature.is_enabled} for feature in identity.features
    ]
    size = {"size_bytes": identity.size_bytes}
    return _json(_port(port) | asdict(identity) | size | {"features": features})


def config_json(port: Found, string: bytes) -> str:
    """Return a config string as a JSON object."""
    return _json(_port(port) | _config(string))


def mac_list_lines(macs: Sequence[bytes], empty: str) -> str:
    """Return a list of MAC addresses, one a line, or what an empty list means."""
    return "\n".join(mac.hex(":") for mac in macs) or empty


def mac_list_json(port: Found, name: str, macs: Sequence[bytes]) -> str:
    """Return a list of MAC addresses as a JSON object that has it under a name."""
    return _json(_port(port) | {name: [mac.hex(":") for mac in macs]})


def _port(port: Found) -> dict[str, object]:
    return {"target": str(port.address), "mac": port.mac.hex(":")}


def _config(string: bytes) -> dict[str, object]:
    text = string.decode("utf-8", "backslashreplace")
    return {"config_string": text, "config_string_hex": string.hex()}


def _json(value: object) -> str:
    return json.dumps(value, indent=2)
