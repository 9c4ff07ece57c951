# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge nbd FILE``: the words of a command line as a configuration with one disk.

It is checked and served as any other configuration; there is no second way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bridges.config import Config, interpret
from bridges.driver_attributes import NBD_PORT
from bridges.scst_conf import Location, Statement
from bridges.statements import Builder

# What errors name as the file; they have no line worth telling.
COMMAND_LINE = "command line"
DEVICE = "disk0"
DEFAULT_LISTEN = f"127.0.0.1:{NBD_PORT}"

_build = Builder(Location(COMMAND_LINE, 1))
# As nbdkit and qemu-nbd have it: the file's holes are the disk's.
_DEFAULTS = {"thin_provisioned": "1"}


@dataclass(frozen=True, slots=True)
class NbdOptions:
    """How the one disk is served; the words are those of the configuration."""

    listens: tuple[str, ...] = (DEFAULT_LISTEN,)
    export: str = DEVICE
    tls: str = "off"
    tls_certificates: str | None = None
    verifies_peer: bool = False


def one_disk(
    file: Path, attributes: Iterable[str], options: NbdOptions, *, is_read_only: bool = False
) -> Config:
    """Make the configuration; ``attributes`` are NAME=VALUE. Raises ConfigError and ValueError."""
    given = [_pair(word) for word in attributes]
    if is_read_only:
        given.append(("read_only", "1"))
    names = {name for name, _ in given}
    given += [(name, value) for name, value in _DEFAULTS.items() if name not in names]
    device = _build.section(
        ("DEVICE", DEVICE),
        # Not resolved: a symbolic link may be what the user goes by.
        _build.line("filename", str(file.absolute())),
        *(_build.line(name, value) for name, value in given),
    )
    driver = _build.driver("nbd", options.export, DEVICE, *_attributes(options))
    return interpret((_build.section(("HANDLER", "vdisk_fileio"), device), driver))


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise ValueError(f"'{word}': expected ATTRIBUTE=VALUE")
    return name, value


def _attributes(options: NbdOptions) -> Iterable[Statement]:
    tls = _build.line("tls", options.tls)
    for word in options.listens:
        yield _build.section(("listen", word), tls)
    if options.tls_certificates is not None:
        yield _build.line("tls_certificates", str(Path(options.tls_certificates).absolute()))
    if options.verifies_peer:
        yield _build.line("tls_verify_peer", "1")
