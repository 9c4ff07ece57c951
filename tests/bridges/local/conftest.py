# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: local servers that are stopped afterwards, real ones on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.bridges.local.fake_server import serve_one
from tests.bridges.local.site import Site

__all__ = ["new_site", "serve_one", "site"]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

NewSite = Callable[..., Site]


@pytest.fixture(params=LOOPS)
def new_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewSite]:
    """Make a site; words are those of ``Site``. All of them are closed afterwards."""
    sites: list[Site] = []

    def make(**options: float) -> Site:
        site = Site(tmp_path, LOOPS[request.param], **options)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(new_site: NewSite) -> Site:
    """A site that serves target ``disk``, a file of 64 MiB, its device being ``disk-disk``."""
    site = new_site()
    site.add_file_target("disk", 64 << 20)
    site.start()
    return site
