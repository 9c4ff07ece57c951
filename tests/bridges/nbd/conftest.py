# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the NBD bridge's tests: sessions without sockets, and servers in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.serving import Serving
from tests.scsi_backend.fakes import FaultyVdisk

OpenLink = Callable[..., Link]
Serve = Callable[..., Serving]


@pytest.fixture(params=Form, ids=[form.value for form in Form])
def form(request: pytest.FixtureRequest) -> Form:
    """Each form of requests and replies in turn."""
    found: Form = request.param
    return found


@pytest.fixture
def open_link(form: Form) -> Iterator[OpenLink]:
    """Make links in each form.

    Each must end with every request answered and all memory given back.
    """
    links: list[Link] = []

    def make(vdisk: FaultyVdisk | None = None, **options: bool) -> Link:
        link = Link.open(vdisk, form=form, **options)
        links.append(link)
        return link

    yield make
    for link in links:
        link.close()


@pytest.fixture
def link(open_link: OpenLink) -> Link:
    """A link to the usual disk: 1024 blocks of 512 bytes, all different."""
    return open_link()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers of the named units; each must end without connections, sessions or memory."""
    running: list[Serving] = []

    def start(**units: Callable[[Backend], LogicalUnit]) -> Serving:
        running.append(Serving(units, tmp_path / f"nbd{len(running)}.sock"))
        return running[-1]

    yield start
    for serving in running:
        serving.close()


@pytest.fixture
def image(tmp_path: Path) -> Callable[[Backend], LogicalUnit]:
    """Opens a thin disk of 64 MiB kept in a file, as the daemon does."""
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 64 << 20)
    words = {"filename": str(path), "thin_provisioned": "1"}
    attributes = FileioAttributes.model_validate(words)
    return lambda backend: backend.add_device("vdisk_fileio", "disk", attributes)
