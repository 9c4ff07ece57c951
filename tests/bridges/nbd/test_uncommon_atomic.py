# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions that write to the same block of a slow disk at once, in every order of its operations.

Each test runs once for every way in which the disk can go about what waits in it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest

from tests.bridges.nbd.fakes import COMPARE_AND_WRITE, check_condition, join_lun
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import Link, negotiated
from tests.bridges.nbd.proto import FUA, WRITE_ZEROES
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
BLOCKS = 3
BEFORE = b"\xbb" * (BLOCK * BLOCKS)
MAX_STEPS = 200
INVALID_OPCODE = check_condition("05/20/00")

# Makes the message of one session.
Message = Callable[[Link], bytes]


def _write(offset: int, payload: bytes, flags: int = 0) -> Message:
    return lambda link: link.write(1, offset, payload, flags)


def _zeros(offset: int, length: int) -> Message:
    return lambda link: link.request(WRITE_ZEROES, 1, offset, length)


def _after(*changes: tuple[int, bytes]) -> bytes:
    data = bytearray(BEFORE)
    for offset, payload in changes:
        data[offset : offset + len(payload)] = payload
    return bytes(data)


class Run:
    """One way through: ``choices`` say what happens next, the oldest thing when they are used up.

    What can happen is the end of an operation of the disk, or the next session's request.
    """

    def __init__(
        self,
        messages: tuple[Message, ...],
        form: Form,
        choices: list[int],
        *,
        is_atomic: bool,
    ) -> None:
        self.vdisk = FaultyVdisk(BLOCKS)
        self.vdisk.data[:] = BEFORE
        first = Link.open(self.vdisk, form=form, knows_block_sizes=False)
        others = [
            Link.on(join_lun(first.lun), self.vdisk, form, negotiated(form)) for _ in messages[1:]
        ]
        links = [first, *others]
        self.vdisk.immediate_bytes = -errno.EAGAIN
        self.vdisk.is_held = True
        if not is_atomic:
            first.lun.unit.fail(COMPARE_AND_WRITE, *[INVALID_OPCODE] * len(messages))
        waiting = list(zip(links, messages, strict=True))
        # How many things could have been next at each step, and which was.
        self.widths: list[int] = []
        self.taken: list[int] = []
        while held := len(self.vdisk.held) + bool(waiting):
            step = len(self.taken)
            assert step < MAX_STEPS, "the sessions wait for one another"
            choice = choices[step] if step < len(choices) else 0
            self.widths.append(held)
            self.taken.append(choice)
            if choice < len(self.vdisk.held):
                self.vdisk.release(choice)
            else:
                link, message = waiting.pop(0)
                link.send(message(link))
        for link in links:
            assert link.errors() == [(1, 0)]
            link.close()


def _outcomes(form: Form, *messages: Message, is_atomic: bool = True) -> Iterator[bytes]:
    """What the disk holds after each way through."""
    choices: list[int] | None = []
    while choices is not None:
        run = Run(messages, form, choices, is_atomic=is_atomic)
        yield bytes(run.vdisk.data)
        choices = _next(run)


def _next(run: Run) -> list[int] | None:
    """The choices that lead to the next way, if there is one."""
    taken = run.taken
    for step in reversed(range(len(taken))):
        if taken[step] + 1 < run.widths[step]:
            return [*taken[:step], taken[step] + 1]
    return None


def test_every_order_is_tried() -> None:
    # Plain writes of different blocks are one operation each: the first ends before the second is
    # sent, or behind that in either order.
    runs = _outcomes(Form.SIMPLE, _write(0, bytes(BLOCK)), _write(BLOCK, bytes(BLOCK)))
    assert len(list(runs)) == 3


@pytest.mark.parametrize("flags", [0, FUA])
def test_different_bytes_of_one_block_are_all_written(form: Form, flags: int) -> None:
    found = list(_outcomes(form, _write(10, b"one", flags), _write(20, b"two")))
    assert len(found) >= 5
    assert set(found) == {_after((10, b"one"), (20, b"two"))}


def test_a_block_shared_by_two_longer_writes_has_both(form: Form) -> None:
    # The end of one and the beginning of the other are in the middle block.
    one, two = b"1" * (BLOCK + 100), b"2" * (BLOCK + 100)
    found = set(_outcomes(form, _write(0, one), _write(BLOCK + 200, two)))
    assert found == {_after((0, one), (BLOCK + 200, two))}


def test_zeros_and_bytes_of_one_block_are_all_written(form: Form) -> None:
    found = set(_outcomes(form, _zeros(10, 3), _write(20, b"two")))
    assert found == {_after((10, bytes(3)), (20, b"two"))}


def test_the_same_bytes_are_those_of_one_or_the_other() -> None:
    found = set(_outcomes(Form.SIMPLE, _write(10, b"aaaa"), _write(12, b"bbbb")))
    assert found <= {
        _after((10, b"aaaa"), (12, b"bbbb")),
        _after((12, b"bbbb"), (10, b"aaaa")),
    }


def test_bytes_and_a_whole_block_are_as_if_one_after_the_other() -> None:
    whole = b"w" * BLOCK
    found = set(_outcomes(Form.SIMPLE, _write(10, b"part"), _write(0, whole)))
    assert found <= {_after((0, whole)), _after((0, whole), (10, b"part"))}
    assert found


def test_zeros_of_a_whole_block_and_bytes_are_as_if_one_after_the_other() -> None:
    found = set(_outcomes(Form.SIMPLE, _write(10, b"part"), _zeros(0, BLOCK)))
    zeros = bytes(BLOCK)
    assert found <= {_after((0, zeros)), _after((0, zeros), (10, b"part"))}
    assert found


def test_three_sessions_in_one_block_lose_nothing() -> None:
    messages = (_write(10, b"one"), _write(20, b"two"), _write(30, b"three"))
    found = list(_outcomes(Form.EXTENDED, *messages))
    assert len(found) > 50
    assert set(found) == {_after((10, b"one"), (20, b"two"), (30, b"three"))}


def test_a_device_without_compare_and_write_keeps_the_last_of_the_writes() -> None:
    # It shows too that these tests try the order in which a write would be lost.
    messages = (_write(10, b"one"), _write(20, b"two"))
    found = set(_outcomes(Form.SIMPLE, *messages, is_atomic=False))
    assert found == {
        _after((10, b"one"), (20, b"two")),
        _after((10, b"one")),
        _after((20, b"two")),
    }
