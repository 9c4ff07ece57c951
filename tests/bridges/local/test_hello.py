# SPDX-License-Identifier: GPL-2.0-or-later
"""The hello: which target a name leads to, which versions are spoken, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridges.local.hello import Hello, HelloError, find_target, initiator_name
from bridges.local.hello_wire import HelloReply, HelloRequest, HelloStatus
from bridges.stream_session import PeerError
from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.disk import disk
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target
from tests.scsi_backend.fakes import FaultyVdisk


def named(name: str) -> Vdisk:
    vdisk = FaultyVdisk(8)
    vdisk.name = name
    return vdisk


def target(name: str, luns: dict[int, str], *, is_enabled: bool = True) -> Target:
    made = Target("scst_local", name, 1)
    for lun, device in luns.items():
        made.add_lun(lun, LunEntry(disk(named(device))))
    made.is_enabled = is_enabled
    return made


TARGETS = [
    target("off", {0: "disk0", 1: "hidden"}, is_enabled=False),
    target("first", {300: "disk0", 7: "disk0", 1: "disk1"}),
    target("second", {0: "disk0", 2: "disk2", 3: "first"}),
]


ME, OTHER = "local:uid=7", "local:uid=8,vm"


def group(name: str, pattern: str, luns: dict[int, str]) -> InitiatorGroup:
    entries = {lun: LunEntry(disk(named(device))) for lun, device in luns.items()}
    return InitiatorGroup(name, (InitiatorPattern.parse(pattern),), entries)


def grouped_targets() -> tuple[Target, Target]:
    """Two targets, of which one has LUNs of its own for one initiator, and one for the other."""
    first, second = target("first", {0: "disk0"}), target("second", {0: "disk0"})
    first.configure(groups=[group("vms", "*,vm", {5: "disk1"})])
    second.configure(groups=[group("seven", "*uid=7", {3: "disk2"})])
    return first, second


class TestFindTarget:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("first", ("first", 0)),
            ("second", ("second", 0)),
            # Not enabled: logging in will say so.
            ("off", ("off", 0)),
            # The first enabled target that maps it, at the lowest LUN.
            ("disk0", ("first", 7)),
            ("disk1", ("first", 1)),
            ("disk2", ("second", 2)),
        ],
    )
    def test_name_leads_to_a_target_and_a_lun(self, name: str, expected: tuple[str, int]) -> None:
        found, lun = find_target(TARGETS, name, ME)
        assert (found.name, lun) == expected

    @pytest.mark.parametrize("name", ["nothing", "hidden", "First", "disk0 "])
    def test_unknown_name_is_no_such_target(self, name: str) -> None:
        with pytest.raises(HelloError, match=f"named '{name}'") as caught:
            find_target(TARGETS, name, ME)
        assert caught.value.status is HelloStatus.NO_SUCH_TARGET

    def test_unknown_name_stays_one_printable_line(self) -> None:
        with pytest.raises(HelloError, match="named") as caught:
            find_target(TARGETS, "disk0\n2026-01-01 forged \x1b[2J", ME)
        assert caught.value.text.isprintable()

    def test_empty_name_is_the_only_enabled_target(self) -> None:
        found, lun = find_target(TARGETS[:2], "", ME)
        assert (found.name, lun) == ("first", 0)

    @pytest.mark.parametrize(
        ("targets", "names"), [(TARGETS, "first, second"), (TARGETS[:1], "none"), ([], "none")]
    )
    def test_empty_name_needs_exactly_one_target(self, targets: list[Target], names: str) -> None:
        expected = f"targets with LUNs for {ME} are: {names}$"
        with pytest.raises(HelloError, match=expected) as caught:
            find_target(targets, "", ME)
        assert caught.value.status is HelloStatus.NO_SUCH_TARGET

    def test_device_is_looked_for_where_the_initiator_has_it(self) -> None:
        first, second = grouped_targets()
        for name, initiator, expected in (
            ("disk0", ME, (first, 0)),
            ("disk0", OTHER, (second, 0)),
            ("disk1", OTHER, (first, 5)),
            ("disk2", ME, (second, 3)),
        ):
            assert find_target([first, second], name, initiator) == expected

    @pytest.mark.parametrize(("initiator", "name"), [(ME, "disk1"), (OTHER, "disk2")])
    def test_device_of_others_is_unknown(self, initiator: str, name: str) -> None:
        with pytest.raises(HelloError, match=f"is named '{name}'"):
            find_target(grouped_targets(), name, initiator)

    def test_empty_name_is_the_only_target_with_luns_for_the_initiator(self) -> None:
        first, second = grouped_targets()
        second.configure(groups=[group("others", OTHER, {})])
        assert find_target([first, second], "", OTHER) == (first, 0)
        with pytest.raises(HelloError, match=f"targets with LUNs for {ME} are: first, second"):
            find_target([first, second], "", ME)

    def test_target_without_luns_for_the_initiator_is_found_to_be_refused(self) -> None:
        first, second = grouped_targets()
        second.configure(groups=[group("others", OTHER, {})])
        assert find_target([first, second], "second", OTHER) == (second, 0)


class TestInitiatorName:
    @pytest.mark.parametrize(
        ("label", "expected"),
        [
            ("", "local:uid=7"),
            ("nbdkit", "local:uid=7,nbdkit"),
            ("node 1", "local:uid=7,node%201"),
            ("a,uid=0", "local:uid=7,a%2Cuid=0"),
            (",", "local:uid=7,%2C"),
            ("50%\n", "local:uid=7,50%25%0A"),
            ("tést", "local:uid=7,tést"),
        ],
    )
    def test_label_stands_behind_the_user(self, label: str, expected: str) -> None:
        assert initiator_name("local:uid=7", label) == expected

    def test_longest_label_fits_into_a_name(self) -> None:
        user = f"local:uid={0xFFFFFFFF}"
        assert initiator_name(user, "\n" * 64) == f"{user}," + "%0A" * 64


class Client:
    """What a client sees of a hello."""

    def __init__(self, targets: Sequence[Target] = TARGETS) -> None:
        self.sent = b""
        self.opened: list[tuple[Session, HelloRequest, int]] = []
        self.hello = Hello(lambda: targets, "local:uid=7", self._send, self._opened)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def _opened(self, session: Session, request: HelloRequest, version: int) -> None:
        assert self.sent, "the reply goes before anything of the session"
        self.opened.append((session, request, version))

    def give(self, data: bytes) -> int:
        return self.hello.receive(memoryview(data))

    @property
    def reply(self) -> HelloReply:
        parsed = HelloReply.parse(self.sent)
        assert parsed is not None
        reply, length = parsed
        assert length == len(self.sent)
        return reply


class TestHello:
    def test_client_is_logged_in_and_told_what_it_needs(self) -> None:
        client = Client()
        request = HelloRequest("disk2", "me")
        data = request.serialize()
        assert client.give(data + b"command") == len(data)
        assert client.reply == HelloReply(HelloStatus.OK, 1, 2, 32 << 20, "local:uid=7,me")
        [(session, seen, version)] = client.opened
        assert (seen, version) == (request, 1)
        assert TARGETS[2].sessions == (session,)
        assert session.initiator_name == "local:uid=7,me"
        assert not client.hello.wants_close
        session.close()

    def test_label_decides_which_luns_there_are(self) -> None:
        targets = grouped_targets()
        client = Client(targets)
        client.give(HelloRequest("disk1", "vm").serialize())
        assert (client.reply.status, client.reply.lun) == (HelloStatus.OK, 5)
        client.opened[0][0].close()
        client = Client(targets)
        client.give(HelloRequest("disk1", "other").serialize())
        assert client.reply.status == HelloStatus.NO_SUCH_TARGET

    def test_initiator_without_luns_is_told_so(self) -> None:
        targets = grouped_targets()
        targets[1].configure(groups=[group("none", "*,vm", {})])
        client = Client(targets)
        client.give(HelloRequest("second", "vm").serialize())
        assert client.reply.status == HelloStatus.REFUSED
        assert client.reply.text == "target second has no LUNs for initiator local:uid=7,vm"
        assert client.hello.wants_close

    def test_hello_in_pieces_is_waited_for(self) -> None:
        client = Client()
        data = HelloRequest("first").serialize()
        for length in range(len(data)):
            assert client.give(data[:length]) == 0
        assert not client.sent
        assert client.give(data) == len(data)
        assert client.reply.status == HelloStatus.OK
        client.opened[0][0].close()

    @pytest.mark.parametrize(
        ("lowest", "highest", "chosen"),
        [(0, 1, 1), (1, 9, 2), (1, 1, 1), (0, 0xFFFF, 2), (1, 2, 2), (2, 2, 2), (2, 9, 2)],
    )
    def test_newest_version_that_both_speak_is_chosen(
        self, lowest: int, highest: int, chosen: int
    ) -> None:
        client = Client()
        client.give(HelloRequest("first", "", lowest, highest).serialize())
        assert (client.reply.status, client.reply.version) == (HelloStatus.OK, chosen)
        assert client.opened[0][2] == chosen
        client.opened[0][0].close()

    @pytest.mark.parametrize(("lowest", "highest"), [(3, 9), (0, 0), (3, 1)])
    def test_client_of_other_versions_is_told_so(self, lowest: int, highest: int) -> None:
        client = Client()
        client.give(HelloRequest("first", "", lowest, highest).serialize())
        assert client.reply == HelloReply(
            HelloStatus.VERSION_NOT_SPOKEN,
            text=f"versions {lowest} to {highest}: this server speaks 1 to 2",
        )
        assert client.hello.wants_close
        assert not client.opened

    @pytest.mark.parametrize(
        ("name", "status", "text"),
        [
            ("nothing", HelloStatus.NO_SUCH_TARGET, "no target and no mapped device"),
            ("", HelloStatus.NO_SUCH_TARGET, "no target named"),
            ("off", HelloStatus.REFUSED, "target off is not enabled"),
        ],
    )
    def test_client_that_cannot_log_in_is_told_why(
        self, name: str, status: HelloStatus, text: str
    ) -> None:
        client = Client()
        data = HelloRequest(name).serialize()
        assert client.give(data) == len(data)
        assert client.reply.status == status
        assert client.reply.text.startswith(text)
        assert client.hello.wants_close
        assert not client.opened

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"GET / HTTP/1.1\r\n", "does not begin with SCSTLOCL"),
            (b"SCSTLOCL\0\1\0\1\xff\xff\0\0", "name of 65535 bytes"),
        ],
    )
    def test_malformed_hello_is_answered_and_ends_the_connection(
        self, data: bytes, text: str
    ) -> None:
        client = Client()
        with pytest.raises(PeerError, match=text):
            client.give(data)
        assert client.reply.status == HelloStatus.REFUSED
        assert text in client.reply.text
