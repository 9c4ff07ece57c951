# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE on the network interfaces of this host: which there are, and which targets each leads to.

Interfaces are named, or patterns stand for all that match, now or later. A target that is reached
through several keeps one order of writes, and one set of sessions, for all of them. Targets come
and go at run time, while others are served.

Source: AoEr11 2; netdevice(7).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from bridges.aoe.address import AddressMap, parse_address
from bridges.aoe.link import Link, drain, link_events, read_link
from bridges.aoe.packet_socket import PacketSocket
from bridges.aoe.port import STOP_TIMEOUT_S, PacketPort
from bridges.aoe.ring_port import RingPort
from bridges.aoe.socket_port import SocketPort
from bridges.aoe.target import AoeTarget
from bridges.aoe.wire import ETHERNET_HEADER_BYTES, HEADER_BYTES, parse_destination
from bridges.spin import Spinner

__all__ = ["AoeServer", "Export", "parse_address"]

_log = logging.getLogger(__name__)

_WILDCARDS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Export:
    """A target, and patterns for those of the server's interfaces that it is reached through."""

    target: AoeTarget
    interfaces: Sequence[str] = ("*",)


class _Place:
    """An interface that is served, and the targets that it leads to."""

    def __init__(self, index: int, targets: Sequence[AoeTarget]) -> None:
        self.index = index
        self.map = AddressMap({target.address: target for target in targets})
        self.port: PacketPort
        # Those that still have something to do.
        self.outgrown: list[PacketPort] = []

    def route(self, frame: memoryview, port: PacketPort) -> bool:
        """Hand a frame to whom it is for; tell whether its memory is kept."""
        if len(frame) < HEADER_BYTES:
            return False
        is_kept = False
        # Only writes are kept, and those are for one target alone.
        for target in self.map.matching(*parse_destination(frame)):
            is_kept |= target.receive(frame, port)
        return is_kept

    def announce(self) -> None:
        """Broadcast that the targets are here, so that clients look at them again."""
        for target in self.map.targets:
            target.announce(self.port)


class AoeServer:
    """Owns the ports, by interface name, and opens and closes them as interfaces come and go."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interfaces: Sequence[str],
        exports: Iterable[Export],
        spinner: Spinner,
        *,
        wants_ring: bool = True,
    ) -> None:
        self.interfaces = tuple(interfaces)
        self._loop = loop
        self._exports = list(exports)
        self._spinner = spinner
        self._wants_ring = wants_ring
        self._places: dict[str, _Place] = {}
        # Why interfaces that are wanted are not served, as it was last logged.
        self._refused: dict[str, str] = {}
        self._events: socket.socket | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        # Targets that are served no more, but have something under way.
        self._ending: list[AoeTarget] = []

    @property
    def targets(self) -> tuple[AoeTarget, ...]:
        """What is served."""
        return tuple(export.target for export in self._exports)

    @property
    def ports(self) -> Mapping[str, PacketPort]:
        """The interfaces that are served now."""
        return MappingProxyType({name: place.port for name, place in self._places.items()})

    def start(self) -> None:
        """Begin to serve and announce the targets.

        Raises OSError, with the interface's name, for one that is named and cannot be served; the
        targets have ended then.
        """
        self._events = link_events()
        try:
            present = self._present()
            for name in self.interfaces:
                if not _WILDCARDS & set(name):
                    if name not in present:
                        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
                    self._open(name, present[name])
            self._look()
        except BaseException:
            self._abandon_all()
            raise
        for pattern in self.interfaces:
            if not any(fnmatchcase(name, pattern) for name in self._places):
                _log.warning("interface %s: none so far", pattern)
        self._loop.add_reader(self._events, self._on_link_event)

    async def stop(self) -> None:
        """Stop receiving, wait until commands under way have been replied to, and close.

        The targets end, and with them what they keep reserved.
        """
        if self._events is not None:
            self._loop.remove_reader(self._events)
            self._events.close()
            self._events = None
        ports = [place.port for place in self._places.values()]
        targets = (*self.targets, *self._ending)
        await asyncio.gather(*self._leaving, *map(self._leave, ports), *map(self._end, targets))
        self._places.clear()

    def look_at_sizes(self) -> None:
        """Have the targets announce new capacities."""
        for target in self.targets:
            target.look_at_size()

    def add_export(self, export: Export) -> None:
        """Serve one more target, and announce it; raises ValueError if its address is taken.

        Where another had the address, it begins when that has ended: what is still being written
        must not undo newer writes, nor come after a reservation.
        """
        target = export.target
        if any(target.address == other.address for other in self.targets):
            raise ValueError(f"{target.address} is served already")
        self._exports.append(export)
        self._begin(export)

    def _begin(self, export: Export) -> None:
        target = export.target
        if self._events is None or not self._may_begin(target):
            return
        for name, place in self._places.items():
            if _leads_to(name, export):
                place.map.add(target.address, target)
                for port in (place.port, *place.outgrown):
                    target.attach(port)
        # Some may have led nowhere so far.
        self._look()

    def remove_export(self, target: AoeTarget) -> Coroutine[Any, Any, None]:
        """Serve a target no more: nothing is heard of it from now on.

        What is returned ends when everything under way to it has been replied to. Others are served
        meanwhile.
        """
        self._exports = [export for export in self._exports if export.target is not target]
        self._ending.append(target)
        empty = []
        for name, place in tuple(self._places.items()):
            if target in place.map.targets:
                place.map.remove(target.address)
                place.port.forget_flows()
                if not place.map.targets:
                    empty.append(self._places.pop(name).port)
        return self._end_with(target, empty)

    async def _end_with(self, target: AoeTarget, ports: Iterable[PacketPort]) -> None:
        await self._end(target)
        await asyncio.gather(*map(self._leave, ports))

    async def _end(self, target: AoeTarget) -> None:
        ended = asyncio.Event()
        target.end(partial(self._ended, target, ended))
        try:
            await asyncio.wait_for(ended.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            _log.warning("target %s: ended with commands under way", target.address)
            target.let_go()

    def _ended(self, target: AoeTarget, ended: asyncio.Event) -> None:
        ended.set()
        if target not in self._ending:
            return
        self._ending.remove(target)
        for export in self._exports:
            if export.target.address == target.address:
                self._begin(export)

    def _may_begin(self, target: AoeTarget) -> bool:
        return all(target.address != former.address for former in self._ending)

    def _abandon_all(self) -> None:
        assert self._events is not None, "start has opened it"
        for place in self._places.values():
            self._abandon(place.port)
        self._places.clear()
        self._events.close()
        self._events = None
        for target in self.targets:
            target.end(_nothing)

    def _present(self) -> dict[str, int]:
        """The indices of the interfaces that there are and that are wanted, by name."""
        return {
            name: index
            for index, name in socket.if_nameindex()
            if any(fnmatchcase(name, pattern) for pattern in self.interfaces)
        }

    def _on_link_event(self) -> None:
        """Some interface has changed; look whether it was one of ours."""
        assert self._events is not None, "the reader is removed before it is closed"
        self._loop.remove_reader(self._events)
        drain(self._events)
        # uvloop does not watch a socket any more once it has had an error (ENOBUFS here).
        self._loop.add_reader(self._events, self._on_link_event)
        self._look()

    def _look(self) -> None:
        present = self._present()
        for name, place in tuple(self._places.items()):
            # One that was deleted and made again may have the same index.
            if present.get(name) != place.index or not place.port.is_bound:
                _log.warning("%s: the interface is gone", name)
                self._abandon(self._places.pop(name).port)
        for name in self._refused.keys() - present.keys():
            del self._refused[name]
        for name, index in present.items():
            try:
                if name in self._places:
                    self._take_link(name, read_link(name))
                else:
                    self._open(name, index)
            except OSError as error:
                self._log_refusal(name, error)

    def _log_refusal(self, name: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        if self._refused.get(name) == reason:
            return
        self._refused[name] = reason
        # A pattern may match interfaces that nobody means, such as lo.
        level = logging.WARNING if name in self.interfaces else logging.INFO
        _log.log(level, "interface %s is not served: %s", name, reason)

    def _open(self, name: str, index: int) -> None:
        """Serve an interface and announce its targets; raises OSError with its name."""
        targets = [
            export.target
            for export in self._exports
            if _leads_to(name, export) and self._may_begin(export.target)
        ]
        if not targets or name in self._places:
            return
        place = _Place(index, targets)
        try:
            place.port = self._open_port(name, read_link(name), place)
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from error
        self._places[name] = place
        self._refused.pop(name, None)
        for target in targets:
            target.attach(place.port)
        place.port.start()

    def _open_port(self, name: str, link: Link, place: _Place) -> PacketPort:
        packets = PacketSocket.open(link.frame_bytes, wants_ring=self._wants_ring)
        port: PacketPort
        if packets.rx is None:
            _log.warning("%s: no ring: frames are received and sent one by one", name)
            port = SocketPort(self._loop, name, link, packets, place.route)
        else:
            port = RingPort(self._loop, name, link, packets, place.route, place.map, self._spinner)
        port.open()
        _log.info(
            "%s: %s, MTU %d, %d sectors in a frame, %d buffers",
            name,
            link.mac.hex(":"),
            link.mtu,
            port.sector_count,
            port.buffer_count,
        )
        return port

    def _take_link(self, name: str, link: Link) -> None:
        place = self._places[name]
        if link == place.port.link:
            return
        if link.frame_bytes > place.port.capacity_bytes:
            self._make_larger(name, place, link)
            return
        place.port.take_link(link)
        if link.is_running:
            place.announce()

    def _make_larger(self, name: str, place: _Place, link: Link) -> None:
        """Replace a port whose memory is too small for the frames that may come now.

        Some frames may come by both, which is as harmless as any that come twice: the new port
        handles none before the old one has begun all that came by it.
        """
        outgrown = place.port
        try:
            place.port = self._open_port(name, link, place)
        except OSError:
            # It goes on with frames as long as before.
            mtu = outgrown.capacity_bytes - ETHERNET_HEADER_BYTES
            outgrown.take_link(link._replace(mtu=mtu))
            raise
        for target in place.map.targets:
            target.attach(place.port)
        place.outgrown.append(outgrown)
        task = self._loop.create_task(self._change_over(place, outgrown, place.port))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _change_over(self, place: _Place, outgrown: PacketPort, port: PacketPort) -> None:
        await outgrown.finish()
        port.start()
        place.outgrown.remove(outgrown)
        await self._leave(outgrown)

    async def _leave(self, port: PacketPort) -> None:
        await port.close()
        self._detach(port)

    def _abandon(self, port: PacketPort) -> None:
        port.abandon()
        self._detach(port)

    def _detach(self, port: PacketPort) -> None:
        for target in self.targets:
            target.detach(port)


def _nothing() -> None:
    """Nothing was under way."""


def _leads_to(interface: str, export: Export) -> bool:
    return any(fnmatchcase(interface, pattern) for pattern in export.interfaces)
