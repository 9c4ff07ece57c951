# SPDX-License-Identifier: GPL-2.0-or-later
"""Verbs with arguments of which many, but not all, suit the configuration of ``edit_example``."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from bridges.config_edit import VERBS

# disk0 has the groups.
TARGETS = (*["disk0"] * 8, "twin", "e1.1", "last", "new", "e1.2", "far")
GROUPS = ("db", "db", "web", "web", "all")
DEVICES = ("d", "e", "big", "spare", "new")
PATTERNS = ("10.0.0.0/8", "host?-*", "192.0.2.1", "*", "!a b", "10.0.0.1/8")
ATTRIBUTES = {
    "enabled": ("0", "1", "on"),
    "rel_tgt_id": ("1", "2", "9", "70", "0"),
    "durable": ("0", "1"),
    "allow": ("02:00:00:00:00:01", "02:00:00:00:00:03", "eth0"),
    "LUN": ("0",),
}
# What needs quotes or escapes, or can be in no file.
NOISE = st.text('a!*#"\\{}= \té\n\0', max_size=3)
VALUES = {
    "target": st.sampled_from(TARGETS),
    "driver": st.sampled_from(("nbd", "aoe", "scst_local", "iscsi")),
    "group": st.sampled_from(GROUPS),
    "to": st.sampled_from(GROUPS),
    "initiator": st.sampled_from(PATTERNS) | NOISE,
    "device": st.sampled_from(DEVICES) | NOISE,
    "handler": st.sampled_from(("vdisk_nullio", "vdisk_fileio")),
    "attributes": st.sampled_from(({}, {"filename": "/f #1"}, {"blocksize": "4096"}, {"x": "1"})),
    "lun": st.sampled_from((0, 1, 7, 16383, 16384, -1)),
    "read_only": st.booleans(),
    "device_group": st.sampled_from(("g", "h")),
    "target_group": st.sampled_from(("here", "there")),
    "state": st.sampled_from(("active", "standby", "up")),
    "preferred": st.booleans(),
}


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A verb and arguments that it may have."""
    verb = draw(st.sampled_from(sorted(VERBS)))
    arguments: dict[str, Any] = {}
    for name, field in VERBS[verb].arguments.model_fields.items():
        if name in ("attribute", "value"):
            continue
        if field.is_required() or draw(st.sampled_from((False, False, True))):
            arguments[name] = draw(VALUES[name])
    if "attribute" in VERBS[verb].arguments.model_fields:
        attribute = draw(st.sampled_from(sorted(ATTRIBUTES)))
        arguments["attribute"] = attribute
        arguments["value"] = draw(st.sampled_from(ATTRIBUTES[attribute]))
    return verb, arguments
