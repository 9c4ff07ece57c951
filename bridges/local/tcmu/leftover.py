# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon that was killed has left in the kernel, and nobody wants any more."""

from __future__ import annotations

import asyncio
import errno
import logging
from functools import partial

from bridges.local.tcmu.configfs import Configfs, FoundDevice, KernelError
from bridges.local.tcmu.device import RingDevice
from bridges.local.tcmu.off_loop import off_loop
from bridges.local.tcmu.sysfs import OpenUio, Sysfs
from bridges.local.tcmu.wire import RingError
from bridges.spin import Spinner
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)


async def remove_left(
    loop: asyncio.AbstractEventLoop,
    configfs: Configfs,
    sysfs: Sysfs,
    spinner: Spinner,
    found: FoundDevice,
) -> bool:
    """Remove a device; tell whether it is gone. Raises KernelError or OSError.

    What another process serves, or somebody uses, stays.
    """
    name = found.config.name
    node = sysfs.find_uio(found.uio_name)
    uio = None
    if node is not None:
        try:
            uio = sysfs.open_uio(node)
        except OSError as error:
            if error.errno == errno.EBUSY:
                _log.info("%s: served by another process", name)
                return False
            raise
    try:
        if configfs.is_mapped(name, found):
            disk = sysfs.disk(configfs.address(name))
            if await off_loop(partial(sysfs.is_in_use, disk)):
                _log.warning("%s: %s was left, is in use, and not configured so", name, disk)
                return False
            await _unmap(loop, configfs, spinner, found, uio)
    finally:
        if uio is not None:
            uio.close()
    await off_loop(partial(configfs.remove_device, found))
    await off_loop(partial(configfs.remove_port, name.target))
    _log.info("%s: removed what was left of it", name)
    return True


async def _unmap(
    loop: asyncio.AbstractEventLoop,
    configfs: Configfs,
    spinner: Spinner,
    found: FoundDevice,
    uio: OpenUio | None,
) -> None:
    """Remove the LUN, as that of a target without logical units.

    The kernel flushes a disk that goes, and waits long where it gets no answer.
    """
    name = found.config.name
    if uio is None:
        await off_loop(partial(configfs.unmap_lun, name))
        return
    session = Session(Target("scst_local", name.target, 0), "", {})
    await off_loop(partial(configfs.reset_ring, found))
    try:
        ring = RingDevice(
            loop,
            str(name),
            uio,
            partial(session.submit, name.lun),
            lambda function, commands: None,
            spinner,
        )
    except RingError as error:
        raise KernelError(f"{name}: {error}") from error
    try:
        await off_loop(partial(configfs.unmap_lun, name))
    finally:
        ring.close()
