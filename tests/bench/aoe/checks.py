# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made sure of before a server is measured: it answers, and it stores what it is sent.

Frames go through an ordinary socket here, and what was written is looked for in the file, too.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.aoe.cells import SECTOR_BYTES
from tests.bench.aoe.frames import (
    BROADCAST,
    DRDY,
    ETHERTYPE,
    RESPONSE,
    Reply,
    Route,
    sectors_of_config,
)
from tests.bench.client import LoadError

# Frames that are sent before the first reply is waited for.
BURST = 32
REPLY_DEADLINE_S = 10.0
ASK_AGAIN_S = 0.1
MAX_FRAME_BYTES = 1 << 16


@contextmanager
def packet_socket(interface: str) -> Iterator[socket.socket]:
    """A socket for AoE frames in the calling thread's network namespace."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((interface, ETHERTYPE))
        yield sock


def find_target(
    sock: socket.socket, has_ended: Callable[[], bool], deadline_s: float
) -> tuple[Route, int]:
    """Ask until the target answers; returns the way to it, and its sector count.

    Raises LoadError when it has ended, or does not answer in time.
    """
    own = bytes(sock.getsockname()[4])
    end_s = time.monotonic() + deadline_s
    tag = 0
    while time.monotonic() < end_s and not has_ended():
        tag += 1
        sock.send(Route(BROADCAST, own).query_config(tag))
        for reply, frame in _replies(sock, time.monotonic() + ASK_AGAIN_S):
            if reply.tag == tag and reply.source != own:
                return Route(reply.source, own), sectors_of_config(frame)
    if has_ended():
        raise LoadError("the server has ended")
    raise LoadError(f"no answer to Query Config for {deadline_s:g} s")


def verify(sock: socket.socket, route: Route, sectors: int, disk_sectors: int, image: Path) -> None:
    """Write blocks of random data all over the disk, and read them back; the file must have them.

    Raises LoadError for the first that differ.
    """
    rng = random.Random()
    block_bytes = sectors * SECTOR_BYTES
    blocks = disk_sectors // sectors
    lbas = [block * sectors for block in (0, blocks - 1, *rng.sample(range(1, blocks - 1), BURST))]
    written = {lba: os.urandom(block_bytes) for lba in lbas}
    requests = {lba: route.ata("write", lba, sectors, lba) + written[lba] for lba in lbas}
    _exchange(sock, requests)
    replies = _exchange(sock, {lba: route.ata("read", lba, sectors, lba) for lba in lbas})
    for lba, data in written.items():
        if replies[lba].data != data:
            raise LoadError(f"data read at LBA {lba} are not those written")
    with image.open("rb") as stored:
        for lba, data in written.items():
            if os.pread(stored.fileno(), block_bytes, lba * SECTOR_BYTES) != data:
                raise LoadError(f"data written at LBA {lba} are not in {image}")


def _exchange(sock: socket.socket, requests: Mapping[int, bytes]) -> dict[int, Reply]:
    """Send all requests in bursts, and return the replies by tag; errors are LoadErrors."""
    found: dict[int, Reply] = {}
    waiting = list(requests)
    while waiting:
        burst, waiting = waiting[:BURST], waiting[BURST:]
        for tag in burst:
            sock.send(requests[tag])
        missing = set(burst)
        for reply, _ in _replies(sock, time.monotonic() + REPLY_DEADLINE_S):
            if reply.is_announcement or reply.tag not in missing:
                continue
            if (reply.flags, reply.status) != (RESPONSE, DRDY):
                raise LoadError(f"LBA {reply.tag}: flags {reply.flags:#x}, {reply.status:#x}")
            found[reply.tag] = reply
            missing.remove(reply.tag)
            if not missing:
                break
        if missing:
            raise LoadError(f"no reply to {len(missing)} of {len(burst)} frames")
    return found


def _replies(sock: socket.socket, end_s: float) -> Iterator[tuple[Reply, bytes]]:
    """The frames that come until then."""
    while (left_s := end_s - time.monotonic()) > 0:
        sock.settimeout(left_s)
        try:
            frame = sock.recv(MAX_FRAME_BYTES)
        except TimeoutError:
            return
        yield Reply.parse(frame), frame
