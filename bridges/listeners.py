# SPDX-License-Identifier: GPL-2.0-or-later
"""Stream listeners: addresses as configuration words, sockets, and accepting in the event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridges import access
from scsi_backend.target.initiator_pattern import Host

_log = logging.getLogger(__name__)

_BACKLOG = 1024
# Connections accepted in one wake-up before those that exist get their turn.
_ACCEPTS_PER_TURN = 64
# While descriptors have run out, accepting again at once would only spin.
_ACCEPT_PAUSE_S = 0.1
# Who can connect can read and write: only the owner.
_SOCKET_MODE = 0o600
_PORT = re.compile("[0-9]{1,5}")
# vsock(7): both are 32 bits wide; the highest means any.
_VSOCK = re.compile("vsock:(?:([0-9]{1,10}):)?([0-9]{1,10})")
_ANY = 0xFFFFFFFF
# sd_listen_fds(3): FDNAME has up to 255 printable characters without colons.
_INHERITED = re.compile("stdio|systemd(?::[!-9;-~]{1,255})?")
# unix(7): sun_path less the terminating NUL.
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and port, the path of a unix socket, or a context ID and port.

    ``inherited`` names sockets that whoever started this process has opened: ``systemd``,
    ``systemd:NAME`` or ``stdio``.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    cid: int | None = None
    inherited: str = ""

    @classmethod
    def parse(cls, word: str, default_port: int) -> Address:
        """Read the word of a configuration; raises ValueError."""
        expected = "expected HOST:PORT, [IPv6]:PORT, unix:/PATH, vsock:PORT, systemd or stdio"
        if word.startswith("unix:"):
            path = word.removeprefix("unix:")
            if not is_socket_path(path):
                raise ValueError(
                    f"expected unix: and an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes"
                )
            return cls(path=path)
        if word.startswith("vsock:"):
            return _parse_vsock(word)
        if _INHERITED.fullmatch(word):
            return cls(inherited=word)
        if word.startswith("["):
            host, bracket, rest = word[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(expected)
            port_word = rest[1:] if rest else str(default_port)
        else:
            host, colon, port_word = word.partition(":")
            port_word = port_word if colon else str(default_port)
        if not _is_host(host) or not _PORT.fullmatch(port_word) or int(port_word) > 65535:
            raise ValueError(expected)
        return cls(host=host, port=int(port_word))

    @classmethod
    def of(cls, sock: socket.socket) -> Address:
        """Where a socket listens; raises OSError."""
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            # Bytes: a name in the abstract namespace (unix(7)).
            return cls(path=name if isinstance(name, str) else os.fsdecode(b"@" + name[1:]))
        if sock.family == socket.AF_VSOCK:
            return cls(cid=name[0], port=name[1])
        return cls(host=name[0], port=name[1])

    def __str__(self) -> str:
        if self.inherited:
            return self.inherited
        if self.path:
            return f"unix:{self.path}"
        if self.cid is not None:
            return f"vsock:{self.port}" if self.cid == _ANY else f"vsock:{self.cid}:{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_internet(self) -> bool:
        """Whether clients come by TCP."""
        return bool(self.host)

    def listen(self) -> socket.socket:
        """Return a listening socket; raises OSError with the address in its text."""
        try:
            if self.inherited:
                raise OSError(errno.ENOTCONN, "no socket of that name was passed")
            if self.path:
                return self._listen_unix()
            return self._listen_tcp() if self.cid is None else self._listen_vsock(self.cid)
        except OSError as error:
            raise self._named(error) from error

    def resolve(self) -> list[Address]:
        """The numeric addresses that a host name stands for; raises OSError."""
        if not self.is_internet:
            return [self]
        try:
            found = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise self._named(error) from error
        hosts = dict.fromkeys(_host_of(address) for *_, address in found)
        return [Address(host=host, port=self.port) for host in hosts]

    def _named(self, error: OSError) -> OSError:
        reason = error.strerror or str(error)
        return OSError(error.errno, f"cannot listen on {self}: {reason}")

    def _listen_tcp(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # [::] and 0.0.0.0 are two lines; a client is one initiator at either.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(self._socket_address())
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _socket_address(self) -> tuple[Any, ...]:
        if "%" not in self.host:
            return self.host, self.port
        # Of two parts, Python takes the scope for 0 whatever the host says.
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return found[0][4]

    def _listen_vsock(self, cid: int) -> socket.socket:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind((cid, self.port))
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _listen_unix(self) -> socket.socket:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        remove_stale_socket(self.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind(self.path)
            # Whatever the umask; nobody can connect before listen(2).
            os.chmod(self.path, _SOCKET_MODE)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock


def _host_of(address: tuple[Any, ...]) -> str:
    """The numeric host of what getaddrinfo found, with its scope (RFC 4007), if it has one."""
    host, _, *rest = address
    scope_id = rest[1] if rest else 0
    return f"{host}%{socket.if_indextoname(scope_id)}" if scope_id else str(host)


def _parse_vsock(word: str) -> Address:
    found = _VSOCK.fullmatch(word)
    cid, port = (int(found[1] or _ANY), int(found[2])) if found else (0, 0)
    if not 0 < port < _ANY or cid > _ANY:
        raise ValueError("expected vsock:PORT or vsock:CID:PORT")
    return Address(cid=cid, port=port)


def is_socket_path(path: str) -> bool:
    """Tell whether a unix socket can have this absolute path."""
    return path.startswith("/") and len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES


def _is_host(word: str) -> bool:
    try:
        # What getaddrinfo does first; it refuses empty and overlong labels.
        return bool(word.encode("idna"))
    except UnicodeError:
        return False


def remove_stale_socket(path: str) -> None:
    """Remove a unix socket that nobody listens on; raises OSError for one in use or no socket."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "the file exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another server listens there")


def _file_at(path: str) -> tuple[int, int]:
    """Which file has a path, whatever becomes of its name; raises OSError."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def peer_name(sock: socket.socket) -> str:
    """Name the other end for logs and as an initiator: its address, or who the kernel says it is.

    A host has one name, whether it comes by IPv4 or by IPv4 in an IPv6 socket.
    """
    if sock.family == socket.AF_UNIX:
        return f"unix:uid={access.peer_process(sock)[1]}"
    if sock.family == socket.AF_VSOCK:
        return f"vsock:cid={sock.getpeername()[0]}"
    return str(peer_host(sock))


def peer_host(sock: socket.socket) -> Host | None:
    """Where the other end is, if it comes from a network; raises OSError if it is gone."""
    is_internet = sock.family in (socket.AF_INET, socket.AF_INET6)
    return access.host_of(sock.getpeername()[0]) if is_internet else None


class Listener:
    """Accepts connections on an address; a host name may stand for several.

    Sockets that were ``passed`` are taken as they are; their unix socket's name is left alone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        accepted: Callable[[socket.socket], object],
        passed: Sequence[socket.socket] = (),
    ) -> None:
        self._loop = loop
        self.address = address
        self._accepted = accepted
        self._passed = passed
        self._socks: list[socket.socket] = []
        # Which file is the unix socket's name: another server may have taken its place since.
        self._file: tuple[int, int] | None = None

    def start(self) -> None:
        """Open the sockets; raises OSError, with none left open."""
        self._socks.extend(self._passed)
        if not self._passed:
            self._open()
        for sock in self._socks:
            self._watch(sock)

    def _open(self) -> None:
        try:
            for address in self.address.resolve():
                # The port that the kernel chose for the first is that of the others, too.
                sock = replace(address, port=self.address.port).listen()
                self._socks.append(sock)
                if address.is_internet:
                    self.address = replace(self.address, port=sock.getsockname()[1])
                elif address.path:
                    self._file = _file_at(address.path)
        except OSError:
            self._close()
            raise

    def stop(self) -> None:
        """Accept no more, and take the unix socket's name away if it still is this one's."""
        if not self._socks:
            return
        for sock in self._socks:
            self._loop.remove_reader(sock)
        if self._file is not None:
            # Before it is closed: a name that nobody listens at is anybody's to take.
            self._remove_file()
        self._close()

    def _remove_file(self) -> None:
        try:
            if _file_at(self.address.path) == self._file:
                os.unlink(self.address.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("%s: cannot remove: %s", self.address, error.strerror)

    def _close(self) -> None:
        for sock in self._socks:
            sock.close()
        self._socks.clear()

    def _watch(self, sock: socket.socket) -> None:
        self._loop.add_reader(sock, self._readable, sock)

    def _readable(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._accepted(sock)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        _log.error("%s: cannot accept: %s", self.address, error.strerror)
        self._loop.remove_reader(listening)
        self._loop.call_later(_ACCEPT_PAUSE_S, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if listening in self._socks:
            self._watch(listening)
