# SPDX-License-Identifier: GPL-2.0-or-later
"""processes.py: CPU accounting over made-up process tables, and servers that fail to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.processes import (
    NBD_LEAVE,
    ProcStat,
    ServerError,
    last_line,
    parse_stat,
    process_table,
    running,
    tree_ticks,
)
from tests.bench.servers import Launch, Plan

# A line of nbd-server after one connection: utime 16, stime 3, cutime 21, cstime 186.
STAT = "5610 (nbd-server) S 1 5610 5610 0 -1 4194368 136 249 1 0 16 3 21 186 20 0 1 0 59281 123 7"


def failing_plan(folder: Path, *command: str) -> Plan:
    return Plan((Launch(command, folder / "s"),), "nbd+unix:///", folder / "server.conf", "text")


def test_stat_counts_own_time_and_that_of_reaped_children() -> None:
    assert parse_stat(STAT) == ProcStat(pid=5610, parent=1, ticks=16 + 3 + 21 + 186)


def test_stat_command_name_may_hold_spaces_and_parentheses() -> None:
    tricky = STAT.replace("(nbd-server)", "(a) S 2 (b c)")
    assert parse_stat(tricky) == parse_stat(STAT)


def test_tree_holds_roots_and_all_below_them_and_nothing_else() -> None:
    table = [
        ProcStat(1, 0, 1000),
        ProcStat(10, 1, 1),
        ProcStat(12, 11, 4),
        ProcStat(11, 10, 2),
        ProcStat(20, 1, 8),
        ProcStat(30, 1, 500),
    ]
    assert tree_ticks(table, {10, 20}) == 1 + 2 + 4 + 8


def test_tree_of_a_process_that_is_gone_is_empty() -> None:
    assert tree_ticks([ProcStat(1, 0, 5)], {99}) == 0


def test_process_table_knows_process_one_as_the_root() -> None:
    (first,) = [stat for stat in process_table() if stat.pid == 1]
    assert first.parent == 0


def test_farewell_is_client_flags_and_option_abort() -> None:
    # proto.md: u32 client flags FIXED_NEWSTYLE; "IHAVEOPT", u32 NBD_OPT_ABORT (2), u32 length 0.
    assert bytes.fromhex("00000001 49484156454f5054 00000002 00000000") == NBD_LEAVE


def test_last_line_skips_blank_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "it logged nothing"
    log.write_text("first\nsecond \n\n")
    assert last_line(log) == "second"


def test_missing_program_is_named(tmp_path: Path) -> None:
    plan = failing_plan(tmp_path, str(tmp_path / "no-such-server"))
    with pytest.raises(ServerError, match="no-such-server"), running(plan, tmp_path / "log"):
        pass


def test_program_that_ends_is_reported_with_status_and_last_log_line(tmp_path: Path) -> None:
    plan = failing_plan(tmp_path, "sh", "-c", "cat server.conf; echo no disk >&2; exit 3")
    with (
        pytest.raises(ServerError, match=r"^ended with status 3: no disk$"),
        running(plan, tmp_path / "log"),
    ):
        pass


def test_configuration_is_there_when_the_program_starts(tmp_path: Path) -> None:
    plan = failing_plan(tmp_path, "cat", str(tmp_path / "server.conf"))
    with pytest.raises(ServerError, match=r": text$"), running(plan, tmp_path / "log"):
        pass


def test_server_that_cannot_be_filled_is_reported_with_the_reason(tmp_path: Path) -> None:
    plan = Plan(
        (), "nbd+unix:///", tmp_path / "server.conf", fill=("sh", "-c", "echo no >&2; exit 2")
    )
    with (
        pytest.raises(ServerError, match=r"^sh exit status 2: no: it logged nothing$"),
        running(plan, tmp_path / "log"),
    ):
        pass


def test_server_is_filled_before_it_is_used(tmp_path: Path) -> None:
    filled = tmp_path / "filled"
    plan = Plan((), "nbd+unix:///", tmp_path / "server.conf", fill=("touch", str(filled)))
    with running(plan, tmp_path / "log"):
        assert filled.exists()
