# SPDX-License-Identifier: GPL-2.0-or-later
"""Two connections at work while their LUN is mapped to and fro, at any moment of any request."""

from __future__ import annotations

import random

import pytest

from scsi_backend.io.engine import Done
from scsi_backend.io.scatter import Buffer
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.nbd.fakes import RecordingUnit
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import Link, negotiated
from tests.bridges.nbd.proto import (
    BLOCK_STATUS,
    CACHE,
    FLUSH,
    FUA,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern

KINDS = [READ, WRITE, WRITE, FLUSH, FLUSH, TRIM, WRITE_ZEROES, CACHE]
LENGTHS = [512, 1024, 100, 700, 4096]
STEPS = 120


class CachedVdisk(FaultyVdisk):
    """A disk that counts its writes, and how many of them a power failure would leave."""

    writes = 0
    stable_writes = 0

    def write(self, view: Buffer, offset_bytes: int, done: Done) -> None:
        """See ``Vdisk.write``."""
        super().write(view, offset_bytes, lambda result: self._written(result, done))

    def write_zeros(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.write_zeros``."""
        super().write_zeros(offset_bytes, length_bytes, lambda result: self._written(result, done))

    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.unmap``."""
        super().unmap(offset_bytes, length_bytes, lambda result: self._written(result, done))

    def sync(self, done: Done) -> None:
        """See ``Vdisk.sync``."""
        covered = self.writes

        def finish(result: int) -> None:
            self.stable_writes = max(self.stable_writes, covered)
            done(result)

        super().sync(finish)

    def _written(self, result: int, done: Done) -> None:
        self.writes += 1
        done(result)

    def _write_now(self, view: Buffer, offset_bytes: int) -> int:
        result = super()._write_now(view, offset_bytes)
        self.writes += result > 0
        return result


class Scene:
    """Disks, a LUN that leads to one of them, and two connections of one initiator."""

    def __init__(self, rng: random.Random, form: Form) -> None:
        self._rng = rng
        self._form = form
        self.disks = [CachedVdisk(256, is_thin=rng.random() < 0.5) for _ in range(3)]
        self.big = CachedVdisk(64, 4096)
        first = Link.open(self.disks[0], form=form)
        second = Link.on(first.lun, self.disks[0], form, negotiated(form))
        self.links = [first, second]
        others = [*self.disks[1:], self.big]
        self.units = [first.lun.unit, *(RecordingUnit(vdisk) for vdisk in others)]
        # The writes of each disk that are certainly answered: at some time nothing was open.
        self._answered = [0, 0, 0]
        # Of each request that is open, what was answered before it was sent.
        self._open: dict[int, tuple[int, list[int]]] = {}
        self._cookie = 0

    def step(self) -> None:
        """Do something."""
        rng = self._rng
        action = rng.choices(
            [self._map, self._toggle, self._change_disk, self._release, self._wait, self._ask],
            [12, 3, 15, 20, 5, 45],
        )[0]
        action()
        self._hear()

    def _map(self) -> None:
        unit = self._rng.choices([*self.units, None], [30, 30, 30, 3, 20])[0]
        luns = {} if unit is None else {0: LunEntry(unit, self._rng.random() < 0.15)}
        self.links[0].lun.target.configure(luns=luns)

    def _toggle(self) -> None:
        target = self.links[0].lun.target
        target.is_enabled = not target.is_enabled

    def _change_disk(self) -> None:
        vdisk = self._rng.choice([*self.disks, self.big])
        vdisk.immediate_bytes = self._rng.choice([None, NOT_NOW])
        vdisk.is_held = self._rng.random() < 0.6

    def _release(self) -> None:
        vdisk = self._rng.choice(self.disks)
        if vdisk.held:
            vdisk.release(self._rng.randrange(len(vdisk.held)))

    def _wait(self) -> None:
        self.links[0].clock.advance(30)

    def _ask(self) -> None:
        rng = self._rng
        link = rng.choice(self.links)
        if link.connection.has_ended:
            return
        self._cookie += 1
        has_contexts = self._form is not Form.SIMPLE
        kind = rng.choice([*KINDS, BLOCK_STATUS] if has_contexts else KINDS)
        self._open[self._cookie] = kind, list(self._answered)
        link.send(self._message(link, kind))

    def _message(self, link: Link, kind: int) -> bytes:
        rng, cookie = self._rng, self._cookie
        offset = rng.randrange(64) * 512 + (rng.randrange(512) if rng.random() < 0.2 else 0)
        length = rng.choice(LENGTHS)
        flags = FUA if kind in (WRITE, WRITE_ZEROES) and rng.random() < 0.2 else 0
        if kind == FLUSH:
            return link.request(FLUSH, cookie)
        if kind == WRITE:
            return link.write(cookie, offset, pattern(cookie, length), flags)
        return link.request(kind, cookie, offset, length, flags)

    def _hear(self) -> None:
        for link in self.links:
            for cookie, error in link.errors():
                kind, answered = self._open.pop(cookie)
                if kind == FLUSH and not error:
                    stable = [vdisk.stable_writes for vdisk in self.disks]
                    assert all(map(int.__le__, answered, stable)), "a write may be lost"
        if not self._open:
            self._answered = [vdisk.writes for vdisk in self.disks]

    def finish(self) -> None:
        """Let everything end, which it must, with nothing left behind."""
        for _ in range(60):
            for vdisk in (*self.disks, self.big):
                vdisk.is_held = False
                vdisk.release_all()
            self.links[0].clock.advance(1)
            self._hear()
        assert not self._open
        assert not any(command for unit in self.units for command in unit.outstanding())
        for link in self.links:
            link.close()
        assert self.big.writes == 0


@pytest.mark.parametrize("seed", range(60))
def test_every_request_ends_and_no_flush_promises_too_much(seed: int, form: Form) -> None:
    scene = Scene(random.Random(seed), form)
    for _ in range(STEPS):
        scene.step()
    scene.finish()
