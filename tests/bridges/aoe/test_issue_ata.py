# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of an ATA command before it begins: in what order it is refused."""

from __future__ import annotations

import pytest

from tests.bridges.aoe.bench import (
    OTHER_CLIENT_MAC,
    REQUEST_TO_ANYBODY,
    Bench,
    ata,
    ata_reply,
    error_reply,
    read_ext,
    reserve,
    write_ext,
)

_RESERVED = error_reply(6)


def test_a_reservation_is_told_before_anything_is_found_wrong_with_the_command() -> None:
    bench = Bench()
    bench.exchange(reserve(f"01 01 {OTHER_CLIENT_MAC}"))
    for registers in ("40 00 03 24 070000000000 0000", "00 00 01 ff 000000000000 0000"):
        assert bench.exchange(ata(registers)) == [ata_reply(registers, header=_RESERVED)]
    assert bench.scsi_target.sessions == ()


def test_what_nobody_could_carry_out_opens_no_session() -> None:
    bench = Bench()
    (reply,) = bench.exchange(ata("40 00 03 24 070000000000 0000"))
    assert reply[27] == 0x41
    assert bench.scsi_target.sessions == ()


@pytest.mark.parametrize("opcode", ["08", "90", "a0", "a1"])
def test_what_signs_itself_does_so_where_it_is_aborted(opcode: str) -> None:
    (reply,) = Bench().exchange(ata(f"00 00 01 {opcode} 000000a00000 0000"))
    assert len(reply) == 60


def test_a_client_that_has_lost_its_disk_is_told_so_whatever_it_asks() -> None:
    bench = Bench()
    bench.log_in()
    bench.exchange(reserve(f"01 01 {OTHER_CLIENT_MAC}"))
    bench.scsi_target.configure(luns={})
    bench.port.take()
    frames = [read_ext(7, 1), write_ext(7, bytes(512)), ata("00 00 01 ec 000000a00000 0000")]
    assert bench.exchange(*frames) == [
        ata_reply("40 04 01 41 070000000000 0000"),
        ata_reply("41 04 01 41 070000000000 0000"),
        ata_reply("00 04 01 41 000000a00000 0000"),
    ]
    # What is for everybody is not for it.
    header = REQUEST_TO_ANYBODY
    assert bench.exchange(ata("40 00 01 24 070000000000 0000", header=header)) == []
