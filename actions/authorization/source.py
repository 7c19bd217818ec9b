"""From the bytes of a policy folder to rules with file, line and column.

Stricter than Casbin's own loader, which drops what it does not know: here anything that is not understood is an error
with a place, never a skip. This module decides nothing, and knows neither the database nor who holds a role.
"""

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from actions.authorization import audit_file, lint, model_conf, role_file
from actions.authorization.lines import read_rules, says_nothing
from actions.authorization.linting.of_files import MISSING_FILE, UNKNOWN_FILE
from actions.authorization.rules import RULE_FILES, Cells, Finding, Parsed, RoleLink, Rule, Severity
from actions.authorization.texts import BYTES_AT_MOST, read_text
from actions.vocabulary import Vocabulary

POLICY_FILES = (model_conf.FILE, *RULE_FILES, role_file.FILE)
"""The files that every policy version has."""
_FILES = (*POLICY_FILES, audit_file.FILE)
"""Those that it can have."""
CASES_FOLDER = "tests"
_CASE_FILE = re.compile(r"tests/[A-Za-z0-9][A-Za-z0-9._-]{0,94}\.yaml\Z")
_CASE_SUFFIXES = (".yaml", ".yml")
_POLICY_SUFFIXES = (".csv", ".conf", *_CASE_SUFFIXES)


@dataclass(frozen=True)
class PolicySource:
    """The bytes of one policy, by file name: from a folder, or as the database keeps them. Compared by content.

    ``signature`` stands beside the files and is no part of the digest, which it signs.
    """

    files: Mapping[str, bytes]
    signature: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over every name and content, each preceded by its length, in the order of the names."""
        sha = hashlib.sha256()
        for name in sorted(self.files):
            for part in (name.encode("utf-8", "surrogateescape"), self.files[name]):
                sha.update(len(part).to_bytes(8, "big"))
                sha.update(part)
        return sha.hexdigest()

    @property
    def case_files(self) -> tuple[str, ...]:
        """The names of the files that say what the policy is meant to allow: ``tests/domain.yaml``."""
        return tuple(name for name in sorted(self.files) if _CASE_FILE.match(name))


def read_folder(path: Path) -> PolicySource:
    """The policy files of a folder as they are now. Never raises: what cannot be read is missing for ``parse``.

    Files that look like policy but are not known (``project2.csv``) are read too, so that they are refused and not
    overlooked. The cases are the YAML files of ``tests/``. Hidden files and all others (a README) are left out.
    """
    files: dict[str, bytes] = {}
    for name, entry in (
        *_listed(path, "", _POLICY_SUFFIXES),
        *_listed(path / CASES_FOLDER, f"{CASES_FOLDER}/", _CASE_SUFFIXES),
    ):
        try:
            if stat.S_ISREG(entry.stat().st_mode):
                with entry.open("rb") as file:
                    files[name] = file.read(BYTES_AT_MOST + 1)
        except OSError:
            continue
    return PolicySource(files)


def _listed(path: Path, prefix: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    try:
        entries = sorted(path.iterdir())
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.name.lower().endswith(suffixes):
            yield prefix + entry.name, entry


def parse(source: PolicySource, vocabulary: Vocabulary) -> Parsed:
    """Everything the rules say, and everything that is wrong with them. Never raises, whatever the bytes are.

    The cases are not read: they decide nothing, and are asked only before a policy goes live (``cases``).
    """
    findings: list[Finding] = []
    texts: dict[str, str] = {}
    for name in POLICY_FILES:
        if name in source.files:
            text, found = read_text(name, source.files[name])
            findings += found
            if text is not None:
                texts[name] = text
        else:
            message = "The file is missing, or cannot be read"
            findings.append(MISSING_FILE.at(name, 1, 1, message, "Restore it."))
    for name in sorted({*source.files} - {*_FILES, *source.case_files}):
        findings.append(UNKNOWN_FILE.at(name, 1, 1, "This is no policy file", _meant(name)))

    shape = model_conf.ModelShape()
    if model_conf.FILE in texts:
        shape, found = model_conf.read_model(texts[model_conf.FILE])
        findings += found
    roles = None
    if role_file.FILE in texts:
        roles, found = role_file.read_roles(texts[role_file.FILE])
        findings += found

    cells = Cells(vocabulary)
    rules: list[Rule] = []
    links: list[RoleLink] = []
    for name in RULE_FILES:
        if name in texts:
            read = read_rules(name, texts[name], cells, shape, roles)
            rules += read.rules
            links += read.links
            findings += read.findings
            if not (read.rules or read.links or any(finding.file == name for finding in findings)):
                findings.append(says_nothing(name))
    audit, found = audit_file.read_audit(source.files.get(audit_file.FILE), vocabulary)
    findings += found
    findings += lint.broken_inheritance(links)
    if not any(finding.severity is Severity.ERROR for finding in findings):
        findings += lint.warnings(rules, links, roles or {}, cells)
    return Parsed(tuple(rules), tuple(links), MappingProxyType(roles or {}), _in_order(findings), audit)


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {name: number for number, name in enumerate(_FILES)}
    return tuple(sorted(findings, key=lambda found: (order.get(found.file, len(order)), found)))


def _meant(name: str) -> str:
    if "/" in name:
        return "A file of cases is named like tests/domain.yaml."
    near = get_close_matches(name.lower(), _FILES, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(_FILES)}."
