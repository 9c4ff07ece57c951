# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD URIs: how a client is told of an export (NBD's uri.md, RFC 3986).

Nothing is looked up here: who calls says which host name or context ID leads to this machine.
"""

from __future__ import annotations

from urllib.parse import quote

# pchar of RFC 3986 less the percent-encoded ones, and "/".
_PATH_SAFE = "/!$&'()*+,;=:@~"


def tcp_uri(host: str, port: int, name: str, *, has_tls: bool = False) -> str:
    """The URI of an export on a host; an IPv6 address is written in brackets."""
    if ":" in host:
        # RFC 6874: the "%" before a zone is itself encoded.
        host = f"[{host.replace('%', '%25')}]"
    return f"{_scheme(has_tls)}://{host}:{port}{_path(name)}"


def unix_uri(path: str, name: str, *, has_tls: bool = False) -> str:
    """The URI of an export on a unix socket."""
    return f"{_scheme(has_tls)}+unix://{_path(name)}?socket={quote(path)}"


def vsock_uri(cid: int, port: int, name: str, *, has_tls: bool = False) -> str:
    """The URI of an export on a vsock port."""
    return f"{_scheme(has_tls)}+vsock://{cid}:{port}{_path(name)}"


def _scheme(has_tls: bool) -> str:
    return "nbds" if has_tls else "nbd"


def _path(name: str) -> str:
    return "/" + quote(name, safe=_PATH_SAFE)
