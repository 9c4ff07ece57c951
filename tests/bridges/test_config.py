# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration means, and for each thing that can be wrong its line and exact text."""

from __future__ import annotations

import errno
import random
import re
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import BaseModel

from bridges.config import Config, load
from bridges.config_alua import GroupTargetAttributes, TargetGroupAttributes
from bridges.config_edit import VERBS
from bridges.driver_attributes import (
    DRIVERS,
    AoeAttributes,
    AoeTargetAttributes,
    ListenTerms,
    LocalAttributes,
    NbdAttributes,
)
from bridges.listen import Listen
from bridges.listeners import Address
from bridges.scst_conf import ConfigError
from scsi_backend.handlers.attributes import FileioAttributes, NullioAttributes
from scsi_backend.handlers.registry import HANDLERS

EXAMPLE = """\
# Three disks behind every door.
HANDLER vdisk_fileio {
    DEVICE disk0 {
        filename /srv/disk0.img
        thin_provisioned 1
    }
    DEVICE archive {
        filename "/srv/old disks/archive.img"   # blanks need quotes
        blocksize 4096
        read_only 1
        rotational 0
        removable 1
        naa_id 0x6000c29000000000000000000000abcd
        usn 4711
        prod_id "An archive"
        t10_dev_id archive-1
    }
}
HANDLER vdisk_nullio {
    DEVICE null
    DEVICE small {
        size_mb 0x10
    }
}
TARGET_DRIVER nbd {
    listen 127.0.0.1:10809
    listen [::1]
    listen unix:/run/scst-bridge/nbd.sock
    TARGET disk0 {
        LUN 0 disk0
        LUN 16383 null
        enabled 1
    }
    TARGET spare {
        enabled 0
    }
}
TARGET_DRIVER aoe {
    interface eth0
    interface eth1
    TARGET e1.1 {
        LUN 0 disk0
        enabled 1
        durable 0
    }
}
TARGET_DRIVER scst_local {
    socket /run/scst-bridge/local.sock
    TARGET local {
        LUN 0 archive {
            read_only 1
        }
        LUN 007 disk0 {
        }
        GROUP backup {
            LUN 0 disk0 {
                read_only 1
            }
            INITIATOR local:uid=34,*
            INITIATOR 10.0.0.0/8
        }
        enabled 1
    }
}
"""


def load_text(folder: Path, text: str | bytes) -> Config:
    """Load a file of this text."""
    path = folder / "scst.conf"
    # ext4 writes a file back when it was cut short and written again.
    path.unlink(missing_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path))


@pytest.fixture
def example(tmp_path: Path) -> Config:
    return load_text(tmp_path, EXAMPLE)


def test_devices_are_read_with_their_attributes(example: Config) -> None:
    names = [(device.name, device.handler) for device in example.devices]
    assert names == [
        ("disk0", "vdisk_fileio"),
        ("archive", "vdisk_fileio"),
        ("null", "vdisk_nullio"),
        ("small", "vdisk_nullio"),
    ]
    disk0, archive, null, small = (device.attributes for device in example.devices)
    assert disk0 == FileioAttributes(filename="/srv/disk0.img", thin_provisioned=True)
    assert archive == FileioAttributes(
        filename="/srv/old disks/archive.img",
        blocksize=4096,
        read_only=True,
        rotational=False,
        removable=True,
        naa_id=bytes.fromhex("6000c29000000000000000000000abcd"),
        usn="4711",
        prod_id="An archive",
        t10_dev_id="archive-1",
    )
    assert null == NullioAttributes()
    assert isinstance(small, NullioAttributes)
    assert small.size_bytes == 16 << 20


def test_drivers_are_read_with_their_attributes(example: Config) -> None:
    assert list(example.drivers) == ["nbd", "aoe", "scst_local"]
    nbd, aoe, local = (driver.attributes for driver in example.drivers.values())
    assert isinstance(nbd, NbdAttributes)
    assert nbd.listen == (
        Listen(Address("127.0.0.1", 10809)),
        Listen(Address("::1", 10809)),
        Listen(Address(path="/run/scst-bridge/nbd.sock")),
    )
    assert isinstance(aoe, AoeAttributes)
    assert aoe.interface == ("eth0", "eth1")
    assert isinstance(local, LocalAttributes)
    assert local.socket == "/run/scst-bridge/local.sock"


def test_targets_are_read_with_their_luns(example: Config) -> None:
    found = {
        target.name: (
            target.attributes.enabled,
            [(lun.number, lun.device, lun.is_read_only) for lun in target.luns],
        )
        for driver in example.drivers.values()
        for target in driver.targets
    }
    assert found == {
        "disk0": (True, [(0, "disk0", False), (16383, "null", False)]),
        "spare": (False, []),
        "e1.1": (True, [(0, "disk0", False)]),
        "local": (True, [(0, "archive", True), (7, "disk0", False)]),
    }
    attributes = example.drivers["aoe"].targets[0].attributes
    assert isinstance(attributes, AoeTargetAttributes)
    assert not attributes.durable


def test_everything_has_its_line(example: Config) -> None:
    lines = EXAMPLE.splitlines()
    for device in example.devices:
        assert lines[device.location.line - 1].split()[:2] == ["DEVICE", device.name]
    for driver in example.drivers.values():
        assert lines[driver.location.line - 1].split()[:2] == ["TARGET_DRIVER", driver.name]
        for target in driver.targets:
            assert lines[target.location.line - 1].split()[:2] == ["TARGET", target.name]
            for lun in target.luns:
                words = lines[lun.location.line - 1].split()
                assert (words[0], int(words[1]), words[2]) == ("LUN", lun.number, lun.device)


def test_sections_may_come_in_any_order(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        "TARGET_DRIVER nbd {\n"
        "TARGET t {\nenabled 1\nLUN 0 d\n}\n"
        "listen 0.0.0.0\n"
        "}\n"
        "HANDLER vdisk_nullio {\nDEVICE d\n}\n",
    )
    assert config.drivers["nbd"].targets[0].luns[0].device == "d"


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "HANDLER vdisk_fileio {\n}\n"])
def test_nothing_at_all_is_a_configuration(tmp_path: Path, text: str) -> None:
    config = load_text(tmp_path, text)
    assert (config.devices, dict(config.drivers)) == ((), {})


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(str(tmp_path / "none.conf"))


def test_a_directory_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        load(str(tmp_path))
    assert caught.value.errno == errno.EISDIR


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"HANDLER vdisk_nullio {\nDEVICE \xff\n}\n", 2, "byte 0xff cannot be decoded"),
        (b"\x80", 1, "byte 0x80 cannot be decoded"),
        (b"# caf\xe9\n", 1, "byte 0xe9 cannot be decoded"),
        (b"\xef\xbb\xbf# text\n", 1, "character U\\+FEFF"),
        (b"\n\n\0", 3, "character U\\+0000"),
        (b"\nHANDLER a\rb {\n}", 2, "character U\\+000D"),
        ("HANDLER".encode("utf-16"), 1, "byte 0xff cannot be decoded"),
    ],
)
def test_a_file_that_is_no_text_is_refused_at_its_line(
    tmp_path: Path, data: bytes, line: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_text(tmp_path, data)
    assert caught.value.line == line


def test_carriage_returns_end_lines_too(tmp_path: Path) -> None:
    config = load_text(tmp_path, EXAMPLE.replace("\n", "\r\n"))
    assert len(config.devices) == 4


def mutate(rng: random.Random, lines: list[str]) -> None:
    """Change one thing about a configuration."""
    at = rng.randrange(len(lines))
    kind = rng.randrange(8)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, rng.choice(lines))
    elif kind == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        lines[at] = " ".join(words)
    elif kind == 4:
        lines[at] += " " + rng.choice(WORDS)
    else:
        position = rng.randrange(len(lines[at]) + 1)
        end = position + (kind != 5)
        noise = rng.choice(CHARACTERS) if kind != 7 else ""
        lines[at] = lines[at][:position] + noise + lines[at][end:]


NUMBERS = ["-1", "0x", "1" * 5000, "16383", "16384"]
WORDS = [*sorted(set(EXAMPLE.split())), *NUMBERS, "", "é", "unix:", "[", "e0.0", "{ }", "a\u2028b"]
CHARACTERS = [*'"\\{}# \t\0\n\r09a/:é\ufeff']


def refusal(folder: Path, text: str | bytes) -> ConfigError | None:
    """Load a text; return the error, None if it is accepted. Anything else fails the test."""
    try:
        load_text(folder, text)
    except ConfigError as error:
        return error
    return None


def test_two_thousand_mutations_are_accepted_or_refused_inside_the_file(tmp_path: Path) -> None:
    rng = random.Random(20240229)
    messages = []
    for _ in range(2000):
        lines = EXAMPLE.splitlines()
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            mutate(rng, lines)
        text = "\n".join(lines)
        error = refusal(tmp_path, text)
        if error is not None:
            messages.append(error.message)
            assert error.path == str(tmp_path / "scst.conf")
            assert 1 <= error.line <= len(text.split("\n")), error
    # The mutations hit many different checks, and do not always break something.
    assert 1000 < len(messages) < 1950
    assert len(set(messages)) > 300
    assert all(messages)


def test_any_piece_of_a_file_is_accepted_or_refused_inside_it(tmp_path: Path) -> None:
    rng = random.Random(42)
    data = EXAMPLE.encode()
    lines = set()
    for _ in range(200):
        start = rng.randrange(len(data))
        piece = data[start : rng.randrange(start, len(data) + 1)]
        error = refusal(tmp_path, piece)
        if error is not None:
            assert 1 <= error.line <= max(1, len(piece.splitlines()))
            lines.add(error.line)
    assert len(lines) > 10


README = Path(__file__).parents[2] / "README.rst"


def readme_example(introduction: str) -> str:
    """The literal block behind these words."""
    _, _, rest = README.read_text().partition(f"{introduction}::\n\n")
    return dedent("\n".join(takewhile(lambda line: not line or line[0] == " ", rest.splitlines())))


def test_the_readmes_example_is_a_configuration(tmp_path: Path) -> None:
    config = load_text(tmp_path, readme_example("It is SCST's ``scst.conf``"))
    assert [device.name for device in config.devices] == ["disk0"]
    assert sorted(config.drivers) == ["aoe", "nbd", "scst_local"]
    for driver in config.drivers.values():
        assert [target.attributes.enabled for target in driver.targets] == [True]


def test_the_readmes_group_is_one_of_a_target(tmp_path: Path) -> None:
    target = readme_example("In place of the nbd target\nabove")
    driver = f"TARGET_DRIVER nbd {{\nlisten 127.0.0.1\n{target}\n}}\n"
    devices = "".join(f"DEVICE {name} {{\nfilename /{name}\n}}\n" for name in ("disk0", "disk1"))
    config = load_text(tmp_path, f"HANDLER vdisk_fileio {{\n{devices}}}\n{driver}")
    (section,) = config.drivers["nbd"].targets
    assert [lun.is_read_only for lun in section.luns] == [True]
    (group,) = section.groups
    assert group.initiators == ("10.1.0.0/16", "tls:CN=db*", "unix:uid=0")
    assert [(lun.number, lun.device) for lun in group.luns] == [(0, "disk0"), (1, "disk1")]


def test_the_readme_names_every_verb() -> None:
    text = README.read_text()
    assert {verb for verb in VERBS if re.search(rf"\b{verb}\b", text) is None} == set()


def test_the_readme_names_every_attribute() -> None:
    text = README.read_text()
    models: list[type[BaseModel]] = [handler.attributes for handler in HANDLERS.values()]
    models += [ListenTerms, TargetGroupAttributes, GroupTargetAttributes]
    for driver in DRIVERS.values():
        models += [driver.attributes, driver.target_attributes]
    names = {name for model in models for name in model.model_fields}
    assert {name for name in names if re.search(rf"\b{name}\b", text) is None} == set()
