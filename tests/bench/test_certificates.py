# SPDX-License-Identifier: GPL-2.0-or-later
"""certificates.py: Python's own TLS takes the server's certificate, for its names only."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from tests.bench.certificates import write_certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates")
    write_certificates(path)
    return path


def shake_hands(folder: Path, host: str) -> None:
    """A TLS handshake in memory; raises ssl.SSLError where the client refuses the server."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
    client_side = ssl.create_default_context(cafile=str(folder / "ca-cert.pem"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(down, up, server_hostname=host)
    server = server_side.wrap_bio(up, down, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    assert waiting == []


def test_exactly_the_files_that_servers_look_for_are_made(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"ca-cert.pem", "server-cert.pem", "server-key.pem"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_client_that_knows_the_authority_accepts_the_server(folder: Path, host: str) -> None:
    shake_hands(folder, host)


def test_certificate_is_for_no_other_host(folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(folder, "example.com")


def test_key_is_for_its_owner_only(folder: Path) -> None:
    assert stat.S_IMODE((folder / "server-key.pem").stat().st_mode) == 0o600
