# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the grammar of scst.conf: each rule, each refusal with its exact text, round trips.

No keyword or attribute means anything here. The examples follow scst.conf(5).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.scst_conf import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    ConfigError,
    Location,
    Statement,
    Word,
    parse,
    unparse,
)

PATH = "/etc/scst.conf"
HERE = Location("built", 1)

EXAMPLE = """\
# Two disks and one target.
setup_id 0x1234

HANDLER vdisk_fileio {
\tDEVICE disk1 {
\t\tfilename "/srv/first disk.img"   # blanks need quotes
\t\tnv_cache 1
\t}
\tDEVICE disk2
}

TARGET_DRIVER scst_local {
\tTARGET t0 {
\t\tIncomingUser "joe 12charsecret"
\t\tIncomingUser "fred 12charsecret2"
\t\tLUN 10 disk2
\t\tLUN 2 disk1 {
\t\t\tread_only 1
\t\t}
\t}
}
"""

CANONICAL_EXAMPLE = """\
setup_id 0x1234
HANDLER vdisk_fileio {
    DEVICE disk1 {
        filename "/srv/first disk.img"
        nv_cache 1
    }
    DEVICE disk2
}
TARGET_DRIVER scst_local {
    TARGET t0 {
        IncomingUser "joe 12charsecret"
        IncomingUser "fred 12charsecret2"
        LUN 10 disk2
        LUN 2 disk1 {
            read_only 1
        }
    }
}
"""


def plain(*texts: str) -> Statement:
    return Statement(tuple(Word(text, HERE) for text in texts), None, HERE)


def section(texts: tuple[str, ...], *block: Statement) -> Statement:
    return Statement(tuple(Word(text, HERE) for text in texts), block, HERE)


def nested(levels: int) -> Statement:
    innermost = section(("LEVEL", str(levels)))
    for level in range(levels - 1, 0, -1):
        innermost = section(("LEVEL", str(level)), innermost)
    return innermost


def failure(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, PATH)
    return caught.value


def outcome(text: str) -> tuple[Statement, ...] | ConfigError:
    try:
        return parse(text, PATH)
    except ConfigError as error:
        return error


def walk(statements: tuple[Statement, ...]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        yield from walk(statement.block or ())


def test_example_parses_into_sections_and_attributes_in_file_order() -> None:
    assert parse(EXAMPLE, PATH) == (
        plain("setup_id", "0x1234"),
        section(
            ("HANDLER", "vdisk_fileio"),
            section(
                ("DEVICE", "disk1"),
                plain("filename", "/srv/first disk.img"),
                plain("nv_cache", "1"),
            ),
            plain("DEVICE", "disk2"),
        ),
        section(
            ("TARGET_DRIVER", "scst_local"),
            section(
                ("TARGET", "t0"),
                plain("IncomingUser", "joe 12charsecret"),
                plain("IncomingUser", "fred 12charsecret2"),
                plain("LUN", "10", "disk2"),
                section(("LUN", "2", "disk1"), plain("read_only", "1")),
            ),
        ),
    )


def test_every_statement_and_word_knows_its_line() -> None:
    statements = parse(EXAMPLE, PATH)
    lines = [statement.location.line for statement in walk(statements)]
    assert lines == [2, 4, 5, 6, 7, 9, 12, 13, 14, 15, 16, 17, 18]
    for statement in walk(statements):
        assert statement.location.path == PATH
        assert {word.location for word in statement.words} == {statement.location}


def test_equality_sees_words_and_blocks_but_not_locations_or_quotes() -> None:
    assert parse('a "b"', PATH) == parse("\n\na b", "elsewhere")
    assert parse("a b", PATH) != parse("a c", PATH)
    assert parse("a b", PATH) != parse("a b {\n}", PATH)


def test_keyword_is_the_first_word() -> None:
    assert parse("LUN 0 disk1", PATH)[0].keyword == "LUN"


def test_quoted_word_says_that_it_was_quoted() -> None:
    (statement,) = parse('filename "/x" /y', PATH)
    assert [word.quoted for word in statement.words] == [False, True, False]


def test_plain_line_has_no_block_and_empty_braces_have_an_empty_one() -> None:
    assert [statement.block for statement in parse("DEVICE a\nDEVICE b {\n}\n", PATH)] == [None, ()]


@pytest.mark.parametrize(
    "text", ["", "\n", "  \t \n\n", "# all\n  # comment", "#", "\t#", "\r\n", "#\\", '# " { } \\']
)
def test_text_of_blanks_and_comments_has_no_statements(text: str) -> None:
    assert parse(text, PATH) == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a b c", ("a", "b", "c")),
        ("\t a \t b", ("a", "b")),
        ("a b   ", ("a", "b")),
        ("a # b", ("a",)),
        ("a b\t#c", ("a", "b")),
        ("a 1 # 2 # 3", ("a", "1")),
        ('a "b c"', ("a", "b c")),
        ('a "b\tc"', ("a", "b\tc")),
        ('a ""', ("a", "")),
        ('a "b # c"', ("a", "b # c")),
        ('a "{ b }"', ("a", "{ b }")),
        ('"a b" c', ("a b", "c")),
        ('a "b \\"c\\""', ("a", 'b "c"')),
        ('a "b\\\\"', ("a", "b\\")),
        ("a b\\#c", ("a", "b#c")),
        ("a \\#b", ("a", "#b")),
        ("\\#a b", ("#a", "b")),
        ("a b\\ \\#c", ("a", "b #c")),
        ("a b\\ c", ("a", "b c")),
        ("a b\\\\c", ("a", "b\\c")),
        ('a \\"b', ("a", '"b')),
        ("a \\{", ("a", "{")),
        ("\\}", ("}",)),
        ("a \\n", ("a", "n")),
        ("a fe80:0000:0002 host?-*!x", ("a", "fe80:0000:0002", "host?-*!x")),
        ("filename /srv/é\u4e2d.img", ("filename", "/srv/é\u4e2d.img")),
        ('a "b\u00a0c"', ("a", "b\u00a0c")),
    ],
)
def test_line_is_split_into_words(line: str, words: tuple[str, ...]) -> None:
    assert parse(line, PATH) == (plain(*words),)


@pytest.mark.parametrize(
    "text",
    ["DEVICE d {\n}", "DEVICE d{\n}", 'DEVICE "d"{\n}', " DEVICE\td { # opened\n\t} # closed\n"],
)
def test_section_opens_at_a_brace_that_ends_its_line(text: str) -> None:
    assert parse(text, PATH) == (section(("DEVICE", "d")),)


def test_crlf_line_ends_are_accepted() -> None:
    text = EXAMPLE.replace("\n", "\r\n")
    assert text.count("\r\n") == EXAMPLE.count("\n")
    assert parse(text, PATH) == parse(EXAMPLE, PATH)


def test_last_line_needs_no_line_end() -> None:
    assert parse("a 1\nb 2", PATH) == (plain("a", "1"), plain("b", "2"))


def test_repeated_attribute_is_kept_in_order() -> None:
    assert parse("u b\nu a\nu b\n", PATH) == (plain("u", "b"), plain("u", "a"), plain("u", "b"))


def test_equal_sections_in_different_blocks_are_accepted() -> None:
    text = "TARGET a {\nLUN 0 d {\n}\n}\nTARGET b {\nLUN 0 d {\n}\n}\nLUN 0 d {\n}\n"
    assert len(list(walk(parse(text, PATH)))) == 5


END = "expected the end of the line"
AT_MOST = "expected at most 3 words, or double quotes around a value with blanks"
UNCLOSED = "expected '\"' before the end of the line"
INSIDE = "expected a blank before it, the word in double quotes, or"
DANGLING = "expected a character to escape"
CONTROL = "expected text without control characters"
LOOK_ALIKE = "outside quotes: expected a space or a tab"
LATIN_1 = b"a 1\nb \xe9t\xe9".decode(errors="surrogateescape")

# What is wrong, the text, (line, column), the message.
REFUSALS = [
    ("text_after_{", "D d { f /x }", (1, 7), f"unexpected 'f' after '{{': {END}"),
    ("both_braces", "D d { }", (1, 7), f"unexpected '}}' after '{{': {END}"),
    (
        "comment_touching_{",
        "D d {#x",
        (1, 6),
        f"unexpected '#x' after '{{': {END} (a comment needs a blank before '#')",
    ),
    ("text_before_}", "D d {\nf /x }", (2, 6), "unexpected 'f /x' before '}': expected '}' alone"),
    ("text_after_}", "D d {\n} E e {\n}", (2, 3), f"unexpected 'E' after '}}': {END}"),
    ("two_}", "A {\nB {\n}}\n", (3, 2), f"unexpected '}}' after '}}': {END}"),
    ("four_words", "a\nL 0 d ro", (2, 7), f"unexpected word 'ro': {AT_MOST}"),
    ("four_words_before_{", "L 0 d x {\n}", (1, 7), f"unexpected word 'x': {AT_MOST}"),
    ("long_word", "a b c " + 61 * "d", (1, 7), f"unexpected word '{60 * 'd'}...': {AT_MOST}"),
    ("unclosed_quote", 'a 1\nf "/x y\nb "2"', (2, 3), f"unclosed quote at '\"/x': {UNCLOSED}"),
    ("escaped_quote", 'a "b\\"', (1, 3), f"unclosed quote at '\"b\\\"': {UNCLOSED}"),
    (
        "text_after_quote",
        'a "b"c d',
        (1, 6),
        "unexpected 'c' after a closing quote: expected a blank",
    ),
    (
        "comment_touching_quote",
        'a "b"#c',
        (1, 6),
        "unexpected '#c' after a closing quote: expected a blank",
    ),
    ("quote_in_word", 'a b"c d"', (1, 4), f'" inside the word \'b"c\': {INSIDE} \\"'),
    ("hash_in_word", "x 1#2", (1, 4), f"# inside the word '1#2': {INSIDE} \\#"),
    ("hash_after_escaped_blank", "x 1\\ #2", (1, 6), f"# inside the word '1\\': {INSIDE} \\#"),
    (
        "dangling_backslash",
        "a 1\\\nb 2",
        (1, 4),
        f"backslash at the end of the line in '1\\': {DANGLING}",
    ),
    (
        "dangling_backslash_crlf",
        "a \\\r\n",
        (1, 3),
        f"backslash at the end of the line in '\\': {DANGLING}",
    ),
    (
        "section_without_name",
        "A {\n{\n}\n}\n",
        (2, 1),
        "'{' without a name: expected the section's keyword before it",
    ),
    ("empty_keyword", '"" x', (1, 1), "empty keyword '': expected a name"),
    ("}_alone", "A {\n}\n}", (3, None), "'}' without a section: expected a statement"),
    (
        "unclosed_section",
        "A {\nD d {\nf /x\n}\n\n# end\n",
        (6, None),
        "end of file in section 'A' opened at line 1: expected '}'",
    ),
    (
        "two_unclosed_sections",
        "A {\nD d {",
        (2, None),
        "end of file in section 'D d' opened at line 2: expected '}'",
    ),
    (
        "section_twice",
        "A {\nD d {\nx 1\n}\ny\nD d {\n}\n}\n",
        (6, None),
        "section 'D d' repeats line 2: expected it only once",
    ),
    (
        "section_twice_under_quotes",
        'G g {\n}\nG "g" {\n}',
        (3, None),
        "section 'G g' repeats line 1: expected it only once",
    ),
    (
        "plain_line_after_its_section",
        "D d {\nx 1\n}\nD d",
        (4, None),
        "section 'D d' repeats line 1: expected it only once",
    ),
    (
        "section_after_its_plain_line",
        "D d\nD d {\n}",
        (2, None),
        "section 'D d' repeats line 1: expected it only once",
    ),
    ("nul", "a 1\nb \x002", (2, 3), f"character U+0000: {CONTROL}"),
    ("control_in_comment", "# \x1b[31m", (1, 3), f"character U+001B: {CONTROL}"),
    ("lone_cr", "a 1\rb 2\n", (1, 4), f"character U+000D: {CONTROL}"),
    ("line_separator_in_quotes", 'a "\u2028"', (1, 4), f"character U+2028: {CONTROL}"),
    ("lone_surrogate", "a \ud800", (1, 3), f"character U+D800: {CONTROL}"),
    ("undecodable_byte", LATIN_1, (2, 3), "byte 0xe9 cannot be decoded: expected UTF-8"),
    ("no_break_space", "nv_cache\u00a01", (1, 9), f"character U+00A0 {LOOK_ALIKE}"),
    ("byte_order_mark", "\ufeffa 1", (1, 1), f"character U+FEFF {LOOK_ALIKE}"),
]


@pytest.mark.parametrize(
    ("text", "place", "message"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_malformed_text_is_refused_at_its_line(
    text: str, place: tuple[int, int | None], message: str
) -> None:
    error = failure(text)
    assert error.message == message
    assert (error.line, error.column) == place
    assert str(error) == f"{PATH}:{place[0]}: {message}"


def test_first_of_two_errors_is_reported() -> None:
    assert failure("}\n\x00").line == 1


def test_sixteen_levels_are_accepted_and_seventeen_refused() -> None:
    def text(levels: int) -> str:
        return "A x {\n" * levels + "}\n" * levels

    assert len(list(walk(parse(text(MAX_DEPTH), PATH)))) == MAX_DEPTH == 16
    assert str(failure(text(MAX_DEPTH + 1))) == (
        f"{PATH}:17: section 'A x' is nested too deep: expected at most 16 levels"
    )


def test_text_of_four_mebi_characters_is_accepted_and_one_more_refused() -> None:
    text = "a " + "b" * (MAX_CHARACTERS - 2)
    assert len(parse(text, PATH)[0].words[1].text) == 4 * 1024 * 1024 - 2
    assert str(failure(text + "b")) == (
        f"{PATH}:1: file of 4194305 characters: expected at most 4194304"
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('a "' + "\\x" * (MAX_CHARACTERS // 2 - 2), "unclosed quote"),
        ("a " + "\\x" * (MAX_CHARACTERS // 2 - 2) + '"', '" inside the word'),
        ("a " + '"b"' * (MAX_CHARACTERS // 3 - 1), "unexpected"),
        ("a" + " " * (MAX_CHARACTERS - 2) + '"', "unclosed quote"),
        ("a 1\n" * 200_000 + "}", "'}' without"),
        ("".join(f"a {n} {{\n}}\n" for n in range(100_000)) + "}", "'}' without"),
    ],
    ids=["quoted_escapes", "escapes", "quotes", "blanks", "plain_lines", "sections"],
)
def test_large_hostile_text_is_refused_in_linear_time(text: str, start: str) -> None:
    assert failure(text).message.startswith(start)


def test_config_error_carries_location_and_message() -> None:
    error = ConfigError(Location("x.conf", 7), "no such device 'd'", column=3)
    assert (error.path, error.line, error.column) == ("x.conf", 7, 3)
    assert error.message == "no such device 'd'"
    assert str(error) == "x.conf:7: no such device 'd'"


def test_config_error_survives_pickling_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(ConfigError(Location("x.conf", 7), "wrong", 2)))
    assert (str(copy), copy.line, copy.column) == ("x.conf:7: wrong", 7, 2)


@pytest.mark.parametrize("texts", [(), ("a", "b", "c", "d"), ("",)])
def test_statement_that_no_text_can_hold_is_not_built(texts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a statement"):
        plain(*texts)


def test_example_unparses_to_its_canonical_form() -> None:
    assert unparse(parse(EXAMPLE, PATH)) == CANONICAL_EXAMPLE


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/srv/disk.img", "/srv/disk.img"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a\tb", '"a\tb"'),
        ("a#b", '"a\\#b"'),
        ("{", '"{"'),
        ("a}", '"a}"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a\u00a0b", '"a\u00a0b"'),
    ],
)
def test_word_is_quoted_only_when_it_needs_to_be(text: str, written: str) -> None:
    assert unparse((plain("x", text),)) == f"x {written}\n"


def test_empty_block_is_written_with_its_braces_on_two_lines() -> None:
    assert unparse((section(("DEVICE", "d")),)) == "DEVICE d {\n}\n"


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x85", "\u2029"])
def test_unparse_refuses_a_character_that_no_line_can_hold(character: str) -> None:
    with pytest.raises(ConfigError) as caught:
        unparse((plain("filename", f"/x{character}y"),))
    assert str(caught.value) == (
        f"built:1: character U+{ord(character):04X}: expected text without control characters"
    )


def test_unparse_refuses_the_depth_that_parse_refuses() -> None:
    assert parse(unparse((nested(MAX_DEPTH),)), PATH) == (nested(MAX_DEPTH),)
    with pytest.raises(ConfigError, match="'LEVEL 17' is nested too deep"):
        unparse((nested(MAX_DEPTH + 1),))


def without_repeated_sections(statements: list[Statement]) -> tuple[Statement, ...]:
    kept: dict[tuple[str, ...], Statement] = {}
    for statement in statements:
        kept.setdefault(tuple(word.text for word in statement.words), statement)
    return tuple(kept.values())


texts = st.text(st.sampled_from(list("ab0 \t#{}\"\\'é\u00a0\ufeff")), max_size=8) | st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8
)
names = st.builds(
    lambda first, rest: (first, *rest), texts.filter(bool), st.lists(texts, max_size=2)
)
plain_lines = names.map(lambda name: plain(*name))
blocks = st.recursive(
    st.lists(plain_lines, max_size=4).map(tuple),
    lambda inner: st.lists(
        st.builds(lambda name, block: section(name, *block), names, inner) | plain_lines,
        max_size=4,
    ).map(without_repeated_sections),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(blocks)
def test_parsing_what_was_unparsed_gives_the_same_statements(
    statements: tuple[Statement, ...],
) -> None:
    text = unparse(statements)
    assert parse(text, PATH) == statements
    assert unparse(parse(text, PATH)) == text


line_fragments = st.sampled_from(
    [*'ab {}"\\#\t\n\r\0', "\n", "\n", "\r\n", "a {\n", "}\n", '"a b"', "\\#", "\udc80", "\u00a0"]
)


@settings(derandomize=True, deadline=None, max_examples=1500)
@given(st.lists(line_fragments, max_size=40).map("".join))
def test_random_text_raises_nothing_but_config_error_within_the_file(text: str) -> None:
    result = outcome(text)
    if isinstance(result, ConfigError):
        lines = text.split("\n")
        assert result.path == PATH
        assert 1 <= result.line <= len(lines)
        assert result.column is None or 1 <= result.column <= len(lines[result.line - 1])
        assert str(result).startswith(f"{PATH}:{result.line}: ")
    else:
        assert parse(unparse(result), PATH) == result
