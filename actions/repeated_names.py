"""No object of an input may give a name twice: it would lose one of its values in silence.

Knows no model. Parsers that build the values take the last of them, so the text is gone through once more.
"""

import json

from actions.errors import BadRequest


def refuse_repeated_names(text: bytes) -> None:
    """Of a text that is JSON. Raises ``BadRequest``."""
    try:
        json.loads(text, object_pairs_hook=_each_once, parse_int=str, parse_float=str)
    except RecursionError:
        raise BadRequest("The input is nested too deep.", reason="too-deep") from None


def _each_once(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise BadRequest("The input gives a name twice in one object.", reason="repeated-name")
