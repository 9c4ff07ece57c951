# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of PERSISTENT RESERVE OUT commands against a plain model of SPC-4 5.13.

The model knows names, not I_T nexuses, and changes itself in place; after each command it is
compared with all that PERSISTENT RESERVE IN tells, and with what each initiator hears.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import TargetPort
from scsi_backend.t10.status import Status
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome
from tests.scsi_backend.reserving import (
    ABORT,
    CLEAR,
    IGNORE,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    holder,
    keys,
    pr_in,
    pr_out,
    sign_in,
)

GOOD, CONFLICT = "good", "conflict"
PREEMPTED, RELEASED, REMOVED = "06/2A/03", "06/2A/04", "06/2A/05"
WRONG_TYPE, WRONG_LIST, WRONG_RELEASE = "05/24/00", "05/26/00", "05/26/04"
# Two initiators on one port, one of them on another port as well.
NAMES = {"a1": ("a", 1), "b1": ("b", 1), "a2": ("a", 2)}
KEYS = (1, 2, 3)
TYPES = (1, 3, 5, 6, 7, 8)


@dataclass(frozen=True)
class Request:
    who: str
    action: int
    key: int
    action_key: int
    type: int
    heir: str
    unregisters: bool


@dataclass
class Model:
    """What a logical unit knows; ``holder`` is nobody's name where all registrants hold it."""

    generation: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    type: int = 0
    holder: str = ""
    heard: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in NAMES})

    ALL: ClassVar[tuple[int, ...]] = (7, 8)
    SHARED: ClassVar[tuple[int, ...]] = (5, 6, 7, 8)

    def holds(self, who: str) -> bool:
        return who in self.keys if self.type in self.ALL else self.holder == who

    def tell(self, what: str, *but: str) -> None:
        for name in self.keys:
            if name not in but:
                self.heard[name].append(what)

    def end(self) -> None:
        self.type, self.holder = 0, ""

    def unregister(self, who: str) -> None:
        was_last = self.holds(who) and (self.type not in self.ALL or len(self.keys) == 1)
        del self.keys[who]
        if was_last:
            if self.type in self.SHARED:
                self.tell(RELEASED)
            self.end()

    def perform(self, request: Request) -> str:
        who, action, new = request.who, request.action, request.action_key
        if action in (REGISTER, IGNORE):
            if action == REGISTER and self.keys.get(who, 0) != request.key:
                return CONFLICT
            if not new and who not in self.keys:
                return GOOD
            if new:
                self.keys[who] = new
            else:
                self.unregister(who)
            self.generation += 1
            return GOOD
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

    def reserve(self, who: str, kind: int) -> str:
        if self.type:
            return GOOD if self.holds(who) and self.type == kind else CONFLICT
        if kind not in TYPES:
            return WRONG_TYPE
        self.type, self.holder = kind, "" if kind in self.ALL else who
        return GOOD

    def release(self, who: str, kind: int) -> str:
        if self.type and self.holds(who):
            if self.type != kind:
                return WRONG_RELEASE
            if kind in self.SHARED:
                self.tell(RELEASED, who)
            self.end()
        return GOOD

    def clear(self, who: str) -> str:
        self.tell(PREEMPTED, who)
        self.keys.clear()
        self.end()
        return GOOD

    def preempt(self, who: str, victim: int, kind: int) -> str:
        matching = [name for name, key in self.keys.items() if key == victim]
        is_everybodys = self.type in self.ALL
        if is_everybodys and not victim:
            matching = list(self.keys)
        elif not victim:
            return WRONG_LIST
        if (is_everybodys and not victim) or self.holder in matching:
            return self.take_over(who, [name for name in matching if name != who], kind)
        if not self.type:
            # SCST's answer: nobody removes itself so.
            matching = [name for name in matching if name != who]
        for name in matching:
            if name != who:
                self.heard[name].append(REMOVED)
            self.unregister(name)
        return GOOD if matching else CONFLICT

    def take_over(self, who: str, victims: list[str], kind: int) -> str:
        if kind not in TYPES:
            return WRONG_TYPE
        for name in victims:
            del self.keys[name]
            self.heard[name].append(REMOVED)
        if kind != self.type:
            self.tell(RELEASED, who)
        self.type, self.holder = kind, "" if kind in self.ALL else who
        return GOOD

    def move(self, request: Request) -> str:
        if not self.type:
            return WRONG_TYPE
        if self.holder != request.who:
            return CONFLICT
        if not request.action_key or NAMES[request.heir][0] == NAMES[request.who][0]:
            return WRONG_LIST
        self.keys[request.heir] = request.action_key
        self.holder = request.heir
        if request.unregisters:
            del self.keys[request.who]
        return GOOD


def ask(random: Random, model: Model) -> Request:
    """Something that is likely to be allowed, and less likely anything."""
    who = random.choice(tuple(NAMES))
    key = random.choice((0, *KEYS)) if random.random() < 0.1 else model.keys.get(who, 0)
    likely = model.type if model.type and random.random() < 0.7 else random.choice(TYPES)
    return Request(
        who,
        random.choice((REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE, MOVE, RESERVE)),
        key,
        random.choice((0, *KEYS, *KEYS)),
        random.choice((0, 4)) if random.random() < 0.1 else likely,
        random.choice(tuple(NAMES)),
        random.random() < 0.5,
    )


def send(initiator: Initiator, request: Request) -> str:
    if request.action == MOVE:
        name, port = NAMES[request.heir]
        heir = transport_id(name)
        flags = 2 * request.unregisters
        form = ">QQxBHI"
        data = struct.pack(form, request.key, request.action_key, flags, port, len(heir)) + heir
    else:
        data = struct.pack(">QQ8x", request.key, request.action_key)
    return text(initiator.send(pr_out(request.action, request.type, len(data)), data))


def text(outcome: Outcome) -> str:
    if outcome.status == Status.GOOD:
        return GOOD
    if outcome.status == Status.RESERVATION_CONFLICT:
        return CONFLICT
    sense = outcome.sense
    assert sense is not None
    return f"{sense.key:02X}/{sense.code >> 8:02X}/{sense.code & 0xFF:02X}"


def hear(initiator: Initiator) -> list[str]:
    heard = []
    while (told := text(initiator.send(cdbs.TEST_UNIT_READY))) != GOOD:
        heard.append(told)
    return heard


def holders(initiator: Initiator) -> dict[tuple[bytes, int], tuple[int, bool]]:
    """Key and whether it is a holder, for each nexus in READ FULL STATUS."""
    data = initiator.good(pr_in(3), None, 1024)[8:]
    found = {}
    while data:
        key, is_holder, port, length = struct.unpack_from(">Q4xB5xHI", data)
        found[data[24 : 24 + length], port] = key, is_holder == 1
        data = data[24 + length :]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_storm_of_commands_leaves_what_the_model_says(seed: int) -> None:
    random = Random(seed)
    unit = disk(FaultyVdisk(64))
    for port in (1, 2):
        unit.add_port(TargetPort(port, f"target{port}"))
    initiators = {name: sign_in(unit, *NAMES[name]) for name in NAMES}
    model = Model()
    for _ in range(400):
        request = ask(random, model)
        expected = model.perform(request)
        assert send(initiators[request.who], request) == expected, request
        for name, initiator in initiators.items():
            assert hear(initiator) == model.heard[name], (request, name)
            model.heard[name].clear()
        onlooker = initiators["b1"]
        generation, found = keys(onlooker)
        assert (generation, sorted(found)) == (model.generation, sorted(model.keys.values()))
        reservation = (model.keys.get(model.holder, 0), model.type) if model.type else None
        assert holder(onlooker) == reservation, request
        assert holders(onlooker) == {
            (transport_id(NAMES[name][0]), NAMES[name][1]): (key, model.holds(name))
            for name, key in model.keys.items()
        }
    # A storm in which nothing happens shows nothing.
    assert model.generation > 50
