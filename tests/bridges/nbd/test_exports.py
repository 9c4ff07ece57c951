# SPDX-License-Identifier: GPL-2.0-or-later
"""Which names lead to which LUNs, and whose session an open export belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from bridges.initiators import InitiatorPool
from bridges.nbd.exports import LunExport, LunExports
from bridges.nbd.offer import Export, ExportError
from bridges.nbd.wire import OptionReply
from scsi_backend.io.engine import SyncEngine
from scsi_backend.target.backend import Backend
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.nbd.fakes import BUSY, ManualClock, RecordingUnit, check_condition
from tests.scsi_backend.fakes import FaultyVdisk

TEST_UNIT_READY = 0x00
Outcome = Export | ExportError


class Site:
    """A backend with targets for the test to make, and initiators that share a pool."""

    def __init__(self) -> None:
        self.backend = Backend(SyncEngine())
        self.clock = ManualClock()
        self.pool = InitiatorPool(self.clock)
        self.alice = LunExports(self.backend, self.pool, "alice")
        self.bob = LunExports(self.backend, self.pool, "bob")
        self.bob_on_net = LunExports(self.backend, self.pool, "bob", ip_address("10.1.2.3"))

    def add_target(
        self, name: str, *luns: int, driver: str = "nbd", enabled: bool = True
    ) -> Target:
        """A target whose LUN N has 100 + N blocks."""
        target = self.backend.add_target(driver, name)
        for lun in luns:
            target.add_lun(lun, LunEntry(RecordingUnit(FaultyVdisk(100 + lun))))
        target.is_enabled = enabled
        return target

    def unit(self, target: Target, lun: int = 0) -> RecordingUnit:
        """The logical unit behind a LUN."""
        unit = target.luns[lun].unit
        assert isinstance(unit, RecordingUnit)
        return unit


@pytest.fixture
def site() -> Iterator[Site]:
    """A backend without targets."""
    site = Site()
    yield site
    assert [target.sessions for target in site.backend.targets if target.sessions] == []
    site.backend.close()


def _open(exports: LunExports, name: str) -> Outcome:
    outcomes: list[Outcome] = []
    exports.open(name, outcomes.append)
    assert len(outcomes) == 1
    return outcomes[0]


def _opened(exports: LunExports, name: str) -> LunExport:
    export = _open(exports, name)
    assert isinstance(export, LunExport)
    return export


def _blocks(exports: LunExports, name: str) -> int:
    export = _opened(exports, name)
    export.close()
    return export.info.block_count


def test_lun_0_has_the_name_of_its_target_and_others_their_number(site: Site) -> None:
    site.add_target("disk", 0, 1, 16383)
    assert _blocks(site.alice, "disk") == 100
    assert _blocks(site.alice, "disk/1") == 101
    assert _blocks(site.alice, "disk/16383") == 100 + 16383


def test_names_lists_enabled_nbd_targets_in_order(site: Site) -> None:
    site.add_target("b", 2, 0)
    site.add_target("a", 0)
    site.add_target("off", 0, enabled=False)
    site.add_target("local", 0, driver="scst_local")
    assert list(site.alice.names()) == [("b", "faulty"), ("b/2", "faulty"), ("a", "faulty")]


def test_an_open_export_is_named_and_described_as_in_the_list(site: Site) -> None:
    site.add_target("a", 0, 7)
    site.add_target("b", 0)
    for name, description in site.alice.names():
        export = _opened(site.alice, name)
        assert (export.name, export.description) == (name, description)
        assert site.alice.canonical_name(name) == name
        export.close()


def test_names_are_made_as_they_are_taken(site: Site) -> None:
    target = site.add_target("a", 0)
    site.add_target("b", 0)
    names = site.alice.names()
    assert next(names) == ("a", "faulty")
    target.add_lun(1, LunEntry(RecordingUnit(FaultyVdisk(100))))
    assert list(names) == [("b", "faulty")]


def test_the_empty_name_is_the_only_target(site: Site) -> None:
    site.add_target("only", 0)
    site.add_target("off", 0, enabled=False)
    export = _opened(site.alice, "")
    assert export.name == "only"
    export.close()
    assert site.alice.canonical_name("") == "only"


def test_the_empty_name_means_nothing_where_there_are_several(site: Site) -> None:
    site.add_target("one", 0)
    site.add_target("two", 0)
    assert _failure(site.alice, "") == OptionReply.ERR_UNKNOWN


def _failure(exports: LunExports, name: str) -> OptionReply:
    error = _open(exports, name)
    assert isinstance(error, ExportError)
    other = exports.canonical_name(name)
    assert isinstance(other, ExportError)
    assert (other.reply, other.text) == (error.reply, error.text)
    return error.reply


@pytest.mark.parametrize("name", ["", "disk1", "disk/0", "disk/2", "disk/", "Disk", "off", "local"])
def test_what_is_not_exported_is_unknown(site: Site, name: str) -> None:
    site.add_target("disk", 0, 1)
    site.add_target("off", 0, enabled=False)
    site.add_target("other", 0)
    site.add_target("local", 0, driver="scst_local")
    assert _failure(site.alice, name) == OptionReply.ERR_UNKNOWN


def test_the_text_for_an_unknown_name_is_a_string_of_the_protocol(site: Site) -> None:
    error = _open(site.alice, "ø" * 2048)
    assert isinstance(error, ExportError)
    # proto.md: strings MUST NOT be longer than 4096 bytes, SHOULD NOT than 256.
    assert len(error.text.encode()) <= 256


def test_a_target_without_lun_0_has_no_export_of_its_own_name(site: Site) -> None:
    site.add_target("disk", 3)
    assert _failure(site.alice, "disk") == OptionReply.ERR_UNKNOWN
    assert _failure(site.alice, "") == OptionReply.ERR_UNKNOWN
    assert _blocks(site.alice, "disk/3") == 103


def test_a_lun_that_is_not_ready_cannot_be_opened_and_says_why(site: Site) -> None:
    target = site.add_target("disk", 0)
    site.unit(target).fail(TEST_UNIT_READY, check_condition("02/04/03"))
    error = _open(site.alice, "disk")
    assert isinstance(error, ExportError)
    assert error.reply == OptionReply.ERR_UNKNOWN
    assert "NOT READY 04/03" in error.text
    assert site.alice.canonical_name("disk") == "disk"
    assert target.sessions == ()


def test_a_busy_lun_opens_when_it_is_busy_no_more(site: Site) -> None:
    target = site.add_target("disk", 0)
    site.unit(target).fail(TEST_UNIT_READY, BUSY, BUSY)
    outcomes: list[Outcome] = []
    site.alice.open("disk", outcomes.append)
    assert outcomes == []
    site.clock.advance(1.0)
    assert isinstance(outcomes[0], LunExport)
    outcomes[0].close()


def test_connections_of_one_initiator_share_its_session(site: Site) -> None:
    target = site.add_target("disk", 0, 1)
    first, second, other = (_opened(site.alice, name) for name in ("disk", "disk", "disk/1"))
    stranger = _opened(site.bob, "disk")
    assert [session.initiator_name for session in target.sessions] == ["alice", "bob"]
    assert first.client is second.client
    assert first.client is not other.client
    for export in (first, other):
        export.close()
    assert len(target.sessions) == 2
    second.close()
    assert [session.initiator_name for session in target.sessions] == ["bob"]
    stranger.close()


def test_opening_again_sees_the_size_of_now(site: Site) -> None:
    target = site.add_target("disk", 0)
    unit = site.unit(target)
    first = _opened(site.alice, "disk")
    vdisk = unit.vdisk
    assert isinstance(vdisk, FaultyVdisk)
    vdisk.new_block_count = 50
    unit.resync_size()
    assert first.info.block_count == 100
    assert _blocks(site.alice, "disk") == 50
    assert first.info.block_count == 50
    first.close()


def _group(name: str, pattern: str, *luns: int) -> InitiatorGroup:
    """A group of one pattern whose LUN N has 200 + N blocks."""
    entries = {lun: LunEntry(RecordingUnit(FaultyVdisk(200 + lun))) for lun in luns}
    return InitiatorGroup(name, (InitiatorPattern.parse(pattern),), entries)


def _names(exports: LunExports) -> list[str]:
    return [name for name, _ in exports.names()]


def test_each_initiator_has_the_exports_of_its_group(site: Site) -> None:
    first, second = site.add_target("a", 0, 1), site.add_target("b", 0)
    first.configure(groups=[_group("net", "10.0.0.0/8", 5), _group("bob", "BOB", 0, 3)])
    second.configure(groups=[_group("others", "!alice")])
    assert _names(site.alice) == ["a", "a/1", "b"]
    assert _names(site.bob) == ["a", "a/3"]
    assert _names(site.bob_on_net) == ["a/5"]
    assert _blocks(site.alice, "a") == 100
    assert _blocks(site.bob, "a") == 200
    assert _blocks(site.bob_on_net, "a/5") == 205


@pytest.mark.parametrize("name", ["a/1", "a/5", "b"])
def test_what_others_have_is_unknown(site: Site, name: str) -> None:
    first, second = site.add_target("a", 0, 1), site.add_target("b", 0)
    first.configure(groups=[_group("net", "10.0.0.0/8", 5), _group("bob", "bob", 0)])
    second.configure(groups=[_group("nothing", "bob")])
    assert _failure(site.bob, name) == OptionReply.ERR_UNKNOWN


def test_the_empty_name_is_the_only_target_where_the_initiator_has_luns(site: Site) -> None:
    first, second = site.add_target("a", 0), site.add_target("b", 0)
    first.configure(groups=[_group("bob", "bob")])
    assert site.bob.canonical_name("") == "b"
    assert _blocks(site.bob, "") == 100
    assert _failure(site.alice, "") == OptionReply.ERR_UNKNOWN
    second.configure(groups=[_group("bob", "bob")])
    assert _failure(site.bob, "") == OptionReply.ERR_UNKNOWN
    assert _names(site.bob) == []


def test_the_session_knows_the_host(site: Site) -> None:
    target = site.add_target("a", 0)
    exports = [_opened(who, "a") for who in (site.bob, site.bob_on_net)]
    assert [session.host for session in target.sessions] == [None, ip_address("10.1.2.3")]
    for export in exports:
        export.close()


def test_a_changed_map_is_listed_and_opened_at_once(site: Site) -> None:
    target = site.add_target("a", 0)
    export = _opened(site.bob, "a")
    target.configure(groups=[_group("bob", "bob", 0, 7)])
    assert _names(site.bob) == ["a", "a/7"]
    assert _blocks(site.bob, "a") == 200
    assert export.info.block_count == 200, "connections of one initiator share its client"
    export.close()
