# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that are compared: one table, and for each row a plan of what to start.

Plans are data (commands, configuration texts, sockets); processes.py carries them out.
Every server offers the same file on a unix socket of its own, with the defaults of its
packager, so that a row says what a user of that server gets. With TLS a server is started a
second time, and then takes nobody without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from tests.bench.cells import Cell

EXPORT = "disk0"
LOCAL_TARGET = "local"
PYTHON_PLUGIN = Path(__file__).with_name("nbdkit_python_plugin.py")


class AnyServer(Protocol):
    """What tables have to know of a server, whichever benchmark it is of."""

    @property
    def key(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def is_ours(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Site:
    """Where one server works: the image it shares with the others, and a folder of its own.

    `certificates` is the folder that certificates.py fills.
    """

    image: Path
    size_bytes: int
    folder: Path
    bridge: Path
    certificates: Path

    @property
    def nbd_socket(self) -> Path:
        return self.folder / "nbd.sock"

    @property
    def local_socket(self) -> Path:
        return self.folder / "local.sock"

    @property
    def config(self) -> Path:
        return self.folder / "server.conf"


@dataclass(frozen=True, slots=True)
class Launch:
    """One program of a server; it is up when `socket` accepts connections.

    With `pid_file` the program puts itself in the background and writes its process id there.
    """

    command: tuple[str, ...]
    socket: Path
    pid_file: Path | None = None
    speaks_nbd: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Start `launches` in this order after writing `config_text`; clients connect to `uri`.

    `fill` is a command that is run to its end when all are up.
    """

    launches: tuple[Launch, ...]
    uri: str
    config: Path
    config_text: str = ""
    fill: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the benchmark: `key` for the command line, `name` for the tables.

    The main ones serve a file by themselves, which is what the others are no match for.
    """

    key: str
    name: str
    plan: Callable[[Site], Plan]
    tls_plan: Callable[[Site], Plan] | None = None
    is_ours: bool = False
    is_main: bool = False

    def plan_for(self, cell: Cell) -> Callable[[Site], Plan] | None:
        """What to start for a cell; None where the server has nothing for it."""
        return self.tls_plan if cell.is_tls else self.plan


def nbd_uri(socket: Path, export: str = "") -> str:
    """The NBD URI (NetworkBlockDevice doc/uri.md) of an export on a unix socket."""
    return f"nbd+unix:///{quote(export)}?socket={quote(str(socket))}"


def nbds_uri(site: Site, export: str = "") -> str:
    """The same with TLS; `tls-certificates` is libnbd's own (nbd_connect_uri(3))."""
    query = f"socket={quote(str(site.nbd_socket))}&tls-certificates={quote(str(site.certificates))}"
    return f"nbds+unix:///{quote(export)}?{query}"


def _device(site: Site) -> str:
    return f"""\
HANDLER vdisk_fileio {{
    DEVICE {EXPORT} {{
        filename "{site.image}"
    }}
}}
"""


def _target(name: str) -> str:
    return f"""\
    TARGET {name} {{
        LUN 0 {EXPORT}
        enabled 1
    }}
"""


def scst_config(site: Site) -> str:
    """The scst.conf of our daemon: the image as disk0, through the nbd and scst_local drivers."""
    return f"""\
{_device(site)}TARGET_DRIVER nbd {{
    listen unix:{site.nbd_socket}
{_target(EXPORT)}}}
TARGET_DRIVER scst_local {{
    socket {site.local_socket}
{_target(LOCAL_TARGET)}}}
"""


def scst_tls_config(site: Site) -> str:
    """The scst.conf of our daemon: the image as disk0, for clients with TLS only."""
    return f"""\
{_device(site)}TARGET_DRIVER nbd {{
    tls_certificates {site.certificates}
    listen unix:{site.nbd_socket} {{
        tls require
    }}
{_target(EXPORT)}}}
"""


def nbd_server_config(site: Site) -> str:
    """nbd-server's configuration: the image as disk0 on a unix socket, everything else default."""
    return f"""\
[generic]
    unixsock = {site.nbd_socket}
[{EXPORT}]
    exportname = {site.image}
"""


def _nbdkit(site: Site, *words: str) -> Launch:
    return Launch(("nbdkit", "-f", "-U", str(site.nbd_socket), *words), site.nbd_socket)


def _nbdkit_plan(site: Site, *plugin: str) -> Plan:
    return Plan((_nbdkit(site, *plugin),), nbd_uri(site.nbd_socket), site.config)


def _our_nbdkit(site: Site, socket: Path, *parameters: str) -> Launch:
    command = (str(site.bridge), "nbdkit", "-f", "-U", str(socket), "--", *parameters)
    return Launch(command, socket)


def _daemon_command(site: Site) -> tuple[str, ...]:
    return (str(site.bridge), "serve", str(site.config))


def _ours(site: Site) -> Plan:
    return Plan(
        (Launch(_daemon_command(site), site.nbd_socket),),
        nbd_uri(site.nbd_socket, EXPORT),
        site.config,
        scst_config(site),
    )


def _ours_reserved(site: Site) -> Plan:
    # The clients are one initiator, which so holds what it works under.
    initiator = f"unix:uid={os.getuid()}"
    ask = f"{site.bridge} pr"
    at = f"{LOCAL_TARGET} --socket {site.local_socket}"
    named = f"--initiator-port {initiator} --all-target-ports"
    register = f"{ask} register {at} --action-key 0xb {named}"
    reserve = f"{ask} reserve {at} --key 0xb --type write-exclusive-all-reg"
    return replace(_ours(site), fill=("sh", "-c", f"{register} && {reserve}"))


def _ours_tls(site: Site) -> Plan:
    return Plan(
        (Launch(_daemon_command(site), site.nbd_socket),),
        nbds_uri(site, EXPORT),
        site.config,
        scst_tls_config(site),
    )


def _ours_nbdkit(site: Site) -> Plan:
    launch = _our_nbdkit(site, site.nbd_socket, f"file={site.image}")
    return Plan((launch,), nbd_uri(site.nbd_socket), site.config)


def _ours_nbdkit_daemon(site: Site) -> Plan:
    # The daemon of this row has an NBD socket too, which must not be the one nbdkit makes.
    socket = site.folder / "nbdkit.sock"
    plugin = _our_nbdkit(site, socket, f"device={LOCAL_TARGET}", f"socket={site.local_socket}")
    daemon = Launch(_daemon_command(site), site.local_socket, speaks_nbd=False)
    return Plan((daemon, plugin), nbd_uri(socket), site.config, scst_config(site))


def _nbdkit_file(site: Site) -> Plan:
    return _nbdkit_plan(site, "file", str(site.image))


def _nbdkit_file_tls(site: Site) -> Plan:
    tls = ("--tls=require", f"--tls-certificates={site.certificates}")
    return Plan((_nbdkit(site, *tls, "file", str(site.image)),), nbds_uri(site), site.config)


def _nbdkit_memory(site: Site) -> Plan:
    # Pages that were never written are not read but made up, so all are written first.
    uri = nbd_uri(site.nbd_socket)
    fill = ("nbdcopy", "--allocated", "--no-extents", "--sparse=0", str(site.image), uri)
    return Plan((_nbdkit(site, "memory", str(site.size_bytes)),), uri, site.config, fill=fill)


def _nbdkit_python(site: Site) -> Plan:
    return _nbdkit_plan(site, "python", str(PYTHON_PLUGIN), f"file={site.image}")


def _qemu(site: Site, *options: str) -> Launch:
    common = ("-t", "-k", str(site.nbd_socket), "--shared=0", "--cache=writeback", "-f", "raw")
    return Launch(("qemu-nbd", *common, *options, str(site.image)), site.nbd_socket)


def _qemu_nbd(site: Site) -> Plan:
    return Plan((_qemu(site),), nbd_uri(site.nbd_socket), site.config)


def _qemu_nbd_tls(site: Site) -> Plan:
    # Clients without a certificate of their own, as with the other servers.
    credentials = f"tls-creds-x509,id=tls,endpoint=server,dir={site.certificates},verify-peer=no"
    launch = _qemu(site, "--object", credentials, "--tls-creds=tls")
    return Plan((launch,), nbds_uri(site), site.config)


def _nbd_server(site: Site) -> Plan:
    # In the foreground (-d) nbd-server 3.24 serves one connection and exits.
    pid_file = site.folder / "pid"
    command = ("nbd-server", "-C", str(site.config), "-p", str(pid_file))
    return Plan(
        (Launch(command, site.nbd_socket, pid_file),),
        nbd_uri(site.nbd_socket, EXPORT),
        site.config,
        nbd_server_config(site),
    )


# In the order of the tables' columns.
SERVERS = (
    Server("ours", "ours", _ours, _ours_tls, is_ours=True, is_main=True),
    Server("ours-nbdkit", "plugin embedded", _ours_nbdkit, is_ours=True),
    Server("ours-nbdkit-daemon", "plugin via daemon", _ours_nbdkit_daemon, is_ours=True),
    Server("nbdkit-file", "nbdkit file", _nbdkit_file, _nbdkit_file_tls, is_main=True),
    Server("qemu-nbd", "qemu-nbd", _qemu_nbd, _qemu_nbd_tls, is_main=True),
    Server("nbd-server", "nbd-server", _nbd_server, is_main=True),
    Server("nbdkit-memory", "nbdkit memory", _nbdkit_memory),
    Server("nbdkit-python", "nbdkit python", _nbdkit_python),
)
# Measured where they are asked for by name.
EXTRA_SERVERS = (Server("ours-reserved", "ours reserved", _ours_reserved),)
# The C servers that do what ours does: serve a file. nbdkit memory serves none.
FILE_PEERS = ("nbdkit-file", "qemu-nbd", "nbd-server")


def turns_of(
    servers: Sequence[Server], cells: Sequence[Cell], *, is_quick: bool
) -> list[tuple[Cell, list[Server]]]:
    """The cells in order, each with the servers that are measured in it.

    A quick run puts servers that are not main ones under the basic cells only.
    """
    return [
        (
            cell,
            [
                server
                for server in servers
                if server.plan_for(cell) is not None
                and (server.is_main or cell.is_basic or not is_quick)
            ],
        )
        for cell in cells
    ]
