"""Whatever is put before the verifier: it says in one line what is wrong, or that it holds, and never breaks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit import verify
from audit.merkle import leaf_hash
from tests.tamper.exports import LOGGER, WITNESSER, export_of, made_up, proof_of, root_of, trust, vouched

QUICKLY = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            -1,
            0,
            1,
            9,
            10**30,
            24.0,
            float("nan"),
            "",
            "..",
            ".",
            "/etc",
            "\0",
            "\ud800",
            "\x1b[2J\n",
            [],
            {},
        ]
    ),
    st.recursive(
        st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=3
    ),
)
Place = tuple[str | int, ...]


def places(value: Any, under: Place = ()) -> Iterator[Place]:
    """Where there is something in a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*under, key)
        yield from places(one, (*under, key))


def one_line(check: Any, *arguments: Any) -> None:
    """Whether it holds or not: what is told is a line, and is no accident."""
    try:
        said = "".join(check(*arguments))
    except (verify.Wrong, ValueError, OSError) as error:
        said = str(error)
    assert said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_of(tmp_path_factory.mktemp("whole") / "export", 12, first=3, end=9, also={"records.csv": b"a\n"})


MANIFEST = [
    *[(name,) for name in ("format", "origin", "first", "end", "checkpoint", "before", "consistency", "checkpoints")],
    *[("files",), ("files", 0), ("files", 0, "name"), ("files", 0, "kind"), ("files", 0, "sha256"), ("checkpoints", 0)],
]


@QUICKLY
@given(place=st.sampled_from(MANIFEST), odd=ODD, gone=st.booleans())
@example(place=("end",), odd=9.0, gone=False)
@example(place=("files", 0, "sha256"), odd=None, gone=True)
def test_a_manifest_that_is_none_is_told_in_a_line(
    whole: Path, tmp_path: Path, place: Place, odd: Any, gone: bool
) -> None:
    told = json.loads((whole / "manifest.json").read_bytes())
    assert set(MANIFEST) <= set(places(told))
    within = told
    for key in place[:-1]:
        within = within[key]
    if gone:
        del within[place[-1]]
    else:
        within[place[-1]] = odd
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    one_line(verify.export, tmp_path, trust(LOGGER, WITNESSER))


LINES = made_up(9)[3:9]


@QUICKLY
@given(
    line=st.one_of(
        st.binary(max_size=60),
        ODD.map(lambda odd: json.dumps(odd, ensure_ascii=True).encode()),
        st.tuples(st.sampled_from(sorted(verify.RECORD)), ODD).map(
            lambda changed: json.dumps({**json.loads(LINES[0]), changed[0]: changed[1]}).encode()
        ),
    )
)
def test_a_line_that_is_no_record_is_told_in_a_line(whole: Path, tmp_path: Path, line: bytes) -> None:
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (whole / "records.jsonl").read_bytes().splitlines()
    (tmp_path / "records.jsonl").write_bytes(b"\n".join([lines[0], line, *lines[2:], b""]))
    one_line(verify.export, tmp_path, trust(LOGGER, WITNESSER))
    one_line(verify.record, line, 1)


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> str:
    leaves = made_up(9)
    note = vouched(9, root_of([leaf_hash(leaf) for leaf in leaves]), LOGGER, WITNESSER)
    return proof_of(tmp_path_factory.mktemp("proven") / "one", leaves, 5, note).read_text()


@QUICKLY
@given(data=st.data())
def test_a_proof_and_a_note_that_are_none_are_told_in_a_line(proven: str, tmp_path: Path, data: st.DataObject) -> None:
    """A piece of it is replaced by another text, by another piece of it, or by nothing."""
    note = proven.partition("\n\n")[2]
    for whole, check in ((proven, verify.proof), (note, None)):
        begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        other = data.draw(st.sampled_from(["", "\n", "—", "=", "é", "\0", "9" * 5000, whole[:end], whole]) | st.text())
        bent = whole[:begin] + other + whole[end:]
        if check is None:
            one_line(lambda text: verify.Checkpoint.read(text, "the note").trusted(*trust(LOGGER, WITNESSER)), bent)
        else:
            (tmp_path / "bent").write_bytes(bent.encode(errors="surrogatepass"))
            one_line(check, tmp_path / "bent", trust(LOGGER, WITNESSER))


def test_nothing_that_is_told_steers_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export_of(tmp_path / "ex\x1b[2J\u202eport", 5)
    (folder / "a\n\udcff\x9b").write_text("")
    key = ["--key", str(LOGGER.verifier)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["verify.py", "export", str(folder), *key])
        assert verify.main() == 0
        told = capsys.readouterr().out
        assert told.isascii()
        assert told.endswith("proven by nothing: a\\u000a\\udcff\\u009b\n")
        (folder / "manifest.json").write_text("{")
        assert verify.main() == 1
        told = capsys.readouterr().err
        assert (told.isascii(), told.count("\n")) == (True, 1)
        assert "ex\\u001b[2J\\u202eport is damaged" in told
