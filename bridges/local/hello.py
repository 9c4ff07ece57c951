# SPDX-License-Identifier: GPL-2.0-or-later
"""The hello of the local bridge: a client says what it wants and is logged in, or is told why not.

Bytes in, bytes out; no socket. The wanted name is a target's or a device's. Commands are the
business of ``session``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from bridges.initiator_name import bounded, escape
from bridges.local import wire
from bridges.local.hello_wire import HelloReply, HelloRequest, HelloStatus
from bridges.local.wire import FrameError
from bridges.stream_session import PeerError
from scsi_backend.servers.logical_unit import MAX_TRANSFER_BYTES
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target, TargetError

_log = logging.getLogger(__name__)


class HelloError(Exception):
    """A hello that cannot be granted; carries the status of the reply."""

    def __init__(self, status: HelloStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def find_target(targets: Sequence[Target], name: str, initiator: str) -> tuple[Target, int]:
    """Return the target that an initiator named, and the LUN if it named a device.

    A target's name wins over a device's; a device is looked for where the initiator has LUNs, in
    the targets' order. The empty name is the only target where it has any. Raises HelloError.
    """
    open_to_it = [(target, luns) for target in targets if (luns := target.luns_of(initiator))]
    if not name:
        if len(open_to_it) == 1:
            return open_to_it[0][0], 0
        names = ", ".join(target.name for target, _ in open_to_it) or "none"
        raise HelloError(
            HelloStatus.NO_SUCH_TARGET,
            f"no target named; targets with LUNs for {initiator} are: {names}",
        )
    for target in targets:
        if target.name == name:
            return target, 0
    for target, luns in open_to_it:
        for lun, entry in sorted(luns.items()):
            if entry.unit.name == name:
                return target, lun
    raise HelloError(
        HelloStatus.NO_SUCH_TARGET, f"no target and no mapped device is named {name!r}"
    )


def initiator_name(user: str, label: str) -> str:
    """Name the initiator that a client is: ``local:uid=N``, with a label ``local:uid=N,LABEL``.

    ``user`` is what the kernel says. No label can make it another's, the comma being escaped.
    """
    return bounded(f"{user},{escape(label)}") if label else user


class Hello:
    """A connection until its client has logged in to a target.

    ``user`` is the beginning of its initiator's name. ``send`` takes bytes for the peer;
    ``opened`` is called once, after the reply, with the new session, what the client said, and the
    version of the protocol.
    """

    receive_limit_bytes = 0
    direct: memoryview | None = None
    open_requests = 0

    def __init__(
        self,
        targets: Callable[[], Sequence[Target]],
        user: str,
        send: Callable[[bytes], None],
        opened: Callable[[Session, HelloRequest, int], None],
    ) -> None:
        self._targets = targets
        self._user = user
        self._send = send
        self._opened = opened
        self.wants_close = False

    def receive(self, data: memoryview) -> int:
        """See ``stream.Session``."""
        try:
            parsed = HelloRequest.parse(data)
        except FrameError as error:
            self._send(HelloReply(HelloStatus.REFUSED, text=str(error)).serialize())
            raise PeerError(str(error)) from error
        if parsed is None:
            return 0
        request, length = parsed
        try:
            self._log_in(request)
        except HelloError as error:
            _log.info("%s: hello %r refused: %s", self._user, request.label, error)
            self._send(HelloReply(error.status, text=error.text).serialize())
            self.wants_close = True
        return length

    def _log_in(self, request: HelloRequest) -> None:
        version = min(request.highest_version, wire.SHARED_VERSION)
        if version < max(request.lowest_version, wire.VERSION):
            raise HelloError(
                HelloStatus.VERSION_NOT_SPOKEN,
                f"versions {request.lowest_version} to {request.highest_version}:"
                f" this server speaks {wire.VERSION} to {wire.SHARED_VERSION}",
            )
        name = initiator_name(self._user, request.label)
        target, lun = find_target(self._targets(), request.name, name)
        try:
            session = target.open_session(name)
        except TargetError as error:
            raise HelloError(HelloStatus.REFUSED, str(error)) from error
        reply = HelloReply(HelloStatus.OK, version, lun, MAX_TRANSFER_BYTES, name)
        self._send(reply.serialize())
        self._opened(session, request, version)

    def direct_received(self) -> None:
        """A hello is never received directly."""

    def closed(self) -> None:
        """The connection ended without a session."""
