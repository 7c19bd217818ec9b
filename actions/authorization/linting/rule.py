"""What a rule of the linter is: a name to look up, why it matters, how to mend what it found, and an example of each.

A finding is made by its rule, so there is none that cannot be looked up. This module reads no policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from actions.authorization.rules import Finding, Severity

PAGE = "docs/policy-lint.md"
"""The page on which each rule has its place, under its id."""

Example = Mapping[str, str | None]
"""What is put at the end of the files of a good little policy, by file name. In an example that is ``whole``: all that
a file says, or None for one that is not there. What is no UTF-8 is written with surrogates, as Python escapes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LintRule:
    """A kind of mistake. ``title``, ``why`` and ``mend`` are sentences."""

    id: str
    severity: Severity = Severity.ERROR
    title: str
    why: str
    mend: str
    bad: Example
    good: Example
    whole: bool = False

    @property
    def anchor(self) -> str:
        return f"{PAGE}#{self.id}"

    def at(self, file: str, line: int, column: int, message: str, hint: str) -> Finding:
        """A finding of this kind. Lines and columns count from 1.

        What the texts quote from a file can neither steer a terminal nor fill a log.
        """
        return Finding(
            as_shown(file), line, column, self.id, self.severity, as_shown(message, 400), as_shown(hint, 2000)
        )


def as_shown(text: str, length: int = 300) -> str:
    """A text that can be printed anywhere, in one line, cut where it is too long."""
    if len(text) > length:
        text = f"{text[:length]}..."
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
