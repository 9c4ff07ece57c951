# SPDX-License-Identifier: GPL-2.0-or-later
"""One disk from the words of a command line, checked as a configuration is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.config_one_disk import COMMAND_LINE, NbdOptions, one_disk
from bridges.driver_attributes import NbdAttributes
from bridges.listen import Listen, TlsMode
from bridges.listeners import Address
from bridges.scst_conf import ConfigError
from scsi_backend.handlers.attributes import FileioAttributes

FILE = Path("/srv/disk.img")


def test_a_file_is_served_as_one_export_on_the_usual_port_of_this_host() -> None:
    config = one_disk(FILE, (), NbdOptions())
    (device,) = config.devices
    assert (device.name, device.handler) == ("disk0", "vdisk_fileio")
    assert device.attributes == FileioAttributes(filename="/srv/disk.img", thin_provisioned=True)
    (driver,) = config.drivers.values()
    assert isinstance(driver.attributes, NbdAttributes)
    assert driver.attributes.listen == (Listen(Address("127.0.0.1", 10809)),)
    (target,) = driver.targets
    assert (driver.name, target.name, target.attributes.enabled) == ("nbd", "disk0", True)
    assert [(lun.number, lun.device, lun.is_read_only) for lun in target.luns] == [
        (0, "disk0", False)
    ]


def test_attributes_are_those_of_the_handler() -> None:
    words = ["blocksize=4096", "thin_provisioned=0", "usn=a=b"]
    (device,) = one_disk(FILE, words, NbdOptions(), is_read_only=True).devices
    assert device.attributes == FileioAttributes(
        filename="/srv/disk.img", blocksize=4096, usn="a=b", read_only=True
    )


def test_a_relative_path_is_made_absolute_and_its_links_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("elsewhere")
    (device,) = one_disk(Path("link"), (), NbdOptions()).devices
    assert isinstance(device.attributes, FileioAttributes)
    assert device.attributes.filename == f"{tmp_path}/link"


def test_options_become_the_terms_of_every_listener(tmp_path: Path) -> None:
    options = NbdOptions(("unix:/a b", "systemd"), "the disk", "require", str(tmp_path), True)
    (driver,) = one_disk(FILE, (), options).drivers.values()
    assert isinstance(driver.attributes, NbdAttributes)
    assert driver.attributes.listen == (
        Listen(Address(path="/a b"), TlsMode.REQUIRE),
        Listen(Address(inherited="systemd"), TlsMode.REQUIRE),
    )
    assert driver.attributes.tls_certificates == str(tmp_path)
    assert driver.attributes.tls_verify_peer
    assert driver.targets[0].name == "the disk"


@pytest.mark.parametrize("word", ["blocksize", "=1", ""])
def test_words_that_are_no_attribute_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"^'{word}': expected ATTRIBUTE=VALUE$"):
        one_disk(FILE, [word], NbdOptions())


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["blocksize=7"], NbdOptions(), "device disk0: blocksize '7': expected 512 or 4096"),
        (["filename=/x"], NbdOptions(), "device disk0: filename is given already, at line 1"),
        (["colour=red"], NbdOptions(), "unknown word 'colour': expected one of atomic_journal,"),
        ([], NbdOptions(("h:x",)), "driver nbd: listen 'h:x': expected HOST:PORT"),
        ([], NbdOptions(tls="on"), "tls on: expected tls_certificates"),
        ([], NbdOptions(export="a/b"), "target 'a/b': expected a name without '/'"),
        ([], NbdOptions(export=""), "name '': expected 1 to 63 characters"),
    ],
)
def test_what_is_wrong_is_told_as_of_a_configuration(
    words: list[str], options: NbdOptions, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        one_disk(FILE, words, options)
    assert message in caught.value.message
    assert caught.value.path == COMMAND_LINE
