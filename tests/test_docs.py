"""What the documentation shows is what happens. ``python -m tests.docs`` brings its outputs and tables up to date."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs.blocks import ROOT, commands, pages
from tests.docs.likeness import Drift, Likeness
from tests.docs.patch import PATCH, added_lines, apply, copy_source
from tests.docs.place import AGED, Place, standing
from tests.docs.tables import with_tables
from tests.world.stage import Stage
from tests.world.world import World

A, B = "01a2062b-52bb-7530-b3c0-f8b1c77d8abf", "01a2062b-52ed-762e-8b87-c766d362f1cd"


@pytest.fixture(scope="module")
def place(stage: Stage) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as home, standing(stage, Path(home)) as place:
        yield place


@pytest.fixture(scope="module")
def aged(stage: Stage) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as home, standing(stage, Path(home), aged=True) as place:
        yield place


@pytest.mark.e2e
@pytest.mark.parametrize("page", [page for page in pages() if commands(page)], ids=lambda page: page.name)
def test_what_a_page_shows_is_what_happens(page: Path, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue("aged" if page.name in AGED else "place")
    likeness = Likeness()
    for command in commands(page):
        place.check(command, likeness)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_the_code(page: Path) -> None:
    assert with_tables(page.read_text()) == page.read_text()


def test_every_metric_of_a_live_server_is_told_once(place: Place) -> None:
    served = set(re.findall(r"^# TYPE (chamberlain_\w+)", httpx.get(place.metrics_address).text, re.MULTILINE))
    told = re.findall(r"^\| `(chamberlain_\w+)` \|", (ROOT / "docs" / "operating.md").read_text(), re.MULTILINE)
    assert len(told) == len(set(told))
    assert served - set(told) == set()
    assert len([name for name in served if name.startswith("chamberlain_audit_")]) > 10


def test_every_check_of_a_live_server_is_told_once(place: Place) -> None:
    served = httpx.get(f"{place.address}/readyz", params={"verbose": ""}).json()["checks"]
    told = re.findall(r"^\| `(\w+)` \| (?:yes|no) \|", (ROOT / "docs" / "operating.md").read_text(), re.MULTILINE)
    assert told == list(served)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_page_leads_nowhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
    files = re.findall(r"`((?:actions|audit|server|policies|tests|docs)/[\w./-]+\.\w+)`", page.read_text())
    made = re.findall(r"^\+\+\+ b/(.+)$", PATCH.read_text(), flags=re.MULTILINE)
    named = [f"tests/{cases.name}" for cases in (ROOT / "policies" / "tests").iterdir()]  # as a policy names its cases
    there = [*made, *named]
    assert [file for file in files if not (ROOT / file).exists() and file not in there] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_page_leads_to_a_heading_that_is_not_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#: ]*)#([^)]+)\)", page.read_text())
    assert [link for link in links if link[1] not in _headings(page.parent / link[0] if link[0] else page)] == []


def _headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize(
    ("shown", "happened"),
    [
        pytest.param("status: 403", "status: 404", id="another text"),
        pytest.param("one\n", "one\ntwo\n", id="another line"),
        pytest.param(f"by {A}", "by nobody", id="no id"),
        pytest.param(f"by {A}, for {A}", f"by {A}, for {B}", id="two ids where the page has one"),
        pytest.param(f"by {A}, for {B}", f"by {A}, for {A}", id="one id where the page has two"),
    ],
)
def test_an_output_that_differs_is_told(shown: str, happened: str) -> None:
    with pytest.raises(Drift):
        Likeness().compare(shown, happened)


def test_an_id_of_the_page_stands_for_the_same_one_throughout() -> None:
    likeness = Likeness()
    likeness.compare(f"made {A} at 2026-11-23T02:07:46Z", f"made {B} at 2027-01-01T00:00:00.5Z")
    assert likeness.command(f"get {A}") == f"get {B}"
    with pytest.raises(Drift):
        likeness.compare(f"got {A}", f"got {A}")


def test_an_output_that_has_drifted_keeps_the_ids_of_the_page() -> None:
    likeness = Likeness()
    likeness.learn(f"made {A}\nstatus: 403\n", f"made {B}\nstatus: 404\nby {B}\n")
    assert likeness.shown(f"made {B}\nstatus: 404\nby {B}\n") == f"made {A}\nstatus: 404\nby {A}\n"


async def test_the_query_of_the_audit_page_finds_what_was_done_to_what_lies_in_a_domain(world: World) -> None:
    [query] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(), flags=re.DOTALL)
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"description": "by root, from above"})
    [latest, *_] = await world.sql(query.replace("<domain id>", str(world.places.research)))
    assert (latest["action"], latest["result"]) == ("admin_update_user", "succeeded")


@pytest.mark.slow
def test_an_entity_costs_less_than_150_lines(tmp_path: Path) -> None:
    """The example is applied to a copy of the source, and its tests hold there; the laws' know what to send to it."""
    patch = PATCH.read_text()
    assert added_lines(patch) < 150
    copy_source(tmp_path)
    apply(patch, tmp_path)
    tests = (
        "tests/entities/test_announcements.py",
        "tests/test_surfaces.py::test_both_surfaces_tell_a_persona_the_same[nobody]",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
