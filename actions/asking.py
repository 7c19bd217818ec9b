"""What of a question stands in its record: what was asked beyond the address, part by part, as its model has it.

A part that is personal is sealed under whoever asked, a secret one stands nowhere. So it is with what has no form of
its own: a text that is no word may be anything, somebody's address even, and so may the name of a scope that does not
exist. This module decides no level; it is told.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from pydantic import BaseModel, SecretStr

from actions.auditing import Redaction
from actions.hooks import Outcome, Result
from actions.model import PERSONAL, SECRET, marks
from actions.query import Filter, Operators
from actions.redacting import HASHED, NOTHING, OMITTED, Told, hashed
from actions.standard import Spec
from audit.keyed import KeyedHashes
from audit.record import LONGEST, cut

MOST = 4096
"""Bytes that a question may take in a record. Of what is longer it is told how many parts are left out."""
_ENTRY = 32
"""What the frame of a part takes, roughly."""
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_KEY = re.compile(rf"{_UUID}|[0-9a-f]{{64}}|me")
"""What the key of a thing or a scope looks like that names nobody: an id, a digest."""
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:,*/+-]{0,127}")
"""What can be said in the open: an id, the name of a role or a rule, an order. No address, name and surname, or
sentence is one."""


def ref_of(outcome: Outcome) -> str | None:
    """The scope as the caller named it, where that can stand in the open: it exists, or is asked for by an id."""
    ref = outcome.action.address.ref
    return ref if outcome.lineage is not None or _KEY.fullmatch(ref) else None


def target_of(outcome: Outcome) -> str | None:
    """The target's key, where that can stand in the open: there is such a thing, or it has the form of a key."""
    named = outcome.target or outcome.action.target
    return cut(named) if named and (outcome.target_lineage is not None or _KEY.fullmatch(named)) else None


def asked_of(outcome: Outcome, result: Result, hashes: KeyedHashes) -> Told:
    """What a record that is to tell everything tells of the question.

    What only reads tells it always. What was to be changed stands among the changes; where none came to be, the input
    is told, less what is personal in it: whose that is was not found out.
    """
    action, question = outcome.action, outcome.question
    spec = action.spec
    if question is not None and not spec.operation.reads:
        ended = result is Result.SUCCEEDED or result is Result.PENDING or bool(outcome.changes)
        question = None if ended else question
    named = outcome.target or action.target
    lost = outcome.lineage is None and bool(action.address.ref) and ref_of(outcome) is None
    unknown = bool(named) and outcome.target_lineage is None and target_of(outcome) is None
    if question is None and not outcome.noted and not lost and not unknown:
        return NOTHING
    telling = _Telling(outcome, hashes)
    if lost:
        telling.seal("address/scope", action.address.ref)
    if unknown and named:
        telling.seal("address/id", named)
    for noted in outcome.noted:
        telling.public.append({"field": noted.field, "value": noted.value})
    if question is not None:
        telling.question(question)
    return Told(telling.public, telling.personal, tuple(telling.hashes))


@dataclass(slots=True)
class _Telling:
    """One question while it is told."""

    outcome: Outcome
    keyed: KeyedHashes
    public: list[dict[str, object]] = field(default_factory=list)
    personal: dict[str, object] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)
    left: int = MOST

    def seal(self, at: str, value: object) -> None:
        self.public.append({"field": at, "confidential": PERSONAL.name})
        self.personal[at] = _bounded(value)

    def question(self, asked: BaseModel) -> None:
        found = _parts(asked, "", _marks_of(self.outcome.action.spec))
        for part in found:
            self.left -= _ENTRY + len(part.at)
            if self.left <= 0:
                self.public.append({"field": "", "more": 1 + sum(1 for _ in found)})
                return
            self._tell(part)

    def _tell(self, part: "_Part") -> None:
        at, value, kind = part.at, part.value, part.kind
        spec, audit = self.outcome.action.spec, self.outcome.audit
        redaction = audit.redaction(spec.entity.name, part.name) if audit is not None else None
        if kind == SECRET.name:
            said: dict[str, object] = {"confidential": kind}
            if redaction is Redaction.HASH and isinstance(value, SecretStr | str):
                secret = value.get_secret_value() if isinstance(value, SecretStr) else value
                said["value"] = hashed(secret, self.keyed, self.hashes)
            self.public.append({"field": at, **said})
        elif redaction is Redaction.OMIT or (kind == PERSONAL.name and not spec.operation.reads):
            self.public.append({"field": at, "confidential": OMITTED})
        elif isinstance(value, Mapping):  # whose names are the caller's, too
            self.public.append({"field": at, "more": len(value)})
        elif kind == PERSONAL.name:
            told, more = self._within(value)
            self.seal(at, told)
            self.public[-1] |= more
        elif redaction is Redaction.HASH:
            one_by_one = value if isinstance(value, list) else [value]
            made = [hashed(one, self.keyed, self.hashes) for one in one_by_one]
            told, more = self._within(made if isinstance(value, list) else made[0])
            self.public.append({"field": at, "value": told, "confidential": HASHED, **more})
        else:
            told, more = self._within(value)
            if _is_open(told):
                self.public.append({"field": at, "value": told, **more})
            else:
                self.seal(at, told)
                self.public[-1] |= more

    def _within(self, value: object) -> tuple[object, dict[str, object]]:
        """A value as short as it has to be, and how many of a list are left out."""
        if not isinstance(value, list):
            told = _bounded(value)
            self.left -= len(told) if isinstance(told, str) else _ENTRY
            return told, {}
        kept: list[object] = []
        for one in value:
            told = _bounded(one)
            self.left -= 4 + (len(told) if isinstance(told, str) else _ENTRY)
            if self.left <= 0:
                break
            kept.append(told)
        return kept, {"more": len(value) - len(kept)} if len(kept) < len(value) else {}


@dataclass(frozen=True, slots=True)
class _Part:
    """One value of a question: where it stands, the name of its field, and what that is marked as."""

    at: str
    name: str
    value: object = field(repr=False)
    kind: str = ""


def _parts(asked: BaseModel, at: str, filtered: Mapping[str, str]) -> Iterator[_Part]:
    """Whatever is said in a model, and in those in it. A filter's field is marked as that of what is looked for."""
    marked = marks(type(asked))
    for name, info in type(asked).model_fields.items():
        if name not in asked.model_fields_set:
            continue
        kind = marked.get(name, "") or (filtered.get(name, "") if isinstance(asked, Filter) else "")
        yield from _of(getattr(asked, name), f"{at}{info.alias or name}", name, kind, filtered)


def _of(value: object, at: str, name: str, kind: str, filtered: Mapping[str, str]) -> Iterator[_Part]:
    if isinstance(value, Operators):
        for operator, info in type(value).model_fields.items():
            if operator in value.model_fields_set:
                yield _Part(f"{at}/{info.alias or operator}", name, getattr(value, operator), kind)
    elif isinstance(value, BaseModel) and not kind:
        yield from _parts(value, f"{at}/", filtered)
    elif isinstance(value, list | tuple) and any(isinstance(one, BaseModel) for one in value) and not kind:
        for place, one in enumerate(value):
            yield from _of(one, f"{at}/{place}", name, kind, filtered)
    elif isinstance(value, SecretStr):
        yield _Part(at, name, value, SECRET.name)
    elif isinstance(value, BaseModel):
        yield _Part(at, name, value.model_dump(mode="json"), kind)
    else:
        yield _Part(at, name, list(value) if isinstance(value, tuple) else value, kind)


@lru_cache(maxsize=1024)
def _marks_of(spec: Spec) -> Mapping[str, str]:
    """How the fields of what a search shows are marked. What is in a page or a part of a stream is its argument."""
    shown: type[BaseModel] = spec.output
    for inner in shown.__pydantic_generic_metadata__["args"]:
        shown = inner
    return marks(shown)


def _bounded(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Enum):
        return cut(value, LONGEST)
    return value


def _is_open(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_open(one) for one in value)
    return not isinstance(value, str) or not value or _WORD.fullmatch(value) is not None
