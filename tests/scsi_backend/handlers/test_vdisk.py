# SPDX-License-Identifier: GPL-2.0-or-later
"""Identity and geometry of an emulated disk."""

from __future__ import annotations

import hashlib

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk import Identity, crc32c
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from tests.scsi_backend.fakes import FaultyVdisk


def nullio(name: str, **words: str) -> VdiskNullio:
    """A disk with attributes as words."""
    return VdiskNullio(name, NullioAttributes.model_validate({"size": "4096", **words}))


def test_crc_is_castagnolis() -> None:
    # The check value of CRC-32C is E3069283h for "123456789", with a seed and a final inversion of
    # all ones. A seed of ones is the seed of zero with the first four bytes inverted.
    data = b"123456789"
    inverted = bytes(byte ^ 0xFF for byte in data[:4]) + data[4:]
    assert crc32c(inverted) == 0xE3069283 ^ 0xFFFFFFFF


def test_identity_is_made_from_the_name_and_stable() -> None:
    number = f"{crc32c(b'disk1' + bytes(1)):x}"
    t10_dev_id = f"{number}-disk1"
    naa = locally_assigned(t10_dev_id, number)
    expected = Identity(
        "SCST_FIO", "disk1", "0100", t10_dev_id, number, naa, vend_specific_id=t10_dev_id
    )
    assert nullio("disk1").identity == expected
    assert nullio("disk2").identity.usn != number


def locally_assigned(t10_dev_id: str, usn: str) -> bytes:
    """NAA 3 in the first four bits, and the first 60 bits but for those of SHA-256."""
    return bytes.fromhex("3" + hashlib.sha256(f"{t10_dev_id}\0{usn}".encode()).hexdigest()[1:16])


@pytest.mark.parametrize("word", ["t10_dev_id", "usn"])
def test_locally_assigned_name_follows_what_tells_disks_apart(word: str) -> None:
    names = {nullio("disk", **words).identity.naa_id for words in ({}, {word: "a"}, {word: "b"})}
    assert len(names) == 3


def test_a_disk_with_an_eui_64_is_given_no_other_name() -> None:
    assert nullio("disk", eui64_id="0011223344556677").identity.naa_id is None


def test_long_name_is_cut_to_the_fields_of_inquiry() -> None:
    identity = nullio("a-name-of-more-than-25-characters").identity
    assert identity.product == "a-name-of-more-t"
    assert len(identity.t10_dev_id) == 25


def test_identity_given_by_attributes_is_used() -> None:
    words = {"prod_id": "p", "t10_dev_id": "t", "usn": "u", "naa_id": "5000c50000000001"}
    words |= {"prod_rev_lvl": "7", "t10_vend_id": "v", "vend_specific_id": "s"}
    words |= {"scsi_device_name": "iqn.x", "eui64_id": "0011223344556677"}
    words |= {"inq_vend_specific": "more"}
    expected = Identity(
        vendor="v",
        product="p",
        revision="7",
        t10_dev_id="t",
        usn="u",
        naa_id=bytes.fromhex("5000c50000000001"),
        eui64_id=bytes.fromhex("0011223344556677"),
        vend_specific_id="s",
        scsi_device_name="iqn.x",
        inq_vend_specific=b"more",
    )
    assert nullio("disk", **words).identity == expected


@pytest.mark.parametrize("tst", ["0", "1"])
def test_task_set_type_follows_the_attribute(tst: str) -> None:
    assert nullio("disk", tst=tst).tst == int(tst)


@pytest.mark.parametrize(("block_size_bytes", "blocks"), [(512, 8), (4096, 1)])
def test_geometry_is_in_blocks(block_size_bytes: int, blocks: int) -> None:
    vdisk = nullio("disk", blocksize=str(block_size_bytes))
    assert (vdisk.block_size_bytes, vdisk.block_count) == (block_size_bytes, blocks)


def test_flags_follow_the_attributes() -> None:
    vdisk = nullio("disk", read_only="1", rotational="0", removable="1")
    assert (vdisk.is_read_only, vdisk.is_rotational, vdisk.is_removable) == (True, False, True)


def test_block_count_leaves_out_a_tail_shorter_than_a_block() -> None:
    assert FaultyVdisk(blocks=2, tail_bytes=511).block_count == 2


def test_a_disk_that_knows_no_better_has_its_data_read() -> None:
    assert FaultyVdisk().locate_now(0, 4096) is None
