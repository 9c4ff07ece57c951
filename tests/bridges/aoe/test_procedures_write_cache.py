# SPDX-License-Identifier: GPL-2.0-or-later
"""SET FEATURES that turns the write cache on and off: what reaches the LUN, and the answer."""

from __future__ import annotations

import struct

import pytest

from bridges.aoe.ata import COMMANDS, decode
from bridges.aoe.errors import Outcome
from bridges.aoe.policy import Policy
from bridges.aoe.procedures import PROCEDURES, Task
from bridges.aoe.wire import AtaArgument
from bridges.exchange import Request, run_blocking
from bridges.lun import LunInfo
from bridges.recovery import Reply
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from tests.bridges.aoe.bench import Bench, ata, ata_reply
from tests.scsi_backend.fakes import FaultyVdisk

_DISABLE = ata("00 82 00 ef 000000a00000 0000")
_ENABLE = ata("00 02 00 ef 000000a00000 0000")
_SET = ata_reply("00 00 00 40 000000a00000 0000")
_ALLOWED = Policy(write_cache_control=True)


def _words_82_and_85(bench: Bench) -> tuple[int, int]:
    (reply,) = bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    words = struct.unpack("<256H", reply[36:])
    return words[82], words[85]


@pytest.mark.parametrize("feature", ["02", "82"])
def test_the_write_cache_is_not_a_clients_to_change_unless_that_is_allowed(feature: str) -> None:
    bench = Bench()
    bench.log_in()
    assert bench.exchange(ata(f"00 {feature} 00 ef 000000a00000 0000")) == [
        ata_reply("00 04 00 41 000000a00000 0000")
    ]
    assert bench.lun.cdbs == []
    assert bench.vdisk.has_volatile_cache


def test_the_write_cache_goes_off_and_on_where_that_is_allowed() -> None:
    bench = Bench(policy=_ALLOWED)
    bench.target.durable = False
    assert _words_82_and_85(bench) == (0x21, 0x21)
    assert bench.exchange(_DISABLE) == [_SET]
    assert not bench.vdisk.has_volatile_cache
    assert _words_82_and_85(bench) == (0x21, 0x01)
    assert bench.exchange(_DISABLE) == [_SET]
    assert bench.exchange(_ENABLE) == [_SET]
    assert bench.vdisk.has_volatile_cache
    assert _words_82_and_85(bench) == (0x21, 0x21)


def test_mode_select_sends_the_page_back_with_nothing_but_wce_changed() -> None:
    bench = Bench(policy=_ALLOWED)
    bench.log_in()
    bench.exchange(_DISABLE)
    cdbs = [cdb.hex() for cdb in bench.lun.cdbs[:2]]
    assert cdbs == ["5a08080000000000ff00", "55100000000000001c00"]


# Of a disk with a cache page that may be saved and has many bits set.
_PAGE = "8812 {flags} 33ffff0001ffffffff8080001122334455"


class _Disk:
    """Answers MODE SENSE with this data, and keeps what MODE SELECT brings."""

    def __init__(self, mode: str) -> None:
        self.mode = bytes.fromhex(mode)
        self.selected: list[tuple[str, str]] = []

    def execute(self, request: Request) -> Reply:
        """See ``run_blocking``."""
        if request.cdb[0] == Opcode.MODE_SENSE_10:
            assert request.data_in is not None
            request.data_in[: len(self.mode)] = self.mode
            return Reply(Status.GOOD, None, len(self.mode))
        assert request.data_out is not None
        self.selected.append((request.cdb.hex(), request.data_out.hex()))
        return Reply(Status.GOOD, None, 0)

    def set_write_cache(self, feature: int) -> Outcome:
        """Carry out SET FEATURES."""
        command = COMMANDS[0xEF]
        assert command is not None
        request = decode(command, AtaArgument(0, feature, 0, 0xEF, 0, 0), 2)
        assert request is not None
        run = PROCEDURES[request.command.function]
        return run_blocking(run(Task(request, (), _NoLun(), _ALLOWED, True)), self.execute)


class _NoLun:
    """Nothing of the LUN is asked for."""

    @property
    def info(self) -> LunInfo:
        """See ``Lun``."""
        raise AssertionError


@pytest.mark.parametrize("descriptor", ["", "0000040000000200", "00" * 13 + "000200"])
@pytest.mark.parametrize(
    ("feature", "before", "after"),
    [(0x82, "97", "93"), (0x02, "93", "97"), (0x82, "ff", "fb"), (0x02, "00", "04")],
)
def test_of_a_page_with_much_set_only_wce_changes_and_ps_is_reserved(
    descriptor: str, feature: int, before: str, after: str
) -> None:
    descriptor_bytes = len(descriptor) // 2
    header = f"{6 + descriptor_bytes + 20:04x} 00 90 00 00 {descriptor_bytes:04x}"
    # What comes behind the page is not it.
    disk = _Disk(header + descriptor + _PAGE.format(flags=before) + "0a0a")
    assert disk.set_write_cache(feature).is_success
    body = "08" + _PAGE.format(flags=after).replace(" ", "")[2:]
    assert disk.selected == [("55100000000000001c00", "00" * 8 + body)]


@pytest.mark.parametrize(("feature", "flags"), [(0x82, "93"), (0x02, "97")])
def test_what_is_as_it_should_be_is_not_selected(feature: int, flags: str) -> None:
    disk = _Disk("001a 00 90 00 00 0000" + _PAGE.format(flags=flags))
    assert disk.set_write_cache(feature).is_success
    assert disk.selected == []


def test_a_cache_that_cannot_be_turned_on_is_told() -> None:
    bench = Bench(FaultyVdisk(nv_cache=True), policy=_ALLOWED)
    assert bench.exchange(_ENABLE) == [ata_reply("00 04 00 41 000000a00000 0000")]
    assert bench.exchange(_DISABLE) == [_SET]


def test_a_device_without_a_caching_page_has_no_cache_to_change() -> None:
    bench = Bench(policy=_ALLOWED)
    bench.log_in()
    refusal = Sense(0x05, 0x2400)
    bench.lun.answers[Opcode.MODE_SENSE_10] = [(Status.CHECK_CONDITION, refusal)]
    assert bench.exchange(_DISABLE) == [ata_reply("00 04 00 41 000000a00000 0000")]
    bench.lun.answers[Opcode.MODE_SENSE_10] = [(Status.GOOD, None)]
    assert bench.exchange(_DISABLE) == [ata_reply("00 04 00 41 000000a00000 0000")]
