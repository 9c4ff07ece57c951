# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain model of SPC-4 5.13, to compare devices with, and commands that suit its state.

It knows nexuses as names and ports, and changes itself in place.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar

from scsi_backend.t10.status import Status
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend.initiator import Outcome
from tests.scsi_backend.reserving import (
    ABORT,
    CLEAR,
    IGNORE,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    Sends,
    full_status,
    holder,
    keys,
    persists,
    pr_out,
)

GOOD, CONFLICT, ABORTED = "good", "conflict", "aborted"
PREEMPTED, RELEASED, REMOVED = "06/2A/03", "06/2A/04", "06/2A/05"
WRONG_TYPE, WRONG_LIST, WRONG_RELEASE = "05/24/00", "05/26/00", "05/26/04"
KEYS = (1, 2, 3)
TYPES = (1, 3, 5, 6, 7, 8)
_WORDS: dict[int, str] = {
    Status.GOOD: GOOD,
    Status.RESERVATION_CONFLICT: CONFLICT,
    Status.TASK_ABORTED: ABORTED,
}
# An initiator's name and a relative target port.
Nexus = tuple[str, int]


@dataclass(frozen=True)
class Request:
    """A PERSISTENT RESERVE OUT command of a nexus; what its action has no use for is ignored.

    ``others`` are initiators that a REGISTER brings along (SPEC_I_PT).
    """

    who: Nexus
    action: int
    key: int
    action_key: int
    type: int
    heir: Nexus
    unregisters: bool
    persists: bool = False
    on_all_ports: bool = False
    others: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[bytes, bytes]:
        """The CDB and its parameter list."""
        data = self._moving() if self.action == MOVE else self._plain()
        return pr_out(self.action, self.type, len(data)), data

    def _moving(self) -> bytes:
        name, port = self.heir
        heir = transport_id(name)
        flags = 2 * self.unregisters | self.persists
        form = ">QQxBHI"
        return struct.pack(form, self.key, self.action_key, flags, port, len(heir)) + heir

    def _plain(self) -> bytes:
        if self.action not in (REGISTER, IGNORE):
            return struct.pack(">QQ8x", self.key, self.action_key)
        flags = 8 * bool(self.others) | 4 * self.on_all_ports | self.persists
        data = struct.pack(">QQ4xB3x", self.key, self.action_key, flags)
        if self.others:
            names = b"".join(map(transport_id, self.others))
            data += struct.pack(">I", len(names)) + names
        return data


@dataclass(frozen=True)
class View:
    """All that PERSISTENT RESERVE IN tells; with each key, whether it is a holder's."""

    generation: int
    registrants: Mapping[tuple[bytes, int], tuple[int, bool]]
    reservation: tuple[int, int] | None
    persists: bool


def view(initiator: Sends) -> View:
    """Ask a device, whose answers must fit each other."""
    generation, found = keys(initiator)
    registrants = full_status(initiator)
    assert sorted(found) == sorted(key for key, _ in registrants.values())
    return View(generation, registrants, holder(initiator), persists(initiator))


@dataclass
class Model:
    """What a logical unit knows; ``holder`` is nobody where all registrants hold it."""

    ports: tuple[int, ...]
    generation: int = 0
    keys: dict[Nexus, int] = field(default_factory=dict)
    type: int = 0
    holder: Nexus | None = None
    persists: bool = False
    heard: defaultdict[Nexus, list[str]] = field(default_factory=lambda: defaultdict(list))

    ALL: ClassVar[tuple[int, ...]] = (7, 8)
    SHARED: ClassVar[tuple[int, ...]] = (5, 6, 7, 8)

    @property
    def view(self) -> View:
        """What it would tell."""
        held = 0 if self.holder is None else self.keys[self.holder]
        return View(
            self.generation,
            {
                (transport_id(who[0]), who[1]): (key, self.holds(who))
                for who, key in self.keys.items()
            },
            (held, self.type) if self.type else None,
            self.persists,
        )

    def restart(self) -> None:
        """Lose power."""
        self.generation = 0
        if not self.persists:
            self.keys.clear()
            self.end()
        self.persists = bool(self.keys)
        self.heard.clear()

    def copy(self) -> Model:
        """Another of the same state."""
        heard = defaultdict(list, {who: [*told] for who, told in self.heard.items()})
        return replace(self, keys=dict(self.keys), heard=heard)

    def after(self, *requests: Request) -> Model:
        """What a restart leaves of it, once these commands are performed."""
        copy = self.copy()
        for request in requests:
            copy.perform(request)
        copy.restart()
        return copy

    def holds(self, who: Nexus) -> bool:
        return who in self.keys if self.type in self.ALL else self.holder == who

    def tell(self, what: str, *but: Nexus) -> None:
        for who in self.keys:
            if who not in but:
                self.heard[who].append(what)

    def end(self) -> None:
        self.type, self.holder = 0, None

    def unregister(self, *whom: Nexus) -> None:
        was_held = bool(self.type) and any(map(self.holds, whom))
        for who in whom:
            del self.keys[who]
        if was_held and (self.type not in self.ALL or not self.keys):
            if self.type in self.SHARED:
                self.tell(RELEASED)
            self.end()

    def perform(self, request: Request) -> str:
        """Change as the command says; return how it ends."""
        who, action, new = request.who, request.action, request.action_key
        if action in (REGISTER, IGNORE):
            return self.register(request)
        if self.keys.get(who) != request.key:
            return CONFLICT
        if action == RESERVE:
            return self.reserve(who, request.type)
        if action == RELEASE:
            return self.release(who, request.type)
        if action == CLEAR:
            result = self.clear(who)
        elif action == MOVE:
            result = self.move(request)
        else:
            result = self.preempt(who, new, request.type)
        self.generation += result == GOOD
        return result

    def register(self, request: Request) -> str:
        who, new = request.who, request.action_key
        along = self.on_ports(who[0], request)
        if request.action == REGISTER:
            held = self.keys.get(who, 0)
            named = [each for name in request.others for each in self.on_ports(name, request)]
            if request.key != held:
                return CONFLICT
            if named and (held or any(each in self.keys for each in named)):
                return WRONG_LIST
            along |= set(named)
            if any(self.keys.get(each, held) not in (held, new) for each in along):
                return CONFLICT
        elif request.others:
            return WRONG_LIST
        if new:
            self.keys |= dict.fromkeys(along, new)
        elif gone := along & self.keys.keys():
            self.unregister(*gone)
        else:
            return GOOD
        self.persists = request.persists
        self.generation += 1
        return GOOD

    def on_ports(self, name: str, request: Request) -> set[Nexus]:
        ports = self.ports if request.on_all_ports else (request.who[1],)
        return {(name, port) for port in ports}

    def reserve(self, who: Nexus, kind: int) -> str:
        if self.type:
            return GOOD if self.holds(who) and self.type == kind else CONFLICT
        if kind not in TYPES:
            return WRONG_TYPE
        self.type, self.holder = kind, None if kind in self.ALL else who
        return GOOD

    def release(self, who: Nexus, kind: int) -> str:
        if self.type and self.holds(who):
            if self.type != kind:
                return WRONG_RELEASE
            if kind in self.SHARED:
                self.tell(RELEASED, who)
            self.end()
        return GOOD

    def clear(self, who: Nexus) -> str:
        self.tell(PREEMPTED, who)
        self.keys.clear()
        self.end()
        return GOOD

    def preempt(self, who: Nexus, victim: int, kind: int) -> str:
        matching = [each for each, key in self.keys.items() if key == victim]
        is_everybodys = self.type in self.ALL
        if is_everybodys and not victim:
            matching = list(self.keys)
        elif not victim:
            return WRONG_LIST
        if (is_everybodys and not victim) or self.holder in matching:
            return self.take_over(who, [each for each in matching if each != who], kind)
        if not self.type:
            # SCST's answer: nobody removes itself so.
            matching = [each for each in matching if each != who]
        for each in matching:
            if each != who:
                self.heard[each].append(REMOVED)
        self.unregister(*matching)
        return GOOD if matching else CONFLICT

    def take_over(self, who: Nexus, victims: Sequence[Nexus], kind: int) -> str:
        if kind not in TYPES:
            return WRONG_TYPE
        for each in victims:
            del self.keys[each]
            self.heard[each].append(REMOVED)
        if kind != self.type:
            self.tell(RELEASED, who)
        self.type, self.holder = kind, None if kind in self.ALL else who
        return GOOD

    def move(self, request: Request) -> str:
        if not self.type:
            return WRONG_TYPE
        if self.holder != request.who:
            return CONFLICT
        if not request.action_key or request.heir[0] == request.who[0]:
            return WRONG_LIST
        self.keys[request.heir] = request.action_key
        self.holder = request.heir
        if request.unregisters:
            del self.keys[request.who]
        self.persists = request.persists
        return GOOD


def ask(random: Random, model: Model, nexuses: Sequence[Nexus], heirs: Sequence[Nexus]) -> Request:
    """Something that is likely to be allowed, and less likely anything."""
    who = random.choice(nexuses)
    key = random.choice((0, *KEYS)) if random.random() < 0.1 else model.keys.get(who, 0)
    likely = model.type if model.type and random.random() < 0.7 else random.choice(TYPES)
    return Request(
        who,
        random.choice((REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE, MOVE, RESERVE)),
        key,
        random.choice((0, *KEYS, *KEYS)),
        random.choice((0, 4)) if random.random() < 0.1 else likely,
        random.choice(heirs),
        random.random() < 0.5,
    )


def text(outcome: Outcome) -> str:
    """How a command ended, in the model's words."""
    if outcome.status in _WORDS:
        return _WORDS[outcome.status]
    sense = outcome.sense
    assert sense is not None
    return f"{sense.key:02X}/{sense.code >> 8:02X}/{sense.code & 0xFF:02X}"
