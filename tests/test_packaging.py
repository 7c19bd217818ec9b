"""What is installed, and what is said about it: the locks, ``pyproject.toml`` and ``docs/dependencies.md`` agree.

Reads files alone; knows nothing of what the packages do.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
RUN, DEVELOP = "requirements.lock", "requirements-dev.lock"

both_locks = pytest.mark.parametrize("lock", [RUN, DEVELOP])


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def asked_for(lock: str = DEVELOP) -> list[Requirement]:
    """What ``pyproject.toml`` names, and a lock must therefore hold."""
    said = project()
    lines = [*said["project"]["dependencies"], *said["dependency-groups"]["build"]]
    if lock == DEVELOP:
        lines += said["project"]["optional-dependencies"]["dev"]
    return [Requirement(line) for line in lines]


def entries(lock: str) -> list[str]:
    """A lock's requirements, each with its hashes on one line; comments are left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def pinned(lock: str) -> dict[str, str]:
    """Canonical name to version."""
    found: dict[str, str] = {}
    for entry in entries(lock):
        requirement = Requirement(entry.partition(" --hash=")[0].strip())
        (pin,) = requirement.specifier
        assert pin.operator == "==", entry
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is pinned twice"
        found[name] = pin.version
    return found


@both_locks
def test_a_lock_names_no_package_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not [entry for entry in entries(lock) if entry.startswith("-") or " @ " in entry]


@both_locks
def test_every_pin_carries_hashes(lock: str) -> None:
    shape = re.compile(r"[a-z0-9-]+==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert not [entry for entry in entries(lock) if not shape.fullmatch(entry.rstrip())]


@both_locks
def test_a_lock_holds_what_the_project_asks_for(lock: str) -> None:
    pins = pinned(lock)
    for requirement in asked_for(lock):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_what_runs_is_what_was_tested() -> None:
    assert pinned(RUN).items() <= pinned(DEVELOP).items()


@both_locks
@pytest.mark.parametrize("other", ["casbin", "asynccasbin"])
def test_no_other_package_overwrites_casbin(lock: str, other: str) -> None:
    assert other not in pinned(lock)


@both_locks
@pytest.mark.parametrize(("package", "safe"), [("simpleeval", "1.0.8"), ("starlette", "1.3.0")])
def test_a_version_with_a_known_hole_is_not_installed(lock: str, package: str, safe: str) -> None:
    assert Version(pinned(lock)[package]) >= Version(safe)


def test_the_build_backend_is_pinned() -> None:
    assert project()["build-system"]["requires"] == project()["dependency-groups"]["build"]


def test_every_dependency_is_accounted_for_and_nothing_else_is() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = re.findall(r"^\| ([a-z0-9-]+) \| .+ \| .+ \| .+ \|$", page, flags=re.MULTILINE)
    explained.remove("package")  # the head of the first table
    explained.remove("package")  # and of the second
    assert sorted(explained) == sorted(canonicalize_name(requirement.name) for requirement in asked_for())
