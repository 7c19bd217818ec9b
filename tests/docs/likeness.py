"""Whether two outputs tell the same, ids, keys, times and measures apart.

An id that a page shows stands for the one that the running server gave: which for which is learnt from the outputs,
and must be the same throughout the page. A later command that names the page's id is then run with the server's.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher

_SHAPES = {
    "secret": r"(?:(?<=secret_key  )|(?<=password    )|(?<=\"secret_key\": \")|(?<=\"access_token\": \")"
    r"|(?<=\"refresh_token\": \"))[\w.-]+",
    "cursor": r"(?:(?<=\"next_cursor\": \")|(?<=cursor=)|(?<=\"endCursor\": \"))[\w-]+",
    "uuid": r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    "hex": r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{12})\b",
    "log": r"\bchamberlain/[0-9a-f]{16}\b",
    "key": r"(?:(?<=, key )|(?<=\(key )|(?<=chamberlain/[0-9a-f]{16}\+)|(?<=witness\.example\.org/1\+))[0-9a-f]{8}\b",
    "public": r"(?<=\+[0-9a-f]{8}\+)[A-Za-z0-9+/]{44}",
    "access": r"\bAK[A-Z2-7]{18}\b",
    "address": r"\b127\.0\.0\.1:\d+\b",
    "time": r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)?",
    "measure": r"(?:(?<=\"ms\": )|(?<=\"ms\":)|(?<=\"duration_us\": )|(?<=heard )|(?<=took     )"
    r"|(?<=\"refresh_expires_in\": ))[\d.]+"
    r"|\b\d+(?= answers compared)|\b\d+(?= decisions? )|(?<= in )\d+(?= records?\b)|\b\d+(?= as before)"
    r"|\b\d+(?= records are numbered)|(?<=numbered and signed, )\d+(?= wait)"
    r"|(?<=\bindex )\d+(?: to \d+)?|(?<=: all )\d+(?= records)|(?<=: )\d+(?= records and \d+ hash)"
    r"|\b\d+ of \d+(?= checkpoints on the way)"
    r"|\b\d+(?= records[,)]| records of chamberlain/)|(?<=, 0 up to )\d+|(?<=under the checkpoint of )\d+"
    r"|(?<=with the indexes )\d+ to \d+|\b\d+ to \d+(?= \d\S* MB| dropped)"
    r"|\b\d+(?= of \d+ rules decided)|\b\d+(?= of \d+ in chamberlain/)|(?<= of )\d+(?= in chamberlain/)",
}
_TOKEN = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items()))
_FREE = frozenset({"time", "measure", "secret"})
"""Shapes whose values need not stay the same."""


class Drift(AssertionError):
    """A page shows something else than what happens: ``output``."""

    output = ""


@dataclass
class Likeness:
    """Which value of the page stands for which of the server's."""

    real: dict[str, str] = field(default_factory=dict)

    def command(self, text: str) -> str:
        """A command of the page with the server's values in it."""
        return _TOKEN.sub(lambda token: self.real.get(token[0], token[0]), text)

    def shown(self, output: str) -> str:
        """An output of the server with the page's values in it, as far as they are known."""
        page = {real: shown for shown, real in self.real.items()}
        return _TOKEN.sub(lambda token: page.get(token[0], token[0]), output)

    def learn(self, shown: str, output: str) -> None:
        """Learn what can be learnt from an output that has drifted: from its lines that have not."""
        before, after = shown.splitlines(), output.splitlines()
        matcher = SequenceMatcher(None, list(map(_skeleton, before)), list(map(_skeleton, after)), autojunk=False)
        for first, second, size in matcher.get_matching_blocks():
            for place in range(size):
                with suppress(Drift):
                    self.compare(before[first + place], after[second + place])

    def compare(self, shown: str, output: str) -> None:
        """Learn from an output that is like the one shown. Raises ``Drift`` when it is not."""
        if _skeleton(shown) != _skeleton(output):
            raise Drift(f"the page shows\n{shown}\nbut this happens\n{self.shown(output)}")
        learnt = dict(self.real)
        for page, real in zip(_TOKEN.finditer(shown), _TOKEN.finditer(output), strict=True):
            if page.lastgroup not in _FREE and learnt.setdefault(page[0], real[0]) != real[0]:
                raise Drift(f"{page[0]} stands for {learnt[page[0]]}, and here for {real[0]}, in\n{shown}")
        if len(set(learnt.values())) < len(learnt):
            raise Drift(f"two ids of the page stand for the same one in\n{shown}")
        self.real = learnt


def _skeleton(text: str) -> str:
    lines = _TOKEN.sub(lambda token: f"<{token.lastgroup}>", text).strip().splitlines()
    return "\n".join(line.rstrip() for line in lines)
