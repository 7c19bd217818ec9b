"""From a document's text to what can be run: read, held to the limits, checked against the schema; and kept.

Clients send the same few documents again and again with other variables, so what was checked is remembered by its
text. No complaint repeats a value that the document holds: it may be a password in the wrong place.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLInputType,
    GraphQLSchema,
    OperationDefinitionNode,
    ValueNode,
    parse,
    specified_rules,
    validate,
)
from graphql.language import SKIP, VisitorAction
from graphql.utilities import type_from_ast, validate_input_literal, validate_input_value
from graphql.validation import ASTValidationRule, ValuesOfCorrectTypeRule

from actions.errors import BadRequest, ChamberlainError, Fault
from server.http.graphql.limits import MAX_TOKENS, check, fragments_of, top_fields

KEPT = 100
KEPT_LENGTH = 4096
"""Longer documents are checked anew each time: what is kept stays below 30 MB, whoever tries."""
MAX_COMMENTS = 100
MAX_ERRORS = 20


@dataclass(frozen=True)
class Operation:
    """One operation of a document. ``fields`` are its top-level fields: response key and name of each."""

    node: OperationDefinitionNode
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Document:
    node: DocumentNode
    operations: Mapping[str, Operation]
    """By name; that of the only one may be empty."""

    def operation(self, name: str | None) -> Operation:
        """The operation that is asked for. Raises ``BadRequest``."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        found = self.operations.get(name or "")
        if found is None:
            raise BadRequest("`operationName` names no operation of the document.", reason="unknown-operation")
        return found


class RequestErrors(Exception):
    """What is wrong with a request before anything of it runs: one kind of error, at one or more places."""

    def __init__(self, kind: ChamberlainError, places: Sequence[GraphQLError] = ()) -> None:
        super().__init__(kind.detail)
        self.kind = kind
        self.places = tuple(places)


class Documents:
    """The documents of one schema, as many as are worth keeping."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._kept: OrderedDict[str, Document] = OrderedDict()

    def read(self, text: str) -> Document:
        """A document within the limits, not yet checked unless it is kept. Raises ``BadRequest``, ``RequestErrors``."""
        if (kept := self._kept.get(text)) is not None:
            self._kept.move_to_end(text)
            return kept
        try:
            node = parse(text, max_lexical_tokens=MAX_TOKENS, max_comments=MAX_COMMENTS)
        except GraphQLError as error:
            if f"{MAX_TOKENS}" in error.message:
                raise BadRequest(f"A document has at most {MAX_TOKENS} tokens.", reason="too-many-tokens") from None
            kind = BadRequest("The document is not GraphQL.", reason="malformed-document")
            raise RequestErrors(
                kind, [GraphQLError(kind.detail, source=error.source, positions=error.positions)]
            ) from None
        check(node)
        return Document(node, _operations(node))

    def check(self, text: str, document: Document) -> Document:
        """The document as it runs. Raises ``RequestErrors`` when the schema has no such fields, arguments or types."""
        if text in self._kept:
            return document
        if faults := validate(self._schema, document.node, _RULES, max_errors=MAX_ERRORS):
            raise RequestErrors(BadRequest("The document does not fit the schema.", reason="invalid-document"), faults)
        if len(text) > KEPT_LENGTH:
            return document
        bare = parse(text, no_location=True)  # a third of the memory, and where a field stood is of no more interest
        self._kept[text] = kept = Document(bare, _operations(bare))
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept

    def variable_faults(self, operation: Operation, given: Mapping[str, object]) -> RequestErrors:
        """Why the variables are refused, without the values that they have."""
        faults: list[Fault] = []
        for definition in operation.node.variable_definitions or ():
            name, kind = definition.variable.name.value, type_from_ast(self._schema, definition.type)
            if name not in given and definition.default_value is not None:
                continue

            def found(error: GraphQLError, path: list[str | int], name: str = name) -> None:
                place = "".join(f"/{part}" for part in ("variables", name, *path))
                faults.append(Fault(place, _told(error)))

            if name not in given and str(kind).endswith("!"):
                faults.append(Fault(f"/variables/{name}", "is missing"))
            elif name in given and kind is not None:
                validate_input_value(given[name], kind, found, True)  # type: ignore[arg-type]
        return RequestErrors(
            BadRequest("The variables do not fit the document.", reason="invalid-variables", errors=faults[:MAX_ERRORS])
        )


class _ValuesOfTheirType(ValuesOfCorrectTypeRule):
    """The rule of the specification; its complaints name the place and the type, never the value."""

    def is_valid_value_node(self, node: ValueNode, input_type: GraphQLInputType | None) -> VisitorAction:
        def found(error: GraphQLError, path: list[str | int]) -> None:
            place = "".join(f"/{part}" for part in path) or "the value"
            self.report_error(GraphQLError(f"{place} {_told(error)}", error.nodes))

        if input_type:
            validate_input_literal(node, input_type, found, None, None, True)
        return SKIP


_RULES: tuple[type[ASTValidationRule], ...] = tuple(
    _ValuesOfTheirType if rule is ValuesOfCorrectTypeRule else rule for rule in specified_rules
)


def _operations(document: DocumentNode) -> Mapping[str, Operation]:
    fragments = fragments_of(document)
    return {
        node.name.value if node.name else "": Operation(
            node,
            tuple(
                (field.alias.value if field.alias else field.name.value, field.name.value)
                for field in top_fields(node.selection_set, fragments)
            ),
        )
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    }


_REQUIRED = re.compile(r"include required field '(\w+)'")
_UNKNOWN = re.compile(r"not to include unknown field '(\w+)'")


def _told(error: GraphQLError) -> str:
    """A complaint about a value, less the value."""
    if required := _REQUIRED.search(error.message):
        return f"lacks the field {required[1]}"
    if unknown := _UNKNOWN.search(error.message):
        return f"has no field {unknown[1]}"
    if "non-null" in error.message.partition("'")[0]:
        return "cannot be null"
    return "is not of the type that the schema says"
