"""Which characters a policy file may hold: none that hide, reorder text, or end a line for some readers."""

import re
import unicodedata
from collections.abc import Iterator

from actions.authorization.linting.of_files import INVISIBLE, LINE_ENDING, REORDERING, TAB
from actions.authorization.linting.of_lines import BRACKET, CHARACTER, LOOK_ALIKE, QUOTE, TRAILING_COMMENT
from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Finding

_SUSPECT = re.compile(r"[^\x20-\x7e]")
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKS = {**dict.fromkeys("'\"`", QUOTE), **dict.fromkeys("()[]{}<>", BRACKET)}

Wrong = tuple[LintRule, str, str]
"""What is wrong with a character: the kind of mistake, what it is, how to mend it."""


def character_name(character: str) -> str:
    """``U+0430 CYRILLIC SMALL LETTER A``."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'a control character')}"


def wrong_characters(file: str, number: int, line: str) -> Iterator[Finding]:
    """The first character of each kind that stands nowhere in a policy file, comments included."""
    told: set[str] = set()
    for match in _SUSPECT.finditer(line):
        wrong = _wrong_anywhere(match.group())
        if wrong is not None and wrong[0].id not in told:
            told.add(wrong[0].id)
            yield wrong[0].at(file, number, match.start() + 1, *wrong[1:])


def _wrong_anywhere(character: str) -> Wrong | None:
    if unicodedata.category(character) not in _HIDING:
        return None
    if character == "\r":
        return LINE_ENDING, "The line ends with a carriage return", "Save with Unix line endings: a newline alone."
    if character == "\t":
        return TAB, "There is a tab", "Use spaces."
    if character in _REORDERING:
        message = f"There is a character that turns text around, {character_name(character)}"
        return REORDERING, message, "Delete it: what readers see is not what is written."
    message = f"There is an invisible character, {character_name(character)}"
    return INVISIBLE, message, "Delete it: readers cannot see what it does."


def wrong_in_rule(character: str) -> Wrong:
    """Why a character cannot stand in a rule."""
    if character == "#":
        return (
            TRAILING_COMMENT,
            "A comment after a rule would become part of its last word",
            "Move the comment to a line of its own, with '#' first.",
        )
    kind = _MARKS.get(character)
    if kind is QUOTE:
        return QUOTE, f"The quote {character} would become part of the word", "Write the word without quotes."
    if kind is BRACKET:
        return BRACKET, f"The bracket {character} has no meaning here", "Remove it; a field is one word."
    if not character.isascii():
        return (
            LOOK_ALIKE,
            f"There is a character that is no plain letter, {character_name(character)}",
            "Type the word again in plain ASCII.",
        )
    return (
        CHARACTER,
        f"The character '{character}' stands in no word",
        "A word is lower-case letters, digits and '_'.",
    )
