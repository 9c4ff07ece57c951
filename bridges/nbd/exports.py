# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD exports: the LUNs that an initiator has at the nbd driver's targets, by name.

An export is named after its target for LUN 0, and ``TARGET/N`` for LUN N. The empty name, which
clients send that were given none, means the only target where there is but one. A target where an
initiator has no LUNs does not exist for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bridges.initiators import InitiatorPool, Lease
from bridges.lun import LunInfo
from bridges.nbd.offer import Export, ExportError
from bridges.nbd.wire import OptionReply
from bridges.recovery import ScsiError
from scsi_backend.target.backend import Backend
from scsi_backend.target.initiator_pattern import Host
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError

DRIVER = "nbd"
# proto.md: strings SHOULD NOT be longer than 256 bytes, which an unknown name may be by itself.
_QUOTED_CHARACTERS = 56


class LunExport:
    """An export that is open for one connection."""

    def __init__(self, name: str, description: str, target: Target, lease: Lease) -> None:
        self.name = name
        self.target = target
        self.description = description
        self.client = lease.client
        self._lease = lease

    @property
    def info(self) -> LunInfo:
        """See ``offer.Export``."""
        return self.client.info

    def close(self) -> None:
        """See ``offer.Export``."""
        self._lease.close()


class LunExports:
    """What one initiator can open; implements ``offer.Exports``.

    ``host`` is where it comes from, if from a network.
    """

    def __init__(
        self, backend: Backend, pool: InitiatorPool, initiator_name: str, host: Host | None = None
    ) -> None:
        self._backend = backend
        self._pool = pool
        self._initiator_name = initiator_name
        self._host = host

    def names(self) -> Iterator[tuple[str, str]]:
        """See ``offer.Exports``."""
        for target, luns in self._targets():
            for lun, entry in sorted(luns.items()):
                yield export_name(target, lun), _description(entry)

    def canonical_name(self, name: str) -> str | ExportError:
        """See ``offer.Exports``."""
        found = self._find(name)
        return found if isinstance(found, ExportError) else export_name(*found[:2])

    def open(self, name: str, done: Callable[[Export | ExportError], None]) -> None:
        """See ``offer.Exports``."""
        found = self._find(name)
        if isinstance(found, ExportError):
            done(found)
            return
        target, lun, entry = found
        description = _description(entry)

        def opened(outcome: Lease | ScsiError | TargetError) -> None:
            if isinstance(outcome, Lease):
                done(LunExport(export_name(target, lun), description, target, outcome))
            else:
                done(ExportError(OptionReply.ERR_UNKNOWN, str(outcome)))

        self._pool.acquire(target, self._initiator_name, lun, opened, self._host)

    def _targets(self) -> list[tuple[Target, Mapping[int, LunEntry]]]:
        """The targets that the initiator can log in to, and its LUNs there."""
        targets = self._backend.targets_of(DRIVER)
        found = ((each, each.luns_of(self._initiator_name, self._host)) for each in targets)
        return [(target, luns) for target, luns in found if luns]

    def _find(self, name: str) -> tuple[Target, int, LunEntry] | ExportError:
        targets = self._targets()
        wanted = targets[0][0].name if not name and len(targets) == 1 else name
        for target, luns in targets:
            for lun, entry in luns.items():
                if export_name(target, lun) == wanted:
                    return target, lun, entry
        quoted = name[:_QUOTED_CHARACTERS]
        return ExportError(OptionReply.ERR_UNKNOWN, f"no export named '{quoted}'")


def export_name(target: Target, lun: int) -> str:
    """The name under which a LUN is exported."""
    return target.name if lun == 0 else f"{target.name}/{lun}"


def _description(entry: LunEntry) -> str:
    """The device's name: all that LIST can tell of a LUN without asking it."""
    return entry.unit.name
