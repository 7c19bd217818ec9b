"""The rows of a benchmark: how they are judged, shown and kept. Knows nothing of what is measured."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value. With a ``floor`` it can be missed: ``bound`` says on which side; without, it informs."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    bound: Literal["at least", "at most"] = "at least"

    @property
    def met(self) -> bool | None:
        """None for a row that only informs."""
        if self.floor is None:
            return None
        return self.value >= self.floor if self.bound == "at least" else self.value <= self.floor

    def told(self) -> dict[str, object]:
        value = round(self.value, 3)
        return {"name": self.name, "value": value, "unit": self.unit, "floor": self.floor, "met": self.met}


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one a line, those that can be missed first."""
    lines = [("what", "measured", "wanted", "")]
    for row in sorted(rows, key=lambda row: row.floor is None):
        wanted = "" if row.floor is None else f"{row.bound} {row.floor:g} {row.unit}"
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        lines.append((row.name, f"{_shown(row.value)} {row.unit}", wanted, verdict))
    wide = max(len(line[0]) for line in lines)
    return "\n".join(f"{name:<{wide}}  {value:>16}  {wanted:<16}  {met}".rstrip() for name, value, wanted, met in lines)


def write(rows: Sequence[Row], path: Path) -> None:
    """Keep the rows as JSON: a list of ``{name, value, unit, floor, met}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([row.told() for row in rows], indent=2) + "\n")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
