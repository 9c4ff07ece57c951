# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of scst.conf: text to a located tree of statements, and back.

Owns words, sections, quoting, comments and the error type of all configuration code.
Which keywords and attributes exist, and what they mean, must not live here; nor file access.

Source: SCST's scst.conf(5) and the behaviour of scstadmin's reader. Each construct which that
reader drops or misreads without a word is an error here, at file and line.

Deviation: a backslash or double quotes make any character literal. scstadmin removes backslashes
before it looks for words, quotes and braces, and never spares a brace inside quotes.
Deviation: braces always end their line, so `DEVICE d { }` takes two lines, as scst.conf(5) says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

# DRIVER, TARGET, GROUP and LUN make four levels; the rest is room, and bounds recursion.
MAX_DEPTH = 16
# Room for some 20 000 devices with their attributes; beyond that a wrong file was named.
MAX_CHARACTERS = 4 * 1024 * 1024
# A hash of three levels is all that scstadmin keeps of a line: "LUN 0 disk1".
MAX_WORDS = 3

_INDENT = "    "
_SHOWN_CHARACTERS = 60

# C0 (less tab), DEL, C1, surrogates (undecodable bytes), and Unicode's own line ends.
_REFUSED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_BLANKS = re.compile(r"[ \t]*+")
_NON_BLANKS = re.compile(r"[^ \t]*+")
# Outside quotes a blank other than space and tab, or a byte order mark, is no part of a word: who
# pasted it does not see it.
_PLAIN = re.compile(r'[^\s\ufeff#{}"\\]++')
_BARE = re.compile(rf"(?:{_PLAIN.pattern}|\\.)++")
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"')
_ESCAPE = re.compile(r"\\(.)")
_NEEDS_ESCAPE = re.compile(r'["\\#]')


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a file; `line` counts from 1."""

    path: str
    line: int


class ConfigError(Exception):
    """A configuration that cannot be used; its text is `file:line: message`.

    `line` and `column` count from 1; `column` is None when the whole line is meant.
    """

    def __init__(self, location: Location, message: str, column: int | None = None) -> None:
        super().__init__(location, message, column)
        self.path = location.path
        self.line = location.line
        self.column = column
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Word:
    """One word without its quotes and escapes; equality ignores where and how it was written."""

    text: str
    location: Location = field(compare=False)
    quoted: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of one to three words, and the block in its braces.

    `block` is None for a plain line and () for empty braces. Equality ignores locations.
    """

    words: tuple[Word, ...]
    block: tuple[Statement, ...] | None
    location: Location = field(compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.words) <= MAX_WORDS:
            raise ValueError(f"a statement has 1 to {MAX_WORDS} words, not {len(self.words)}")
        if not self.words[0].text:
            raise ValueError("a statement begins with a word that is not empty")

    @property
    def keyword(self) -> str:
        """The first word."""
        return self.words[0].text


def parse(text: str, path: str) -> tuple[Statement, ...]:
    """Return the statements of `text` in the order of the file; `path` serves error texts only.

    Bytes decoded with `errors="surrogateescape"` are reported as undecodable at their line.

    Raises ConfigError for anything that is not well formed, at a line of the file.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            Location(path, 1),
            f"file of {len(text)} characters: expected at most {MAX_CHARACTERS}",
        )
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    tree = _Tree(path)
    for number, line in enumerate(lines, start=1):
        location = Location(path, number)
        words, brace = _LineScanner(line, location).scan()
        if brace == "{":
            tree.open(words, location)
        elif brace == "}":
            tree.close(location)
        elif words:
            tree.add_plain(words, location)
    return tree.finish(Location(path, len(lines)))


def unparse(statements: tuple[Statement, ...]) -> str:
    """Return the canonical text: four spaces a level, quotes only where a word needs them.

    Parsing the text gives `statements` back, provided that no section among them is repeated.

    Raises ConfigError, at the location of the word or statement, for a character that no
    scst.conf can hold and for sections nested too deep.
    """
    return "".join(_canonical_lines(statements, 0))


def _canonical_lines(statements: tuple[Statement, ...], depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    for statement in statements:
        line = indent + " ".join(_canonical_word(word) for word in statement.words)
        if statement.block is None:
            yield f"{line}\n"
            continue
        _check_depth(depth, statement.words, statement.location)
        yield f"{line} {{\n"
        yield from _canonical_lines(statement.block, depth + 1)
        yield f"{indent}}}\n"


def _canonical_word(word: Word) -> str:
    refused = _REFUSED.search(word.text)
    if refused is not None:
        raise ConfigError(word.location, _refusal(refused[0]))
    if _PLAIN.fullmatch(word.text):
        return word.text
    # "#" needs no escape inside quotes here, but scstadmin would begin a comment at it.
    return '"' + _NEEDS_ESCAPE.sub(r"\\\g<0>", word.text) + '"'


def _refusal(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # PEP 383: how "surrogateescape" keeps the bytes 80h to FFh
        return f"byte 0x{code - 0xDC00:02x} cannot be decoded: expected UTF-8"
    return f"character U+{code:04X}: expected text without control characters"


def _check_depth(depth: int, words: tuple[Word, ...], location: Location) -> None:
    if depth >= MAX_DEPTH:
        raise ConfigError(
            location,
            f"section {_name(words)} is nested too deep: expected at most {MAX_DEPTH} levels",
        )


def _shown(text: str) -> str:
    """Quote a word for an error text, which stays readable whatever the file holds."""
    return f"'{text}'" if len(text) <= _SHOWN_CHARACTERS else f"'{text[:_SHOWN_CHARACTERS]}...'"


def _name(words: tuple[Word, ...]) -> str:
    return _shown(" ".join(word.text for word in words))


class _LineScanner:
    """Splits one line into its words and the brace, if any, that ends it."""

    def __init__(self, line: str, location: Location) -> None:
        self._line = line
        self._location = location
        self._words: list[Word] = []

    def scan(self) -> tuple[tuple[Word, ...], str]:
        """Return the words and "{", "}" or "" (plain, or nothing but blanks and comment)."""
        refused = _REFUSED.search(self._line)
        if refused is not None:
            self._fail(_refusal(refused[0]), refused.start())
        position, brace = self._skip(0), ""
        while position < len(self._line) and not brace:
            if self._line[position] in "{}":
                brace = self._line[position]
                position = self._end_at_brace(position)
            else:
                position = self._take_word(position)
        return tuple(self._words), brace

    def _skip(self, position: int) -> int:
        """Return where the next word begins; that is the line's end if only a comment follows.

        Deviation: scstadmin deletes the character before "#" too, so that `x 1#2` loses its value.
        Here "#" begins a comment at the start of a word only, and is an error inside one.
        """
        end = position + len(self._run(_BLANKS, position))
        if self._line.startswith("#", end) and (end > position or end == 0):
            return len(self._line)
        return end

    def _take_word(self, start: int) -> int:
        is_quoted = self._line[start] == '"'
        found = (_QUOTED if is_quoted else _BARE).match(self._line, start)
        if found is None:
            self._fail_in_word(start, start)
        end = found.end()
        if end < len(self._line) and self._line[end] not in " \t{}":
            self._fail_in_word(start, end)
        raw = found[1] if is_quoted else found[0]
        self._add(Word(_ESCAPE.sub(r"\1", raw), self._location, is_quoted), start)
        return self._skip(end)

    def _add(self, word: Word, start: int) -> None:
        if not self._words and not word.text:
            self._fail("empty keyword '': expected a name", start)
        if len(self._words) == MAX_WORDS:
            self._fail(
                f"unexpected word {_shown(word.text)}: expected at most {MAX_WORDS} words, "
                "or double quotes around a value with blanks",
                start,
            )
        self._words.append(word)

    def _end_at_brace(self, position: int) -> int:
        brace = self._line[position]
        if brace == "{" and not self._words:
            self._fail("'{' without a name: expected the section's keyword before it", position)
        if brace == "}" and self._words:
            self._fail(
                f"unexpected {_name(tuple(self._words))} before '}}': expected '}}' alone", position
            )
        rest = self._skip(position + 1)
        if rest < len(self._line):
            hint = " (a comment needs a blank before '#')" if self._line[rest] == "#" else ""
            self._fail(
                f"unexpected {self._shown_at(rest)} after '{brace}': "
                f"expected the end of the line{hint}",
                rest,
            )
        return rest

    def _fail_in_word(self, start: int, position: int) -> NoReturn:
        """Say why the word from `start` cannot go on at `position`."""
        word, character = self._shown_at(start), self._line[position]
        if position == start and character == '"':
            message = f"unclosed quote at {word}: expected '\"' before the end of the line"
        elif self._line[start] == '"':
            rest = self._shown_at(position)
            message = f"unexpected {rest} after a closing quote: expected a blank"
        elif character == "\\":
            message = f"backslash at the end of the line in {word}: expected a character to escape"
        elif character in '#"':
            remedy = f"a blank before it, the word in double quotes, or \\{character}"
            message = f"{character} inside the word {word}: expected {remedy}"
        else:
            message = f"character U+{ord(character):04X} outside quotes: expected a space or a tab"
        self._fail(message, position)

    def _run(self, pattern: re.Pattern[str], position: int) -> str:
        found = pattern.match(self._line, position)
        return found[0] if found else ""

    def _shown_at(self, position: int) -> str:
        return _shown(self._run(_NON_BLANKS, position))

    def _fail(self, message: str, position: int) -> NoReturn:
        raise ConfigError(self._location, message, position + 1)


@dataclass(slots=True)
class _Section:
    """A section whose closing brace has not been seen; the file itself has no words."""

    words: tuple[Word, ...]
    location: Location
    statements: list[Statement] = field(default_factory=list)
    # By its words: the line of a statement's first appearance, and whether that has a block.
    first: dict[tuple[str, ...], tuple[int, bool]] = field(default_factory=dict)


class _Tree:
    """Builds the tree with a stack of its own, so that depth costs no recursion."""

    def __init__(self, path: str) -> None:
        self._stack = [_Section((), Location(path, 1))]

    def add_plain(self, words: tuple[Word, ...], location: Location) -> None:
        self._claim(words, location, has_block=False)
        self._stack[-1].statements.append(Statement(words, None, location))

    def open(self, words: tuple[Word, ...], location: Location) -> None:
        _check_depth(len(self._stack) - 1, words, location)
        self._claim(words, location, has_block=True)
        self._stack.append(_Section(words, location))

    def close(self, location: Location) -> None:
        if len(self._stack) == 1:
            raise ConfigError(location, "'}' without a section: expected a statement")
        section = self._stack.pop()
        statement = Statement(section.words, tuple(section.statements), section.location)
        self._stack[-1].statements.append(statement)

    def finish(self, end: Location) -> tuple[Statement, ...]:
        section = self._stack[-1]
        if len(self._stack) > 1:
            opened = f"section {_name(section.words)} opened at line {section.location.line}"
            raise ConfigError(end, f"end of file in {opened}: expected '}}'")
        return tuple(section.statements)

    def _claim(self, words: tuple[Word, ...], location: Location, *, has_block: bool) -> None:
        """Refuse what scstadmin's hash would drop: of two equal names it keeps the last block.

        A plain line may be repeated, since that is how attributes with several values look.
        """
        first = self._stack[-1].first
        line, first_has_block = first.setdefault(
            tuple(word.text for word in words), (location.line, has_block)
        )
        if line != location.line and (has_block or first_has_block):
            raise ConfigError(
                location, f"section {_name(words)} repeats line {line}: expected it only once"
            )
