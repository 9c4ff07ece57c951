# SPDX-License-Identifier: GPL-2.0-or-later
"""nbdkit's command line and the environment in which it finds the plugin's modules."""

from __future__ import annotations

import os
import subprocess

import pytest

from bridges.nbd.nbdkit_launcher import PLUGIN, command_line, environment, help_text
from bridges.nbd.plugin_sources import PARAMETERS


def test_options_come_before_the_plugin_and_parameters_behind_it() -> None:
    words = ["-f", "-U", "a b.sock", "--", "file=disk.img", "blocksize=4096"]
    assert command_line(words) == [
        *("nbdkit", "-f", "-U", "a b.sock"),
        *("python", str(PLUGIN)),
        *("file=disk.img", "blocksize=4096"),
    ]


@pytest.mark.parametrize("words", [["--dump-plugin"], ["--dump-plugin", "--"]])
def test_without_parameters_all_words_are_options(words: list[str]) -> None:
    assert command_line(words) == ["nbdkit", "--dump-plugin", "python", str(PLUGIN)]


def test_only_the_first_separator_counts() -> None:
    assert command_line(["-f", "--", "x=y", "--"])[-2:] == ["x=y", "file=--"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (["disk.img"], ["file=disk.img"]),
        (
            ["partition=1", "/a/b c.img", "read_only=1"],
            ["partition=1", "file=/a/b c.img", "read_only=1"],
        ),
        # A folder's name before the sign is no key; nbdkit decides likewise.
        (["./a=b.img"], ["file=./a=b.img"]),
        (["a=b.img"], ["a=b.img"]),
        ([""], ["file="]),
        # The second is for nbdkit to complain of.
        (["one", "two"], ["file=one", "two"]),
    ],
)
def test_the_first_bare_word_is_the_file(parameters: list[str], expected: list[str]) -> None:
    words = command_line(["-f", "--", *parameters])
    assert words[words.index(str(PLUGIN)) + 1 :] == expected


def test_help_tells_of_every_parameter() -> None:
    text = help_text()
    for name in set(sum(PARAMETERS.values(), ())):
        assert f"{name}=" in text
    for words in ("nbdkit --help", "--dump-plugin", "SIGKILL"):
        assert words in text


def test_environment_keeps_everything_and_what_pythonpath_had() -> None:
    base = {"HOME": "/root", "PYTHONPATH": "/mine"}
    made = environment(base)
    assert made["HOME"] == "/root"
    assert made["PYTHONPATH"].split(os.pathsep)[-1] == "/mine"
    assert base["PYTHONPATH"] == "/mine"


@pytest.mark.parametrize("base", [{}, {"PYTHONPATH": ""}])
def test_environment_names_each_folder_once(base: dict[str, str]) -> None:
    folders = environment(base)["PYTHONPATH"].split(os.pathsep)
    assert len(folders) == len(set(folders))
    # An empty word would be the folder in which nbdkit was started.
    assert all(os.path.isabs(folder) for folder in folders)


def test_debian_s_interpreter_finds_the_bridge_and_its_dependencies_there() -> None:
    # nbdkit embeds the interpreter of /usr/bin/python3, without this virtual environment.
    done = subprocess.run(
        ["/usr/bin/python3", "-c", "import bridges.nbd.plugin_export, pydantic"],
        env=environment({"PATH": "/usr/bin"}),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert PLUGIN.is_file()
