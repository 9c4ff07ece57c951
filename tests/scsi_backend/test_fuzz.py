# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand random and mutated CDBs against a small disk.

Whatever an initiator sends, ``submit`` does not raise, the command ends exactly once, its buffers
are respected, no defect shows as INTERNAL TARGET FAILURE, and the disk still works afterwards.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.sense import SenseKey
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.initiator import Initiator, Pending, connect

SEEDS = range(10)
COMMANDS_PER_SEED = 1000
BLOCKS = 64
STATUSES = {Status.GOOD, Status.CHECK_CONDITION}
OPCODES = (
    *(0x00, 0x03, 0x04, 0x08, 0x0A, 0x12, 0x15, 0x1A, 0x1B, 0x1C, 0x1D, 0x25, 0x28, 0x2A),
    *(0x2E, 0x2F, 0x34, 0x35, 0x37, 0x3B, 0x3C, 0x41, 0x42, 0x48, 0x4C, 0x4D, 0x55, 0x5A),
    *(0x7F, 0x88, 0x89, 0x8A, 0x8B, 0x8E, 0x8F, 0x90, 0x91, 0x93, 0x9C, 0x9E),
    *(0xA0, 0xA3, 0xA8, 0xAA, 0xAE, 0xAF, 0xB7),
)
BLOCK_OPCODES = (
    cdbs.READ,
    cdbs.WRITE,
    cdbs.VERIFY,
    cdbs.WRITE_AND_VERIFY,
    cdbs.ORWRITE,
    cdbs.WRITE_SAME,
    cdbs.PRE_FETCH,
    cdbs.SYNCHRONIZE_CACHE,
)


def any_bytes(rng: random.Random) -> bytes:
    """A CDB of 1 to 32 random bytes."""
    return rng.randbytes(rng.randint(1, 32))


def known_opcode(rng: random.Random) -> bytes:
    """An opcode that the disk has, then random bytes, of which many are zero."""
    rest = bytes(rng.choice((0, 0, rng.randrange(256))) for _ in range(15))
    return bytes((rng.choice(OPCODES),)) + rest


def plausible(rng: random.Random) -> bytes:
    """A block command that mostly stays on the disk, with a bit flipped now and then."""
    opcodes = rng.choice(BLOCK_OPCODES)
    width = rng.choice(sorted(opcodes))
    lba, blocks = rng.randint(0, BLOCKS + 1), rng.randint(0, 8)
    flags = rng.choice((0, 0, 0x02, 0x06, 0x08, 0x09, rng.randrange(256)))
    cdb = bytearray(cdbs.block(opcodes, width, lba, blocks, 0 if width == 6 else flags))
    if rng.random() < 0.3:
        cdb[rng.randrange(len(cdb))] ^= 1 << rng.randrange(8)
    return bytes(cdb)


def comparing(rng: random.Random) -> bytes:
    """COMPARE AND WRITE that mostly stays on the disk."""
    flags = rng.choice((0, 0, 0x08, 0x10, rng.randrange(256)))
    return cdbs.compare_and_write(rng.randint(0, BLOCKS + 1), rng.choice((0, 1, 2, 255)), flags)


def unmapping(rng: random.Random) -> bytes:
    """UNMAP or GET LBA STATUS."""
    if rng.random() < 0.5:
        return cdbs.unmap(rng.choice((0, 7, 8, 24, 40, rng.randrange(1 << 16))))
    return cdbs.get_lba_status(rng.randint(0, BLOCKS), rng.randrange(100))


def selecting(rng: random.Random) -> bytes:
    """MODE SELECT of a list that may be whole."""
    length = rng.choice((0, 3, 8, 24, 28, 36, 40, rng.randrange(256)))
    flags = rng.choice((0x10, 0x10, 0x10, rng.randrange(256)))
    if rng.random() < 0.5:
        return bytes((0x15, flags, 0, 0, length, 0))
    return bytes((0x55, flags, 0, 0, 0, 0, 0, 0, length, 0))


def erasing(rng: random.Random) -> bytes:
    """FORMAT UNIT or SANITIZE of a list that may be whole."""
    if rng.random() < 0.5:
        return cdbs.format_unit(rng.choice((0x00, 0x10, 0x30, rng.randrange(256))))
    flags = rng.choice((0, 0, 0x20, 0x80, 0xA0, 0x40))
    action = rng.choice((1, 2, 0x1F, rng.randrange(32)))
    return cdbs.sanitize(action, rng.choice((0, 0, 5, 36, rng.randrange(600))), flags)


def erasing_list(rng: random.Random) -> bytes:
    """A header of FORMAT UNIT or SANITIZE, a descriptor and a pattern."""
    header = bytes((rng.choice((0, 1, 0x81, 0x83, rng.randrange(256))), rng.choice((0, 2, 0x88))))
    length = rng.choice((b"\0\0", b"\0\1", b"\0\x20", rng.randbytes(2)))
    descriptor = rng.choice((b"\0\1\0\4", b"\0\0\0\0", rng.randbytes(4)))
    return header + length + rng.choice((b"", bytes(4))) + descriptor + rng.randbytes(600)


def mode_list(rng: random.Random) -> bytes:
    """A header and mode pages, with a bit flipped now and then."""
    header = rng.choice((bytes(4), bytes(8), bytes(3) + b"\x08" + bytes(4) + b"\0\0\2\0"))
    caching = bytes((0x08, 0x12, rng.choice((0, 4)))) + bytes(17)
    control = bytes.fromhex("0a0a201000000000ffff0000")
    data = bytearray(header + rng.choice((caching, control, caching + control)))
    if rng.random() < 0.5:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def data_out(rng: random.Random) -> bytes | None:
    """Nothing, random bytes of any length, or the parameter list of UNMAP, MODE SELECT or such."""
    kind = rng.randrange(6)
    if kind == 0:
        return None
    if kind == 1:
        ranges = [(rng.randint(0, BLOCKS), rng.randint(0, 4)) for _ in range(rng.randrange(4))]
        return cdbs.unmap_list(*ranges, descriptor_bytes=rng.choice((None, rng.randrange(99))))
    if kind == 2:
        return mode_list(rng)
    if kind == 3:
        return erasing_list(rng)
    return rng.randbytes(rng.choice((0, 511, 512, 4096, rng.randrange(5000))))


def fuzz_one(rng: random.Random, initiator: Initiator) -> Pending:
    """Send one command; the front-ends pad CDBs to 16 bytes."""
    make = rng.choice(
        (any_bytes, known_opcode, plausible, plausible, unmapping, comparing, selecting, erasing)
    )
    room_bytes = rng.choice((None, 0, 512, 4096, rng.randrange(5000)))
    return initiator.start(make(rng).ljust(16, b"\0"), data_out(rng), room_bytes)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_cdb_upsets_the_disk(seed: int, open_fileio: OpenFileio, tmp_path: Path) -> None:
    rng = random.Random(seed)
    journal = str(tmp_path / "journal")
    initiator = connect(open_fileio(BLOCKS * 512, thin_provisioned="1", atomic_journal=journal))
    endings: set[int] = set()
    for _ in range(COMMANDS_PER_SEED):
        pending = fuzz_one(rng, initiator)
        outcome, cdb = pending.outcome, pending.command.cdb.hex()
        assert outcome.status in STATUSES, cdb
        assert (outcome.sense is not None) == (outcome.status == Status.CHECK_CONDITION), cdb
        if outcome.sense is not None:
            assert outcome.sense.code != AdditionalSense.INTERNAL_TARGET_FAILURE, cdb
            # READ DEFECT DATA in a format that is not kept brings data nevertheless.
            assert outcome.data == b"" or outcome.sense.key == SenseKey.RECOVERED_ERROR, cdb
        endings.add(outcome.status)
    assert endings == STATUSES
    initiator.good(cdbs.TEST_UNIT_READY)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 63, 1, 0x08), b"\xaa" * 512)
    assert initiator.good(cdbs.block(cdbs.READ, 16, 63, 1), None, 512) == b"\xaa" * 512
    assert initiator.session.nexuses[0].outstanding == set()
