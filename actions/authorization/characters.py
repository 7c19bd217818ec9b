"""Which characters a policy file may hold: none that hide, reorder text, or end a line for some readers."""

import re
import unicodedata

from actions.authorization.rules import Finding, Severity

_SUSPECT = re.compile(r"[^\n\x20-\x7e]")
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS = {"'": "quote", '"': "quote", "`": "quote", **dict.fromkeys("()[]{}<>", "bracket")}


def character_name(character: str) -> str:
    """``U+0430 CYRILLIC SMALL LETTER A``."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'a control character')}"


def wrong_character(file: str, text: str) -> Finding | None:
    """The first character that stands nowhere in a policy file, comments included."""
    for match in _SUSPECT.finditer(text):
        character = match.group()
        if unicodedata.category(character) not in _HIDING:
            continue
        start = match.start()
        line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        if character == "\r":
            rule_id, message = "line-ending", "The line ends with a carriage return"
            hint = "Save with Unix line endings: a newline alone."
        elif character == "\t":
            rule_id, message, hint = "tab", "There is a tab", "Use spaces."
        else:
            rule_id, message = "invisible", f"There is an invisible character, {character_name(character)}"
            hint = "Delete it: readers cannot see what it does."
        return Finding(file, line, column, rule_id, Severity.ERROR, message, hint)
    return None


def wrong_in_rule(character: str) -> tuple[str, str, str]:
    """Why a character cannot stand in a rule: the kind of mistake, what it is, how to mend it."""
    if character == "#":
        return (
            "trailing-comment",
            "A comment after a rule would become part of its last word",
            "Move the comment to a line of its own, with '#' first.",
        )
    kind = _MARKS.get(character)
    if kind == "quote":
        return kind, f"The quote {character} would become part of the word", "Write the word without quotes."
    if kind == "bracket":
        return kind, f"The bracket {character} has no meaning here", "Remove it; a field is one word."
    if not character.isascii():
        return (
            "look-alike",
            f"There is a character that is no plain letter, {character_name(character)}",
            "Type the word again in plain ASCII.",
        )
    return (
        "character",
        f"The character '{character}' stands in no word",
        "A word is lower-case letters, digits and '_'.",
    )
