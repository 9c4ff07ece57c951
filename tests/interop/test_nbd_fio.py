# SPDX-License-Identifier: GPL-2.0-or-later
"""fio's nbd engine writes, reads back and verifies checksums under load."""

from __future__ import annotations

import pytest

from tests.interop.doors import NbdDoor, Tools

COMMON = (
    "--name=job",
    "--ioengine=nbd",
    "--size=64m",
    "--randseed=1",
    "--verify_fatal=1",
    "--output-format=normal",
)


def _fio(tools: Tools, uri: str, *options: str) -> None:
    shown = tools.run("fio", *COMMON, f"--uri={uri}", *options)
    assert "verify:" not in shown
    assert "err= 0" in shown


def test_random_writes_of_4k_read_back_with_their_checksums(tools: Tools, door: NbdDoor) -> None:
    _fio(tools, door.uri, "--rw=randwrite", "--bs=4k", "--iodepth=32", "--verify=crc32c")


def test_mixed_lengths_and_flushes(tools: Tools, door: NbdDoor) -> None:
    _fio(
        tools,
        door.uri,
        "--rw=randrw",
        "--bsrange=512-128k",
        "--bs_unaligned=0",
        "--blockalign=512",
        "--iodepth=16",
        "--fsync=64",
        "--verify=md5",
        "--io_size=48m",
    )


def test_trims_among_the_writes(tools: Tools, unix_door: NbdDoor) -> None:
    _fio(
        tools,
        unix_door.uri,
        "--rw=randtrimwrite",
        "--bs=64k",
        "--iodepth=8",
        "--io_size=32m",
    )


@pytest.mark.parametrize(
    "lengths", [("--bs=4k",), ("--bsrange=512-64k", "--blockalign=512")], ids=" ".join
)
def test_four_jobs_verify_a_region_each(
    tools: Tools, daemon_door: NbdDoor, lengths: tuple[str, ...]
) -> None:
    _fio(
        tools,
        daemon_door.uri,
        "--rw=randwrite",
        *lengths,
        "--iodepth=16",
        "--numjobs=4",
        "--thread",
        "--group_reporting",
        "--size=8m",
        "--offset_increment=16m",
        "--verify=crc32c",
        "--do_verify=1",
    )


@pytest.mark.parametrize("rw", ["randread", "randwrite"])
def test_four_connections_at_once(tools: Tools, unix_door: NbdDoor, rw: str) -> None:
    _fio(
        tools,
        unix_door.uri,
        f"--rw={rw}",
        "--bs=4k",
        "--iodepth=8",
        "--numjobs=4",
        "--thread",
        "--group_reporting",
        "--io_size=8m",
    )
