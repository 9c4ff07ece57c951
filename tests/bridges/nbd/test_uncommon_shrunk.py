# SPDX-License-Identifier: GPL-2.0-or-later
"""BLOCK_STATUS of a disk that has become smaller since its range was checked."""

from __future__ import annotations

import pytest

from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.proto import BLOCK_STATUS
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
EINVAL = 22


@pytest.mark.parametrize("is_thin", [False, True])
@pytest.mark.parametrize("form", [Form.STRUCTURED, Form.EXTENDED])
def test_status_behind_the_new_end_is_refused(form: Form, is_thin: bool) -> None:
    link = Link.open(FaultyVdisk(is_thin=is_thin), form=form)
    link.vdisk.new_block_count = 100
    link.lun.unit.resync_size()
    # The READ hears of the new size, after both were received.
    read = link.read(1, 0, BLOCK)
    status = link.request(BLOCK_STATUS, 2, 200 * BLOCK, 8 * BLOCK)
    assert link.ask(read, status) == [(1, 0), (2, EINVAL)]
    link.close()
