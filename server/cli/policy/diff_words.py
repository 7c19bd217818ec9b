"""How a difference is put into words, for the table and for the comment alike."""

from actions.auditing import RESULTS, SURFACES, Level, Redaction
from actions.authorization.answers import PolicyLine
from actions.authorization.difference_answer import (
    DifferenceEffect,
    DifferenceKind,
    DifferenceTotals,
    PolicyDifference,
    RecordingChange,
    RecordingDifference,
    RedactionChange,
    RoleDifference,
    TouchedUsers,
)
from actions.directory import NOBODY_YET, SYSTEM_ROLES
from actions.vocabulary import ScopeType
from server.cli.policy.words import counted

SPELLED_OUT = 40
"""Up to so many cells are told by their operations; of more it is told how many each entity has."""
ROLES_NAMED = 8
IDS_NAMED = 3
_LEFT = {
    Level.NONE: "no record at all",
    Level.METADATA: "without what was asked, and without values",
    Level.FULL: "all of it",
}
_KEPT = {
    Redaction.OMIT: "only that it changed",
    Redaction.HASH: "a keyed hash of its values",
    Redaction.KEEP: "its values, sealed where they are personal",
}
VERBS = {
    DifferenceKind.GAINED: ("gains", "gain"),
    DifferenceKind.LOST: ("loses", "lose"),
    DifferenceKind.BARRED: ("is barred from", "are barred from"),
    DifferenceKind.UNBARRED: ("is no longer barred from", "are no longer barred from"),
}


def headline(totals: DifferenceTotals) -> str:
    """``2 cells gained, 1 lost``."""
    told = {kind.value: getattr(totals, kind.value) for kind in DifferenceKind}
    some = [(kind, number) for kind, number in told.items() if number]
    if not some:
        return "no cell changes"
    (kind, number), *rest = some
    return ", ".join([f"{counted(number, 'cell')} {kind}", *(f"{number} {kind}" for kind, number in rest)])


def recording(found: RecordingDifference) -> str | None:
    """What the log would hold less of, and more of; None where it would hold the same."""
    told = []
    for word, cells, fields in (("LESS", found.less, found.fields_less), ("more", found.more, found.fields_more)):
        of = [counted(number, what) for number, what in ((cells, "cell"), (fields, "field")) if number]
        told += [f"the log records {word} of {' and '.join(of)}"] if of else []
    return "; ".join(told) or None


def level(change: RecordingChange) -> str:
    """From which level to which, and what is left then."""
    return f"{change.before} → {change.after} ({_LEFT[change.after]})"


def outcomes(change: RecordingChange) -> str:
    """How the actions ended, and what they came by; nothing where it is about all of them."""
    results = "" if len(change.results) == len(RESULTS) else f"when {' or '.join(change.results)}"
    surfaces = "" if len(change.surfaces) == len(SURFACES) else f"by {' or '.join(change.surfaces)}"
    return " ".join(part for part in (results, surfaces) if part)


def redaction(change: RedactionChange) -> str:
    """What would be recorded of a field's values."""
    return f"{_KEPT[change.after]}; before, {_KEPT[change.before]}"


def people(found: PolicyDifference) -> str | None:
    """How many users may do more or less; None where nobody looked."""
    if found.users is None:
        return None
    more, less = found.users.gain.count, found.users.lose.count
    return f"{_users(more)} may do more somewhere, {_users(less)} less"


def touched(effect: DifferenceEffect) -> str | None:
    """Whom an effect touches; None where nobody looked."""
    if effect.users is None:
        return None
    others = ["whoever has not logged in"] if NOBODY_YET in effect.roles else []
    others += ["the server itself"] if not {*SYSTEM_ROLES}.isdisjoint(effect.roles) else []
    return " and ".join(others) if others and not effect.users.count else _users(effect.users.count)


def plain(line: PolicyLine) -> str:
    """A line without the spaces that align it with its neighbours."""
    return " ".join(line.text.split())


def some_ids(users: TouchedUsers) -> str:
    named = [str(key) for key in users.first[:IDS_NAMED]]
    return ", ".join(named) + ", ..." * (users.count > len(named))


def roles(effect: DifferenceEffect) -> list[str]:
    """The roles to be named, and a last word on the others."""
    named = effect.roles[:ROLES_NAMED]
    more = effect.role_count - len(named)
    return [*named, *([f"{more} more"] if more else [])]


def verb(effect: DifferenceEffect) -> str:
    one, many = VERBS[effect.kind]
    return one if effect.role_count == 1 else many


def note(effect: DifferenceEffect) -> str:
    """What the kind alone does not tell: the part that an explicit deny has in it."""
    if effect.kind is DifferenceKind.GAINED and effect.before == "deny":
        return " (denied before)"
    return " (denied now)" if effect.kind is DifferenceKind.LOST and effect.after == "deny" else ""


def cells(effect: DifferenceEffect | RecordingChange, *, spelled_out: bool | None = None) -> list[tuple[str, str]]:
    """The cells of an effect by scope: ``("domain", "user: get, search; project: get")``."""
    if spelled_out is None:
        spelled_out = effect.cell_count <= SPELLED_OUT
    gathered: dict[str, dict[str, list[str]]] = {}
    for cell in effect.cells:
        gathered.setdefault(cell.scope, {}).setdefault(cell.entity, []).append(cell.operation)
    told = [
        (
            scope,
            "; ".join(
                f"{entity}: {', '.join(operations) if spelled_out else counted(len(operations), 'operation')}"
                for entity, operations in entities.items()
            ),
        )
        for scope, entities in gathered.items()
    ]
    hidden = effect.cell_count - len(effect.cells)
    return [*told, *([("...", f"{counted(hidden, 'cell')} not shown")] if hidden else [])]


def held(role: RoleDifference) -> str:
    """Where a role may be held, and could be."""
    if role.edit == "added":
        return f"is new, and may be held {_places(role.after)}"
    if role.edit == "removed":
        return f"is gone; it could be held {_places(role.before)}"
    return f"may be held {_places(role.after)}; before, {_places(role.before)}"


def _places(scope_types: list[ScopeType]) -> str:
    return "in " + " and ".join(scope_types) if scope_types else "by nobody"


def _users(number: int) -> str:
    return counted(number, "user") if number else "no user"
