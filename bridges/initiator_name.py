# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of initiators that are made from text which somebody else has chosen.

A name is one printable word, in which a comma is always ours, and has a greatest length; texts that
differ give names that do. What stands before the text, and who vouches for it, is a front-end's
business.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

# RFC 3720, 3.2.6.1: no initiator's name is longer.
MAX_NAME_BYTES: Final = 223
_DIGEST_CHARACTERS: Final = 32
_ESCAPED: Final = " %,"
# How what was cut ends, and may begin: a character has up to four bytes.
_CUT: Final = re.compile(f".{{187,190}}~[0-9a-f]{{{_DIGEST_CHARACTERS}}}".encode(), re.DOTALL)


def escape(text: str) -> str:
    """Write blanks, ``%``, commas and what is not printable as ``%XX`` for each byte."""
    return "".join(
        character
        if character.isprintable() and character not in _ESCAPED
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
        for character in text
    )


def bounded(name: str) -> str:
    """Cut a name of more than 223 bytes, which then ends in a digest of the whole.

    One that looks as if it had been cut is, too: nobody can take the name of another so.
    """
    encoded = name.encode()
    if len(encoded) <= MAX_NAME_BYTES and not _CUT.fullmatch(encoded):
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:_DIGEST_CHARACTERS]
    kept = encoded[: MAX_NAME_BYTES - 1 - len(digest)].decode("utf-8", "ignore")
    return f"{kept}~{digest}"
