# SPDX-License-Identifier: GPL-2.0-or-later
"""A configuration to be edited in tests, and what an edit has done to its text."""

from __future__ import annotations

from difflib import ndiff

from bridges.config import interpret
from bridges.config_edit_tree import Statements
from bridges.scst_conf import parse, unparse

TEXT = """\
HANDLER vdisk_nullio {
    DEVICE d
    DEVICE e {
        size_mb 16
    }
    DEVICE big {
        blocksize 4096
    }
    DEVICE spare
}
TARGET_DRIVER nbd {
    listen h
    TARGET disk0 {
        enabled 1
        LUN 0 d
        LUN 07 e {
            read_only 1
        }
        GROUP db {
            LUN 0 e
            INITIATOR 10.0.0.0/8
            INITIATOR host?-*
        }
        GROUP web {
            INITIATOR 192.0.2.1
        }
    }
    TARGET twin {
    }
}
TARGET_DRIVER aoe {
    interface eth0
    TARGET e1.1 {
        LUN 0 d
        allow 02:00:00:00:00:01
        allow 02:00:00:00:00:02
    }
}
TARGET_DRIVER scst_local {
    socket /s
    TARGET twin {
        rel_tgt_id 9
    }
    TARGET last {
    }
}
DEVICE_GROUP g {
    DEVICE big
    TARGET_GROUP here {
        group_id 1
        state nonoptimized
        TARGET e1.1
    }
    TARGET_GROUP there {
        group_id 2
        TARGET far {
            rel_tgt_id 5
        }
    }
}
"""
# The lines of some of its statements, for messages.
LINES = {line.strip(): number for number, line in enumerate(TEXT.splitlines(), start=1)}


def tree() -> Statements:
    """The configuration's statements."""
    return parse(TEXT, "scst.conf")


def changes(after: Statements, before: Statements | None = None) -> list[str]:
    """The lines that are gone, and those that are new; what there is now can be used."""
    interpret(after)
    text = unparse(after)
    assert parse(text, "again") == after
    lines = unparse(tree() if before is None else before).splitlines()
    found = ndiff(lines, text.splitlines())
    told = [f"{line[0]} {line[1:].strip()}" for line in found if line[0] in "+-"]
    # Which of several closing braces is the new one says nothing.
    return sorted((line for line in told if line[2:] != "}"), key=lambda line: line[0] == "+")
