"""The books of the log: each record that is owed is settled in one of five ways, and none stays open.

So what was owed is the sum of what became of it, less what is under way. Words alone; who counts is told at the edges.
"""

from enum import StrEnum


class Settled(StrEnum):
    """What became of a record that was owed.

    ``record``: it is durable. ``refusal``: it could not be written, so the caller was refused (503). ``excluded``: the
    audit policy wants none of it. ``counted``: one failure of many, that stands in the log as a part of their count;
    until that is written it waits, and is not settled yet.
    ``unknown``: whether it is there hangs on a commit whose fate is still to be found out, or on an effect cut short.
    """

    RECORD = "record"
    REFUSAL = "refusal"
    EXCLUDED = "excluded"
    COUNTED = "counted"
    UNKNOWN = "unknown"
