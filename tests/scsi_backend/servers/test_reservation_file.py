# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of persistent reservations: its bytes, what is not taken for one, crashes on the way."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import pytest

from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.reservation_file import ReservationFile, parse, serialize
from scsi_backend.servers.reservation_state import PrState, Reservation
from scsi_backend.servers.reservations import MAX_REGISTRANTS
from scsi_backend.t10.persistent_reservation import ItNexusId, ReservationType
from scsi_backend.t10.transport_id import transport_id

A = ItNexusId(transport_id("a"), 1)
B = ItNexusId(transport_id("b"), 2)


# What the version before the generation line has written.
_NAME = "0500002069716e2e323032362d31312e736373742d6272696467653a782d792d7a000000"
OLD = f"""\
version 1
reservation 05 00
registrant 1 00000000deadbeef 1 36 {_NAME}
registrant 7 0000000000000001 0 36 {_NAME}
crc32 40c4946e
""".encode()


def state(kind: ReservationType | None = None, holder: ItNexusId | None = None) -> PrState:
    reservation = None if kind is None else Reservation(kind, holder)
    registrants = MappingProxyType({A: 0xA, B: 0x1122334455667788})
    return PrState(0, registrants, reservation, persists=True)


STATES = [
    state(),
    state(ReservationType.WRITE_EXCLUSIVE, A),
    state(ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, B),
    state(ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS),
]


def sealed(text: str) -> bytes:
    return f"{text}crc32 {crc32(text.encode()):08x}\n".encode()


def test_file_is_in_the_words_of_pr_state() -> None:
    data = serialize(replace(state(ReservationType.EXCLUSIVE_ACCESS, B), generation=0xFFFFFFFF))
    assert data == sealed(
        "version 1\n"
        "generation 4294967295\n"
        "reservation 03 00\n"
        f"registrant 1 000000000000000a 0 {len(A.transport_id)} {A.transport_id.hex()}\n"
        f"registrant 2 1122334455667788 1 {len(B.transport_id)} {B.transport_id.hex()}\n"
    )


@pytest.mark.parametrize("stored", STATES)
def test_state_is_read_back(tmp_path: Path, stored: PrState) -> None:
    path = tmp_path / "pr" / "disk"
    results: list[int] = []
    ReservationFile(path, SyncEngine()).save(stored, results.append)
    assert results == [0]
    assert ReservationFile(path, SyncEngine()).load() == stored


def test_generation_is_told_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    file = ReservationFile(path, SyncEngine())
    file.save(replace(state(), generation=7), lambda result: None)
    assert path.read_text().splitlines()[:2] == ["version 1", "generation 7"]
    assert ReservationFile(path, SyncEngine()).load() == state()
    file.save(PrState(8, MappingProxyType({A: 1})), lambda result: None)
    assert path.read_bytes() == sealed("version 1\ngeneration 8\n")


def test_file_without_a_generation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(OLD)
    loaded = ReservationFile(path, SyncEngine()).load()
    holder, other = (ItNexusId(transport_id("x-y-z"), port) for port in (1, 7))
    kind = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
    registrants = MappingProxyType({holder: 0xDEADBEEF, other: 1})
    assert loaded == PrState(0, registrants, Reservation(kind, holder), persists=True)
    assert path.read_bytes() == OLD


def test_longest_state_can_be_read_back(tmp_path: Path) -> None:
    ids = [ItNexusId(transport_id("y" * 5000 + str(n)), 0xFFFF) for n in range(MAX_REGISTRANTS)]
    longest = PrState(0, MappingProxyType(dict.fromkeys(ids, (1 << 64) - 1)), None, persists=True)
    file = ReservationFile(tmp_path / "disk", SyncEngine())
    file.save(longest, lambda result: None)
    assert ReservationFile(tmp_path / "disk", SyncEngine()).load() == longest


def test_there_is_nothing_without_a_file(tmp_path: Path) -> None:
    assert ReservationFile(tmp_path / "disk", SyncEngine()).load() == PrState()
    assert list(tmp_path.iterdir()) == []


def test_state_that_is_not_to_persist_makes_no_file(tmp_path: Path) -> None:
    results: list[int] = []
    file = ReservationFile(tmp_path / "disk", SyncEngine())
    file.save(PrState(3, MappingProxyType({A: 1})), results.append)
    assert results == [0]
    assert list(tmp_path.iterdir()) == []


def test_state_that_is_no_longer_to_persist_is_forgotten(tmp_path: Path) -> None:
    file = ReservationFile(tmp_path / "disk", SyncEngine())
    file.save(state(), lambda result: None)
    file.save(PrState(8, MappingProxyType({A: 1})), lambda result: None)
    assert ReservationFile(tmp_path / "disk", SyncEngine()).load() == PrState()


def test_nothing_is_stored_twice_where_nothing_is_to_persist(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    file = ReservationFile(path, SyncEngine())
    file.save(state(), lambda result: None)
    file.save(PrState(8, MappingProxyType({A: 1})), lambda result: None)
    again = ReservationFile(path, SyncEngine())
    assert again.load() == PrState()
    path.write_text("untouched")
    for each in (file, again):
        each.save(PrState(9, MappingProxyType({A: 2})), lambda result: None)
    assert path.read_text() == "untouched"


@pytest.mark.parametrize("stored", STATES)
def test_no_byte_can_be_changed_or_lost_unseen(stored: PrState) -> None:
    data = serialize(stored)
    for at in range(len(data)):
        for changed in (
            data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at],
        ):
            with pytest.raises(ValueError):  # noqa: PT011
                parse(changed)


GOOD_LINE = f"registrant 1 000000000000000a 1 {len(A.transport_id)} {A.transport_id.hex()}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version 2\n",
        "generation 1\n",
        "version 1\ngeneration\n",
        "version 1\ngeneration x\n",
        "version 1\ngeneration -1\n",
        "version 1\ngeneration 01\n",
        "version 1\ngeneration 1 \n",
        "version 1\ngeneration 1 2\n",
        "version 1\ngeneration 4294967296\n",
        "version 1\ngeneration 1\ngeneration 1\n",
        "version 1\n" + GOOD_LINE.replace("a 1 ", "a 0 ") + "generation 1\n",
        "version 1\nreservation x 00\n",
        "version 1\nreservation 03 00\n",
        "version 1\nreservation 02 00\n" + GOOD_LINE,
        "version 1\nreservation 03 01\n" + GOOD_LINE,
        "version 1\nreservation 03\n" + GOOD_LINE,
        "version 1\n" + GOOD_LINE * 2,
        "version 1\n" + GOOD_LINE,
        "version 1\nsomething else\n",
        "version 1\nregistrant 1 0 0 4 06000000\n",
        "version 1\nregistrant 1\n",
        "version 1\n\u00e4\n",
    ],
)
def test_other_text_is_refused_although_its_checksum_fits(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(sealed(text))


def test_damaged_file_is_named_and_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"garbage")
    with caplog.at_level(logging.ERROR):
        assert ReservationFile(path, SyncEngine()).load() == PrState()
    assert str(path) in caplog.text
    assert not path.exists()
    assert (tmp_path / "disk.damaged").read_bytes() == b"garbage"


def test_failure_to_store_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    results: list[int] = []
    ReservationFile(tmp_path / "file" / "disk", SyncEngine()).save(state(), results.append)
    assert results[0] < 0
    assert "not stored" in caplog.text
