# SPDX-License-Identifier: GPL-2.0-or-later
"""For each thing that can be wrong with a configuration, its line and the exact text."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.config import load
from bridges.scst_conf import ConfigError

NULL = "HANDLER vdisk_nullio {\nDEVICE d\n}\n"


def in_target(statements: str, driver: str = "nbd", name: str = "t") -> str:
    """A target with these statements, from line 7."""
    listen = {"nbd": "listen h", "aoe": "interface e", "scst_local": "socket /s"}[driver]
    return f"{NULL}TARGET_DRIVER {driver} {{\n{listen}\nTARGET {name} {{\n{statements}\n}}\n}}\n"


def in_driver(statements: str, driver: str = "nbd") -> str:
    """A target driver with these statements, from line 5."""
    return f"{NULL}TARGET_DRIVER {driver} {{\n{statements}\n}}\n"


def in_device(statements: str, handler: str = "vdisk_fileio") -> str:
    """A device with these statements, from line 3."""
    return f"HANDLER {handler} {{\nDEVICE a {{\n{statements}\n}}\n}}\n"


ADDRESS = "expected HOST:PORT, [IPv6]:PORT, unix:/PATH, vsock:PORT, systemd or stdio"
AOE_NAME = "expected eSHELF.SLOT, no leading zeros, shelf 0 to 65534 but not 4095, slot 0 to 254"
NAA = "expected 16 hex digits beginning with 2, 3 or 5, or 32 beginning with 6"

RULE = "expected an address, a network as in 10.0.0.0/8, uid=N, gid=N or cid=N"
LISTEN_TERMS = "allow, deny, max_connections, tls"
NBD = "TARGET, connection_memory, listen, max_connections, tls_certificates, tls_verify_peer"
AOE_TARGET = "GROUP, LUN, allow, deny, durable, enabled, in_band_editing, interface, "
AOE_TARGET += "rel_tgt_id, reservation_conflict, write_cache_control"
FILEIO = "atomic_journal, blocksize, eui64_id, expl_alua, filename, inq_vend_specific, "
FILEIO += "lb_per_pb_exp, long_cdbs, mode_pages_file, naa_id, nv_cache, pr_file_name, prod_id, "
FILEIO += "prod_rev_lvl, read_only, removable, rotational, scsi_device_name, t10_dev_id, "
FILEIO += "t10_vend_id, thin_provisioned, tp_soft_threshold_mb, tst, usn, vend_specific_id, "
FILEIO += "write_through"
NULLIO = "blocksize, eui64_id, expl_alua, inq_vend_specific, lb_per_pb_exp, "
NULLIO += "long_cdbs, mode_pages_file, "
NULLIO += "naa_id, pr_file_name, prod_id, prod_rev_lvl, read_only, removable, rotational, "
NULLIO += "scsi_device_name, size, size_mb, t10_dev_id, t10_vend_id, tst, usn, vend_specific_id"

TOP = [
    (
        "HANDLERS x {\n}",
        1,
        "unknown word 'HANDLERS': expected one of DEVICE_GROUP, HANDLER, TARGET_DRIVER",
    ),
    (
        "setup_id 1",
        1,
        "unknown word 'setup_id': expected one of DEVICE_GROUP, HANDLER, TARGET_DRIVER",
    ),
    (
        "\nDEVICE d",
        2,
        "unknown word 'DEVICE': expected one of DEVICE_GROUP, HANDLER, TARGET_DRIVER",
    ),
    (
        "[HANDLER vdisk]",
        1,
        "unknown word '[HANDLER': expected one of DEVICE_GROUP, HANDLER, TARGET_DRIVER",
    ),
    ("HANDLER", 1, "HANDLER: expected one name after the keyword"),
    ("HANDLER {\n}", 1, "HANDLER: expected one name after the keyword"),
    ("HANDLER a b {\n}", 1, "HANDLER: expected one name after the keyword"),
    ("HANDLER vdisk_fileio", 1, "HANDLER vdisk_fileio: expected a block"),
    ("TARGET_DRIVER nbd", 1, "TARGET_DRIVER nbd: expected a block"),
    (
        "HANDLER vdisk_blockio {\n}",
        1,
        "unknown word 'vdisk_blockio': expected one of vdisk_fileio, vdisk_nullio",
    ),
    (
        "TARGET_DRIVER iscsi {\n}",
        1,
        "unknown word 'iscsi': expected one of aoe, nbd, scst_local",
    ),
    (
        "HANDLER vdisk_nullio {\n}\nHANDLER vdisk_nullio {\n}",
        3,
        "section 'HANDLER vdisk_nullio' repeats line 1: expected it only once",
    ),
    (
        in_driver("listen h") + in_driver("listen h").removeprefix(NULL),
        7,
        "section 'TARGET_DRIVER nbd' repeats line 4: expected it only once",
    ),
    (
        "\nHANDLER vdisk_nullio {\n",
        2,
        "end of file in section 'HANDLER vdisk_nullio' opened at line 2: expected '}'",
    ),
]
HANDLER = [
    ("HANDLER vdisk_nullio {\nsize 1\n}", 2, "'size': expected DEVICE NAME"),
    ("HANDLER vdisk_nullio {\nDEVICE\n}", 2, "'DEVICE': expected DEVICE NAME"),
    ("HANDLER vdisk_nullio {\nDEVICE a b\n}", 2, "'DEVICE': expected DEVICE NAME"),
    (
        f"HANDLER vdisk_nullio {{\nDEVICE {'n' * 64}\n}}",
        2,
        f"name '{'n' * 64}': expected 1 to 63 characters",
    ),
    ('HANDLER vdisk_nullio {\nDEVICE ""\n}', 2, "name '': expected 1 to 63 characters"),
    (
        "HANDLER vdisk_nullio {\nDEVICE d\n}\nHANDLER vdisk_fileio {\n"
        "DEVICE d {\nfilename /f\n}\n}",
        5,
        "device d exists already, at line 2",
    ),
    (
        "HANDLER vdisk_nullio {\nDEVICE d {\n}\nDEVICE d {\n}\n}",
        4,
        "section 'DEVICE d' repeats line 2: expected it only once",
    ),
    ("HANDLER vdisk_nullio {\nDEVICE d\nDEVICE d\n}", 3, "device d exists already, at line 2"),
]
DEVICE = [
    (in_device("blocksize 512"), 2, "device a: filename is required"),
    ("HANDLER vdisk_fileio {\nDEVICE a\n}", 2, "device a: filename is required"),
    (in_device("filename /f\no_direct 1"), 4, f"unknown word 'o_direct': expected one of {FILEIO}"),
    (in_device("filename"), 3, "filename: expected one value"),
    (in_device("filename /a /b"), 3, "filename: expected one value"),
    (in_device("filename {\n}"), 3, "filename: expected a value, not a block"),
    (in_device("filename /a {\n}"), 3, "filename: expected a value, not a block"),
    (in_device("filename a"), 3, "device a: filename 'a': expected an absolute path"),
    (in_device('filename ""'), 3, "device a: filename '': expected an absolute path"),
    (in_device("filename /a\nfilename /b"), 4, "device a: filename is given already, at line 3"),
    (in_device("filename /a\nfilename /a"), 4, "device a: filename is given already, at line 3"),
    (
        in_device("filename /f\nblocksize 1024"),
        4,
        "device a: blocksize '1024': expected 512 or 4096",
    ),
    (in_device("filename /f\nblocksize 4k"), 4, "device a: blocksize '4k': expected a number"),
    (in_device("filename /f\nread_only yes"), 4, "device a: read_only 'yes': expected 0 or 1"),
    (in_device("filename /f\nnaa_id 123"), 4, f"device a: naa_id '123': {NAA}"),
    (
        in_device(f"filename /f\nusn {'1' * 21}"),
        4,
        f"device a: usn '{'1' * 21}': expected 1 to 20 printable ASCII characters",
    ),
    (
        in_device('filename /f\nprod_id ""'),
        4,
        "device a: prod_id '': expected 1 to 16 printable ASCII characters",
    ),
    (
        in_device("filename /f\nread_only 1\nwrite_through 1"),
        2,
        "device a: read_only excludes write_through and nv_cache",
    ),
    (
        in_device("size 512\nsize_mb 1", "vdisk_nullio"),
        2,
        "device a: size and size_mb exclude each other",
    ),
    (
        in_device("size 513", "vdisk_nullio"),
        2,
        "device a: expected a size below 2^63 that is a multiple of blocksize",
    ),
    (in_device("size -1", "vdisk_nullio"), 3, "device a: size '-1': expected a number"),
    (
        in_device("filename /f", "vdisk_nullio"),
        3,
        f"unknown word 'filename': expected one of {NULLIO}",
    ),
]
DRIVER = [
    (in_driver("TARGET t {\n}"), 4, "driver nbd: listen is required"),
    (in_driver("", "aoe"), 4, "driver aoe: interface is required"),
    (in_driver("listen"), 5, "listen: expected one value"),
    (in_driver("listen h\nlisten h:x"), 6, f"driver nbd: listen 'h:x': {ADDRESS}"),
    (in_driver("listen h:x\nlisten h"), 5, f"driver nbd: listen 'h:x': {ADDRESS}"),
    (
        in_driver("listen h {\nallow 10.0.0.1\n}\nlisten h:10809"),
        8,
        "driver nbd: listen h:10809 is given already, at line 5",
    ),
    (
        in_driver("listen h\nlisten g\nlisten h"),
        7,
        "driver nbd: listen h is given already, at line 5",
    ),
    (
        in_driver("listen unix:s"),
        5,
        "driver nbd: listen 'unix:s': expected unix: and an absolute path of at most 107 bytes",
    ),
    (in_driver("enabled 1"), 5, f"unknown word 'enabled': expected one of {NBD}"),
    (
        in_driver("interface a/b", "aoe"),
        5,
        "driver aoe: interface 'a/b': expected the name of a network interface,"
        " or a pattern as in eth*",
    ),
    (
        in_driver("interface e\nstate_directory s", "aoe"),
        6,
        "driver aoe: state_directory 's': expected an absolute path",
    ),
    (
        in_target("kernel 1"),
        7,
        "unknown word 'kernel': expected one of GROUP, LUN, enabled, rel_tgt_id",
    ),
    (
        in_target("kernel yes", "scst_local"),
        7,
        "target t: kernel 'yes': expected 0 or 1",
    ),
    (
        in_target("kernel 1", "scst_local", "\u00e4" * 63),
        6,
        "target " + "\u00e4" * 63 + ": kernel 1: expected a shorter name,"
        " or more of its characters in ASCII",
    ),
    (
        in_driver("socket s", "scst_local"),
        5,
        "driver scst_local: socket 's': expected an absolute path of at most 107 bytes",
    ),
    (
        in_driver("socket /a\nsocket /b", "scst_local"),
        6,
        "driver scst_local: socket is given already, at line 5",
    ),
    (in_driver("listen h\nTARGET"), 6, "TARGET: expected one name after the keyword"),
    (in_driver("listen h\nTARGET t"), 6, "TARGET t: expected a block"),
    (
        in_driver("listen h\nTARGET t {\n}\nTARGET t {\n}"),
        8,
        "section 'TARGET t' repeats line 6: expected it only once",
    ),
]
LISTEN = [
    (in_driver("listen h {\nx 1\n}"), 6, f"unknown word 'x': expected one of {LISTEN_TERMS}"),
    (in_driver("listen {\n}"), 5, "listen: expected one value"),
    (in_driver("listen h {\ntls\n}"), 6, "tls: expected one value"),
    (in_driver("listen h {\ntls yes\n}"), 6, "listen h: tls 'yes': expected off, on, require"),
    (in_driver("listen h {\ntls {\n}\n}"), 6, "tls: expected a value, not a block"),
    (
        in_driver("listen h {\ntls off\ntls off\n}"),
        7,
        "listen h: tls is given already, at line 6",
    ),
    (
        in_driver("listen g\nlisten h {\ntls on\n}"),
        6,
        "driver nbd: listen 'h': tls on: expected tls_certificates in the driver's section",
    ),
    (
        in_driver("listen g\nlisten h {\ntls require\n}"),
        6,
        "driver nbd: listen 'h': tls require: expected tls_certificates in the driver's section",
    ),
    (in_driver("listen h {\nallow 1.2.3\n}"), 6, f"listen h: allow '1.2.3': {RULE}"),
    (in_driver("listen h {\ndeny ::1\ndeny uid=x\n}"), 7, f"listen h: deny 'uid=x': {RULE}"),
    (
        in_driver("listen h {\ndeny 10.1.0.0/8\n}"),
        6,
        "listen h: deny '10.1.0.0/8': address bits behind the prefix: expected 10.0.0.0/8",
    ),
    (
        in_driver("listen h {\nallow uid=0\n}"),
        5,
        "driver nbd: listen 'h': allow uid=0: expected an address or a network",
    ),
    (
        in_driver("listen unix:/s {\ndeny 10.0.0.0/8\n}"),
        5,
        "driver nbd: listen 'unix:/s': deny 10.0.0.0/8: expected uid=N or gid=N",
    ),
    (
        in_driver("listen vsock:1 {\nallow gid=0\n}"),
        5,
        "driver nbd: listen 'vsock:1': allow gid=0: expected cid=N",
    ),
    (
        in_driver("listen h {\nallow ::1\nallow ::1\n}"),
        7,
        "listen h: allow ::1 is given already, at line 6",
    ),
    (
        in_driver("listen h {\nmax_connections 0\n}"),
        6,
        "listen h: max_connections '0': expected at least 1",
    ),
    (
        in_driver("listen h\nlisten h {\n}"),
        6,
        "section 'listen h' repeats line 5: expected it only once",
    ),
    (
        in_driver("listen vsock:x"),
        5,
        "driver nbd: listen 'vsock:x': expected vsock:PORT or vsock:CID:PORT",
    ),
    (
        in_driver("listen h\nconnection_memory 4096"),
        6,
        "driver nbd: connection_memory '4096': expected at least 65536",
    ),
    (
        in_driver("listen h\nmax_connections many"),
        6,
        "driver nbd: max_connections 'many': expected a number",
    ),
    (
        in_driver("listen h\ntls_certificates pki"),
        6,
        "driver nbd: tls_certificates 'pki': expected an absolute path",
    ),
    (
        in_driver("listen h\ntls_verify_peer 1"),
        6,
        "driver nbd: tls_verify_peer '1': expected tls_certificates as well",
    ),
    (
        in_driver("interface eth0 {\n}", "aoe"),
        5,
        "interface: expected a value, not a block",
    ),
]
TARGET = [
    (
        in_target("", name="a/b"),
        6,
        "target 'a/b': expected a name without '/', which separates the LUN",
    ),
    (in_target("", name="n" * 64), 6, f"name '{'n' * 64}': expected 1 to 63 characters"),
    (in_target("LUN 0 d", "aoe", "disk"), 6, f"target 'disk': {AOE_NAME}"),
    (in_target("LUN 0 d", "aoe", "e1.255"), 6, f"target 'e1.255': {AOE_NAME}"),
    (in_target("LUN 0 d", "aoe", "e01.1"), 6, f"target 'e01.1': {AOE_NAME}"),
    (
        "HANDLER vdisk_nullio {\nDEVICE d {\nblocksize 4096\n}\n}\n"
        + in_target("LUN 0 d", "aoe", "e1.1").removeprefix(NULL),
        9,
        "LUN 0: device d has blocks of 4096 bytes: driver aoe expected 512",
    ),
    (
        in_target("LUN 1 d\nLUN 2 d", "aoe", "e1.1"),
        6,
        "target e1.1: expected LUN 0, or only one LUN",
    ),
    (in_target("enabled on"), 7, "target t: enabled 'on': expected 0 or 1"),
    (
        in_target("LUN 0 d\nenabled 1\nenabled 0"),
        9,
        "target t: enabled is given already, at line 8",
    ),
    (
        in_target("GROUPS g {\n}"),
        7,
        "unknown word 'GROUPS': expected one of GROUP, LUN, enabled, rel_tgt_id",
    ),
    (in_target("rel_tgt_id 0"), 7, "target t: rel_tgt_id '0': expected 1 to 65535"),
    (in_target("rel_tgt_id 65536"), 7, "target t: rel_tgt_id '65536': expected 1 to 65535"),
    (
        in_target("x 1", "aoe", "e1.1"),
        7,
        f"unknown word 'x': expected one of {AOE_TARGET}",
    ),
    (
        in_target("allow 02:00:00:00:00:01\nallow eth0", "aoe", "e1.1"),
        8,
        "target e1.1: allow 'eth0': expected a MAC address, as in 02:00:00:00:00:01",
    ),
    (
        in_target("reservation_conflict x", "aoe", "e1.1"),
        7,
        "target e1.1: reservation_conflict 'x': expected ata or aoe",
    ),
]
LUN = [
    (in_target("LUN"), 7, "expected LUN NUMBER DEVICE"),
    (in_target("LUN 0"), 7, "expected LUN NUMBER DEVICE"),
    (in_target("LUN {\n}"), 7, "expected LUN NUMBER DEVICE"),
    (in_target("LUN x d"), 7, "LUN 'x': expected a number from 0 to 16383"),
    (in_target("LUN -1 d"), 7, "LUN '-1': expected a number from 0 to 16383"),
    (in_target("LUN 16384 d"), 7, "LUN '16384': expected a number from 0 to 16383"),
    (in_target("LUN 0x1 d"), 7, "LUN '0x1': expected a number from 0 to 16383"),
    (in_target("LUN \u0661 d"), 7, "LUN '\u0661': expected a number from 0 to 16383"),
    (
        in_target(f"LUN {'9' * 5000} d"),
        7,
        f"LUN '{'9' * 5000}': expected a number from 0 to 16383",
    ),
    (in_target("LUN 0 x"), 7, "LUN 0: unknown device 'x': expected d"),
    (
        in_target("LUN 0 x").removeprefix(NULL),
        4,
        "LUN 0: unknown device 'x': expected a DEVICE section",
    ),
    (in_target("LUN 5 d\nLUN 05 d"), 8, "LUN 5 is mapped already, at line 7"),
    (in_target("LUN 5 d\nLUN 5 d"), 8, "LUN 5 is mapped already, at line 7"),
    (in_target("LUN 0 d {\nread_only maybe\n}"), 8, "LUN 0: read_only 'maybe': expected 0 or 1"),
    (in_target("LUN 0 d {\nwrite 1\n}"), 8, "unknown word 'write': expected one of read_only"),
    (in_target("LUN 0 d {\nread_only\n}"), 8, "read_only: expected one value"),
    (
        in_target("LUN 0 d {\nread_only 1\nread_only 1\n}"),
        9,
        "LUN 0: read_only is given already, at line 8",
    ),
]


@pytest.mark.parametrize(
    ("text", "line", "message"), [*TOP, *HANDLER, *DEVICE, *DRIVER, *LISTEN, *TARGET, *LUN]
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "scst.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}:{line}: {message}"


def test_the_first_thing_wrong_is_the_one_told(tmp_path: Path) -> None:
    path = tmp_path / "scst.conf"
    path.write_text(in_device("blocksize 1\nread_only 2\nfilename x"))
    with pytest.raises(ConfigError, match="blocksize '1'"):
        load(str(path))
