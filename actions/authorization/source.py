"""From the bytes of a policy folder to rules with file, line and column.

Stricter than Casbin's own loader, which drops what it does not know: here anything that is not understood is an error
with a place, never a skip. This module decides nothing, and knows neither the database nor who holds a role.
"""

import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from actions.authorization import lint, model_conf, role_file
from actions.authorization.characters import wrong_character
from actions.authorization.lines import read_rules
from actions.authorization.rules import RULE_FILES, Cells, Finding, Parsed, RoleLink, Rule, Severity
from actions.vocabulary import Vocabulary

POLICY_FILES = (model_conf.FILE, *RULE_FILES, role_file.FILE)
"""The files of a policy version. Every one must be there."""
_TOLERATED = frozenset({"audit.yaml"})
_POLICY_SUFFIXES = (".csv", ".conf", ".yaml", ".yml")
_BYTES_AT_MOST = 16 * 1024 * 1024


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


def read_folder(path: Path) -> PolicySource:
    """The policy files of a folder as they are now. Never raises: what cannot be read is missing for ``parse``.

    Files that look like policy but are not known (``project2.csv``) are read too, so that they are refused and not
    overlooked. ``audit.yaml``, ``tests/``, hidden files and all others (a README) are left out.
    """
    files: dict[str, bytes] = {}
    try:
        entries = sorted(path.iterdir())
    except OSError:
        return PolicySource({})
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _TOLERATED:
            continue
        if entry.name in POLICY_FILES or entry.name.lower().endswith(_POLICY_SUFFIXES):
            try:
                if stat.S_ISREG(entry.stat().st_mode):
                    with entry.open("rb") as file:
                        files[entry.name] = file.read(_BYTES_AT_MOST + 1)
            except OSError:
                continue
    return PolicySource(files)


def parse(source: PolicySource, vocabulary: Vocabulary) -> Parsed:
    """Everything the files say, and everything that is wrong with them. Never raises, whatever the bytes are."""
    findings: list[Finding] = []
    texts: dict[str, str] = {}
    for name in POLICY_FILES:
        if name in source.files:
            text = _text(name, source.files[name], findings)
            if text is not None:
                texts[name] = text
        else:
            findings.append(_error(name, "missing-file", "The file is missing, or cannot be read", "Restore it."))
    for name in sorted(set(source.files) - set(POLICY_FILES)):
        findings.append(_error(name, "unknown-file", "This is no policy file", f"Known: {', '.join(POLICY_FILES)}."))

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
    findings += lint.broken_inheritance(links, roles or {})
    if not any(finding.severity is Severity.ERROR for finding in findings):
        findings += lint.warnings(rules, links, roles or {}, cells)
    return Parsed(tuple(rules), tuple(links), MappingProxyType(roles or {}), _in_order(findings))


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {name: number for number, name in enumerate(POLICY_FILES)}
    return tuple(sorted(findings, key=lambda found: (order.get(found.file, len(order)), found)))


def _text(name: str, content: bytes, findings: list[Finding]) -> str | None:
    """The text of a file, if it is whole, and free of characters that deceive the eye or Casbin's loader."""
    if len(content) > _BYTES_AT_MOST:
        findings.append(_error(name, "too-large", "The file is larger than 16 MiB", "Say less."))
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        message = "The file begins with a byte-order mark, behind which Casbin would lose the first line"
        findings.append(_error(name, "byte-order-mark", message, "Save as UTF-8 without a byte-order mark."))
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        before = content[content.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")
        message = f"The byte 0x{content[error.start]:02x} is not UTF-8"
        findings.append(
            Finding(name, line, len(before) + 1, "encoding", Severity.ERROR, message, "Save the file as UTF-8.")
        )
        return None
    if not text.strip():
        findings.append(
            _error(name, "empty", "The file is empty", "Restore it. A file with nothing to say has a comment.")
        )
        return None
    wrong = wrong_character(name, text)
    if wrong is not None:
        findings.append(wrong)
        return None
    if not text.endswith("\n"):
        last = text.rpartition("\n")[2]
        message = "The last line does not end, so the file may have been cut short"
        place = (name, text.count("\n") + 1, len(last) + 1)
        findings.append(Finding(*place, "truncated", Severity.ERROR, message, "Check the end and add a final newline."))
    return text


def _error(file: str, rule_id: str, message: str, hint: str) -> Finding:
    return Finding(file, 1, 1, rule_id, Severity.ERROR, message, hint)
