# SPDX-License-Identifier: GPL-2.0-or-later
"""What frames have made of a target: its config string, its mask list and its reserve list.

All three are of a piece, so that they are kept in one file (state_file.py). A change counts when it
has been kept: until then everybody sees what was before, and changes that come meanwhile wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

AnswerT = TypeVar("AnswerT")

# They are answered as fast as a disk syncs; a host that sends more has to send them again.
MAX_WAITING_CHANGES: Final = 64


@dataclass(frozen=True, slots=True)
class TargetState:
    """The lists hold MAC addresses of six bytes; an empty list restricts nobody."""

    config_string: bytes = b""
    mask_list: tuple[bytes, ...] = ()
    reserve_list: tuple[bytes, ...] = ()


# Keeps a state, and calls back with the error that it met, if any.
Save = Callable[[TargetState, Callable[[OSError | None], None]], None]


def save_nowhere(state: TargetState, done: Callable[[OSError | None], None]) -> None:
    """Keep nothing: the state lives in memory."""
    done(None)


# Returns the answer to a request and the state after it.
Rule = Callable[[TargetState], tuple[AnswerT, TargetState]]


@dataclass(frozen=True, slots=True)
class _Change(Generic[AnswerT]):
    rule: Rule[AnswerT]
    done: Callable[[AnswerT | OSError], None]


class KeptState:
    """Owns the state of one target. All callbacks run on the caller's thread."""

    def __init__(self, value: TargetState | None = None, save: Save = save_nowhere) -> None:
        self.value = value or TargetState()
        self._watchers: list[Callable[[TargetState, TargetState], None]] = []
        self._save = save
        self._is_saving = False
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether too many changes wait to take on another."""
        return len(self._waiting) >= MAX_WAITING_CHANGES

    def watch(self, watcher: Callable[[TargetState, TargetState], None]) -> Callable[[], None]:
        """Call ``watcher(before, after)`` after each change, before its answer.

        Return what ends that. A target that is made again and its former self may both watch.
        """
        self._watchers.append(watcher)

        def unwatch() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return unwatch

    def change(self, rule: Rule[AnswerT], done: Callable[[AnswerT | OSError], None]) -> None:
        """Apply a rule once its turn has come; ``done`` gets its answer when that holds.

        If the new state could not be kept, ``done`` gets the error and nothing has changed.
        """
        change = _Change(rule, done)
        self._waiting.append(lambda: self._apply(change))
        self._next()

    def _next(self) -> None:
        while self._waiting and not self._is_saving:
            self._waiting.popleft()()

    def _apply(self, change: _Change[AnswerT]) -> None:
        before = self.value
        answer, after = change.rule(before)
        if after == before:
            change.done(answer)
            return

        def saved(error: OSError | None) -> None:
            self._is_saving = False
            if error is not None:
                change.done(error)
            else:
                self.value = after
                for watcher in tuple(self._watchers):
                    watcher(before, after)
                change.done(answer)
            self._next()

        self._is_saving = True
        self._save(after, saved)
