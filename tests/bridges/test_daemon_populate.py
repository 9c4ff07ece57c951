# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration makes of an empty backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.config import load
from bridges.daemon_populate import populate
from bridges.scst_conf import ConfigError
from scsi_backend.io.engine import SyncEngine
from scsi_backend.t10.alua import AccessState
from scsi_backend.target.backend import Backend
from tests.bridges.daemon_process import BLOCK_BYTES, configure

DISK_BYTES = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, DISK_BYTES)
    return path


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend(SyncEngine())
    yield made
    made.close()


def test_populating_makes_what_is_configured(tmp_path: Path, image: Path, backend: Backend) -> None:
    section = (
        "TARGET_DRIVER nbd {\nlisten h\n"
        "TARGET on {\nLUN 0 d\nLUN 5 d {\nread_only 1\n}\nenabled 1\n}\n"
        "TARGET off {\nLUN 0 d\n}\n}\n"
    )
    populate(backend, load(str(configure(tmp_path, section))))
    assert list(backend.devices) == ["d"]
    assert backend.devices["d"].block_count == DISK_BYTES // BLOCK_BYTES
    on, off = backend.targets_of("nbd")
    assert (on.name, on.is_enabled, off.name, off.is_enabled) == ("on", True, "off", False)
    luns = [(number, entry.unit, entry.is_read_only) for number, entry in on.luns.items()]
    unit = backend.devices["d"]
    assert luns == [(0, unit, False), (5, unit, True)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "{}: neither a regular file nor a block device"),
        (lambda path: os.mkfifo(path), "{}: neither a regular file nor a block device"),
        (lambda path: path.symlink_to("gone"), "{}: No such file or directory"),
        (lambda path: path.touch(), "empty: expected at least one block of 512 bytes"),
        (
            lambda path: path.write_bytes(bytes(511)),
            "empty: expected at least one block of 512 bytes",
        ),
    ],
)
def test_what_cannot_be_a_disk_is_refused_at_its_line(
    tmp_path: Path, backend: Backend, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "thing"
    make(path)
    conf = configure(tmp_path, image=path)
    with pytest.raises(ConfigError) as caught:
        populate(backend, load(str(conf)))
    assert str(caught.value) == f"{conf}:2: device d: {reason.format(path)}"


def test_populating_makes_groups_in_their_order(
    tmp_path: Path, image: Path, backend: Backend
) -> None:
    section = (
        "TARGET_DRIVER nbd {\nlisten h\nTARGET t {\nLUN 0 d\nenabled 1\n"
        "GROUP z {\nLUN 3 d {\nread_only 1\n}\nINITIATOR 10.0.0.0/8\nINITIATOR host?\n}\n"
        "GROUP a {\nINITIATOR *\n}\n}\n}\n"
    )
    populate(backend, load(str(configure(tmp_path, section))))
    target = backend.target("nbd", "t")
    assert list(target.groups) == ["z", "a"]
    assert [pattern.text for pattern in target.groups["z"].patterns] == ["10.0.0.0/8", "host?"]
    (entry,) = target.luns_of("host1").values()
    assert (entry.unit, entry.is_read_only) == (backend.devices["d"], True)
    assert target.luns_of("another") == {}


def test_populating_makes_device_groups(tmp_path: Path, image: Path, backend: Backend) -> None:
    sections = (
        "TARGET_DRIVER nbd {\nlisten h\nTARGET t {\nLUN 0 d\n}\n}\n",
        "DEVICE_GROUP g {\nDEVICE d\nTARGET_GROUP one {\ngroup_id 4\nstate standby\n"
        "preferred 1\nTARGET t\nTARGET far {\nrel_tgt_id 9\n}\n}\n}\n",
    )
    populate(backend, load(str(configure(tmp_path, *sections))))
    group = backend.device_groups["g"]
    assert group.devices == (backend.devices["d"],)
    (one,) = group.target_groups.values()
    assert (one.state, one.is_preferred) == (AccessState.STANDBY, True)
    assert [(each.group_id, each.ports) for each in group.described()] == [(4, (1, 9))]
