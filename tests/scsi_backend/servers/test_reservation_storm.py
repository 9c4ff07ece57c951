# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of PERSISTENT RESERVE OUT commands against a plain model of SPC-4 5.13.

After each the model is compared with all that PERSISTENT RESERVE IN tells, and with what each
initiator hears.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import TargetPort
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.reservation_model import GOOD, Model, Request, ask, text, view
from tests.scsi_backend.reserving import sign_in

# Two initiators on one port, one of them on another port as well.
PORTS = (1, 2)
NEXUSES = (("a", 1), ("b", 1), ("a", 2))


def hear(initiator: Initiator) -> list[str]:
    heard = []
    while (told := text(initiator.send(cdbs.TEST_UNIT_READY))) != GOOD:
        heard.append(told)
    return heard


def with_company(random: Random, request: Request) -> Request:
    """The same, perhaps for all ports, and for initiators that never come."""
    others = random.choice(((), (), (), ("c",), ("c", "d")))
    return replace(request, on_all_ports=random.random() < 0.2, others=others)


@pytest.mark.parametrize("seed", range(20))
def test_storm_of_commands_leaves_what_the_model_says(seed: int) -> None:
    random = Random(seed)
    unit = disk(FaultyVdisk(64))
    for port in PORTS:
        unit.add_port(TargetPort(port, f"target{port}"))
    initiators = {nexus: sign_in(unit, *nexus) for nexus in NEXUSES}
    model = Model(PORTS)
    for _ in range(400):
        request = ask(random, model, NEXUSES, NEXUSES)
        if seed % 2:
            request = with_company(random, request)
        expected = model.perform(request)
        cdb, data = request.command
        assert text(initiators[request.who].send(cdb, data)) == expected, request
        for nexus, initiator in initiators.items():
            assert hear(initiator) == model.heard[nexus], (request, nexus)
        model.heard.clear()
        assert view(initiators["b", 1]) == model.view, request
    # A storm in which nothing happens shows nothing.
    assert model.generation > 50
