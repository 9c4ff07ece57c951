# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCMU device as userspace I/O (uio) shows it: memory to map, and a descriptor to wait on.

Source: Linux Documentation, driver-api/uio-howto; target/tcmu-design.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from time import perf_counter
from typing import Final

from bridges import spin
from bridges.local.tcmu.lun import OnTaskManagement, RingLun, Submit
from bridges.local.tcmu.ring import Ring
from bridges.local.tcmu.sysfs import OpenUio
from bridges.local.tcmu.wire import RingError
from bridges.spin import Spinner

_log = logging.getLogger(__name__)

# The number of events, and what makes the kernel look: both are 32-bit words.
_WORD_BYTES: Final = 4
_LOOK: Final = bytes(_WORD_BYTES)


class RingDevice:
    """Serves the commands that come through a uio device, which its opener owns."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        uio: OpenUio,
        submit: Submit,
        on_task_management: OnTaskManagement,
        spinner: Spinner,
    ) -> None:
        """Begin to serve; raises RingError."""
        self._loop = loop
        self._name = name
        self._uio = uio
        self._spinner = spinner
        self._ring = Ring(memoryview(uio.memory))
        self._lun = RingLun(self._ring, submit, on_task_management, self._notify, loop.call_soon)
        self._is_reading = True
        loop.add_reader(uio.descriptor, self._on_event)
        # What came before this process looked makes no event of its own.
        loop.call_soon(self._wake)

    @property
    def outstanding(self) -> int:
        """How many commands are under way."""
        return self._lun.outstanding

    def _on_event(self) -> None:
        try:
            os.read(self._uio.descriptor, _WORD_BYTES)
        except BlockingIOError:
            pass
        except OSError as error:
            is_gone = error.errno == errno.EIO
            reason = "somebody has removed the device" if is_gone else error.strerror
            _log.error("%s: no longer served: %s", self._name, reason)
            self.stop_reading()
            return
        self._wake()
        if self._spinner.woke(self):
            self._spin()

    def _wake(self) -> None:
        if not self._is_reading:
            return
        try:
            self._lun.wake()
        except RingError as error:
            _log.error("%s: no longer served: %s", self._name, error)
            self.stop_reading()

    def _spin(self) -> None:
        """Look for further commands for a short while (see ``spin``)."""
        rounds = spin.MAX_ROUNDS
        deadline_s = perf_counter() + spin.WAIT_S
        while rounds and self._is_reading and not self._lun.outstanding:
            if self._ring.has_entries:
                self._wake()
                rounds -= 1
                deadline_s = perf_counter() + spin.WAIT_S
            elif perf_counter() > deadline_s:
                self._spinner.missed()
                return
            else:
                spin.pause()

    def _notify(self) -> None:
        try:
            os.write(self._uio.descriptor, _LOOK)
        except OSError as error:
            _log.error("%s: responses: %s", self._name, error.strerror)

    def stop_reading(self) -> None:
        """Take no more commands."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._uio.descriptor)
            self._spinner.forget(self)

    def close(self) -> None:
        """Serve no more; what is under way then cannot be responded to. ``uio`` stays open."""
        self.stop_reading()
        self._lun.close()
        if self._lun.outstanding:
            _log.error("%s: %d commands are still under way", self._name, self._lun.outstanding)
        else:
            self._ring.close()
