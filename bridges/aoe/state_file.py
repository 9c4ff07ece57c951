# SPDX-License-Identifier: GPL-2.0-or-later
"""The file in which the state of a target outlives the daemon: JSON, one file for each target.

A state that was not stored durably is taken back, since the change to it is refused. A file that
cannot be understood is not overwritten, since it says who may use the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bridges.aoe.acl import format_mac, parse_mac
from bridges.aoe.address import Address
from bridges.aoe.state import Save, TargetState
from bridges.aoe.wire import MAX_CONFIG_STRING_BYTES, MAX_LIST_ENTRIES
from scsi_backend.io.durable_file import DurableFile
from scsi_backend.io.engine import Engine

_VERSION: Final = 1
_KEYS: Final = frozenset({"version", "config_string", "mask_list", "reserve_list"})


class StateFileError(Exception):
    """A state file, which the message names, cannot be used."""


class StateFile:
    """The file of one target in a folder."""

    def __init__(self, folder: Path, address: Address) -> None:
        self._file = DurableFile(folder / f"{address}.json")
        self.path = self._file.path

    def load(self) -> TargetState:
        """Return the state, which is empty without a file; raises StateFileError.

        The folder is made if there is none.
        """
        try:
            self._file.make_folder()
        except OSError as error:
            where = error.filename or self.path.parent
            raise StateFileError(f"{where}: {error.strerror}") from error
        try:
            data = self._file.read()
        except OSError as error:
            raise StateFileError(f"{self.path}: {error.strerror}") from error
        if data is None:
            return TargetState()
        try:
            return _parse(json.loads(data.decode("ascii")))
        except UnicodeDecodeError as error:
            raise StateFileError(f"{self.path}: expected ASCII: {error.reason}") from error
        except (ValueError, RecursionError) as error:
            raise StateFileError(f"{self.path}: {error}") from error

    def store(self, state: TargetState) -> None:
        """Replace the file, durably; raises OSError. May block for as long as the disk likes."""
        self._file.replace(json.dumps(_serialize(state), indent=1).encode("ascii") + b"\n")


def in_background(file: StateFile, engine: Engine) -> Save:
    """Return a way to store states that keeps nobody waiting but who asked for it."""

    def save(state: TargetState, done: Callable[[OSError | None], None]) -> None:
        def store() -> int:
            file.store(state)
            return 0

        def finish(result: int) -> None:
            done(OSError(-result, os.strerror(-result), str(file.path)) if result < 0 else None)

        engine.call(store, finish)

    return save


def _serialize(state: TargetState) -> dict[str, object]:
    return {
        "version": _VERSION,
        # Any bytes are a config string.
        "config_string": state.config_string.hex(),
        "mask_list": [format_mac(mac) for mac in state.mask_list],
        "reserve_list": [format_mac(mac) for mac in state.reserve_list],
    }


def _parse(document: Any) -> TargetState:
    """Raises ValueError."""
    if not isinstance(document, dict) or set(document) != _KEYS:
        raise ValueError(f"expected an object with {', '.join(sorted(_KEYS))}")
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r}: expected {_VERSION}")
    return TargetState(
        config_string=_config_string(document["config_string"]),
        mask_list=_macs("mask_list", document["mask_list"]),
        reserve_list=_macs("reserve_list", document["reserve_list"]),
    )


def _config_string(value: object) -> bytes:
    try:
        string = bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        string = None
    if string is None or len(string) > MAX_CONFIG_STRING_BYTES:
        raise ValueError(f"config_string: expected at most {MAX_CONFIG_STRING_BYTES} bytes in hex")
    return string


def _macs(name: str, value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_LIST_ENTRIES:
        raise ValueError(f"{name}: expected a list of at most {MAX_LIST_ENTRIES} MAC addresses")
    try:
        return tuple(parse_mac(text if isinstance(text, str) else "") for text in value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
