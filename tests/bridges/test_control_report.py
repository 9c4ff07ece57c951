# SPDX-License-Identifier: GPL-2.0-or-later
"""The status as people read it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bridges.control_report import print_device_groups, print_report, print_reservations
from bridges.control_reservations import (
    AllReservations,
    DeviceReservations,
    NexusRecord,
    RegistrantRecord,
    ReservationRecord,
)
from bridges.control_status import (
    DeviceGroupStatus,
    DeviceStatus,
    GroupStatus,
    GroupTargetStatus,
    InterfaceStatus,
    KernelDiskStatus,
    ListenerStatus,
    LunStatus,
    SessionStatus,
    Status,
    TargetGroupStatus,
    TargetStatus,
)

URI = f"nbd+unix:///disk?socket=/{'long/' * 20}nbd.sock"
STATUS = Status(
    pid=4711,
    devices=(
        DeviceStatus(
            name="[red]d",
            handler="vdisk_fileio",
            size_bytes=3 << 29,
            block_size_bytes=4096,
            is_read_only=True,
        ),
    ),
    targets=(
        TargetStatus(
            driver="nbd",
            name="disk",
            is_enabled=True,
            luns=(LunStatus(lun=7, device="[red]d", is_read_only=False),),
        ),
        TargetStatus(
            driver="nbd",
            name="many",
            is_enabled=True,
            luns=(),
            groups=(
                GroupStatus(
                    name="[b]vms",
                    initiators=("10.0.0.0/8", "tls:CN=[i]*"),
                    luns=(
                        LunStatus(lun=0, device="e", is_read_only=True),
                        LunStatus(lun=1, device="f", is_read_only=False),
                    ),
                ),
                GroupStatus(name="none", initiators=("*",), luns=()),
            ),
        ),
        TargetStatus(driver="aoe", name="e1.1", is_enabled=False, luns=()),
    ),
    sessions=(
        SessionStatus(driver="nbd", target="disk", initiator="192.0.2.1", connections=12),
        SessionStatus(
            driver="nbd",
            target="many",
            initiator="tls:CN=a",
            connections=1,
            host="10.0.0.1",
            group="[b]vms",
        ),
        SessionStatus(driver="aoe", target="e1.1", initiator="02:00:00:00:00:01", connections=None),
    ),
    listeners=(
        ListenerStatus(
            driver="nbd",
            address="unix:/s",
            tls="require",
            connections=3,
            max_connections=100,
            uris=(URI,),
        ),
    ),
    interfaces=(
        InterfaceStatus(
            name="eth0",
            mac="02:ab:00:00:00:0a",
            mtu=9000,
            is_running=True,
            sector_count=16,
            buffer_count=896,
            has_ring=True,
            frames=123456,
            dropped=7,
        ),
        InterfaceStatus(
            name="eth1",
            mac="02:00:00:00:00:0b",
            mtu=1500,
            is_running=False,
            sector_count=2,
            buffer_count=64,
            has_ring=False,
            frames=0,
            dropped=0,
        ),
    ),
    device_groups=(
        DeviceGroupStatus(
            name="[b]g",
            devices=("[red]d", "e"),
            target_groups=(
                TargetGroupStatus(
                    name="here",
                    group_id=1,
                    state="active",
                    is_preferred=True,
                    targets=(GroupTargetStatus(name="disk", driver="nbd", rel_tgt_id=1),),
                ),
                TargetGroupStatus(
                    name="there",
                    group_id=2,
                    state="standby",
                    is_preferred=False,
                    targets=(
                        GroupTargetStatus(name="e1.1", driver="aoe", rel_tgt_id=2),
                        GroupTargetStatus(name="far", driver=None, rel_tgt_id=300),
                    ),
                ),
            ),
        ),
    ),
    kernel_disks=(
        KernelDiskStatus(
            target="t[red]", lun=3, device="[red]d", block="/dev/sdb", generic="/dev/sg1"
        ),
        KernelDiskStatus(target="t1", lun=0, device="e", block="/dev/sda", generic=""),
    ),
    sgv_idle_bytes=5 << 20,
)


def shown(width: int = 100) -> list[list[str]]:
    """The words of each line."""
    out = io.StringIO()
    print_report(STATUS, Console(file=out, width=width, color_system=None))
    return [line.split() for line in out.getvalue().splitlines()]


def test_everything_is_shown_and_names_are_no_markup() -> None:
    lines = shown()
    for expected in (
        "[red]d vdisk_fileio 1.5 GiB 4096 read-only",
        "nbd disk 7 [red]d read-write yes",
        "aoe e1.1 no",
        "nbd many yes",
        "nbd many [b]vms 0 e read-only yes",
        "nbd many [b]vms 1 f read-write yes",
        "nbd many none yes",
        "nbd many [b]vms 10.0.0.0/8 tls:CN=[i]*",
        "nbd many none *",
        "nbd many [b]vms tls:CN=a 10.0.0.1 1",
        "nbd disk 192.0.2.1 12",
        "aoe e1.1 02:00:00:00:00:01",
        "nbd unix:/s require 3 100",
        "eth0 02:ab:00:00:00:0a 9000 up 16 896 yes 123456 7",
        "eth1 02:00:00:00:00:0b 1500 down 2 64 no 0 0",
        "[b]g [red]d, e here 1 active yes disk",
        "[b]g [red]d, e there 2 standby no e1.1, far (remote 300)",
        "t[red] 3 [red]d /dev/sdb /dev/sg1",
        "t1 0 e /dev/sda",
        "SGV cache: 5.0 MiB idle; process 4711",
    ):
        assert expected.split() in lines


@pytest.mark.parametrize(
    ("name", "title"), [("interfaces", "Interfaces"), ("kernel_disks", "Kernel disks")]
)
def test_there_is_no_table_without_rows_of_what_is_seldom_there(name: str, title: str) -> None:
    out = io.StringIO()
    print_report(STATUS, Console(file=out, width=80, color_system=None))
    assert title in out.getvalue()
    out = io.StringIO()
    none = STATUS.model_copy(update={name: ()})
    print_report(none, Console(file=out, width=80, color_system=None))
    assert title not in out.getvalue()


def test_there_is_no_table_of_groups_without_any() -> None:
    for targets, is_shown in ((STATUS.targets, True), (STATUS.targets[:1], False)):
        out = io.StringIO()
        some = STATUS.model_copy(update={"targets": targets})
        print_report(some, Console(file=out, width=80, color_system=None))
        assert ("\nGroups" in out.getvalue()) is is_shown


def test_there_is_no_table_of_device_groups_without_any() -> None:
    none = STATUS.model_copy(update={"device_groups": ()})
    for show, said in ((print_report, False), (print_device_groups, True)):
        out = io.StringIO()
        show(none, Console(file=out, width=80, color_system=None))
        assert "Device groups" not in out.getvalue()
        assert ("no device groups" in out.getvalue()) is said


def test_device_groups_can_be_shown_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_device_groups(STATUS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 4
    assert lines[0] == ["Device", "groups"]
    assert lines[3][-2:] == ["(remote", "300)"]


def test_uris_stay_whole_however_narrow_the_terminal() -> None:
    assert [URI] in shown(width=40)


def test_it_is_printed_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(STATUS)
    out = capsys.readouterr().out
    assert "process 4711" in out
    # Whatever the width of a terminal would be.
    assert "02:00:00:00:00:01" in out


def registrant(initiator: str, *, is_holder: bool = False) -> RegistrantRecord:
    """One at port 2."""
    return RegistrantRecord(
        initiator=initiator,
        rel_tgt_id=2,
        target="scst_local/t",
        has_session=True,
        key="0xbeef",
        is_holder=is_holder,
    )


ELSEWHERE = RegistrantRecord(
    initiator="iqn.2000-01.com.example:[red]a",
    rel_tgt_id=9,
    target=None,
    has_session=False,
    key="0x1",
    is_holder=False,
)


def device(
    name: str,
    *registrants: RegistrantRecord,
    kind: int | None = None,
    legacy: NexusRecord | None = None,
) -> DeviceReservations:
    """A device, reserved with a type."""
    reservation = None
    if kind is not None:
        reservation = ReservationRecord(type=kind, type_text=f"kind ({kind})", scope="logical unit")
    return DeviceReservations(
        device=name,
        generation=3,
        has_aptpl=bool(registrants),
        reservation=reservation,
        registrants=registrants,
        legacy_holder=legacy,
    )


def shown_reservations(*devices: DeviceReservations) -> str:
    """The tables, without blanks at the ends of lines."""
    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None)
    print_reservations(AllReservations(devices=devices), console)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


RESERVATIONS = """\
Reservations
 device  generation  APTPL  reservation             held by                      SPC-2 holder
 [b]d             3  yes    kind (5), logical unit  local:uid=0 at scst_local/t
 e                3  no                                                          02:01 at port 1
Registrants
 device  initiator                       target        port     key  holder  session
 [b]d    local:uid=0                     scst_local/t     2  0xbeef  yes     yes
 [b]d    iqn.2000-01.com.example:[red]a                   9     0x1  no      no
"""


def test_reservations_are_shown_with_their_registrants() -> None:
    holder = registrant("local:uid=0", is_holder=True)
    legacy = NexusRecord(initiator="02:01", rel_tgt_id=1, target=None, has_session=True)
    devices = device("[b]d", holder, ELSEWHERE, kind=5), device("e", legacy=legacy)
    assert shown_reservations(*devices) == RESERVATIONS


def test_whom_a_reserve_list_names_is_shown_as_if_it_had_reserved() -> None:
    kept_for = tuple(
        NexusRecord(initiator=name, rel_tgt_id=1, target="aoe/e1.1", has_session=False)
        for name in ("02:01", "02:02")
    )
    shown = shown_reservations(device("d").model_copy(update={"kept_for": kept_for}))
    assert " 02:01 at aoe/e1.1, 02:02 at aoe/e1.1\n" in shown


def test_all_registrants_are_told_as_one_holder() -> None:
    both = [registrant(name, is_holder=True) for name in "ab"]
    assert " all registrants\n" in shown_reservations(device("d", *both, kind=8))


def test_without_registrants_that_is_what_is_shown() -> None:
    lines = shown_reservations(device("d")).splitlines()
    assert lines[2:] == [" d                3  no", "no registrants"]
