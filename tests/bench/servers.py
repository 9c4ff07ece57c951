# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that are compared: one table, and for each row a plan of what to start.

Plans are data (commands, configuration texts, sockets); processes.py carries them out.
Every server offers the same file on a unix socket of its own, with the defaults of its
packager, so that a row says what a user of that server gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

EXPORT = "disk0"
LOCAL_TARGET = "local"
PYTHON_PLUGIN = Path(__file__).with_name("nbdkit_python_plugin.py")


@dataclass(frozen=True, slots=True)
class Site:
    """Where one server works: the image it shares with the others, and a folder of its own."""

    image: Path
    folder: Path
    bridge: Path

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
    """Start `launches` in this order after writing `config_text`; clients connect to `uri`."""

    launches: tuple[Launch, ...]
    uri: str
    config: Path
    config_text: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """One row of the benchmark: `key` for the command line, `name` for the tables."""

    key: str
    name: str
    is_ours: bool
    plan: Callable[[Site], Plan]


def nbd_uri(socket: Path, export: str = "") -> str:
    """The NBD URI (NetworkBlockDevice doc/uri.md) of an export on a unix socket."""
    return f"nbd+unix:///{quote(export)}?socket={quote(str(socket))}"


def scst_config(site: Site) -> str:
    """The scst.conf of our daemon: the image as disk0, through the nbd and scst_local drivers."""
    return f"""\
HANDLER vdisk_fileio {{
    DEVICE {EXPORT} {{
        filename "{site.image}"
    }}
}}
TARGET_DRIVER nbd {{
    listen unix:{site.nbd_socket}
    TARGET {EXPORT} {{
        LUN 0 {EXPORT}
        enabled 1
    }}
}}
TARGET_DRIVER scst_local {{
    socket {site.local_socket}
    TARGET {LOCAL_TARGET} {{
        LUN 0 {EXPORT}
        enabled 1
    }}
}}
"""


def nbd_server_config(site: Site) -> str:
    """nbd-server's configuration: the image as disk0 on a unix socket, everything else default."""
    return f"""\
[generic]
    unixsock = {site.nbd_socket}
[{EXPORT}]
    exportname = {site.image}
"""


def _nbdkit_plan(site: Site, *plugin: str) -> Plan:
    command = ("nbdkit", "-f", "-U", str(site.nbd_socket), *plugin)
    return Plan((Launch(command, site.nbd_socket),), nbd_uri(site.nbd_socket), site.config)


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


def _nbdkit_python(site: Site) -> Plan:
    return _nbdkit_plan(site, "python", str(PYTHON_PLUGIN), f"file={site.image}")


def _qemu_nbd(site: Site) -> Plan:
    options = ("-t", "-k", str(site.nbd_socket), "--shared=0", "--cache=writeback", "-f", "raw")
    launch = Launch(("qemu-nbd", *options, str(site.image)), site.nbd_socket)
    return Plan((launch,), nbd_uri(site.nbd_socket), site.config)


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


SERVERS = (
    Server("ours", "ours", True, _ours),
    Server("ours-nbdkit", "ours/nbdkit", True, _ours_nbdkit),
    Server("ours-nbdkit-daemon", "ours/nbdkit->daemon", True, _ours_nbdkit_daemon),
    Server("nbdkit-file", "nbdkit file", False, _nbdkit_file),
    Server("nbdkit-python", "nbdkit python", False, _nbdkit_python),
    Server("qemu-nbd", "qemu-nbd", False, _qemu_nbd),
    Server("nbd-server", "nbd-server", False, _nbd_server),
)
