# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the sections of a configuration: names, and attributes by pydantic models.

What is wrong becomes a ``ConfigError`` that names file, line, word and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bridges.driver_attributes import Terms
from bridges.scst_conf import ConfigError, Location, Statement, Word

# SCST: 64 characters with the terminating NUL.
_MAX_NAME = 63

ModelT = TypeVar("ModelT", bound=BaseModel)


def check_section(statement: Statement, allowed: Iterable[str], words: int) -> Statement:
    """Check that a statement is one of the sections that may stand here."""
    if statement.keyword not in allowed:
        raise unexpected_word(statement.words[0], allowed)
    if len(statement.words) != words:
        raise ConfigError(
            statement.location, f"{statement.keyword}: expected one name after the keyword"
        )
    if statement.block is None:
        raise ConfigError(
            statement.location, f"{statement.keyword} {statement.words[1].text}: expected a block"
        )
    return statement


def unexpected_word(word: Word, allowed: Iterable[str]) -> ConfigError:
    """The error of a word that is none of those that may stand there."""
    expected = ", ".join(sorted(allowed))
    return ConfigError(word.location, f"unknown word '{word.text}': expected one of {expected}")


def check_name(word: Word) -> str:
    """Return what is to be the name of a device, target or group."""
    if not 0 < len(word.text) <= _MAX_NAME:
        raise ConfigError(
            word.location, f"name '{word.text}': expected 1 to {_MAX_NAME} characters"
        )
    return word.text


def read_attributes(model: type[ModelT], section: Statement, owner: str) -> ModelT:
    """Check the block of a section that has only attributes; ``owner`` names it in messages."""
    return read_lines(model, section.block or (), section.location, owner)


def read_lines(
    model: type[ModelT],
    statements: Sequence[Statement],
    location: Location,
    owner: str,
    sections: Iterable[str] = (),
) -> ModelT:
    """Check plain attribute lines against a model; raises ConfigError.

    For messages, ``owner`` names the section, and ``sections`` what else may stand in it.
    """
    values: dict[str, Any] = {}
    words: dict[str, list[Word]] = {}
    for statement in statements:
        name = statement.words[0]
        field = model.model_fields.get(name.text)
        if field is None:
            raise unexpected_word(name, (*model.model_fields, *sections))
        terms = next((item for item in field.metadata if isinstance(item, Terms)), None)
        if statement.block is not None and terms is None:
            raise ConfigError(statement.location, f"{name.text}: expected a value, not a block")
        if len(statement.words) != 2:
            raise ConfigError(statement.location, f"{name.text}: expected one value")
        value = statement.words[1]
        given = words.setdefault(name.text, [])
        is_list = isinstance(field.get_default(call_default_factory=True), tuple)
        subject = str if terms is None else terms.subject
        for other in given:
            if not is_list or subject(other.text) == subject(value.text):
                what = f"{name.text} {value.text}" if is_list else name.text
                line = other.location.line
                raise ConfigError(
                    name.location, f"{owner}: {what} is given already, at line {line}"
                )
        given.append(value)
        found = _value(statement, terms)
        if is_list:
            values.setdefault(name.text, []).append(found)
        else:
            values[name.text] = found
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _located(error, words, location, owner) from error


def _value(statement: Statement, terms: Terms | None) -> str | tuple[str, BaseModel]:
    """The value of an attribute's line, with its terms if it has a block."""
    name, value = (word.text for word in statement.words)
    if terms is None or statement.block is None:
        return value
    return value, read_attributes(terms.model, statement, f"{name} {value}")


def _located(
    error: ValidationError,
    words: Mapping[str, Sequence[Word]],
    location: Location,
    owner: str,
) -> ConfigError:
    """Turn the first thing that a model found wrong into an error at its line."""
    detail = error.errors()[0]
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return ConfigError(location, f"{owner}: {message}")
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        return ConfigError(location, f"{owner}: {name} is required")
    # The second part, if any, is the number of the wrong one in a list.
    word = words[name][int(detail["loc"][1]) if len(detail["loc"]) > 1 else 0]
    return ConfigError(word.location, f"{owner}: {name} '{word.text}': {message}")
