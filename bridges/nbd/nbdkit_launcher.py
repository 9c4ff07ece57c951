# SPDX-License-Identifier: GPL-2.0-or-later
"""How to start nbdkit with the plugin: its command line, and an environment where it finds us."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

import bridges

PLUGIN = Path(__file__).with_name("nbdkit_plugin.py")


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return nbdkit's command line for ``[nbdkit options] -- [plugin parameters]``.

    Without ``--`` all words are nbdkit's options (as in ``--version`` or ``--dump-config``).
    """
    position = arguments.index("--") if "--" in arguments else len(arguments)
    options, parameters = arguments[:position], arguments[position + 1 :]
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
