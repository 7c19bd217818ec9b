"""The page at /docs: whole in itself, and under a policy that lets nothing else in."""

import base64
import hashlib
import re
from html.parser import HTMLParser

from tests.world.world import World

_LOADING = {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping", "manifest"}
_KEPT = ("localStorage", "sessionStorage", "indexedDB", "document.cookie", "innerHTML", "outerHTML", "eval(")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


async def test_the_page_loads_nothing_and_runs_only_what_its_policy_names(world: World) -> None:
    answer = await world.stranger().send("GET", "/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    for name in ("default-src", "frame-ancestors", "base-uri", "form-action"):
        assert policy[name] == "'none'"
    assert policy["connect-src"] == "'self'"
    for element in ("script", "style"):
        inside = re.findall(f"<{element}[^>]*>(.*?)</{element}>", answer.text, re.DOTALL)
        sums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inside]
        assert policy[f"{element}-src"].split() == [f"'sha256-{found}'" for found in sums]
        assert len(sums) == 1
    reader = _Reader()
    reader.feed(answer.text)
    for tag, attributes in reader.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert not _LOADING & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.", answer.text)
    assert not [word for word in _KEPT if word in answer.text]


async def test_a_log_in_is_a_form_so_that_one_press_of_a_key_sends_it_once(world: World) -> None:
    """Its own handler keeps the browser from sending it; a handler of keys beside it would do everything twice."""
    for path, form in (("/docs", 'el("form", { onsubmit: enter }'), ("/graphql", '<form id="credentials">')):
        page = (await world.stranger().send("GET", path)).text
        assert page.count(form) == 1, path
        handlers = re.findall(r"(?:key === |key !== )\"Enter\".*?\n?.*?\n?.*?preventDefault", page)
        assert len(handlers) == len(re.findall(r'"Enter"', page)) == 1, path
        assert page.count("preventDefault();  // nothing is sent but by the script") == 1, path


async def test_an_address_that_no_escape_can_be_read_from_shows_the_page(world: World) -> None:
    page = (await world.stranger().send("GET", "/docs")).text
    assert [line for line in page.splitlines() if "decodeURIComponent" in line and "try {" not in line] == []


async def test_a_head_of_the_page_has_no_body(world: World) -> None:
    whole, head = [await world.stranger().send(method, "/docs") for method in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
