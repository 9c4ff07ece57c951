# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SENSE: pages, headers, block descriptors."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

RECOVERY = "010a" + "00" * 10
DISCONNECT = "020e" + "00" * 14
# 56 sectors of 512 bytes a track, HSEC.
FORMAT = "0316" + "00" * 8 + "003802000001" + "00000000" + "40000000"
# 1024 blocks are no whole cylinder of 255 x 56.
GEOMETRY = "0416" + "000000" + "ff" + "00" * 14 + "3a98" + "0000"
CACHING_WCE = "0812" + "04" + "00" * 17
CACHING_NO_WCE = "0812" + "00" * 18
CONTROL = "0a0a" + "201000000000" + "ffff0000"
EXTENSION = "4a01001c" + "01" + "00" * 27
EXCEPTIONS = "1c0a" + "08" + "00" * 9
ALL = RECOVERY + DISCONNECT + FORMAT + GEOMETRY + CACHING_WCE + CONTROL + EXCEPTIONS
# D_SENSE; QUEUE ALGORITHM MODIFIER, QERR; SWP; TAS.
CONTROL_MASK = "0a0a" + "04f60840" + "00" * 6
ALL_MASK = (
    RECOVERY + DISCONNECT + "0316" + "00" * 22 + "0416" + "00" * 22
    + CACHING_WCE + CONTROL_MASK + "1c0a" + "00" * 10
)  # fmt: skip
DESCRIPTOR = "00000400" + "00000200"


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.mark.parametrize(
    ("byte_2", "golden"),
    [
        ("08", CACHING_WCE),
        ("0a", CONTROL),
        ("01", RECOVERY),
        ("02", DISCONNECT),
        ("03", FORMAT),
        ("04", GEOMETRY),
        ("1c", EXCEPTIONS),
        ("3f", ALL),
        ("88", CACHING_WCE),
        ("bf", ALL),
        ("48", CACHING_WCE),
        ("4a", CONTROL_MASK),
        ("7f", ALL_MASK),
    ],
)
def test_mode_sense_returns_pages_by_code_and_control(
    initiator: Initiator, byte_2: str, golden: str
) -> None:
    length = len(golden) // 2
    without = initiator.good(cdbs.raw(f"1a08{byte_2}00ff00"), None, 255)
    assert without.hex() == f"{length + 3:02x}001000" + golden
    with_descriptor = initiator.good(cdbs.raw(f"1a00{byte_2}00ff00"), None, 255)
    assert with_descriptor.hex() == f"{length + 11:02x}001008" + DESCRIPTOR + golden
    without = initiator.good(cdbs.raw(f"5a08{byte_2}0000000000ff00"), None, 255)
    assert without.hex() == f"{length + 6:04x}001000000000" + golden
    with_descriptor = initiator.good(cdbs.raw(f"5a00{byte_2}0000000000ff00"), None, 255)
    assert with_descriptor.hex() == f"{length + 14:04x}001000000008" + DESCRIPTOR + golden


@pytest.mark.parametrize(
    ("page", "golden"),
    [
        ("0a01", EXTENSION),
        ("0aff", CONTROL + EXTENSION),
        ("4a01", "4a01001c" + "00" * 28),
        ("4aff", CONTROL_MASK + "4a01001c" + "00" * 28),
        ("08ff", CACHING_WCE),
        ("3fff", ALL[: -len(EXCEPTIONS)] + EXTENSION + EXCEPTIONS),
    ],
)
def test_mode_sense_returns_subpages_in_ascending_order(
    initiator: Initiator, page: str, golden: str
) -> None:
    length = len(golden) // 2
    data = initiator.good(cdbs.raw(f"1a08{page}ff00"), None, 255)
    assert data.hex() == f"{length + 3:02x}001000" + golden
    data = initiator.good(cdbs.raw(f"5a08{page}00000000ff00"), None, 255)
    assert data.hex() == f"{length + 6:04x}001000000000" + golden


@pytest.mark.parametrize(
    ("words", "code", "golden"),
    [
        ({"tst": "0"}, "0a", "0a0a" + "001000000000" + "ffff0000"),
        ({"rotational": "0"}, "04", "0416" + "000000" + "ff" + "00" * 14 + "0000" + "0000"),
        ({"size_mb": "1024"}, "04", "0416" + "000092" + "ff" + "00" * 14 + "3a98" + "0000"),
        ({"removable": "1"}, "03", FORMAT[:40] + "60" + "000000"),
        ({"blocksize": "4096"}, "03", FORMAT[:24] + "1000" + FORMAT[28:]),
    ],
)
def test_pages_follow_the_attributes(words: dict[str, str], code: str, golden: str) -> None:
    attributes = NullioAttributes.model_validate({"size_mb": "1", **words})
    initiator = connect(VdiskNullio("n", attributes))
    assert initiator.good(cdbs.raw(f"1a08{code}00ff00"), None, 255).hex()[8:] == golden


# A decreasing soft threshold of 1024 sets of available LBA mapping resource, for all nexuses.
PROVISIONING = "5c020014" + "00" * 12 + "80010000" + "00000400"


@pytest.fixture
def thin() -> Initiator:
    """An initiator of a thin disk with a threshold of 1024 MiB."""
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.soft_threshold_bytes = 1 << 30
    return connect(vdisk)


@pytest.mark.parametrize(
    ("page", "golden"),
    [
        # LBPERE.
        ("0100", "010a" + "00" * 5 + "80" + "00" * 4),
        ("1c02", PROVISIONING),
        ("1cff", EXCEPTIONS + PROVISIONING),
        ("5c02", "5c020014" + "00" * 20),
        ("9c02", PROVISIONING),
    ],
)
def test_a_disk_with_a_threshold_has_pages_that_tell_of_it(
    thin: Initiator, page: str, golden: str
) -> None:
    assert thin.good(cdbs.raw(f"1a08{page}ff00"), None, 255).hex()[8:] == golden


def test_threshold_cannot_be_changed(thin: Initiator) -> None:
    page = bytes.fromhex(PROVISIONING)
    assert thin.good(cdbs.raw("151000001c00"), bytes(4) + page) == b""
    changed = page[:-1] + b"\x01"
    outcome = thin.send(cdbs.raw("151000001c00"), bytes(4) + changed)
    assert_check_condition(outcome, "05/26/00", at=(27, 0), in_cdb=False)


def test_a_thin_disk_without_a_threshold_tells_of_none() -> None:
    initiator = connect(FaultyVdisk(is_thin=True))
    assert initiator.good(cdbs.raw("1a080100ff00"), None, 255).hex()[8:] == RECOVERY
    outcome = initiator.send(cdbs.raw("1a081c02ff00"), None, 255)
    assert_check_condition(outcome, "05/24/00", at=(3, 7))


@pytest.mark.parametrize("is_lun", [True, False], ids=["LUN", "device"])
def test_whoever_may_not_write_may_change_nothing(is_lun: bool) -> None:
    initiator = connect(FaultyVdisk(read_only=not is_lun), is_read_only=is_lun)
    data = initiator.good(cdbs.raw("1a084a00ff00"), None, 255)
    assert data.hex()[8:] == "0a0a" + "00" * 10
    data = initiator.good(cdbs.raw("1a084800ff00"), None, 255)
    assert data.hex()[8:] == "0812" + "00" * 18


def test_long_lba_accepted_gives_the_16_byte_descriptor(initiator: Initiator) -> None:
    data = initiator.good(cdbs.raw("5a10080000000000ff00"), None, 255)
    descriptor = "0000000000000400" + "00000000" + "00000200"
    assert data.hex() == "002a001001000010" + descriptor + CACHING_WCE


def test_long_lba_without_block_descriptors_is_not_set(initiator: Initiator) -> None:
    data = initiator.good(cdbs.raw("5a18080000000000ff00"), None, 255)
    assert data.hex() == "001a001000000000" + CACHING_WCE


def test_mode_data_is_cut_to_the_allocation_length(initiator: Initiator) -> None:
    assert initiator.good(cdbs.raw("1a003f000400"), None, 255).hex() == "83001008"
    assert initiator.good(cdbs.raw("5a003f00000000000800"), None, 255).hex() == "0086001000000008"


@pytest.mark.parametrize(
    ("vdisk", "golden"),
    [
        (FaultyVdisk(write_through=True), "17001000" + CACHING_NO_WCE),
        (FaultyVdisk(nv_cache=True), "17001000" + CACHING_NO_WCE),
        (FaultyVdisk(read_only=True), "17009000" + CACHING_NO_WCE),
    ],
    ids=["write_through", "nv_cache", "read_only"],
)
def test_caching_and_write_protection_show(vdisk: FaultyVdisk, golden: str) -> None:
    assert connect(vdisk).good(cdbs.raw("1a080800ff00"), None, 255).hex() == golden


def test_read_only_lun_shows_as_write_protected() -> None:
    initiator = connect(FaultyVdisk(), is_read_only=True)
    assert initiator.good(cdbs.raw("1a080800ff00"), None, 255).hex() == "17009000" + CACHING_WCE


@pytest.mark.parametrize("opcode", ["1a", "5a"])
@pytest.mark.parametrize(
    ("rest", "code", "at"),
    [
        ("08c800", "05/39/00", None),
        ("08ff00", "05/39/00", None),
        ("080a02", "05/24/00", (3, 7)),
        ("080801", "05/24/00", (3, 7)),
        ("083f01", "05/24/00", (3, 7)),
        ("080000", "05/24/00", (2, 5)),
        ("0805ff", "05/24/00", (2, 5)),
        ("083e00", "05/24/00", (2, 5)),
    ],
)
def test_mode_sense_refuses_what_it_does_not_have(
    initiator: Initiator, opcode: str, rest: str, code: str, at: tuple[int, int] | None
) -> None:
    outcome = initiator.send(cdbs.raw(opcode + rest + "ff000000ff0000"), None, 255)
    assert_check_condition(outcome, code, at=at)
