"""The cases of a policy, asked: what its tables want, what its rules say, and what the tables are worth.

They are part of the policy and gate it: a version whose cases fail never goes live. They decide nothing.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pydantic import Field

from actions.authorization.answers import Cell, PolicyLine, Verdict
from actions.authorization.case_file import Expected, Table, Wanted, read_cases
from actions.authorization.claims import claims_of
from actions.authorization.coverage import Coverage, coverage, verdict_of
from actions.authorization.index import PolicyIndex
from actions.authorization.linting.of_cases import CASE_FAILED
from actions.authorization.mutation import MutationScore, mutation_score
from actions.authorization.rules import Finding, Rule
from actions.authorization.source import PolicySource
from actions.model import Output
from actions.vocabulary import Permission

_SHOWN_AT_MOST = 100
"""Failures and survivors that are told one by one; all are counted."""


class CaseMistake(Output):
    """Something in a file of cases that cannot be understood. Then none of them is asked."""

    file: str
    line: int
    column: int
    message: str
    hint: str


class CaseFailure(Output):
    """A cell of a table that the rules do not answer as the table wants it."""

    file: str
    line: int = Field(description="Of the word that lists the cell, or else of what should have listed it.")
    column: int
    law: str = Field(description="The sentence of the table.")
    principal: str
    roles: list[str] = Field(description="The roles that count for this principal.")
    cell: Cell
    expected: Expected
    got: Verdict
    rule: PolicyLine | None = Field(description="The rule that decided. Null: no rule speaks of it.")


class CaseResults(Output):
    """What came of the cases of one policy version."""

    digest: str
    tables: int = Field(description="None: this policy has no cases.")
    asked: int = Field(description="Answers that the tables asked for.")
    failed: int
    mistakes: list[CaseMistake]
    failures: list[CaseFailure] = Field(description="The first hundred.")
    coverage: Coverage | None = Field(description="Null: not asked for.")
    mutation: MutationScore | None = Field(description="Null: not asked for, or some case fails without any mutant.")

    @property
    def hold(self) -> bool:
        return not (self.mistakes or self.failed)


class _Failed(NamedTuple):
    table: Table
    principal: str
    roles: frozenset[str]
    cell: Permission
    wanted: Wanted
    rule: Rule | None


def run_cases(
    source: PolicySource, index: PolicyIndex, *, with_coverage: bool = False, with_mutation: bool = False
) -> CaseResults:
    """Ask every case of ``source`` of the index that was compiled from it."""
    tables, mistakes = read_cases(source, index.roles, index.vocabulary)
    failed = [] if mistakes else list(_failed(tables, index))
    claims = claims_of(tables)
    return CaseResults(
        digest=index.digest,
        tables=len(tables),
        asked=0 if mistakes else sum(table.size for table in tables),
        failed=len(failed),
        mistakes=[
            CaseMistake(file=found.file, line=found.line, column=found.column, message=found.message, hint=found.hint)
            for found in mistakes
        ],
        failures=[_told(each) for each in failed[:_SHOWN_AT_MOST]],
        coverage=coverage(index, claims) if with_coverage and not mistakes else None,
        mutation=mutation_score(index, claims) if with_mutation and not mistakes and not failed else None,
    )


def case_findings(source: PolicySource, index: PolicyIndex) -> tuple[Finding, ...]:
    """What hinders a policy from going live as far as its cases are concerned: the same, as findings."""
    tables, mistakes = read_cases(source, index.roles, index.vocabulary)
    if mistakes:
        return mistakes
    findings = []
    for each in _failed(tables, index):
        message = f"{_sentence(each)}, against the law '{each.table.law}'"
        hint = "Change the rule, or the case if this is what you mean."
        place = (each.table.file, each.wanted.line, each.wanted.column)
        findings.append(CASE_FAILED.at(*place, message, hint))
        if len(findings) == _SHOWN_AT_MOST:
            break
    return tuple(findings)


def _failed(tables: Iterable[Table], index: PolicyIndex) -> Iterator[_Failed]:
    for table in tables:
        cells = sorted(table.wanted.items(), key=lambda item: (item[1].line, item[1].column, str(item[0])))
        for name, roles in table.principals:
            for cell, wanted in cells:
                rule = index.rule_for(roles, cell)
                if not wanted.expected.met_by(verdict_of(rule)):
                    yield _Failed(table, name, roles, cell, wanted, rule)


def _told(failed: _Failed) -> CaseFailure:
    return CaseFailure(
        file=failed.table.file,
        line=failed.wanted.line,
        column=failed.wanted.column,
        law=failed.table.law,
        principal=failed.principal,
        roles=sorted(failed.roles),
        cell=Cell.of(failed.cell),
        expected=failed.wanted.expected,
        got=verdict_of(failed.rule),
        rule=PolicyLine.of(failed.rule) if failed.rule else None,
    )


def _sentence(failed: _Failed) -> str:
    who = f"'{failed.principal}'"
    if failed.rule is None:
        wanted = "no rule allows" if failed.wanted.expected is Expected.ALLOW else "no rule denies"
        return f"{wanted} {who} {failed.cell}"
    verb = "allows" if failed.rule.allows else "denies"
    return f"{failed.rule.place} {verb} {who} {failed.cell}"
