# SPDX-License-Identifier: GPL-2.0-or-later
"""Task attributes (SAM-5 8.6)."""

from __future__ import annotations

from enum import IntEnum


class TaskAttribute(IntEnum):
    """In what order a command runs among those of its task set.

    There is no ACA: NormACA is zero, and a CDB that asks for it (NACA) is refused.
    """

    SIMPLE = 0
    ORDERED = 1
    HEAD_OF_QUEUE = 2
