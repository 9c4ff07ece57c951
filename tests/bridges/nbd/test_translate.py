# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to CDBs against a LUN that records them; what an export says of its LUN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from bridges.exchange import Exchange, Request, run_blocking
from bridges.lun import LunInfo
from bridges.nbd import translate
from bridges.recovery import Reply, ScsiError
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.vpd import BlockLimits, Provisioning

GOOD = Reply(0, None, 0)
INVALID_OPCODE = Reply(2, Sense(5, 0x2000), 0)
INVALID_FIELD_IN_CDB = Reply(2, Sense(5, 0x2400), 0)
INVALID_FIELD_IN_LIST = Reply(2, Sense(5, 0x2600), 0)
REFUSALS = (INVALID_OPCODE, INVALID_FIELD_IN_CDB, INVALID_FIELD_IN_LIST)
WRITE_FAILED = Reply(2, Sense(3, 0x0C00), 0)
CONDITION_MET = Reply(4, None, 0)
GIB = 1 << 30

LIMITS = BlockLimits(
    optimal_granularity=8,
    max_transfer=65536,
    optimal_transfer=1024,
    max_unmap=100,
    max_unmap_descriptors=255,
    unmap_granularity=8,
    max_write_same=64,
    is_write_same_non_zero=True,
)
NO_LIMITS = BlockLimits(0, 0, 0, 0, 0, 0, 0, is_write_same_non_zero=False)
THIN = Provisioning(
    has_unmap=True, has_write_same_16=True, has_write_same_10=True, reads_zeros=True, is_thin=True
)
DISK = LunInfo(
    block_size_bytes=512,
    block_count=1 << 40,
    physical_block_exponent=3,
    is_read_only=False,
    has_fua=True,
    has_volatile_cache=True,
    is_rotational=False,
    is_removable=False,
    is_thin_provisioned=True,
    limits=LIMITS,
    provisioning=THIN,
    vendor="SCST_FIO",
    product="disk0",
    revision="0100",
    serial="1",
    naa_id=None,
)
BIG_BLOCKS = replace(DISK, block_size_bytes=4096, physical_block_exponent=0)
THICK = replace(DISK, is_thin_provisioned=False)
WRITE_THROUGH = replace(DISK, has_volatile_cache=False)


@dataclass
class Recorder:
    """A LUN that keeps CDBs and data, and answers as the opcode's rule says."""

    rules: dict[int, Callable[[int], Reply]] = field(default_factory=dict)
    cdbs: list[str] = field(default_factory=list)
    data: list[bytes | None] = field(default_factory=list)

    def execute(self, request: Request) -> Reply:
        """Answer one command."""
        self.cdbs.append(request.cdb.hex())
        self.data.append(None if request.data_out is None else bytes(request.data_out))
        rule = self.rules.get(request.cdb[0])
        return GOOD if rule is None else rule(len(self.cdbs))

    def run(self, exchange: Exchange[None]) -> list[str]:
        """Run an exchange to its end; return its CDBs."""
        run_blocking(exchange, self.execute)
        return self.cdbs


def _always(reply: Reply) -> Callable[[int], Reply]:
    return lambda number: reply


def _cdbs(exchange: Exchange[None]) -> list[str]:
    return Recorder().run(exchange)


def test_readiness_is_one_test_unit_ready() -> None:
    assert _cdbs(translate.ready()) == ["000000000000"]
    with pytest.raises(ScsiError):
        Recorder({0: _always(WRITE_FAILED)}).run(translate.ready())


@pytest.mark.parametrize("info", [DISK, WRITE_THROUGH])
def test_flush_is_one_synchronize_cache_of_everything(info: LunInfo) -> None:
    assert _cdbs(translate.flush(info)) == ["91000000000000000000000000000000"]


@pytest.mark.parametrize("info", [DISK, WRITE_THROUGH])
def test_failed_flush_is_an_error(info: LunInfo) -> None:
    lun = Recorder({0x91: _always(WRITE_FAILED)})
    with pytest.raises(ScsiError, match="WRITE ERROR"):
        lun.run(translate.flush(info))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_flush_may_be_refused_only_where_there_is_no_volatile_cache(refusal: Reply) -> None:
    lun = Recorder({0x91: _always(refusal)})
    lun.run(translate.flush(WRITE_THROUGH))
    with pytest.raises(ScsiError):
        lun.run(translate.flush(DISK))


@pytest.mark.parametrize(
    ("offset", "length", "descriptor"),
    [
        (0, 512, (0, 1)),
        (512, 1024, (1, 2)),
        (1, 1023, (1, 1)),
        (511, 514, (1, 1)),
        (513, 1535, (2, 2)),
        (0, 1023, (0, 1)),
    ],
)
def test_trim_is_rounded_to_the_blocks_inside(
    offset: int, length: int, descriptor: tuple[int, int]
) -> None:
    lun = Recorder()
    assert lun.run(translate.trim(DISK, offset, length, fua=False)) == ["42000000000000001800"]
    lba, blocks = descriptor
    assert lun.data == [bytes.fromhex(f"0016001000000000{lba:016x}{blocks:08x}00000000")]


@pytest.mark.parametrize(("offset", "length"), [(1, 511), (1, 1022), (511, 2), (0, 511), (700, 0)])
def test_trim_of_no_whole_block_is_nothing(offset: int, length: int) -> None:
    assert _cdbs(translate.trim(DISK, offset, length, fua=True)) == []


def test_trim_of_a_thick_disk_is_nothing() -> None:
    assert _cdbs(translate.trim(THICK, 0, 512, fua=True)) == []


def test_trim_is_split_at_the_maximum_unmap_count() -> None:
    lun = Recorder()
    lun.run(translate.trim(DISK, 512 * 7, 512 * 250, fua=False))
    assert [(data[8:16].hex(), data[16:20].hex()) for data in lun.data if data] == [
        ("0000000000000007", "00000064"),
        ("000000000000006b", "00000064"),
        ("00000000000000cf", "00000032"),
    ]


def test_trim_with_fua_synchronizes_the_blocks_that_were_unmapped() -> None:
    info = replace(DISK, limits=NO_LIMITS)
    assert _cdbs(translate.trim(info, 513, 2048, fua=True)) == [
        "42000000000000001800",
        "91000000000000000002000000030000",
    ]
    # WCE may have been set since the session looked.
    info = replace(info, has_volatile_cache=False)
    assert len(_cdbs(translate.trim(info, 513, 2048, fua=True))) == 2


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_trim_is_no_error_and_is_not_asked_for_again(refusal: Reply) -> None:
    lun = Recorder({0x42: _always(refusal)})
    lun.run(translate.trim(DISK, 0, 512 * 250, fua=False))
    assert len(lun.cdbs) == 1


def test_failed_trim_is_an_error() -> None:
    lun = Recorder({0x42: _always(WRITE_FAILED)})
    with pytest.raises(ScsiError):
        lun.run(translate.trim(DISK, 0, 512, fua=False))


@pytest.mark.parametrize(
    ("info", "no_hole", "byte_1"),
    [
        (DISK, False, "09"),
        (DISK, True, "01"),
        (THICK, False, "01"),
        (THICK, True, "01"),
        # Deallocated blocks that may read as anything are no zeros.
        (replace(DISK, provisioning=replace(THIN, reads_zeros=False)), False, "01"),
    ],
)
def test_zeros_unmap_only_where_that_reads_as_zeros_and_holes_are_welcome(
    info: LunInfo, no_hole: bool, byte_1: str
) -> None:
    exchange = translate.write_zeroes(info, 1024, 2048, fua=False, no_hole=no_hole)
    assert _cdbs(exchange) == [f"93{byte_1}0000000000000002000000040000"]


def test_zeros_are_split_at_the_maximum_write_same_length() -> None:
    exchange = translate.write_zeroes(DISK, 512, 512 * 150, fua=True, no_hole=False)
    assert _cdbs(exchange) == [
        "93090000000000000001000000400000",
        "93090000000000000041000000400000",
        "93090000000000000081000000160000",
        "91000000000000000001000000960000",
    ]


def test_zeros_without_a_reported_limit_are_one_command() -> None:
    info = replace(DISK, limits=NO_LIMITS)
    exchange = translate.write_zeroes(info, 0, 4 * GIB - 512, fua=False, no_hole=True)
    assert _cdbs(exchange) == ["93010000000000000000007fffff0000"]


def test_zeros_on_a_disk_that_was_write_through_are_synchronized_too() -> None:
    exchange = translate.write_zeroes(WRITE_THROUGH, 0, 512, fua=True, no_hole=True)
    assert _cdbs(exchange) == [
        "93010000000000000000000000010000",
        "91000000000000000000000000010000",
    ]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_where_write_same_is_refused_zeros_are_written(refusal: Reply) -> None:
    lun = Recorder({0x93: _always(refusal)})
    length = (5 << 19) + 512
    lun.run(translate.write_zeroes(DISK, 512, length, fua=True, no_hole=False))
    assert lun.cdbs == [
        "93090000000000000001000000400000",
        "8a000000000000000001000008000000",
        "8a000000000000000801000008000000",
        "8a000000000000001001000004010000",
        "91000000000000000001000014010000",
    ]
    written = b"".join(data for data in lun.data if data is not None)
    assert written == bytes(length)


def test_zeros_are_written_from_where_write_same_was_refused() -> None:
    lun = Recorder({0x93: lambda number: GOOD if number == 1 else INVALID_FIELD_IN_CDB})
    lun.run(translate.write_zeroes(DISK, 0, 512 * 100, fua=False, no_hole=True))
    assert lun.cdbs == [
        "93010000000000000000000000400000",
        "93010000000000000040000000240000",
        "8a000000000000000040000000240000",
    ]


@pytest.mark.parametrize("opcode", [0x93, 0x8A, 0x91])
def test_failed_zeros_are_an_error(opcode: int) -> None:
    rules = {0x93: _always(INVALID_OPCODE), opcode: _always(WRITE_FAILED)}
    with pytest.raises(ScsiError):
        Recorder(rules).run(translate.write_zeroes(DISK, 0, 512, fua=True, no_hole=False))


def test_cache_prefetches_the_blocks_that_the_range_touches() -> None:
    assert _cdbs(translate.cache(DISK, 511, 2)) == ["90020000000000000000000000020000"]
    assert _cdbs(translate.cache(BIG_BLOCKS, 4096, 8192)) == ["90020000000000000001000000020000"]


@pytest.mark.parametrize("reply", [CONDITION_MET, WRITE_FAILED, *REFUSALS])
def test_no_answer_to_a_prefetch_is_an_error(reply: Reply) -> None:
    Recorder({0x90: _always(reply)}).run(translate.cache(DISK, 0, 512))


def test_big_blocks_shift_every_address() -> None:
    exchange = translate.write_zeroes(BIG_BLOCKS, 8192, 4096 * 3, fua=False, no_hole=True)
    assert _cdbs(exchange) == ["93010000000000000002000000030000"]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        # HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO.
        (DISK, 0x0D6D),
        (THICK, 0x0D4D),
        (replace(DISK, is_rotational=True), 0x0D7D),
        (replace(DISK, provisioning=replace(THIN, has_unmap=False)), 0x0D6D),
        (replace(DISK, provisioning=Provisioning(False, False, True, True, True)), 0x0D4D),
        # Read-only: neither TRIM nor WRITE_ZEROES.
        (replace(DISK, is_read_only=True), 0x050F),
        (WRITE_THROUGH, 0x0D6D),
    ],
)
def test_transmission_flags(info: LunInfo, expected: int) -> None:
    assert translate.transmission_flags(info) == expected


@pytest.mark.parametrize(
    ("block_size", "exponent", "granularity", "expected"),
    [
        (512, 3, 8, (512, 4096, 32 << 20)),
        (512, 0, 0, (512, 4096, 32 << 20)),
        (4096, 0, 1, (4096, 4096, 32 << 20)),
        (512, 5, 0, (512, 16384, 32 << 20)),
        (512, 3, 128, (512, 65536, 32 << 20)),
        # The preferred size has to be a power of two.
        (512, 3, 24, (512, 4096, 32 << 20)),
        (512, 3, 1 << 20, (512, 32 << 20, 32 << 20)),
    ],
)
def test_block_sizes(
    block_size: int, exponent: int, granularity: int, expected: tuple[int, int, int]
) -> None:
    info = replace(
        DISK,
        block_size_bytes=block_size,
        physical_block_exponent=exponent,
        limits=replace(LIMITS, optimal_granularity=granularity),
    )
    assert translate.block_sizes(info) == expected
