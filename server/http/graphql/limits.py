"""What a document may ask for, counted before anything else looks at it: no row, no rule and no type is read for it.

Fragments count as often as they are spread, so none of these numbers can be hidden in one. Tokens are counted while
the text is read, the size of the body before that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from actions.errors import BadRequest

MAX_TOKENS = 2000
MAX_OPERATIONS = 10
MAX_ACTIONS = 10
"""Top-level fields of an operation: each is an action, or asks about the schema."""
MAX_DEPTH = 10
MAX_SCHEMA_DEPTH = 20
"""Questions about the schema go deeper by nature; the usual one of every tool is 15 deep."""
MAX_SCHEMA_FIELDS = 2
"""The whole schema takes a worker 50 ms to tell, in which it does nothing else."""
MAX_ALIASES = 30
MAX_FIELDS = 500
MAX_DIRECTIVES = 50
SCHEMA_FIELDS = frozenset({"__schema", "__type"})


@dataclass(slots=True)
class _Sum:
    """What lies under a selection. ``depth`` in levels of fields."""

    depth: int = 0
    schema_depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0

    def add(self, other: "_Sum") -> None:
        self.depth = max(self.depth, other.depth)
        self.schema_depth = max(self.schema_depth, other.schema_depth)
        self.fields += other.fields
        self.aliases += other.aliases
        self.directives += other.directives


def check(document: DocumentNode) -> None:
    """Raises ``BadRequest`` with a reason that names the limit."""
    fragments = fragments_of(document)
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if len(operations) > MAX_OPERATIONS:
        raise BadRequest(f"A document has at most {MAX_OPERATIONS} operations.", reason="too-many-operations")
    sums: dict[str, _Sum] = {}
    for name in fragments:  # where one is spread is still to be seen, so it may be as deep as any; unused ones count
        inside = _fragment(name, fragments, sums, ())
        _hold(_Sum(0, max(inside.depth, inside.schema_depth), inside.fields, inside.aliases, inside.directives))
    for operation in operations:
        top = [field.name.value for field in top_fields(operation.selection_set, fragments)]
        if sum(name in SCHEMA_FIELDS for name in top) > MAX_SCHEMA_FIELDS:
            raise BadRequest("An operation asks about the schema once or twice.", reason="too-many-schema-fields")
        if len(top) > MAX_ACTIONS:
            raise BadRequest(f"An operation runs at most {MAX_ACTIONS} actions.", reason="too-many-actions")
        _hold(_sum(operation.selection_set, fragments, sums, ()))


def fragments_of(document: DocumentNode) -> Mapping[str, FragmentDefinitionNode]:
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}


def top_fields(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], seen: set[str] | None = None
) -> Iterator[FieldNode]:
    """The top-level fields of an operation, those of fragments too; a fragment that is spread again adds none."""
    seen = set() if seen is None else seen
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from top_fields(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode) and (name := node.name.value) in fragments and name not in seen:
            seen.add(name)
            yield from top_fields(fragments[name].selection_set, fragments, seen)


def _sum(
    selections: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    sums: dict[str, _Sum],
    inside: tuple[str, ...],
) -> _Sum:
    total = _Sum()
    for node in selections.selections:
        total.directives += len(node.directives or ())
        if isinstance(node, FieldNode):
            under = _sum(node.selection_set, fragments, sums, inside) if node.selection_set else _Sum()
            if node.name.value in SCHEMA_FIELDS:
                under = _Sum(0, under.depth, under.fields, under.aliases, under.directives)
                under.schema_depth += 1
            else:
                under.depth += 1
            under.fields += 1
            under.aliases += node.alias is not None
            total.add(under)
        elif isinstance(node, InlineFragmentNode):
            total.add(_sum(node.selection_set, fragments, sums, inside))
        elif isinstance(node, FragmentSpreadNode):
            total.add(_fragment(node.name.value, fragments, sums, inside))
    return total


def _fragment(
    name: str, fragments: Mapping[str, FragmentDefinitionNode], sums: dict[str, _Sum], inside: tuple[str, ...]
) -> _Sum:
    """Each fragment is counted once, and its sum taken wherever it is spread."""
    if name in inside:
        raise BadRequest("A fragment spreads itself.", reason="fragment-cycle")
    if name not in sums:
        found = fragments.get(name)
        sums[name] = _sum(found.selection_set, fragments, sums, (*inside, name)) if found else _Sum()
    return sums[name]


def _hold(total: _Sum) -> None:
    if total.depth > MAX_DEPTH or total.schema_depth > MAX_SCHEMA_DEPTH:
        told = f"{MAX_DEPTH} levels deep, {MAX_SCHEMA_DEPTH} where it asks about the schema"
        raise BadRequest(f"A document is at most {told}.", reason="too-deep")
    for count, most, what in (
        (total.fields, MAX_FIELDS, "fields"),
        (total.aliases, MAX_ALIASES, "aliases"),
        (total.directives, MAX_DIRECTIVES, "directives"),
    ):
        if count > most:
            raise BadRequest(f"A document has at most {most} {what}.", reason=f"too-many-{what}")
