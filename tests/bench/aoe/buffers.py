# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive buffers of another process's packet sockets.

vblade's README has net.core.rmem_max raised, or a window of large frames does not fit and frames
are lost. This does the same for one process, and leaves the rest of the host alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket

SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 4 << 20
# pidfd_getfd(2), which has this number on every architecture but alpha.
SYS_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def enlarge_receive_buffers(pid: int) -> int:
    """Give a process's packet sockets room for RECEIVE_BYTES; returns how many had less.

    Raises OSError where that is not allowed.
    """
    enlarged = 0
    process = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            descriptor = _copy(process, int(name))
            if descriptor is not None:
                enlarged += _enlarge(descriptor)
    finally:
        os.close(process)
    return enlarged


def _copy(process: int, number: int) -> int | None:
    """A descriptor of ours for what the process has open; None if it was closed meanwhile."""
    descriptor = int(_libc.syscall(SYS_PIDFD_GETFD, process, number, 0))
    if descriptor >= 0:
        return descriptor
    code = ctypes.get_errno()
    if code == errno.EBADF:
        return None
    raise OSError(code, os.strerror(code))


def _enlarge(descriptor: int) -> bool:
    """Enlarge what turns out to be a packet socket, and close the descriptor."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return False
    with sock:
        if sock.family != socket.AF_PACKET:
            return False
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= RECEIVE_BYTES:
            return False
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    return True
