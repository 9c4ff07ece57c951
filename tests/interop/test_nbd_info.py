# SPDX-License-Identifier: GPL-2.0-or-later
"""What nbdinfo and qemu-img say of the exports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.doors import DISK_BYTES, NbdDoor, Tools, program

OpenDoor = Callable[[str], NbdDoor]

THIN = {
    "export-size": DISK_BYTES,
    "is_read_only": False,
    "can_cache": True,
    "can_flush": True,
    "can_fua": True,
    "can_multi_conn": True,
    "can_trim": True,
    "can_zero": True,
    "block_size_minimum": 512,
    "block_size_preferred": 4096,
    "block_size_maximum": 32 << 20,
}


def _facts(tools: Tools, uri: str) -> dict[str, object]:
    (export,) = tools.run_json("nbdinfo", "--json", uri)["exports"]
    assert isinstance(export, dict)
    return export


def test_nbdinfo_shows_what_every_door_can_do(tools: Tools, door: NbdDoor) -> None:
    facts = _facts(tools, door.uri)
    assert {name: facts[name] for name in THIN} == THIN
    # nbdkit has structured replies; and it aborts on a fast zero from a client to which it did not
    # offer one, so the plugin does.
    assert facts["can_df"] is facts["can_fast_zero"] is door.is_nbdkit


def test_nbdinfo_shows_blocks_of_4096_bytes(tools: Tools, unix_door: NbdDoor) -> None:
    facts = _facts(tools, unix_door.uri.replace("/disk?", "/disk/7?"))
    names = ("block_size_minimum", "can_trim", "is_rotational", "export-size")
    assert [facts[name] for name in names] == [4096, False, True, DISK_BYTES]


def test_nbdinfo_shows_a_read_only_export(tools: Tools, unix_door: NbdDoor) -> None:
    facts = _facts(tools, unix_door.uri.replace("/disk?", "/frozen?"))
    names = ("is_read_only", "can_trim", "can_zero", "can_flush")
    assert [facts[name] for name in names] == [True, False, False, True]


def test_nbdinfo_describes_in_words(tools: Tools, unix_door: NbdDoor) -> None:
    shown = tools.run("nbdinfo", unix_door.uri)
    assert shown.startswith("protocol: newstyle-fixed without TLS, using simple packets\n")
    assert 'export="disk":\n\texport-size: 67108864 (64M)\n' in shown
    assert "\tis_rotational: false\n" in shown


def test_nbdinfo_tells_the_size_and_answers_yes_or_no(tools: Tools, unix_door: NbdDoor) -> None:
    assert tools.run("nbdinfo", "--size", unix_door.uri) == f"{DISK_BYTES}\n"
    assert tools.try_run("nbdinfo", "--can", "trim", unix_door.uri).returncode == 0
    frozen = unix_door.uri.replace("/disk?", "/frozen?")
    assert tools.try_run("nbdinfo", "--can", "trim", frozen).returncode == 2
    assert tools.try_run("nbdinfo", "--is", "read-only", frozen).returncode == 0


def test_nbdinfo_lists_the_exports_of_enabled_targets(tools: Tools, unix_door: NbdDoor) -> None:
    listed = tools.run_json("nbdinfo", "--list", "--json", unix_door.uri)["exports"]
    assert [(export["export-name"], export["description"]) for export in listed] == [
        ("disk", "disk"),
        ("disk/7", "blocks4k"),
        ("frozen", "frozen"),
    ]
    shown = tools.run("nbdinfo", "--list", unix_door.uri)
    assert [line for line in shown.splitlines() if line.startswith("export=")] == [
        'export="disk":',
        'export="disk/7":',
        'export="frozen":',
    ]


@pytest.mark.parametrize("name", ["", "hidden", "disk/1", "none"])
def test_other_exports_are_refused_with_a_reason(
    tools: Tools, unix_door: NbdDoor, name: str
) -> None:
    uri = unix_door.uri.replace("/disk?", f"/{name}?")
    done = tools.try_run("nbdinfo", uri)
    assert done.returncode == 1
    # libnbd's words for ERR_UNKNOWN; qemu shows the server's own.
    assert "No such file or directory" in done.stderr
    done = tools.try_run("qemu-img", "info", uri)
    assert done.returncode == 1
    assert f"server reported: no export named '{name}'" in done.stderr


def test_nbdinfo_starts_the_plugin_by_socket_activation(tools: Tools) -> None:
    image = tools.path("disk.img")
    image.write_bytes(bytes(1 << 20))
    command = [program(), "nbdkit", "--exit-with-parent", "--", f"file={image}"]
    assert tools.run("nbdinfo", "--size", "--", "[", *command, "]") == f"{1 << 20}\n"


def test_qemu_img_sees_a_raw_disk(tools: Tools, door: NbdDoor) -> None:
    info = tools.run_json("qemu-img", "info", "--output=json", "-f", "raw", door.uri)
    assert (info["virtual-size"], info["format"]) == (DISK_BYTES, "raw")


def test_a_tail_shorter_than_a_block_is_not_served(tools: Tools) -> None:
    image = tools.path("odd.img")
    image.write_bytes(bytes(10_000))
    command = [program(), "nbdkit", "--exit-with-parent", "--"]
    for block_size, expected in ((512, 9728), (4096, 8192)):
        parameters = [f"file={image}", f"blocksize={block_size}"]
        shown = tools.run("nbdinfo", "--size", "--", "[", *command, *parameters, "]")
        assert int(shown) == expected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "expected either file=PATH or socket=PATH"),
        (["file=missing.img"], "No such file or directory"),
        (["file=disk.img", "blocksize=513"], "blocksize=513: expected 512 or 4096"),
        (["socket=none.sock", "colour=red"], "colour: with socket= expected only device="),
    ],
)
def test_the_plugin_says_what_is_wrong_with_its_parameters(
    tools: Tools, parameters: list[str], message: str
) -> None:
    tools.path("disk.img").write_bytes(bytes(4096))
    done = tools.try_run(program(), "nbdkit", "-f", "-U", "never.sock", "--", *parameters)
    assert done.returncode == 1
    assert message in done.stderr


def test_the_plugin_is_known_to_nbdkit(tools: Tools) -> None:
    shown = tools.run(program(), "nbdkit", "--dump-plugin")
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert facts["thread_model"] == "serialize_all_requests"
    assert facts["api_version"] == "2"
