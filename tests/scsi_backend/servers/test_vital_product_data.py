# SPDX-License-Identifier: GPL-2.0-or-later
"""The vital product data of a disk, page by page, as an initiator gets it."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.servers.disk import disk
from scsi_backend.servers.vital_product_data import block_limits
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

NAA = "6000c500000000010000000000000002"


def named_disk() -> VdiskNullio:
    """A disk whose identity is given in full."""
    words = {"size_mb": "1", "prod_id": "disk", "t10_dev_id": "1a2b-disk", "usn": "1a2b"}
    return VdiskNullio("n", NullioAttributes.model_validate({**words, "naa_id": NAA}))


def page(vdisk: Vdisk, code: int, allocation_bytes: int = 0xFF) -> str:
    """A page's bytes, in hex."""
    cdb = cdbs.raw(f"1201{code:02x}{allocation_bytes:04x}00")
    return connect(vdisk).good(cdb, None, allocation_bytes).hex()


@pytest.mark.parametrize(
    ("is_thin", "golden"),
    [
        (False, "00000009" + "0080838687888fb0b1"),
        (True, "0000000a" + "0080838687888fb0b1b2"),
    ],
)
def test_supported_pages_are_those_that_are_answered(is_thin: bool, golden: str) -> None:
    assert page(FaultyVdisk(is_thin=is_thin), 0x00) == golden


def test_unit_serial_number_is_the_usn() -> None:
    assert page(named_disk(), 0x80) == "00800004" + b"1a2b".hex()


def test_identification_names_unit_and_port() -> None:
    golden = "02010011" + b"SCST_FIO1a2b-disk".hex()
    golden += "01140004" + "00000001"
    golden += "01030010" + NAA
    assert page(named_disk(), 0x83) == "00830031" + golden


def test_identification_has_all_names_that_are_given() -> None:
    words = {"size_mb": "1", "t10_vend_id": "ACME", "vend_specific_id": "shelf 7"}
    words |= {"naa_id": "5000c50000000001", "eui64_id": "0011223344556677"}
    words |= {"scsi_device_name": "iqn.2026-01.org:d"}
    golden = "0201000f" + b"ACME    shelf 7".hex()
    golden += "01140004" + "00000001"
    golden += "01020008" + "0011223344556677"
    golden += "01030008" + "5000c50000000001"
    golden += "03280014" + b"iqn.2026-01.org:d\0\0\0".hex()
    vdisk = VdiskNullio("n", NullioAttributes.model_validate(words))
    assert page(vdisk, 0x83) == f"0083{len(golden) // 2:04x}" + golden


@pytest.mark.parametrize(
    ("vdisk", "v_sup"), [(FaultyVdisk(), "01"), (FaultyVdisk(nv_cache=True), "00")]
)
def test_extended_inquiry_claims_task_attributes_and_the_cache(vdisk: Vdisk, v_sup: str) -> None:
    golden = "0086003c" + "00" + "07" + v_sup + "01" + "00" * 5 + "60" + "00" * 50
    assert page(vdisk, 0x86) == golden


def test_mode_pages_are_shared() -> None:
    assert page(FaultyVdisk(), 0x87) == "00870004" + "3fff0000"


def test_ports_are_those_of_the_targets_that_have_the_unit() -> None:
    unit = disk(named_disk())
    for identifier, name in ((9, "far"), (2, "near")):
        target = Target("nbd", name, identifier)
        for lun in (0, 1):
            target.add_lun(lun, LunEntry(unit))
    target.is_enabled = True
    data = Initiator(target.open_session("i")).good(cdbs.raw("12018800ff00"), None, 255).hex()
    near = "0211" + "0010" + b"SCST_FIOnbd/near".hex()
    far = "0211" + "000f" + b"SCST_FIOnbd/far".hex()
    golden = "0000" + "0002" + "00000000" + "0000" + "0014" + near
    golden += "0000" + "0009" + "00000000" + "0000" + "0013" + far
    assert data == f"0088{len(golden) // 2:04x}" + golden


@pytest.mark.parametrize(
    ("vdisk", "golden"),
    [
        # WSNZ; COMPARE AND WRITE 255 blocks; granularity 8 blocks, 32 MiB, 512 KiB; no UNMAP;
        # WRITE SAME 256 MiB.
        (
            FaultyVdisk(),
            "01ff0008" + "00010000" + "00000400" + "00" * 4 + "00" * 16 + "0000000000080000",
        ),
        # UNMAP: a million blocks, 256 descriptors, granularity 8 blocks, alignment 0 valid.
        (
            FaultyVdisk(is_thin=True),
            "01ff0008" + "00010000" + "00000400" + "00" * 4
            + "00100000" + "00000100" + "00000008" + "80000000" + "0000000000080000",
        ),
        (
            FaultyVdisk(blocks=16, block_size_bytes=4096, is_thin=True),
            "01ff0001" + "00002000" + "00000080" + "00" * 4
            + "00100000" + "00000100" + "00000001" + "80000000" + "0000000000010000",
        ),
    ],
    ids=["thick", "thin", "thin 4096"],
)  # fmt: skip
def test_block_limits_have_their_golden_bytes(vdisk: Vdisk, golden: str) -> None:
    assert page(vdisk, 0xB0) == "00b0003c" + golden + "00" * 20


@pytest.mark.parametrize(("block_size_bytes", "golden"), [(512, "00000800"), (4096, "00000100")])
def test_block_limits_tell_how_much_is_written_atomically(
    block_size_bytes: int, golden: str
) -> None:
    vdisk = FaultyVdisk(64, block_size_bytes, max_atomic_bytes=1 << 20)
    # At any place and in any length up to that, and without boundaries.
    assert page(vdisk, 0xB0)[88:] == golden + "00" * 16


@pytest.mark.parametrize(("rotational", "golden"), [("1", "3a98"), ("0", "0001")])
def test_characteristics_tell_the_rotation_rate(rotational: str, golden: str) -> None:
    attributes = NullioAttributes.model_validate({"size_mb": "1", "rotational": rotational})
    assert page(VdiskNullio("n", attributes), 0xB1) == "00b1003c" + golden + "00" * 58


def test_provisioning_of_a_thin_disk() -> None:
    # LBPU, LBPWS, LBPWS10, LBPRZ=001b; thin provisioned.
    assert page(FaultyVdisk(is_thin=True), 0xB2) == "00b20004" + "00e40200"


@pytest.mark.parametrize(
    ("block_size_bytes", "golden"), [(512, "0be40200"), (4096, "08e40200")], ids=["512", "4096"]
)
def test_thresholds_count_mebibytes(block_size_bytes: int, golden: str) -> None:
    vdisk = FaultyVdisk(64, block_size_bytes, is_thin=True)
    vdisk.soft_threshold_bytes = 1 << 30
    assert page(vdisk, 0xB2) == "00b20004" + golden


def test_provisioning_page_is_refused_on_a_fully_provisioned_disk() -> None:
    outcome = connect(FaultyVdisk()).send(cdbs.raw("1201b200ff00"), None, 255)
    assert_check_condition(outcome, "05/24/00", at=(2, 7))


def test_page_is_cut_to_the_allocation_length() -> None:
    assert page(named_disk(), 0x80, allocation_bytes=6) == "008000043161"


def test_limits_that_are_reported_are_the_enforced_ones() -> None:
    unit = disk(FaultyVdisk(is_thin=True))
    limits = block_limits(unit)
    assert limits.max_transfer == unit.max_transfer_blocks
    assert (limits.max_unmap, limits.max_unmap_descriptors) == (1 << 20, 256)


def test_compare_and_write_length_leaves_room_for_both_halves_of_its_data() -> None:
    unit = disk(FaultyVdisk())
    unit.max_transfer_blocks = 9
    assert block_limits(unit).max_compare_and_write == 4
