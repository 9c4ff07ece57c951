# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that the kernel takes, and from which a later daemon knows what is whose."""

from __future__ import annotations

import hashlib

import pytest

from bridges.local.tcmu.naming import (
    DeviceConfig,
    LunName,
    check_target_name,
    identity_of,
    initiator_name,
    port_name,
)
from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry

NAMES = [
    "t0",
    "a/b",
    "..",
    "a,b",
    "a b%",
    "\u00e4\u00f6",
    "x" * 63,
    "naa.5000",
    "\u00e4" * 30,
    "\udcff",
]


def test_ports_are_locally_assigned_naa_names_that_stay() -> None:
    # SHA-256 of "scst-bridge target t0" begins so.
    assert port_name("t0") == "naa.3ffd4b69fc82aa8c"
    assert len({port_name(name) for name in NAMES}) == len(NAMES)


def test_initiator_differs_by_target_and_session() -> None:
    names = {initiator_name(target, session) for target in "ab" for session in "cd"}
    assert len(names) == 4
    assert all(name.startswith("naa.3") and len(name) == 20 for name in names)


@pytest.mark.parametrize("target", NAMES)
def test_dev_config_is_read_back_and_has_nothing_that_the_kernel_would_split(target: str) -> None:
    config = DeviceConfig(LunName(target, 16383), "0123456789abcdef")
    text = str(config)
    assert DeviceConfig.parse(f"{text}\n") == config
    assert not set(text) & set(", \n")
    assert len(text) < 256
    assert "/" not in config.name.device
    assert config.name.device not in (".", "..")


@pytest.mark.parametrize("target", NAMES)
def test_kernel_has_room_for_usual_names(target: str) -> None:
    check_target_name(target)


def test_kernel_has_no_room_for_long_names_that_must_be_quoted() -> None:
    with pytest.raises(ValueError, match="expected a shorter name"):
        check_target_name("\u00e4" * 40)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NULL",
        "rbd/pool/image",
        "scst-bridge",
        "scst-bridge/t/0",
        "scst-bridge/t/x/1",
        "scst-bridge/t/-1/1",
        "scst-bridge/t/0/1/2",
        "other/t/0/1",
    ],
)
def test_what_others_write_is_not_ours(text: str) -> None:
    assert DeviceConfig.parse(text) is None


def test_identity_changes_with_what_an_initiator_remembers() -> None:
    backend = Backend(SyncEngine())
    variants = [
        NullioAttributes(size_mb=1),
        NullioAttributes(size_mb=1, blocksize=4096),
        NullioAttributes(size_mb=1, usn="another"),
        NullioAttributes(size_mb=1, t10_dev_id="another"),
        NullioAttributes(size_mb=1, naa_id="5000000000000001"),
        NullioAttributes(size_mb=1, removable=True),
        NullioAttributes(size_mb=1, read_only=True),
    ]
    seen = set()
    for attributes in variants:
        backend = Backend(SyncEngine())
        unit = backend.add_device("vdisk_nullio", "d", attributes)
        seen.add(identity_of(LunEntry(unit)))
        assert len(identity_of(LunEntry(unit))) == 16
        backend.close()
    assert len(seen) == len(variants)


def test_identity_is_the_same_in_every_version() -> None:
    backend = Backend(SyncEngine())
    unit = backend.add_device("vdisk_nullio", "d", NullioAttributes(size_mb=1))
    naa = bytes.fromhex("3f30928ad0469c14")
    facts = f"('d', 512, 'ce1644da-d', 'ce1644da', {naa!r}, False, False)"
    expected = hashlib.sha256(facts.encode()).hexdigest()[:16]
    assert identity_of(LunEntry(unit)) == expected
    backend.close()


def test_identity_outlives_a_change_of_size_but_not_of_the_lun_s_access() -> None:
    identities = []
    for size_mb, is_read_only in ((1, False), (2, False), (1, True)):
        backend = Backend(SyncEngine())
        unit = backend.add_device("vdisk_nullio", "d", NullioAttributes(size_mb=size_mb))
        identities.append(identity_of(LunEntry(unit, is_read_only)))
        backend.close()
    assert identities[0] == identities[1] != identities[2]
