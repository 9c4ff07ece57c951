# SPDX-License-Identifier: GPL-2.0-or-later
"""The initiators behind the clients of front-ends: who shares a session with whom.

Connections of one initiator to one target share a session, so that a reservation or a unit
attention belongs to the initiator and not to one of its connections. A session ends with the last
client that uses it.
"""

from __future__ import annotations

from collections.abc import Callable

from bridges.lun_client import Clock, LunClient
from bridges.recovery import ScsiError
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target, TargetError


class _Shared:
    """A session, its LUN clients, and how many users it has."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.clients: dict[int, LunClient] = {}
        self.users = 0


class Lease:
    """One user's hold on a LUN; to be closed once."""

    def __init__(self, client: LunClient, release: Callable[[], None]) -> None:
        self.client = client
        self._release = release

    def close(self) -> None:
        """Let go of the LUN."""
        self._release()


class InitiatorPool:
    """Sessions by target and initiator name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shared: dict[tuple[str, str, str], _Shared] = {}

    def acquire(
        self,
        target: Target,
        initiator_name: str,
        lun: int,
        done: Callable[[Lease | ScsiError | TargetError], None],
    ) -> None:
        """Log in, unless that initiator is already, and look at the LUN.

        ``done`` gets a lease on it; TargetError where the target is disabled or has no such LUN,
        ScsiError where the LUN cannot be read.
        """
        key = (target.driver, target.name, initiator_name)
        shared = self._shared.get(key)
        if shared is None:
            try:
                shared = _Shared(target.open_session(initiator_name))
            except TargetError as error:
                done(error)
                return
            self._shared[key] = shared
        shared.users += 1
        nexus = shared.session.nexuses.get(lun)
        if nexus is None:
            self._release(key, shared)
            done(TargetError(f"target {target.name} has no LUN {lun}"))
            return
        client = shared.clients.setdefault(lun, LunClient(nexus, self._clock))

        def opened(failure: ScsiError | None) -> None:
            if failure is not None:
                self._release(key, shared)
                done(failure)
            else:
                done(Lease(client, lambda: self._release(key, shared)))

        client.open(opened)

    def _release(self, key: tuple[str, str, str], shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0:
            del self._shared[key]
            shared.session.close()
