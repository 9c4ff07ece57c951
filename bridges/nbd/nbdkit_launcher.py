# SPDX-License-Identifier: GPL-2.0-or-later
"""How to start nbdkit with the plugin: command line, environment, and help.

A Python plugin cannot tell nbdkit which parameter a bare word is (magic_config_key), nor what its
parameters are (config_help). So both are done here, before nbdkit starts.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import bridges
from scsi_backend.handlers.attributes import FileioAttributes

PLUGIN = Path(__file__).with_name("nbdkit_plugin.py")

# What nbdkit takes for the key of a parameter; other words are bare.
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*=")

_USAGE: Final = "Become nbdkit with the plugin: NBDKIT-OPTIONS -- PARAMETERS."
_FILE: Final = "Parameters of a disk in a file; a bare word DISK is file=DISK:"
_SOCKET: Final = "Parameters of a LUN of the daemon:"
_NBDKIT: Final = (
    "Parameters of nbdkit's filters go among them. Without -- all words are nbdkit's options, such"
    " as --dump-plugin. nbdkit's own help: nbdkit --help, man nbdkit."
)
_EXAMPLE: Final = "Example: scst-bridge nbdkit -f -U nbd.sock -- disk.img thin_provisioned=1"
_SIGTERM: Final = (
    "At SIGTERM nbdkit may wait until every client has left; who stops it has to send SIGKILL after"
    " a time of grace."
)
_LUN_PARAMETERS: Final = (
    ("socket=PATH", "the daemon's local socket"),
    ("device=NAME", "a target or device; without it, the client's export"),
    ("", "names one, or LUN N of a target as NAME/N"),
)


def help_text() -> str:
    """What ``scst-bridge nbdkit --help`` says."""
    attributes = [
        (f"{name}=", field.description or "")
        for name, field in FileioAttributes.model_fields.items()
        if name != "filename"
    ]
    file = [("file=DISK", "path of the file or block device"), *attributes]
    tables = (_FILE, _table(file), _SOCKET, _table(_LUN_PARAMETERS))
    return "\n\n".join((_USAGE, *tables, _NBDKIT, _EXAMPLE, _SIGTERM))


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(word) for word, _ in rows)
    # What is behind this mark is printed line by line, as it stands.
    return "\b\n" + "\n".join(f"{word:{width}}  {text}" for word, text in rows)


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return nbdkit's command line for ``[nbdkit options] -- [parameters]``.

    Without ``--`` all words are nbdkit's options (as in ``--version`` or ``--dump-config``). The
    first parameter that is a bare word is the file.
    """
    position = arguments.index("--") if "--" in arguments else len(arguments)
    options, parameters = arguments[:position], list(arguments[position + 1 :])
    for number, word in enumerate(parameters):
        if not _KEY.match(word):
            parameters[number] = f"file={word}"
            break
    return ["nbdkit", *options, "python", str(PLUGIN), *parameters]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` with PYTHONPATH leading to this package and to what it needs.

    nbdkit embeds the interpreter without the virtual environment that this program runs in.
    """
    package = Path(bridges.__file__).resolve().parent.parent
    paths = [str(package), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if base.get("PYTHONPATH"):
        paths.append(base["PYTHONPATH"])
    return {**base, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
