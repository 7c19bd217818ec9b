"""The tables of the documentation that follow from the code: between ``<!-- settings -->`` and ``<!-- end -->``."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic_core import PydanticUndefined

from audit import export_flat
from server.http.metrics import Metrics
from server.settings import PREFIX, Settings
from server.supervisor import Supervisor
from tests.docs.lint_rules import lint_rules

_DEFAULTS = {"data_dir": "`~/.local/share/chamberlain`", "policy_dir": "`policies` beside the program"}
_DEFAULTS["workers"] = "one for each processor, at most 4"
_DEFAULTS["policy_public_keys"] = _DEFAULTS["audit_witnesses"] = "unset"
_DEFAULTS["require_signed_body"] = "`false`"


def settings_table() -> str:
    """Every setting with its default and what it is."""
    rows = []
    for name, info in Settings.model_fields.items():
        default = _DEFAULTS.get(name) or ("unset" if info.default in (None, PydanticUndefined) else f"`{info.default}`")
        bounds = {type(item).__name__: item for item in info.metadata}
        low, high = getattr(bounds.get("Ge"), "ge", None), getattr(bounds.get("Le"), "le", None)
        between = f" {low:,} to {high:,}." if high is not None and "port" not in name else ""
        assert info.description, f"{name}: a setting without a description"
        rows.append((f"`{PREFIX}{name.upper()}`", _spelled(default), info.description + between))
    return _table(("variable", "default", "what it is"), rows)


def metrics_table() -> str:
    """Every metric family, of the workers and of the supervisor."""
    families: list[tuple[str, str, Iterable[str], str]] = []
    for table in Metrics()._tables:
        name, kind, text, _, labels, _ = table._declaration
        families.append((name, kind, labels, text))
    for family in Supervisor(["worker"])._own():
        families.append((family.name, family.kind, family.labels, family.help))
    rows = [
        (f"`{name}{'_total' * (kind == 'counter')}`", kind, ", ".join(labels), text)
        for name, kind, labels, text in families
    ]
    return _table(("metric", "type", "labels", "meaning"), sorted(rows))


def columns_table() -> str:
    """The columns of an exported table, less those of the leaf itself."""
    return _table(
        ("column", "type", "what it holds"), [(f"`{one.name}`", one.type, one.sentence) for one in export_flat.COLUMNS]
    )


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "lint": lint_rules,
    "columns": columns_table,
}
_PLACE = re.compile(rf"<!-- ({'|'.join(TABLES)}) -->\n.*?<!-- end -->", re.DOTALL)


def with_tables(page: str) -> str:
    """A page's text with its tables as they should be."""
    return _PLACE.sub(lambda place: f"<!-- {place[1]} -->\n\n{TABLES[place[1]]()}\n<!-- end -->", page)


def _spelled(default: str) -> str:
    return default.replace(str(Path.home()), "~")


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [names, ("---",) * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
