# SPDX-License-Identifier: GPL-2.0-or-later
"""The initiators behind the clients of front-ends: who shares a session with whom.

Connections of one initiator to one target share a session, so that a reservation or a unit
attention belongs to the initiator and not to one of its connections. An initiator that comes from
several hosts has a session from each, because the hosts may belong to different groups. A session
ends with the last client that uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridges.lun_client import Clock, LunClient
from bridges.recovery import ScsiError
from scsi_backend.target.initiator_pattern import Host
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target, TargetError

# A LUN that leads to a device with other blocks each time is given up after so many clients.
_MAX_CLIENTS = 4


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


@dataclass(frozen=True, slots=True)
class _Key:
    """Whose session it is, and with whom: another target may have that one's name by now."""

    target: Target
    initiator_name: str
    host: Host | None


class InitiatorPool:
    """Sessions by target, and by the initiator's name and host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shared: dict[_Key, _Shared] = {}

    def acquire(
        self,
        target: Target,
        initiator_name: str,
        lun: int,
        done: Callable[[Lease | ScsiError | TargetError], None],
        host: Host | None = None,
    ) -> None:
        """Log in, unless that initiator is already, and look at the LUN.

        ``done`` gets a lease on it; TargetError where the target is disabled or the initiator has
        no such LUN, ScsiError where the LUN cannot be read. ``host`` is where the initiator comes
        from, if from a network.
        """
        key = _Key(target, initiator_name, host)
        shared = self._shared.get(key)
        if shared is None:
            try:
                shared = _Shared(target.open_session(initiator_name, host))
            except TargetError as error:
                done(error)
                return
            self._shared[key] = shared
        shared.users += 1

        def opened(outcome: LunClient | ScsiError | TargetError) -> None:
            if isinstance(outcome, LunClient):
                done(Lease(outcome, lambda: self._release(key, shared)))
            else:
                self._release(key, shared)
                done(outcome)

        self._open(target, shared, lun, opened)

    def _open(
        self,
        target: Target,
        shared: _Shared,
        lun: int,
        done: Callable[[LunClient | ScsiError | TargetError], None],
        clients_left: int = _MAX_CLIENTS,
    ) -> None:
        session = shared.session
        if lun not in session.nexuses:
            who = session.initiator_name
            done(TargetError(f"target {target.name} has no LUN {lun} for initiator {who}"))
            return
        client = shared.clients.get(lun)
        if client is None or client.is_barred:
            # Connections that had one before keep it, to fail.
            client = shared.clients[lun] = LunClient(session, lun, self._clock)

        def opened(failure: ScsiError | None) -> None:
            if failure is not None and client.is_barred and clients_left:
                self._open(target, shared, lun, done, clients_left - 1)
            else:
                done(failure or client)

        client.open(opened)

    def _release(self, key: _Key, shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0:
            del self._shared[key]
            shared.session.close()
