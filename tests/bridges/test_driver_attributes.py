# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of target drivers and targets: what is accepted, and the text of what is not."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from bridges.access import AccessRules
from bridges.aoe.policy import ReservationConflict
from bridges.driver_attributes import (
    DRIVERS,
    AoeAttributes,
    AoeTargetAttributes,
    ListenTerms,
    LocalAttributes,
    LocalTargetAttributes,
    NbdAttributes,
    TargetAttributes,
)
from bridges.listen import Listen, TlsMode
from bridges.listeners import Address


def problem(model: type[BaseModel], values: dict[str, Any]) -> str:
    """Return the first thing that a model finds wrong."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_nbd_listens_on_each_address() -> None:
    attributes = NbdAttributes.model_validate(
        {"listen": ["0.0.0.0", "[::1]:10810", "unix:/run/nbd.sock"]}
    )
    assert attributes.listen == (
        Listen(Address("0.0.0.0", 10809)),
        Listen(Address("::1", 10810)),
        Listen(Address(path="/run/nbd.sock")),
    )


def test_nbd_listens_on_the_terms_of_each_line() -> None:
    terms = ListenTerms.model_validate(
        {
            "tls": "require",
            "allow": ["10.0.0.0/8", "::1"],
            "deny": ["10.1.0.0/16"],
            "max_connections": "100",
        }
    )
    attributes = NbdAttributes.model_validate(
        {
            "tls_certificates": "/etc/pki",
            "tls_verify_peer": "1",
            "connection_memory": "65536",
            "max_connections": "4",
            "listen": [("h:1", terms), "unix:/s", ("systemd:a", ListenTerms(tls=TlsMode.ON))],
        }
    )
    rules = AccessRules(
        (IPv4Network("10.0.0.0/8"), IPv6Network("::1/128")), (IPv4Network("10.1.0.0/16"),)
    )
    assert attributes.listen == (
        Listen(Address("h", 1), TlsMode.REQUIRE, rules, 100, 65536),
        Listen(Address(path="/s"), connection_memory_bytes=65536),
        Listen(Address(inherited="systemd:a"), TlsMode.ON, connection_memory_bytes=65536),
    )
    assert (attributes.tls_certificates, attributes.tls_verify_peer) == ("/etc/pki", True)
    assert attributes.max_connections == 4


def test_nbd_has_defaults_for_everything_but_the_address() -> None:
    attributes = NbdAttributes.model_validate({"listen": ["h"]})
    assert (attributes.connection_memory, attributes.max_connections) == (16 << 20, 4096)
    assert (attributes.tls_certificates, attributes.tls_verify_peer) == (None, False)
    (listen,) = attributes.listen
    assert (listen.tls, listen.max_connections) == (TlsMode.OFF, None)
    assert listen.access == AccessRules()


def test_nbd_needs_an_address() -> None:
    assert problem(NbdAttributes, {}) == "listen is required"


@pytest.mark.parametrize("word", ["host:x", "unix:relative", ""])
def test_nbd_refuses_a_wrong_address(word: str) -> None:
    assert problem(NbdAttributes, {"listen": ["127.0.0.1", word]}).startswith("expected ")


@pytest.mark.parametrize(
    "names", [("eth0",), ("enp0s31f6", "br-lan", "eth0.100", "fifteen-letters")]
)
def test_aoe_answers_on_each_interface(names: tuple[str, ...]) -> None:
    assert AoeAttributes.model_validate({"interface": names}).interface == names


@pytest.mark.parametrize("name", ["", "sixteen-letters!", "eth/0", "eth\t0", "ü" * 8])
def test_aoe_refuses_what_no_interface_is_called(name: str) -> None:
    message = "expected the name of a network interface, or a pattern as in eth*"
    assert problem(AoeAttributes, {"interface": [name]}) == message


def test_aoe_needs_an_interface() -> None:
    assert problem(AoeAttributes, {}) == "interface is required"


def test_the_local_socket_has_a_default() -> None:
    assert LocalAttributes().socket == "/run/scst-bridge/local.sock"
    assert LocalAttributes.model_validate({"socket": "/a b"}).socket == "/a b"


@pytest.mark.parametrize("path", ["", "local.sock", "/" + "p" * 107])
def test_the_local_socket_must_be_possible(path: str) -> None:
    message = "expected an absolute path of at most 107 bytes"
    assert problem(LocalAttributes, {"socket": path}) == message


@pytest.mark.parametrize("model", [TargetAttributes, AoeTargetAttributes])
def test_targets_are_disabled_until_enabled(model: type[TargetAttributes]) -> None:
    assert not model().enabled
    assert model.model_validate({"enabled": "1"}).enabled
    assert not model.model_validate({"enabled": "0"}).enabled
    assert problem(model, {"enabled": "yes"}) == "expected 0 or 1"


def test_local_targets_are_no_disks_of_the_host_until_they_are_to_be() -> None:
    attributes = LocalTargetAttributes()
    assert not attributes.kernel
    assert (attributes.session_name, attributes.cmd_time_out) == ("scst_local_host", 30)
    words = {"kernel": "1", "session_name": "host a", "cmd_time_out": "0x10"}
    attributes = LocalTargetAttributes.model_validate(words)
    assert attributes.kernel
    assert (attributes.session_name, attributes.cmd_time_out) == ("host a", 16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernel": "2"}, "expected 0 or 1"),
        ({"cmd_time_out": "0"}, "expected 1 to 86400"),
        ({"cmd_time_out": "86401"}, "expected 1 to 86400"),
        ({"cmd_time_out": "-1"}, "expected a number"),
        ({"session_name": ""}, "expected 1 to 63 printable ASCII characters"),
        ({"session_name": "a\nb"}, "expected 1 to 63 printable ASCII characters"),
        ({"session_name": "x" * 64}, "expected 1 to 63 printable ASCII characters"),
    ],
)
def test_local_targets_refuse_other_words(values: dict[str, Any], message: str) -> None:
    assert problem(LocalTargetAttributes, values) == message


def test_kernel_disks_need_names_that_the_kernel_has_room_for() -> None:
    check = DRIVERS["scst_local"].check_target
    long = "\u00e4" * 63
    check(long, LocalTargetAttributes())
    check("x" * 63, LocalTargetAttributes(kernel=True))
    with pytest.raises(ValueError, match="expected a shorter name"):
        check(long, LocalTargetAttributes(kernel=True))


def test_aoe_writes_are_durable_unless_told_otherwise() -> None:
    assert AoeTargetAttributes().durable
    assert not AoeTargetAttributes.model_validate({"durable": "0"}).durable


def test_aoe_sessions_and_state_have_their_attributes() -> None:
    attributes = AoeAttributes.model_validate(
        {"interface": ["eth0"], "state_directory": "/var/lib/aoe", "idle_timeout": "0"}
    )
    assert (attributes.state_directory, attributes.idle_timeout) == ("/var/lib/aoe", 0)
    defaults = AoeAttributes.model_validate({"interface": ["eth0"]})
    assert (defaults.state_directory, defaults.idle_timeout) == (None, 600)
    values = {"interface": ["eth0"], "state_directory": "lib/aoe"}
    assert problem(AoeAttributes, values) == "expected an absolute path"
    values = {"interface": ["eth0"], "idle_timeout": "never"}
    assert problem(AoeAttributes, values) == "expected a number"


def test_aoe_targets_have_a_policy() -> None:
    attributes = AoeTargetAttributes.model_validate(
        {
            "allow": ["02:00:00:00:00:01", "02:00:DE:AD:BE:EF"],
            "deny": ["02:00:00:00:00:03"],
            "in_band_editing": "0",
            "write_cache_control": "1",
            "reservation_conflict": "aoe",
        }
    )
    assert attributes.allow == (b"\2\0\0\0\0\1", bytes.fromhex("0200deadbeef"))
    assert attributes.deny == (b"\2\0\0\0\0\3",)
    assert not attributes.in_band_editing
    assert attributes.write_cache_control
    assert attributes.reservation_conflict is ReservationConflict.AOE
    defaults = AoeTargetAttributes()
    assert (defaults.allow, defaults.deny) == ((), ())
    assert (defaults.in_band_editing, defaults.write_cache_control) == (True, False)
    assert defaults.reservation_conflict is ReservationConflict.ATA


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"allow": ["eth0"]}, "expected a MAC address, as in 02:00:00:00:00:01"),
        (
            {"deny": ["ff:ff:ff:ff:ff:ff"]},
            "expected the MAC address of one host, as in 02:00:00:00:00:01",
        ),
        ({"in_band_editing": "no"}, "expected 0 or 1"),
        ({"reservation_conflict": "nbd"}, "expected ata or aoe"),
    ],
)
def test_aoe_targets_refuse_other_words(values: dict[str, Any], message: str) -> None:
    assert problem(AoeTargetAttributes, values) == message


@pytest.mark.parametrize(
    "model",
    [
        NbdAttributes,
        ListenTerms,
        AoeAttributes,
        LocalAttributes,
        TargetAttributes,
        LocalTargetAttributes,
        AoeTargetAttributes,
    ],
)
def test_attributes_are_described_and_no_others_taken(model: type[BaseModel]) -> None:
    assert all(field.description for field in model.model_fields.values())
    valid = {"listen": ["h"]} if model is NbdAttributes else {}
    valid = {"interface": ["eth0"]} if model is AoeAttributes else valid
    assert problem(model, {**valid, "nonsense": "1"}) == "Extra inputs are not permitted"


def test_nbd_names_have_no_slash() -> None:
    check = DRIVERS["nbd"].check_target_name
    check("disk 1: the 'first'")
    with pytest.raises(ValueError, match=r"^expected a name without '/', which separates the LUN$"):
        check("a/b")


def test_local_names_are_free() -> None:
    DRIVERS["scst_local"].check_target_name("iqn.2024-01.org.example:a/b")


@pytest.mark.parametrize("driver", ["nbd", "scst_local"])
def test_nbd_and_local_targets_may_have_any_luns(driver: str) -> None:
    for luns in ([], [5], [1, 2], [0, 16383]):
        DRIVERS[driver].check_luns(luns)


def test_aoe_targets_must_have_one_lun_to_serve_if_any() -> None:
    check = DRIVERS["aoe"].check_luns
    for luns in ([], [0], [5], [0, 5]):
        check(luns)
    with pytest.raises(ValueError, match=r"^expected LUN 0, or only one LUN$"):
        check([1, 2])
