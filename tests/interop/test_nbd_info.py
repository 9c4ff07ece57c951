# SPDX-License-Identifier: GPL-2.0-or-later
"""What nbdinfo and qemu-img say of the exports."""

from __future__ import annotations

import pytest

from tests.interop.doors import DISK_BYTES, MIB, NbdDoor, Tools, program

THIN: dict[str, object] = {
    "export-size": DISK_BYTES,
    "is_read_only": False,
    "can_cache": True,
    "can_df": True,
    "can_fast_zero": True,
    "can_flush": True,
    "can_fua": True,
    "can_multi_conn": True,
    "can_trim": True,
    "can_zero": True,
    "block_size_minimum": 512,
    "block_size_preferred": 4096,
    "block_size_maximum": 32 << 20,
    "contexts": ["base:allocation"],
}
# What other exports of the daemon have in place of that.
OTHERS: dict[str, dict[str, object]] = {
    "disk": {"is_rotational": False, "description": "disk"},
    "disk/7": {
        "block_size_minimum": 4096,
        "can_trim": False,
        "is_rotational": True,
        "description": "blocks4k",
    },
    "frozen": {
        "is_read_only": True,
        "can_fast_zero": False,
        "can_trim": False,
        "can_zero": False,
        "is_rotational": True,
        "description": "frozen",
    },
    "sparse": {"is_rotational": True, "description": "sparse"},
}
# The words of --can and --is, and the facts that they ask for.
CAN = {
    "cache": "can_cache",
    "df": "can_df",
    "fast-zero": "can_fast_zero",
    "flush": "can_flush",
    "fua": "can_fua",
    "multi-conn": "can_multi_conn",
    "trim": "can_trim",
    "zero": "can_zero",
}
IS = {"read-only": "is_read_only", "rotational": "is_rotational"}


def _export_facts(name: str) -> dict[str, object]:
    """What nbdinfo is to say of one of the daemon's exports."""
    return {**THIN, "export-name": name, "export-size-str": "64M", **OTHERS[name]}


def _facts(tools: Tools, uri: str) -> dict[str, object]:
    (export,) = tools.run_json("nbdinfo", "--json", uri)["exports"]
    assert isinstance(export, dict)
    return export


def test_nbdinfo_shows_what_every_door_can_do(tools: Tools, door: NbdDoor) -> None:
    facts = _facts(tools, door.uri)
    assert {name: facts[name] for name in THIN} == THIN


@pytest.mark.parametrize("name", OTHERS)
def test_nbdinfo_shows_all_there_is_about_an_export(
    tools: Tools, daemon_door: NbdDoor, name: str
) -> None:
    uri = daemon_door.export(name).uri
    shown = tools.run_json("nbdinfo", "--json", uri)
    (facts,) = shown.pop("exports")
    # What file(1) makes of whatever is on the disk.
    assert facts.pop("content")
    assert facts == {**_export_facts(name), "uri": uri}
    assert shown == {"protocol": "newstyle-fixed", "TLS": False, "structured": True}


def test_nbdinfo_describes_in_words(tools: Tools, unix_door: NbdDoor) -> None:
    shown = tools.run("nbdinfo", unix_door.uri)
    assert shown.startswith("protocol: newstyle-fixed without TLS, using structured packets\n")
    assert 'export="disk":\n\tdescription: disk\n\texport-size: 67108864 (64M)\n' in shown
    assert "\tcontexts:\n\t\tbase:allocation\n\tis_rotational: false\n" in shown


@pytest.mark.parametrize("name", OTHERS)
def test_nbdinfo_tells_the_size_and_answers_yes_or_no(
    tools: Tools, unix_door: NbdDoor, name: str
) -> None:
    uri, facts = unix_door.export(name).uri, _export_facts(name)
    assert tools.run("nbdinfo", "--size", uri) == f"{DISK_BYTES}\n"
    asked = [("--can", word, facts[fact]) for word, fact in CAN.items()]
    asked += [("--is", word, facts[fact]) for word, fact in IS.items()]
    asked += [("--can", "connect", True), ("--can", "write", not facts["is_read_only"])]
    asked += [("--can", "structured-reply", True), ("--is", "tls", False)]
    for option, word, is_true in asked:
        done = tools.try_run("nbdinfo", option, word, uri)
        assert (done.returncode, done.stderr) == (0 if is_true else 2, ""), word


def test_nbdinfo_lists_the_exports_of_enabled_targets(tools: Tools, daemon_door: NbdDoor) -> None:
    listed = tools.run_json("nbdinfo", "--list", "--json", daemon_door.uri)["exports"]
    uris = [daemon_door.export(name).uri for name in OTHERS]
    wanted = [_export_facts(name) for name in OTHERS]
    for facts, uri in zip(wanted, uris, strict=True):
        facts["uri"] = uri
    assert listed == wanted
    shown = tools.run("nbdinfo", "--list", daemon_door.uri)
    names = [line for line in shown.splitlines() if line.startswith("export=")]
    assert names == [f'export="{name}":' for name in OTHERS]


def _map(tools: Tools, uri: str) -> list[tuple[int, int, str]]:
    found = tools.run_json("nbdinfo", "--map", "--json", uri)
    return [(each["offset"], each["length"], each["description"]) for each in found]


def test_nbdinfo_maps_data_and_holes(tools: Tools, door: NbdDoor) -> None:
    commands = ["discard 0 64M", "write 1M 1M", "write 8M 64k", "discard 1280k 256k"]
    commands += ["write -z -u 1M 64k", "write 65472k 64k"]
    words = [word for command in commands for word in ("-c", command)]
    tools.run("qemu-io", "-f", "raw", *words, door.uri)
    data, hole = "data", "hole,zero"
    expected = [
        (0, 1088 << 10, hole),
        (1088 << 10, 192 << 10, data),
        (1280 << 10, 256 << 10, hole),
        (1536 << 10, 512 << 10, data),
        (2 * MIB, 6 * MIB, hole),
        (8 * MIB, 64 << 10, data),
        (8 * MIB + (64 << 10), 56 * MIB - (128 << 10), hole),
        (64 * MIB - (64 << 10), 64 << 10, data),
    ]
    assert _map(tools, door.uri) == expected
    shown = tools.run("nbdinfo", "--map", "--totals", door.uri)
    totals = {line.split()[-1]: int(line.split()[0]) for line in shown.splitlines()}
    assert totals == {data: 832 << 10, hole: DISK_BYTES - (832 << 10)}


@pytest.mark.parametrize("name", ["disk/7", "frozen"])
def test_nbdinfo_maps_a_disk_that_is_not_thin_as_data(
    tools: Tools, daemon_door: NbdDoor, name: str
) -> None:
    assert _map(tools, daemon_door.export(name).uri) == [(0, DISK_BYTES, "data")]


@pytest.mark.parametrize("name", ["", "hidden", "disk/1", "none"])
def test_other_exports_are_refused_with_a_reason(
    tools: Tools, unix_door: NbdDoor, name: str
) -> None:
    uri = unix_door.uri.replace("/disk", f"/{name}", 1)
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
