# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that are made before the run, and sent many at a time (sendmmsg(2)).

The kernel's structures are filled once; sending is one system call, however many frames it is.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


class Batch:
    """Frames in their order, each a head of its own and a body that all have in common.

    Owns the memory that the kernel reads.
    """

    def __init__(self, heads: Sequence[bytes], body: bytes) -> None:
        self._head_bytes = ctypes.create_string_buffer(b"".join(heads))
        self._body_bytes = ctypes.create_string_buffer(body, max(len(body), 1))
        self._vectors = (_Iovec * (2 * len(heads)))()
        self._messages = (_Mmsghdr * len(heads))()
        self._fill([len(head) for head in heads], len(body))
        self._base = ctypes.addressof(self._messages)

    def _fill(self, head_lengths: Sequence[int], body_length: int) -> None:
        vectors = ctypes.addressof(self._vectors)
        head = ctypes.addressof(self._head_bytes)
        body = ctypes.addressof(self._body_bytes)
        for index, length in enumerate(head_lengths):
            first, second = self._vectors[2 * index], self._vectors[2 * index + 1]
            first.base, first.length = head, length
            second.base, second.length = body, body_length
            header = self._messages[index].header
            header.iov = vectors + 2 * index * ctypes.sizeof(_Iovec)
            header.iov_length = 2 if body_length else 1
            head += length

    def send(self, sock: socket.socket, first: int, count: int) -> int:
        """Send some of the frames; returns how many the kernel took. Raises OSError for none."""
        vector = self._base + first * ctypes.sizeof(_Mmsghdr)
        taken = int(_libc.sendmmsg(sock.fileno(), vector, count, socket.MSG_DONTWAIT))
        if taken <= 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return taken
