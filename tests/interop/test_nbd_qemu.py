# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu's block layer as the client: qemu-img converts and compares, qemu-io writes patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.doors import DISK_BYTES, MIB, NbdDoor, Tools


def _qemu_io(tools: Tools, uri: str, *commands: str, cache: str = "none") -> str:
    """Run qemu-io; a pattern that is not found, or an error, fails the test."""
    words = [word for command in commands for word in ("-c", command)]
    done = tools.try_run("qemu-io", "-f", "raw", "-t", cache, *words, uri)
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "Pattern verification failed" not in shown
    assert "failed" not in shown, shown
    return done.stdout


def _stored(door: NbdDoor, offset: int, length: int) -> bytes:
    with door.image.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def test_convert_in_compare_and_convert_out(tools: Tools, door: NbdDoor, random_file: Path) -> None:
    tools.run("qemu-img", "convert", "-n", "-O", "raw", "-f", "raw", str(random_file), door.uri)
    compared = tools.run(
        "qemu-img", "compare", "-f", "raw", "-F", "raw", str(random_file), door.uri
    )
    assert compared == "Images are identical.\n"
    tools.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", door.uri, "out.qcow2")
    compared = tools.run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", "out.qcow2", door.uri)
    assert compared == "Images are identical.\n"


def test_compare_finds_one_byte(tools: Tools, unix_door: NbdDoor, random_file: Path) -> None:
    tools.run("nbdcopy", str(random_file), unix_door.uri)
    _qemu_io(tools, unix_door.uri, "write -P 0x00 33M 512")
    done = tools.try_run(
        "qemu-img", "compare", "-f", "raw", "-F", "raw", str(random_file), unix_door.uri
    )
    assert (done.returncode, done.stdout) == (1, f"Content mismatch at offset {33 * MIB}!\n")


def test_convert_writes_holes_as_zeros(tools: Tools, door: NbdDoor, random_file: Path) -> None:
    tools.run("nbdcopy", str(random_file), door.uri)
    with tools.path("sparse").open("wb") as file:
        file.truncate(DISK_BYTES)
        file.write(b"x" * 4096)
    tools.run("qemu-img", "convert", "-n", "-O", "raw", "-f", "raw", "sparse", door.uri)
    compared = tools.run("qemu-img", "compare", "-f", "raw", "-F", "raw", "sparse", door.uri)
    assert compared == "Images are identical.\n"
    assert door.image.stat().st_blocks * 512 < DISK_BYTES // 10


def test_bench_reads_and_writes_at_depth(tools: Tools, door: NbdDoor) -> None:
    common = ("-c", "400", "-d", "32", "-s", "4k", "-f", "raw", "-t", "none")
    assert "Run completed" in tools.run("qemu-img", "bench", *common, door.uri)
    written = tools.run("qemu-img", "bench", "-w", "--flush-interval=50", *common, door.uri)
    assert "Run completed" in written


def test_patterns_zeros_and_discards(tools: Tools, door: NbdDoor) -> None:
    _qemu_io(
        tools,
        door.uri,
        "write -P 0xa5 0 8M",
        "write -z 1M 1M",
        "write -z -u 2M 1M",
        "discard 3M 1M",
        "read -P 0xa5 0 1M",
        "read -P 0 1M 3M",
        "read -P 0xa5 4M 4M",
        "flush",
    )
    assert _stored(door, 0, 8 * MIB) == b"\xa5" * MIB + bytes(3 * MIB) + b"\xa5" * (4 * MIB)


def test_fua_and_a_write_through_client(tools: Tools, door: NbdDoor) -> None:
    _qemu_io(tools, door.uri, "write -f -P 0x11 16M 64k", "write -z -f 16M 4k")
    _qemu_io(tools, door.uri, "write -P 0x22 17M 64k", cache="writethrough")
    assert _stored(door, 16 * MIB, 8192) == bytes(4096) + b"\x11" * 4096
    assert _stored(door, 17 * MIB, 65536) == b"\x22" * 65536


def test_unaligned_requests_are_made_whole_by_qemu(tools: Tools, door: NbdDoor) -> None:
    _qemu_io(
        tools,
        door.uri,
        "write -P 0x33 20M 64k",
        "write -P 0x44 20971621 1000",
        "write -z 20975000 777",
        "read -P 0x33 20M 101",
        "read -P 0x44 20971621 1000",
        "read -P 0 20975000 777",
    )


def test_many_requests_at_once(tools: Tools, door: NbdDoor) -> None:
    writes = [f"aio_write -P {number} {24 + number}M 1M" for number in range(1, 16)]
    reads = [f"aio_read -P {number} {24 + number}M 1M" for number in range(1, 16)]
    _qemu_io(tools, door.uri, *writes, "aio_flush", *reads, "aio_flush")
    for number in range(1, 16):
        assert _stored(door, (24 + number) * MIB, MIB) == bytes((number,)) * MIB


@pytest.mark.parametrize("length", ["31M", "32M"])
def test_the_longest_requests(tools: Tools, door: NbdDoor, length: str) -> None:
    _qemu_io(tools, door.uri, f"write -P 0x55 1M {length}", f"read -P 0x55 1M {length}")


def test_blocks_of_4096_bytes(tools: Tools, unix_door: NbdDoor) -> None:
    _qemu_io(
        tools,
        unix_door.export("disk/7").uri,
        "write -P 0x66 0 64k",
        "write -P 0x77 512 512",
        "read -P 0x66 0 512",
        "read -P 0x77 512 512",
        "read -P 0x66 1024 63k",
    )


def test_a_read_only_export_is_not_opened_for_writing(tools: Tools, unix_door: NbdDoor) -> None:
    uri = unix_door.export("frozen").uri
    done = tools.try_run("qemu-io", "-f", "raw", "-c", "write 0 512", uri)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    shown = tools.run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 1M", uri)
    assert shown.startswith("read 1048576/1048576 bytes at offset 0\n")


def _map(tools: Tools, uri: str) -> list[tuple[int, int, bool]]:
    """Start and length of each run, and whether it has data."""
    found = tools.run_json("qemu-img", "map", "--output=json", "-f", "raw", uri)
    assert all(run["data"] is not run["zero"] for run in found)
    return [(run["start"], run["length"], run["data"]) for run in found]


def test_map_shows_data_and_holes(tools: Tools, door: NbdDoor) -> None:
    _qemu_io(
        tools,
        door.uri,
        "discard 0 64M",
        "write -P 0x11 1M 1M",
        "write -z -u 1M 64k",
        "discard 1536k 128k",
        "write -P 0x22 32M 4k",
        "write -z 40M 1M",
    )
    kib = 1 << 10
    assert _map(tools, door.uri) == [
        (0, 1088 * kib, False),
        (1088 * kib, 448 * kib, True),
        (1536 * kib, 128 * kib, False),
        (1664 * kib, 384 * kib, True),
        (2 * MIB, 30 * MIB, False),
        (32 * MIB, 4 * kib, True),
        (32 * MIB + 4 * kib, 32 * MIB - 4 * kib, False),
    ]


def test_map_of_a_disk_that_is_not_thin_shows_data(tools: Tools, daemon_door: NbdDoor) -> None:
    uri = daemon_door.export("disk/7").uri
    _qemu_io(tools, uri, "write -z -u 0 64M")
    assert _map(tools, uri) == [(0, DISK_BYTES, True)]


def test_convert_keeps_holes_both_ways(tools: Tools, door: NbdDoor, random_file: Path) -> None:
    tools.run("nbdcopy", str(random_file), door.uri)
    with tools.path("sparse").open("wb") as file:
        file.truncate(DISK_BYTES)
        file.seek(MIB)
        file.write(random_file.read_bytes()[: 64 << 10])
    common = ("qemu-img", "convert", "-f", "raw", "-O", "raw")
    tools.run(*common, "-n", "sparse", door.uri)
    assert [run for run in _map(tools, door.uri) if run[2]] == [(MIB, 64 << 10, True)]
    tools.run(*common, door.uri, "out")
    assert tools.path("out").read_bytes() == tools.path("sparse").read_bytes()
    assert tools.path("out").stat().st_blocks * 512 <= 128 << 10
