# SPDX-License-Identifier: GPL-2.0-or-later
"""Device attributes: for each row what is accepted, what is refused, and in which words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scsi_backend.handlers.attributes import FileioAttributes, NullioAttributes, VdiskAttributes

EXPECTED_FLAG = "expected 0 or 1"
EXPECTED_NUMBER = "expected a number"
EXPECTED_NAA = "expected 16 hex digits beginning with 2, 3 or 5, or 32 beginning with 6"
FLAGS = [
    "read_only",
    "rotational",
    "removable",
    "write_through",
    "nv_cache",
    "thin_provisioned",
    "expl_alua",
]
TEXTS = [
    ("t10_dev_id", 25),
    ("usn", 20),
    ("prod_id", 16),
    ("prod_rev_lvl", 4),
    ("t10_vend_id", 8),
    ("vend_specific_id", 128),
    ("scsi_device_name", 251),
    ("inq_vend_specific", 160),
]


def fileio(**words: str) -> FileioAttributes:
    """Attributes as they come from a configuration file."""
    return FileioAttributes.model_validate({"filename": "/disk", **words})


def refusal(model: type[VdiskAttributes], words: dict[str, str]) -> list[str]:
    """The messages with which words are refused."""
    with pytest.raises(ValidationError) as failure:
        model.model_validate(words)
    return [error["msg"].removeprefix("Value error, ") for error in failure.value.errors()]


def test_defaults_are_scsts() -> None:
    assert fileio().model_dump() == {
        "filename": "/disk",
        "blocksize": 512,
        "read_only": False,
        "rotational": True,
        "removable": False,
        "lb_per_pb_exp": True,
        "long_cdbs": False,
        "write_through": False,
        "nv_cache": False,
        "thin_provisioned": False,
        "tp_soft_threshold_mb": 0,
        "atomic_journal": None,
        "t10_dev_id": None,
        "usn": None,
        "prod_id": None,
        "prod_rev_lvl": None,
        "t10_vend_id": None,
        "vend_specific_id": None,
        "scsi_device_name": None,
        "eui64_id": None,
        "naa_id": None,
        "inq_vend_specific": None,
        "tst": 1,
        "mode_pages_file": None,
        "pr_file_name": None,
        "expl_alua": False,
    }
    nullio = NullioAttributes.model_validate({})
    assert (nullio.blocksize, nullio.size_bytes) == (512, 2748779069440)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(("word", "value"), [("0", False), ("1", True)])
def test_flag_is_0_or_1(name: str, word: str, value: bool) -> None:
    assert getattr(fileio(**{name: word}), name) is value


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("word", ["2", "yes", "true", "", "01"])
def test_any_other_flag_is_refused(name: str, word: str) -> None:
    assert refusal(FileioAttributes, {"filename": "/disk", name: word}) == [EXPECTED_FLAG]


@pytest.mark.parametrize(
    ("word", "value"), [("512", 512), ("4096", 4096), ("0x1000", 4096), ("01000", 512)]
)
def test_block_size_is_512_or_4096_in_any_base_of_strtoull(word: str, value: int) -> None:
    assert fileio(blocksize=word).blocksize == value


@pytest.mark.parametrize("word", ["0", "511", "1024", "2048", "8192"])
def test_any_other_block_size_is_refused(word: str) -> None:
    words = {"filename": "/disk", "blocksize": word}
    assert refusal(FileioAttributes, words) == ["expected 512 or 4096"]


@pytest.mark.parametrize("word", ["", "4k", "0x", "08", "1_000", " 512", "0b1", "0o17", "٤", "1.0"])
def test_what_strtoull_does_not_read_is_no_number(word: str) -> None:
    assert refusal(NullioAttributes, {"size": word}) == [EXPECTED_NUMBER]


def test_negative_number_is_refused() -> None:
    assert refusal(NullioAttributes, {"size": "-512"}) == [EXPECTED_NUMBER]
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        NullioAttributes(size=-512)


def test_file_name_is_an_absolute_path() -> None:
    assert fileio(filename="/dev/vdb").filename == "/dev/vdb"
    for word in ("disk.img", "./disk", ""):
        assert refusal(FileioAttributes, {"filename": word}) == ["expected an absolute path"]


def test_mode_pages_file_is_an_absolute_path() -> None:
    assert fileio(mode_pages_file="/var/lib/modes/disk").mode_pages_file == "/var/lib/modes/disk"
    for word in ("modes", ""):
        assert refusal(NullioAttributes, {"mode_pages_file": word}) == ["expected an absolute path"]


def test_mode_pages_are_not_kept_in_the_disk() -> None:
    words = {"filename": "/disk", "mode_pages_file": "/disk"}
    assert refusal(FileioAttributes, words) == ["mode_pages_file and filename are one file"]


@pytest.mark.parametrize(("word", "value"), [("0", 0), ("1", 1), ("0x1", 1)])
def test_task_set_type_is_0_or_1(word: str, value: int) -> None:
    assert fileio(tst=word).tst == value
    for other in ("2", "7"):
        assert refusal(NullioAttributes, {"tst": other}) == ["expected 0 or 1"]


def test_file_name_is_required() -> None:
    assert refusal(FileioAttributes, {}) == ["Field required"]


@pytest.mark.parametrize(("name", "limit"), TEXTS)
def test_text_up_to_its_limit_is_accepted(name: str, limit: int) -> None:
    for word in ("a", "w b", "~" * limit):
        assert getattr(fileio(**{name: word}), name) == word


@pytest.mark.parametrize(("name", "limit"), TEXTS)
def test_longer_empty_or_unprintable_text_is_refused(name: str, limit: int) -> None:
    message = f"expected 1 to {limit} printable ASCII characters"
    for word in ("", "a" * (limit + 1), "tab\t", "nul\0", "plätte"):
        assert refusal(FileioAttributes, {"filename": "/disk", name: word}) == [message]


@pytest.mark.parametrize(
    "word",
    [
        "2000c50000000001",
        "3000c50000000001",
        "5000c500ABCDEF01",
        "0x5000c50000000001",
        "0X5000c50000000001",
        "6000c500000000010000000000000002",
    ],
)
def test_naa_designator_of_its_format_is_accepted(word: str) -> None:
    digits = word.lower().removeprefix("0x")
    assert fileio(naa_id=word).naa_id == bytes.fromhex(digits)


@pytest.mark.parametrize(
    "word",
    [
        "",
        "0x",
        "5000c5000000001",
        "5000c500000000012",
        "6000c50000000001",
        "5000c500000000010000000000000002",
        "1000c50000000001",
        "5000c5000000000g",
        "5000 c5 00 00 01",
        "50:00:c5:00:00:0",
    ],
)
def test_any_other_naa_designator_is_refused(word: str) -> None:
    assert refusal(FileioAttributes, {"filename": "/disk", "naa_id": word}) == [EXPECTED_NAA]


@pytest.mark.parametrize("word", ["0011223344556677", "0x" + "aB" * 12, "01" * 16])
def test_eui_64_designator_of_8_12_or_16_bytes_is_accepted(word: str) -> None:
    assert fileio(eui64_id=word).eui64_id == bytes.fromhex(word.removeprefix("0x"))


@pytest.mark.parametrize("word", ["", "0x", "00" * 7, "00" * 10, "00" * 17, "0" * 15 + "g"])
def test_any_other_eui_64_designator_is_refused(word: str) -> None:
    message = "expected 16, 24 or 32 hex digits"
    assert refusal(FileioAttributes, {"filename": "/disk", "eui64_id": word}) == [message]


@pytest.mark.parametrize("name", ["write_through", "nv_cache"])
def test_read_only_excludes_write_caching(name: str) -> None:
    words = {"filename": "/disk", "read_only": "1", name: "1"}
    message = "read_only excludes write_through and nv_cache"
    assert refusal(FileioAttributes, words) == [message]


def test_threshold_is_in_mib_of_a_thin_disk() -> None:
    words = {"filename": "/disk", "thin_provisioned": "1", "tp_soft_threshold_mb": "1024"}
    assert fileio(**words).tp_soft_threshold_mb == 1024
    message = "tp_soft_threshold_mb needs thin_provisioned"
    assert refusal(FileioAttributes, {**words, "thin_provisioned": "0"}) == [message]
    assert len(refusal(FileioAttributes, {**words, "tp_soft_threshold_mb": str(1 << 32)})) == 1


def test_journal_of_atomic_writes_is_for_a_disk_that_is_written() -> None:
    words = {"filename": "/disk", "atomic_journal": "/journal"}
    assert fileio(**words).atomic_journal == "/journal"
    message = "read_only excludes atomic_journal"
    assert refusal(FileioAttributes, {**words, "read_only": "1"}) == [message]
    message = "filename and atomic_journal must differ"
    assert refusal(FileioAttributes, {**words, "filename": "/journal"}) == [message]


@pytest.mark.parametrize(
    ("words", "size_bytes"),
    [
        ({"size": "1048576"}, 1 << 20),
        ({"size": "0x100000"}, 1 << 20),
        ({"size_mb": "3"}, 3 << 20),
        ({"size": "4096", "blocksize": "4096"}, 4096),
        ({"size": "9223372036854775296"}, (1 << 63) - 512),
    ],
)
def test_size_of_nullio_is_in_bytes_or_mib(words: dict[str, str], size_bytes: int) -> None:
    assert NullioAttributes.model_validate(words).size_bytes == size_bytes


def test_both_sizes_exclude_each_other() -> None:
    words = {"size": "512", "size_mb": "1"}
    assert refusal(NullioAttributes, words) == ["size and size_mb exclude each other"]


@pytest.mark.parametrize(
    "words",
    [
        {"size": "0"},
        {"size_mb": "0"},
        {"size": "513"},
        {"size": "512", "blocksize": "4096"},
        {"size": "9223372036854776320"},
        {"size": "0x8000000000000000"},
    ],
)
def test_size_that_is_no_positive_multiple_of_blocksize_is_refused(words: dict[str, str]) -> None:
    message = "expected a size below 2^63 that is a multiple of blocksize"
    assert refusal(NullioAttributes, words) == [message]


@pytest.mark.parametrize(
    ("model", "word"),
    [(FileioAttributes, "size"), (NullioAttributes, "filename"), (VdiskAttributes, "nonsense")],
)
def test_unknown_attribute_is_refused(model: type[VdiskAttributes], word: str) -> None:
    words = {"filename": "/disk"} if model is FileioAttributes else {}
    assert refusal(model, {**words, word: "1"}) == ["Extra inputs are not permitted"]


def test_attributes_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        fileio().read_only = True  # type: ignore[misc]


def test_every_attribute_is_described() -> None:
    described = {**FileioAttributes.model_fields, **NullioAttributes.model_fields}
    assert all(field.description for field in described.values())
