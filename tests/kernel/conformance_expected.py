# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests of iscsi-test-cu do not pass on which route, and why that is as it should be.

Data only. A test that is not listed for a route must pass there, and one that is listed must end as
the list says, so that the list stays true in both directions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.kernel.conformance import Outcome

SG = "/dev/sg"
ISCSI = "iSCSI"
BOTH = (SG, ISCSI)
# How a route is called by `guest/conformance.sh`.
ROUTES = {SG: "sg", ISCSI: "iscsi"}


@dataclass(frozen=True, slots=True)
class Exemption:
    """Tests that end with another outcome than PASS on these routes."""

    routes: tuple[str, ...]
    outcome: Outcome
    reason: str
    tests: tuple[str, ...]


def named(suite: str, *tests: str) -> tuple[str, ...]:
    """Return the tests of a suite by their full names."""
    return tuple(f"{suite}.{test}" for test in tests)


NEEDS_ISCSI = (
    *("CompareAndWrite.InvalidDataOutSize",),
    *named("MultipathIO", "Reset", "CompareAndWriteAsync"),
    *named("PreventAllow", "ITNexusLoss", "Logout", "WarmReset", "ColdReset", "LUNReset"),
    *("PreventAllow.2ITNexuses", "ProutPreempt.RemoveRegistration"),
    *named("ProutReserve", "AccessEA", "AccessWE", "AccessEARO", "AccessWERO", "AccessEAAR"),
    *named("ProutReserve", "AccessWEAR", "OwnershipEA", "OwnershipWE", "OwnershipEARO"),
    *named("ProutReserve", "OwnershipWERO", "OwnershipEAAR", "OwnershipWEAR"),
    *named("Reserve6", "2Initiators", "Logout", "ITNexusLoss", "TargetColdReset"),
    *named("Reserve6", "TargetWarmReset", "LUNReset"),
    *named("Sanitize", "BlockEraseReserved", "CryptoEraseReserved", "Readonly", "Reservations"),
    "Sanitize.Reset",
)

EXEMPTIONS = (
    Exemption(
        (SG,),
        Outcome.SKIP,
        "wants an iSCSI session: to log out of, to reset, or for a second initiator",
        NEEDS_ISCSI,
    ),
    Exemption(
        (SG,),
        Outcome.NOTRUN,
        "libiscsi 1.19 follows a null pointer where its iSCSI session would be",
        ("Sanitize.OverwriteReserved",),
    ),
    Exemption(
        (ISCSI,),
        Outcome.NOTRUN,
        "Linux's iSCSI target does not tell a TCMU device that a session has ended",
        (
            *named("PreventAllow", "ITNexusLoss", "Logout"),
            *named("Reserve6", "ITNexusLoss", "Logout"),
            # Its end is to end the reservation.
            "Sanitize.Reservations",
        ),
    ),
    Exemption(
        (ISCSI,),
        Outcome.NOTRUN,
        "expects that a disk is overwritten for longer than four seconds",
        ("Sanitize.Reset",),
    ),
    Exemption(
        (ISCSI,),
        Outcome.SKIP,
        "Linux's iSCSI target has no TARGET WARM RESET and no TARGET COLD RESET",
        (
            *named("PreventAllow", "WarmReset", "ColdReset"),
            *named("Reserve6", "TargetColdReset", "TargetWarmReset"),
        ),
    ),
    Exemption(
        BOTH,
        Outcome.SKIP,
        "wants physical blocks of several logical ones, on which GetLBAStatus.UnmapSingle errs",
        (
            *named("WriteSame10", "UnmapUnaligned", "InvalidDataOutSize"),
            *named("WriteSame16", "UnmapUnaligned", "InvalidDataOutSize"),
        ),
    ),
    Exemption(
        (ISCSI,),
        Outcome.SKIP,
        "wants physical blocks of several logical ones, on which GetLBAStatus.UnmapSingle errs",
        ("CompareAndWrite.InvalidDataOutSize",),
    ),
    Exemption(
        BOTH,
        Outcome.SKIP,
        "WSNZ is set: WRITE SAME with a length of zero does not mean the rest of the disk",
        ("WriteSame10.ZeroBlocks", "WriteSame16.ZeroBlocks"),
    ),
    Exemption(
        BOTH,
        Outcome.SKIP,
        "wants CRYPTOGRAPHIC ERASE; nothing is encrypted",
        ("Sanitize.CryptoErase",),
    ),
    Exemption(
        (ISCSI,),
        Outcome.SKIP,
        "passes but for its part with CRYPTOGRAPHIC ERASE",
        ("Sanitize.Readonly",),
    ),
    Exemption(
        BOTH,
        Outcome.SKIP,
        "wants a write-protected disk",
        ("ReadOnly.ReadOnlySBC",),
    ),
    Exemption(
        BOTH,
        Outcome.NOASSERT,
        "asserts nothing where the disk does what it asks for",
        (
            *("Inquiry.VersionDescriptors", "Unmap.VPD"),
            *("WriteSame10.UnmapVPD", "WriteSame16.UnmapVPD"),
        ),
    ),
)


def is_whole_suite() -> bool:
    """Whether every test runs over both routes (`make conformance`).

    Else those that run over the generic nodes do not run over iSCSI as well, which saves minutes.
    """
    return os.environ.get("CONFORMANCE") == "whole"


def only_over(route: str) -> frozenset[str]:
    """Return the tests that another route has no result of, which are few over iSCSI."""
    return frozenset(
        test
        for exemption in EXEMPTIONS
        if route not in exemption.routes and exemption.outcome in (Outcome.SKIP, Outcome.NOTRUN)
        for test in exemption.tests
    )


def expected(route: str) -> dict[str, Outcome]:
    """Return the outcome of each test that is not expected to pass on a route."""
    return {
        test: exemption.outcome
        for exemption in EXEMPTIONS
        if route in exemption.routes
        for test in exemption.tests
    }


def reasons() -> str:
    """Return the exemptions as a list of reStructuredText."""
    return "\n".join(
        f"- {' and '.join(each.routes)}, {each.outcome} ({len(each.tests)}): {each.reason}: "
        f"{', '.join(each.tests)}."
        for each in EXEMPTIONS
    )
