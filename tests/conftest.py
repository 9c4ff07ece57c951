# SPDX-License-Identifier: GPL-2.0-or-later
"""In which order several workers (pytest -n) take the test files.

`make test` shares whole files out (--dist loadfile), the next one to whoever is free, so that what
a file's tests share is made once. A virtual machine is one such file and takes a minute or two:
those go first, or a worker would be left alone with one in the end.
"""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("vm") is None)
