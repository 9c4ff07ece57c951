# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running daemon refuses: all of it at once, each at its line."""

from __future__ import annotations

import pytest

from bridges.daemon_check import reason, refusals
from bridges.scst_conf import ConfigError, Location
from tests.bridges.site import read

BASE = """\
HANDLER vdisk_nullio {
DEVICE d {
size_mb 16
rotational 0
}
DEVICE e
}
TARGET_DRIVER nbd {
listen 127.0.0.1:1
listen 127.0.0.1:2
TARGET t {
LUN 0 d
}
TARGET u {
}
}
"""


def refused(old: str, new: str) -> list[str]:
    """The refusals where a piece of the text is another."""
    assert old in BASE
    return list(map(str, refusals(read(BASE), read(BASE.replace(old, new)))))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("size_mb 16", "size_mb 17", "new.conf:3: device d: size_mb 17"),
        ("size_mb 16\n", "", "new.conf:2: device d: without size_mb 16"),
        ("DEVICE e", "DEVICE e {\nread_only 1\n}", "new.conf:7: device e: read_only 1"),
    ],
)
def test_attributes_of_a_device_stay(old: str, new: str, expected: str) -> None:
    remedy = "give the device another name, or restart the daemon"
    assert refused(old, new) == [f"{expected}: cannot be changed while the daemon runs: {remedy}"]


def test_the_handler_of_a_device_stays() -> None:
    moved = "}\nHANDLER vdisk_fileio {\nDEVICE e {\nfilename /e\n}\n}\n"
    (found,) = refused("DEVICE e\n}\n", moved)
    assert found.startswith(
        "new.conf:8: device e: handler vdisk_fileio, which was vdisk_nullio: cannot be changed"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("listen 127.0.0.1:2", "listen 127.0.0.1:3", "10: driver nbd: listen 127.0.0.1:3"),
        ("listen 127.0.0.1:2\n", "", "8: driver nbd: without listen 127.0.0.1:2"),
        (
            "listen 127.0.0.1:2",
            "listen 127.0.0.1:2 {\nmax_connections 1\n}",
            "10: driver nbd: listen 127.0.0.1:2",
        ),
        ("TARGET t", "max_connections 5\nTARGET t", "11: driver nbd: max_connections 5"),
    ],
)
def test_attributes_of_a_driver_stay(old: str, new: str, expected: str) -> None:
    remedy = "cannot be changed while the daemon runs: restart the daemon"
    assert refused(old, new) == [f"new.conf:{expected}: {remedy}"]


def test_the_number_of_a_target_stays() -> None:
    (found,) = refused("TARGET u {\n", "TARGET u {\nrel_tgt_id 9\n")
    assert found == (
        "new.conf:14: target u: rel_tgt_id 9, which was 2: cannot be changed while the daemon runs:"
        " remove the target and add it again, or restart the daemon"
    )
    # The number that it has.
    assert refused("TARGET u {\n", "TARGET u {\nrel_tgt_id 2\n") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("listen 127.0.0.1:1\nlisten 127.0.0.1:2", "listen 127.0.0.1:2\nlisten 127.0.0.1:1"),
        ("DEVICE e", "DEVICE e {\nrotational 1\n}"),
        ("DEVICE e\n", ""),
        ("DEVICE e", "DEVICE e\nDEVICE f"),
        ("LUN 0 d", "LUN 1 e\nenabled 1"),
        ("TARGET u {\n}\n", ""),
        (BASE[BASE.index("TARGET_DRIVER") :], ""),
    ],
)
def test_what_means_the_same_or_can_be_changed_is_not_refused(old: str, new: str) -> None:
    assert refused(old, new) == []


def test_everything_is_refused_at_once_in_the_order_of_the_file() -> None:
    wanted = BASE.replace("size_mb 16", "size_mb 17").replace("DEVICE e", "DEVICE e {\ntst 0\n}")
    wanted = wanted.replace("127.0.0.1:2", "127.0.0.1:3")
    lines = [error.line for error in refusals(read(BASE), read(wanted))]
    assert lines == [3, 7, 12]


def test_what_was_added_at_run_time_stands_in_no_file() -> None:
    assert reason(ConfigError(Location("run time", 1), "wrong")) == "wrong"
    assert reason(ConfigError(Location("a.conf", 1), "wrong")) == "a.conf:1: wrong"
