# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of target drivers and targets: what is accepted, and the text of what is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from bridges.driver_attributes import (
    DRIVERS,
    AoeAttributes,
    AoeTargetAttributes,
    LocalAttributes,
    NbdAttributes,
    TargetAttributes,
)
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
        Address("0.0.0.0", 10809),
        Address("::1", 10810),
        Address(path="/run/nbd.sock"),
    )


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
    message = "expected the name of a network interface"
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


def test_aoe_writes_are_durable_unless_told_otherwise() -> None:
    assert AoeTargetAttributes().durable
    assert not AoeTargetAttributes.model_validate({"durable": "0"}).durable


@pytest.mark.parametrize(
    "model",
    [NbdAttributes, AoeAttributes, LocalAttributes, TargetAttributes, AoeTargetAttributes],
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


def test_aoe_targets_must_have_one_lun_to_serve() -> None:
    check = DRIVERS["aoe"].check_luns
    for luns in ([0], [5], [0, 5]):
        check(luns)
    for luns in ([], [1, 2]):
        with pytest.raises(ValueError, match=r"^expected LUN 0, or only one LUN$"):
            check(luns)
