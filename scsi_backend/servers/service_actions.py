# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of a dispatch table for opcodes that have several commands, by service action."""

from __future__ import annotations

from types import MappingProxyType

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.t10 import cdb as cdb_fields
from scsi_backend.t10.opcodes import service_action


def service_action_dispatch(by_action: dict[int, Execute]) -> Execute:
    """Return what executes the command that the SERVICE ACTION field says."""
    actions = MappingProxyType(by_action)

    def execute(command: Command) -> None:
        function = actions.get(service_action(command.cdb))
        if function is None:
            raise CheckCondition(cdb_fields.service_action_field(command.cdb).invalid())
        function(command)

    return execute


def service_actions_instead(
    actions: frozenset[int | None], instead: Execute, otherwise: Execute
) -> Execute:
    """Return what executes these service actions ``instead``, and all others as ``otherwise``."""

    def execute(command: Command) -> None:
        if service_action(command.cdb) in actions:
            instead(command)
        else:
            otherwise(command)

    return execute
