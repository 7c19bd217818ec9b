"""From the bytes of a policy file to its text, with everything that could deceive a reader, or Casbin's loader, found.

What is wrong in one place does not hide what is wrong in the next: the text goes on without it. This module knows no
rule, no role and no model.
"""

from actions.authorization import model_conf, role_file
from actions.authorization.characters import wrong_characters
from actions.authorization.linting.of_files import (
    BYTE_ORDER_MARK,
    EMPTY,
    ENCODING,
    LINE_ENDING,
    TAB,
    TOO_LARGE,
    TOO_MANY,
    TRUNCATED,
)
from actions.authorization.rules import RULE_FILES, Finding

BYTES_AT_MOST = 16 * 1024 * 1024
FINDINGS_AT_MOST = 100
"""In one file, of each reading of it."""
_BYTES_OF = {role_file.FILE: 4 * 1024 * 1024, model_conf.FILE: 64 * 1024}
_SIZES = {64 * 1024: "64 KiB", 4 * 1024 * 1024: "4 MiB", BYTES_AT_MOST: "16 MiB"}
_MARK = b"\xef\xbb\xbf"


def read_text(name: str, content: bytes) -> tuple[str | None, list[Finding]]:
    """The text of a file, and what is wrong with it as a text. None: what is left of it would only mislead.

    Lines and columns of the text are those of the file. In a rule file, a line that hides something is left blank.
    """
    bound = _BYTES_OF.get(name, BYTES_AT_MOST)
    if len(content) > bound:
        return None, [TOO_LARGE.at(name, 1, 1, f"The file is larger than {_SIZES[bound]}", "Say less.")]
    findings: list[Finding] = []
    if content.startswith(_MARK):
        content = content.removeprefix(_MARK)
        message = "The file begins with a byte-order mark, behind which Casbin would lose the first line"
        findings.append(BYTE_ORDER_MARK.at(name, 1, 1, message, "Save as UTF-8 without a byte-order mark."))
    if not content.strip():
        hint = "Restore it. A file with nothing to say has a comment."
        return None, [*findings, EMPTY.at(name, 1, 1, "The file is empty", hint)]
    lines: list[str] = []
    hiding = False
    for number, raw in enumerate(content.split(b"\n"), 1):
        line, found = _line(name, number, raw)
        if any(finding.rule_id == LINE_ENDING.id for finding in findings):  # told once: all lines have it, or most
            found = [finding for finding in found if finding.rule_id != LINE_ENDING.id]
        findings += found
        hiding = hiding or line is None
        lines.append("" if line is None else line)
        if len(findings) >= FINDINGS_AT_MOST:
            return None, [*findings, too_many(name, number)]
    if not content.endswith(b"\n"):
        message = "The last line does not end, so the file may have been cut short"
        place = (name, len(lines), len(lines[-1]) + 1)
        findings.append(TRUNCATED.at(*place, message, "Check the end and add a final newline."))
    return None if hiding and name not in RULE_FILES else "\n".join(lines), findings


def too_many(file: str, line: int) -> Finding:
    message = "There are too many mistakes; the rest is not read"
    return TOO_MANY.at(file, line, 1, message, "Mend these first.")


def _line(name: str, number: int, raw: bytes) -> tuple[str | None, list[Finding]]:
    """A line with what can be mended mended, and None for one that hides something."""
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        message = f"The byte 0x{raw[error.start]:02x} is not UTF-8"
        return None, [ENCODING.at(name, number, len(before) + 1, message, "Save the file as UTF-8.")]
    if line.isascii() and line.isprintable():
        return line, []
    found = list(wrong_characters(name, number, line))
    if any(finding.rule_id not in (LINE_ENDING.id, TAB.id) for finding in found):
        return None, found
    return line.replace("\r", " ").replace("\t", " "), found
