# SPDX-License-Identifier: GPL-2.0-or-later
"""libnbd as the client: every command and flag, right and wrong, one request or many.

``python3 -m tests.interop.libnbd_scenarios SCENARIO URI`` with Debian's own interpreter. Each
scenario is a function; one that fails ends the process with a traceback. ``lenient`` handles let
bad requests through, which libnbd would otherwise refuse itself. What is agreed on before the first
request is ``libnbd_negotiation``'s, holes and parts of blocks are ``libnbd_extents``'s.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import nbd

BLOCK = 512
MIB = 1 << 20
SIZE = 64 * MIB
NO_SUCH_FLAG = 1 << 9


def connect(uri: str, *, lenient: bool = False) -> Any:
    """Return a connected handle."""
    handle = nbd.NBD()
    if lenient:
        handle.set_strict_mode(0)
    handle.connect_uri(uri)
    assert handle.get_size() == SIZE
    return handle


def fails(expected: str, call: Callable[..., object], *arguments: object) -> None:
    """The call fails with one errno, and the connection goes on."""
    found = "no error"
    try:
        call(*arguments)
    except nbd.Error as error:
        found = error.errno
    assert found == expected, f"{found} instead of {expected}: {call} {arguments[1:]}"


def every_command_and_flag(uri: str) -> None:
    h = connect(uri)
    data = random.Random(1).randbytes(MIB)
    h.pwrite(data, 0)
    h.pwrite(data, MIB, nbd.CMD_FLAG_FUA)
    h.flush()
    h.cache(2 * MIB, 0)
    assert h.pread(2 * MIB, 0) == data + data
    h.zero(4096, 0)
    h.zero(4096, 4096, nbd.CMD_FLAG_NO_HOLE)
    h.zero(4096, 8192, nbd.CMD_FLAG_FUA)
    h.zero(4096, 12288, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)
    h.trim(4096, 16384)
    h.trim(4096, 20480, nbd.CMD_FLAG_FUA)
    assert h.pread(MIB, 0) == bytes(24576) + data[24576:]
    h.shutdown()


def fua_is_taken_on_every_command(uri: str) -> None:
    # proto.md: "MUST be accepted on all commands"; Linux sets it on READ.
    h = connect(uri, lenient=True)
    h.pread(BLOCK, 0, nbd.CMD_FLAG_FUA)
    h.cache(BLOCK, 0, nbd.CMD_FLAG_FUA)
    h.flush(nbd.CMD_FLAG_FUA)
    h.shutdown()


def wrong_flags_are_einval(uri: str) -> None:
    h = connect(uri, lenient=True)
    data = b"before" * 256
    h.pwrite(data, 0)
    calls = {
        nbd.CMD_FLAG_DF: (h.pread, BLOCK, 0),
        nbd.CMD_FLAG_REQ_ONE: None,
        nbd.CMD_FLAG_NO_HOLE: (h.zero, BLOCK, 0),
        nbd.CMD_FLAG_FAST_ZERO: (h.zero, BLOCK, 0),
    }
    every = [
        (h.pread, BLOCK, 0),
        (h.pwrite, b"x" * 1536, 0),
        (h.flush,),
        (h.trim, BLOCK, 0),
        (h.cache, BLOCK, 0),
        (h.zero, BLOCK, 0),
    ]
    for flag in (NO_SUCH_FLAG, 1 << 6, 1 << 15, *calls):
        for call, *arguments in every:
            if (call, *arguments) != calls.get(flag):
                fails("EINVAL", call, *arguments, flag)
    assert h.pread(len(data), 0) == data
    h.shutdown()


def past_the_end(uri: str) -> None:
    h = connect(uri, lenient=True)
    h.pwrite(b"e" * BLOCK, SIZE - BLOCK)
    for offset in (SIZE - BLOCK, SIZE, 1 << 40, (1 << 63) - 2 * BLOCK):
        fails("EINVAL", h.pread, 2 * BLOCK, offset)
        fails("ENOSPC", h.pwrite, b"x" * 2 * BLOCK, offset)
        fails("ENOSPC", h.zero, 2 * BLOCK, offset)
        fails("EINVAL", h.trim, 2 * BLOCK, offset)
        fails("EINVAL", h.cache, 2 * BLOCK, offset)
    assert h.pread(BLOCK, SIZE - BLOCK) == b"e" * BLOCK
    h.shutdown()


def payloads_over_the_maximum(uri: str) -> None:
    h = connect(uri, lenient=True)
    assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 * MIB
    h.pwrite(b"m" * (32 * MIB), MIB)
    assert h.pread(32 * MIB, MIB) == b"m" * (32 * MIB)
    fails("EINVAL", h.pread, 33 * MIB, 0)
    fails("EINVAL", h.pwrite, b"x" * (33 * MIB), MIB)
    assert h.pread(BLOCK, MIB) == b"m" * BLOCK
    h.zero(SIZE, 0)
    assert h.pread(MIB, MIB) == bytes(MIB)
    h.shutdown()


def nothing_at_all(uri: str) -> None:
    h = connect(uri, lenient=True)
    h.pread(0, 0)
    h.pwrite(b"", BLOCK)
    h.zero(0, 0)
    h.trim(0, 0)
    h.cache(0, 0)
    h.pread(BLOCK, 0)
    h.shutdown()


def read_only(uri: str) -> None:
    h = connect(uri, lenient=True)
    assert h.is_read_only()
    fails("EPERM", h.pwrite, b"x" * 100 * BLOCK, 0)
    fails("EPERM", h.zero, BLOCK, 0)
    fails("EPERM", h.trim, BLOCK, 0)
    assert h.pread(MIB, 0) == bytes(MIB)
    h.cache(BLOCK, 0)
    h.flush()
    h.shutdown()


def many_requests_in_flight(uri: str) -> None:
    h = connect(uri)
    chooser = random.Random(2)
    pieces = [chooser.randbytes(chooser.choice((512, 4096, 70000 & ~511))) for _ in range(300)]
    cookies = [
        h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(piece)), number * 131072)
        for number, piece in enumerate(pieces)
    ]
    wait_for(h, cookies)
    buffers = [nbd.Buffer(len(piece)) for piece in pieces]
    cookies = [h.aio_pread(buffer, number * 131072) for number, buffer in enumerate(buffers)]
    wait_for(h, cookies)
    for piece, buffer in zip(pieces, buffers, strict=True):
        assert buffer.to_bytearray() == piece
    h.shutdown()


def wait_for(h: Any, cookies: list[int]) -> None:
    """Poll until every request has ended well."""
    open_cookies = set(cookies)
    while open_cookies:
        assert h.poll(20_000) == 1
        for cookie in list(open_cookies):
            if h.aio_command_completed(cookie):
                open_cookies.remove(cookie)


def disconnecting_with_requests_in_flight(uri: str) -> None:
    h = connect(uri)
    buffers = [nbd.Buffer(65536) for _ in range(50)]
    cookies = [h.aio_pread(buffer, 0) for buffer in buffers]
    h.aio_disconnect()
    while not h.aio_is_closed():
        assert h.poll(20_000) == 1
    assert all(h.aio_command_completed(cookie) for cookie in cookies)


def connections_share_one_cache(uri: str) -> None:
    handles = [connect(uri) for _ in range(4)]
    assert all(handle.can_multi_conn() for handle in handles)
    for number, handle in enumerate(handles):
        handle.pwrite(bytes((number + 1,)) * 4096, number * 4096)
    handles[0].flush()
    expected = b"".join(bytes((number + 1,)) * 4096 for number in range(4))
    for handle in handles:
        assert handle.pread(16384, 0) == expected
        handle.shutdown()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
