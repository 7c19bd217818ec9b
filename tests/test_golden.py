"""The goldens tell the truth, and say so when they do not."""

import re
from pathlib import Path

from tests.commands import amend
from tests.golden.pages import PAGES, differences, ungoverned_routes
from tests.world.world import World


def test_a_golden_that_is_out_of_date_is_shown_as_a_diff(tmp_path: Path) -> None:
    for name, made in PAGES.items():
        (tmp_path / name).write_text(made())
    assert not list(differences(tmp_path))
    amend(tmp_path / "matrix.txt", "  domain get (domain)\n", "  domain got (domain)\n")
    (tmp_path / "ungranted.txt").unlink()
    (tmp_path / "old.txt").write_text("")
    found = "".join(differences(tmp_path))
    assert re.search(r"\n-[-+. ]+domain got \(domain\)\n\+[-+. ]+domain get \(domain\)\n", found)
    assert "+++ as it is now" in found
    assert "ungranted.txt" in found
    assert "old.txt is no golden" in found
    assert "catalogue.txt" not in found


async def test_the_routes_without_an_action_are_those_of_the_application_that_serves(world: World) -> None:
    for route in ungoverned_routes(world.asgi):
        assert f"\n{route}\n" in PAGES["ungoverned.txt"]()
