# SPDX-License-Identifier: GPL-2.0-or-later
"""URIs as NBD's uri.md and RFC 3986 have them, and as libnbd reads them."""

from __future__ import annotations

import subprocess

import pytest

from bridges.nbd.uri import tcp_uri, unix_uri, vsock_uri

LIBNBD = """\
import nbd, sys
handle = nbd.NBD()
try:
    handle.connect_uri(sys.argv[1])
except nbd.Error:
    pass
print(handle.get_export_name())
"""


@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        ("example.org", "disk", "nbd://example.org:10809/disk"),
        ("192.0.2.1", "", "nbd://192.0.2.1:10809/"),
        ("::1", "disk/7", "nbd://[::1]:10809/disk/7"),
        ("fe80::1%eth0", "d", "nbd://[fe80::1%25eth0]:10809/d"),
        ("h", "a b?c#d%e", "nbd://h:10809/a%20b%3Fc%23d%25e"),
        ("h", "ü", "nbd://h:10809/%C3%BC"),
        ("h", "iqn.2024-01.org:x", "nbd://h:10809/iqn.2024-01.org:x"),
    ],
)
def test_tcp(host: str, name: str, expected: str) -> None:
    assert tcp_uri(host, 10809, name) == expected
    assert tcp_uri(host, 10809, name, has_tls=True) == f"nbds{expected.removeprefix('nbd')}"


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("/run/nbd.sock", "disk", "nbd+unix:///disk?socket=/run/nbd.sock"),
        ("/a b&c=d%", "x y", "nbd+unix:///x%20y?socket=/a%20b%26c%3Dd%25"),
        ("/s", "", "nbd+unix:///?socket=/s"),
    ],
)
def test_unix(path: str, name: str, expected: str) -> None:
    assert unix_uri(path, name) == expected
    assert unix_uri(path, name, has_tls=True) == f"nbds{expected.removeprefix('nbd')}"


def test_vsock() -> None:
    assert vsock_uri(3, 10809, "disk/7") == "nbd+vsock://3:10809/disk/7"
    assert vsock_uri(2, 1, "", has_tls=True) == "nbds+vsock://2:1/"


@pytest.mark.parametrize("name", ["disk", "disk/7", "a b?c#d%e&f=g+h", "ü", "~!$'()*,;:@"])
def test_libnbd_reads_the_name_that_was_meant(name: str) -> None:
    python = "/usr/bin/python3"
    have = subprocess.run([python, "-c", "import nbd"], capture_output=True, timeout=30)
    if have.returncode != 0:
        pytest.skip("python3-libnbd is not installed")
    uri = unix_uri("/none/such", name)
    done = subprocess.run(
        [python, "-c", LIBNBD, uri], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"{name}\n"
