"""How numbers, digests, times and long lists are said: the same in every command."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

SHORT = 12
"""As much of a digest as is shown: enough to tell any two apart."""


def counted(number: int, word: str) -> str:
    """``1 cell``, ``2,000 cells``."""
    return f"{number:,} {word}" + "s" * (number != 1)


def short(digest: str) -> str:
    return digest[:SHORT]


def minute(at: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else "never"


def second(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""


def some(words: Iterable[object], total: int, few: int) -> str:
    """The first few of so many, and how many there are beside: ``a, b and 3 more``."""
    named: Sequence[str] = [str(word) for word in words][:few]
    rest = total - len(named)
    return ", ".join(named) + (f" and {rest:,} more" if rest > 0 else "")


def more(number: int, hint: str = "") -> list[str]:
    """The line under a list that has been cut, if it has: ``... and 3 more``, and what shows them."""
    return [f"... and {number:,} more" + (f": {hint}" if hint else "")] if number > 0 else []
