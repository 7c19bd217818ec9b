"""Policies as a person names them: a folder, a git revision, or a version that the server keeps.

A revision is read from git's own store: nothing is checked out, and no shell sees its name. In a name's way through
git stands ``--end-of-options``, so none is taken for an option.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from actions.authorization.source import POLICY_FILES, PolicySource, read_folder
from server.cli.output import CannotRun
from server.cli.policy.choice import chosen_folder
from server.cli.policy.words import short

ACTIVE = "active"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_PART_OF_DIGEST = re.compile(r"[0-9a-f]{8,63}\Z")
_KEY = re.compile(r"[0-9a-f]+\Z")
_SECONDS = 60
_BYTES_AT_MOST = 64 * 1024 * 1024
_FILE_MODES = (b"100644", b"100755")
_OF_A_HOOK = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
"""Git tells its hooks by these where they are. Here the folder says it, and they would only mislead."""


@dataclass(frozen=True)
class Named:
    """A policy and what it is called. Without ``source`` the server keeps it, by its digest ``version``; without that
    too, it is the active one."""

    name: str
    source: PolicySource | None = None
    version: str | None = None


Lookup = Callable[[str], str | None]
"""The digest of the one stored version that begins so, None if there is none. Raises ``CannotRun`` for several."""


def named(word: str, folder: Path, lookup: Lookup | None) -> Named:
    """What a word names: first a folder, then a version of the server, then a revision of the repository in which
    ``folder`` lies. The beginning of a digest is one only if there is a ``lookup``. Raises ``CannotRun``."""
    if _is_folder(word):
        return of_folder(Path(word))
    if word == ACTIVE:
        return Named(word)
    if _DIGEST.match(word):
        return Named(short(word), version=word)
    if lookup is not None and _PART_OF_DIGEST.match(word) and (digest := lookup(word)):
        return Named(short(digest), version=digest)
    return _of_revision(word, folder)


def of_folder(folder: Path) -> Named:
    """The policy that stands in a folder. Raises ``CannotRun``."""
    return _with_policy(str(folder), read_folder(chosen_folder(folder)))


def _is_folder(word: str) -> bool:
    try:
        return bool(word) and Path(word).is_dir()
    except OSError:  # a name that is too long, for one
        return False


def _with_policy(name: str, source: PolicySource) -> Named:
    if source.files.keys().isdisjoint(POLICY_FILES):
        raise CannotRun(f"{name} holds no policy files; these are {', '.join(POLICY_FILES)}")
    return Named(name, source)


# -- git --


class _GitRefused(CannotRun):
    """Git ended with an error; the message is its first line."""


def _of_revision(word: str, folder: Path) -> Named:
    place = folder.resolve()
    at = next(above for above in (place, *place.parents) if above.is_dir())
    try:
        top = Path(os.fsdecode(_git(at, "rev-parse", "--show-toplevel")).removesuffix("\n")).resolve()
    except _GitRefused as error:
        known = f"a folder, '{ACTIVE}', or a digest of 64 digits"
        raise CannotRun(f"{word!r} is not {known}, and {at} is in no git repository: {error}") from None
    try:
        tree = _tree(top, word)
    except _GitRefused:
        raise CannotRun(f"{word!r} is neither a folder nor a revision in {top}") from None
    if ":" not in word and place != top:
        inside = place.relative_to(top).as_posix()
        try:
            tree = _tree(top, f"{tree}:{inside}")
        except _GitRefused:
            raise CannotRun(f"{word} has no folder {inside}; --folder says where the policy lies") from None
    return _with_policy(word, _read(top, tree))


def _tree(top: Path, revision: str) -> str:
    """The id of the tree that a revision has. One with a path in it names a tree itself."""
    found = revision if ":" in revision else f"{revision}^{{tree}}"
    key = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", found).decode().strip()
    if not _KEY.match(key):  # of what it takes, ``^HEAD`` names no tree but all that is not in one
        raise _GitRefused(f"{revision} names no tree")
    if ":" in revision:
        return _tree(top, key)
    return key


def _read(top: Path, tree: str) -> PolicySource:
    """The policy in a tree: its files are laid in a folder, for the one reader of folders knows which of them count."""
    files = dict(_listed(_git(top, "ls-tree", "-r", "-z", "-l", tree)))
    if sum(size for _, size in files.values()) > _BYTES_AT_MOST:
        raise CannotRun("that folder is too large for a policy; --folder says where the policy lies")
    keys = [key for key, _ in files.values()]
    contents = _contents(_git(top, "cat-file", "--batch", input=b"".join(key + b"\n" for key in keys)), len(keys))
    with TemporaryDirectory(prefix="chamberlain-policy-") as made:
        for path, content in zip(files, contents, strict=True):
            there = Path(made, path)
            there.parent.mkdir(exist_ok=True)
            there.write_bytes(content)
        return read_folder(Path(made))


def _listed(listing: bytes) -> Iterator[tuple[str, tuple[bytes, int]]]:
    """The plain files of a tree and of the folders directly in it: path, key and size. Links are not followed."""
    for entry in listing.split(b"\0")[:-1]:
        about, _, path = entry.partition(b"\t")
        mode, _, key, size = about.split()
        parts = os.fsdecode(path).split("/")
        if mode in _FILE_MODES and len(parts) <= 2 and not {"", ".", ".."} & set(parts):
            yield str(PurePosixPath(*parts)), (key, int(size))


def _contents(batch: bytes, count: int) -> Iterator[bytes]:
    """What ``cat-file`` tells of so many keys: for each a line that ends with a length, and that many bytes."""
    start = 0
    for _ in range(count):
        head = batch.index(b"\n", start)
        begin = head + 1
        end = begin + int(batch[start:head].rpartition(b" ")[2])
        yield batch[begin:end]
        start = end + 1


def _git(at: Path, *arguments: str, input: bytes = b"") -> bytes:
    """What git prints. Raises ``_GitRefused`` and ``CannotRun``."""
    program = shutil.which("git")
    if program is None:
        raise CannotRun("git is not installed, so no revision can be read")
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    try:
        done = subprocess.run(
            [program, "--no-pager", "-C", str(at), *arguments],
            input=input,
            env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"git did not answer within {_SECONDS} s") from None
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise _GitRefused(complaint.removeprefix("fatal: ") or f"git ended with {done.returncode}")
    return done.stdout
