# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets that whoever started this process has opened for it.

Listening ones come by systemd's protocol (sd_listen_fds(3)), which nbdkit, qemu-nbd and libnbd
speak as well; a connected one comes as standard input, as from inetd or libnbd's connect_command.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, replace

from bridges.listen import Listen, check_rules
from bridges.listeners import Address

_log = logging.getLogger(__name__)

_LAST_STANDARD_FD = 2
# SD_LISTEN_FDS_START
_FIRST_FD = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_ANY_NAME = "systemd"
_STDIO = "stdio"


class InheritedError(Exception):
    """What was passed, or was not, does not fit; says what was expected."""


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A listening socket and its FDNAME."""

    name: str
    sock: socket.socket


@dataclass(frozen=True, slots=True)
class Inherited:
    """All of them: listening sockets, and a connected one."""

    listening: tuple[PassedSocket, ...] = ()
    stdio: socket.socket | None = None


NOTHING_INHERITED = Inherited()


def take_passed_sockets(environ: MutableMapping[str, str]) -> tuple[PassedSocket, ...]:
    """Take the sockets that are meant for this process, and clear the variables that tell of them.

    Raises InheritedError.
    """
    pid, count_word, names = (environ.pop(variable, "") for variable in _VARIABLES)
    if pid != str(os.getpid()):
        return ()
    if not count_word.isdecimal():
        raise InheritedError(f"LISTEN_FDS '{count_word}': expected a number")
    fds = range(_FIRST_FD, _FIRST_FD + int(count_word))
    fd_names = names.split(":") if names else []
    if names and len(fd_names) != len(fds):
        raise InheritedError(f"LISTEN_FDNAMES '{names}': expected {len(fds)} names")
    # sd_listen_fds_with_names(3): without LISTEN_FDNAMES all are called "unknown".
    return tuple(
        PassedSocket(fd_names[index] if names else "unknown", _passed(fd))
        for index, fd in enumerate(fds)
    )


def _passed(fd: int) -> socket.socket:
    sock = _stream_socket(fd, f"descriptor {fd} of LISTEN_FDS")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise InheritedError(f"descriptor {fd} of LISTEN_FDS: expected a listening socket")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _stream_socket(fd: int, what: str) -> socket.socket:
    """Make a socket of a descriptor, which it owns from now on."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise InheritedError(f"{what}: {error.strerror}: expected a socket") from error
    if not is_socket:
        raise InheritedError(f"{what}: expected a socket")
    sock = socket.socket(fileno=fd)
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise InheritedError(f"{what}: expected a stream socket")
    return sock


def occupy_standard_descriptors() -> None:
    """Open /dev/null in place of those of the descriptors 0 to 2 that are closed.

    Else a disk or a connection would get such a number, and be taken for a standard stream.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_FD:
        pass
    os.close(fd)


def take_stdio() -> socket.socket:
    """Take the connection on standard input, and put /dev/null in its place; raises InheritedError.

    Standard output is usually the same socket, and from inetd standard error, too. Whatever is
    printed must not get between the messages, and the connection must not outlive its socket. All
    three must be open (``occupy_standard_descriptors``).
    """
    expected = "standard input: expected a socket, as inetd and libnbd's connect_command pass it"
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise InheritedError(expected)
    sock = _stream_socket(os.dup(0), "standard input")
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise InheritedError(f"{expected}; this one listens")
    inode = os.fstat(0).st_ino
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(_LAST_STANDARD_FD + 1):
        status = os.fstat(fd)
        if stat.S_ISSOCK(status.st_mode) and status.st_ino == inode:
            os.dup2(null, fd)
    os.close(null)
    return sock


def listens_in_force(
    configured: Iterable[Listen], inherited: Inherited, default: Listen
) -> tuple[Listen, ...]:
    """Which listeners to open: those configured, or in their place the sockets that were passed.

    A passed socket has the terms of the line ``systemd:NAME`` with its name, or else of the line
    ``systemd``; of ``default`` where there is no such line at all. Raises InheritedError.
    """
    if inherited.stdio is not None:
        return ()
    lines = {str(listen.address): listen for listen in configured}
    wanted = {word: listen for word, listen in lines.items() if listen.address.inherited}
    if not inherited.listening:
        for word in wanted:
            what = "--stdio" if word == _STDIO else "a socket, and none was passed (LISTEN_FDS)"
            raise InheritedError(f"listen {word}: expected {what}")
        return tuple(lines.values())
    if len(wanted) < len(lines):
        _log.info("sockets were passed: they replace the addresses of the listen lines")
    if _STDIO in wanted:
        raise InheritedError("listen stdio: expected --stdio, and listening sockets were passed")
    found = [_terms(passed, wanted, default) for passed in inherited.listening]
    for word in wanted.keys() - {word for word, _ in found}:
        raise InheritedError(f"listen {word}: expected a socket, and none of that name was passed")
    return tuple(listen for _, listen in found)


def _terms(passed: PassedSocket, wanted: dict[str, Listen], default: Listen) -> tuple[str, Listen]:
    """The word of the line that a passed socket belongs to, and that line for this socket."""
    named = f"{_ANY_NAME}:{passed.name}"
    word = named if named in wanted else _ANY_NAME
    listen = wanted.get(word, None if wanted else default)
    if listen is None:
        raise InheritedError(f"socket '{passed.name}' was passed: expected a line listen {named}")
    address = Address.of(passed.sock)
    try:
        check_rules(address, listen.access)
    except ValueError as error:
        raise InheritedError(f"listen {word}: {address}: {error}") from error
    return word, replace(listen, address=address, passed=(passed.sock,))


def stdio_terms(configured: Iterable[Listen], default: Listen) -> Listen:
    """The terms of the connection on standard input: those of ``listen stdio``, or ``default``."""
    return next(
        (listen for listen in configured if listen.address.inherited == _STDIO),
        replace(default, address=Address(inherited=_STDIO)),
    )
