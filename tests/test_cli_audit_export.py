"""``chamberlain audit export`` against a real server: as whoever works on the machine runs it, and over the network."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import Kind, Note, Signer
from server.cli.audit import events, fetching
from server.cli.audit.events import Event
from server.repositories.database import Connection
from tests.commands import Installation, in_database, in_one_line, invoke, until
from tests.exports import verified


def test_an_export_on_the_machine_holds_and_says_what_it_holds(server: Installation, tmp_path: Path) -> None:
    to = tmp_path / "export"
    formats = [word for form in ("jsonl", "csv", "parquet", "ocsf") for word in ("--format", form)]
    done = server.run("audit", "export", "--to", str(to), "--since", "1d", "--sealed", *formats)
    assert (done.exit_code, done.stderr) == (0, "")
    manifest = verified(to)
    number = manifest["end"] - manifest["first"]
    assert done.stdout.startswith(f"{to}: {number:,} records, {manifest['first']} up to {manifest['end'] - 1}, under ")
    assert set(manifest["asked"]) == {"since", "sealed", "formats"}
    assert manifest["asked"]["formats"] == ["csv", "jsonl", "ocsf", "parquet"]
    records = [json.loads(line) for line in (to / "records.jsonl").read_text().splitlines()]
    assert (records[-1]["action"], records[-1]["phase"]) == ("admin_export_audit_record", "opened")
    *_, closed = [record for record in server.tail(20) if record["action"] == "admin_export_audit_record"]
    spanned = {"field": "range", "value": {"first": manifest["first"], "end": manifest["end"]}}
    assert spanned in closed["asked"]
    assert closed["changes"][-1]["new"] == {"records": number, "last": manifest["end"] - 1}

    again = server.run("audit", "export", "--to", str(to))
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    verified(to)


def test_a_part_of_the_log_by_its_indexes(server: Installation, tmp_path: Path) -> None:
    done = server.run("audit", "export", "--to", str(tmp_path / "part"), "--first", "3", "--end", "9")
    assert done.exit_code == 0, done.stderr
    assert (manifest := verified(tmp_path / "part"))["asked"] == {"first": 3, "end": 9, "formats": ["jsonl"]}
    assert (manifest["first"], manifest["end"]) == (3, 9)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--first", "3", "--since", "1d"), "name one of the two"),
        (("--since", "soon"), "--since: 'soon' is no time"),
        (("--since", "1h", "--until", "2h"), "there is nothing in between"),
        (("--first", "9", "--end", "3"), "no entry lies between `first` and `end`"),
        (("--end", "999999999"), "There is no such range: the log has "),
        (("--until", "2020-01-01"), "There is no such range: nothing is recorded of that time"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_line(
    options: tuple[str, ...], why: str, server: Installation, tmp_path: Path
) -> None:
    assert why in in_one_line(server.run("audit", "export", "--to", str(tmp_path / "none"), *options))
    assert list(tmp_path.iterdir()) == []


def vouched_for(server: Installation) -> int:
    """The size of a checkpoint that a witness vouches for, so that every export under it has the same."""
    witness = Signer("witness.test/export", Ed25519PrivateKey.generate(), Kind.COSIGNATURE)

    async def vouch(connection: Connection) -> int:
        row = await connection.fetchrow("SELECT size, note FROM audit_checkpoint WHERE size >= 9 ORDER BY size LIMIT 1")
        assert row is not None
        line = witness.sign(Note.read(row["note"]).text, 1_800_000_000)
        cosign = "INSERT INTO audit_cosignature (size, witness, line) VALUES ($1, $2, $3)"
        await connection.execute(cosign, row["size"], str(witness.verifier), line)
        return int(row["size"])

    size: int = in_database(server, vouch)
    return size


def without_its_time(folder: Path) -> dict[str, bytes]:
    """The files of an export; of the manifest all but when it was made."""
    told = {path.name: path.read_bytes() for path in folder.iterdir()}
    told["manifest.json"] = re.sub(rb'"made_at": ".*?"', b"", told["manifest.json"])
    return told


def test_an_export_over_the_network_is_the_one_that_the_machine_itself_makes(
    server: Installation, tmp_path: Path
) -> None:
    until(lambda: server.run("audit", "export", "--to", str(tmp_path / "ready"), "--end", "9").exit_code == 0)
    end = vouched_for(server)
    question = ("--first", "3", "--end", str(end), "--sealed", "-f", "csv", "-f", "parquet", "-f", "ocsf")
    local = server.run("audit", "export", "--to", str(tmp_path / "local"), *question)
    remote = server.run("audit", "export", "--to", str(tmp_path / "remote"), *question, "--server")
    assert (local.exit_code, remote.exit_code, remote.stderr) == (0, 0, "")
    assert remote.stdout == local.stdout.replace("/local", "/remote")
    assert without_its_time(tmp_path / "remote") == without_its_time(tmp_path / "local")
    key = server.run("audit", "keys").stdout.splitlines()[0]
    done = server.run("audit", "verify", str(tmp_path / "remote"), "--key", key)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "each of them what its leaf says" in done.stdout

    until(lambda: closed(server)["principal"]["kind"] == "user")
    asked = {part["field"]: part["value"] for part in closed(server)["asked"]}
    assert asked == {"range": {"first": 3, "end": end}, "first": 3, "end": end, "sealed": True}


def closed(server: Installation) -> dict[str, Any]:
    """The record of the last export that has ended."""
    told = [one for one in server.tail(50) if (one["action"], one["phase"]) == ("admin_export_audit_record", "closed")]
    return told[-1]


def newcomer(server: Installation, name: str) -> str:
    """Somebody's id."""
    given = ("-F", f"username={name}", "-F", f"email={name}@example.org", "-F", "password=nobody guesses it")
    made = server.api("POST", "/domains/default/users", *given)
    assert made.exit_code == 0, made.stderr
    return str(json.loads(made.stdout)["id"])


def test_an_export_over_the_network_waits_for_what_has_no_index_yet(server: Installation, tmp_path: Path) -> None:
    made = newcomer(server, "late")
    endpoint = server.credentials["endpoint"]
    done = server.run("audit", "export", "--to", str(tmp_path / "now"), "--since", "1h", "--endpoint", endpoint)
    assert (done.exit_code, done.stderr) == (0, "")
    verified(tmp_path / "now")
    assert made in (tmp_path / "now" / "records.jsonl").read_text()


def test_who_may_not_export_is_told_so_and_nothing_is_left(server: Installation, tmp_path: Path) -> None:
    issued = json.loads(server.api("POST", f"/users/{newcomer(server, 'nosy')}/keypairs").stdout)
    key = {f"CHAMBERLAIN_{name.upper()}": issued[name] for name in ("access_key", "secret_key")}
    told = Installation(server.folder, environment={**server.environment, **key})
    endpoint = server.credentials["endpoint"]
    for who, question, status in ((told, (), 403), (server, ("--end", "999999999"), 422)):
        done = who.run("audit", "export", "--to", str(tmp_path / "none"), "--endpoint", endpoint, *question)
        assert (done.exit_code, done.stdout, json.loads(done.stderr)["status"]) == (1, "", status)
    assert list(tmp_path.iterdir()) == []


def torn(event: Event, at: int) -> Event:
    """A part of which only so many entries have come."""
    part = json.loads(event.data)
    first = part["entries"][0]["index"]
    return replace(event, data=json.dumps({**part, "entries": part["entries"][:at], "next": first + at}))


def test_an_export_that_breaks_off_is_taken_up_where_it_was(
    server: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each stream only a few entries arrive, and of some nothing."""
    whole, streams = events.events, iter([0, 2, 0, 0, 3, 1])

    def pieces(told: Iterator[bytes]) -> Iterator[Event]:
        few = next(streams, None)
        for event in whole(told):
            if few is None:
                yield event
            elif few:
                yield torn(event, few)
                return
            else:
                return

    pauses: list[float] = []
    monkeypatch.setattr(events, "events", pieces)
    monkeypatch.setattr(fetching, "sleep", pauses.append)
    done = server.run("audit", "export", "--to", str(tmp_path / "torn"), "--first", "1", "--end", "9", "--server")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("has ended the stream; going on from") == len(pauses) == 6
    assert [line.partition("going on from ")[2].split()[0] for line in done.stderr.splitlines()] == list("033367")
    manifest = verified(tmp_path / "torn")
    assert (manifest["first"], manifest["end"], manifest["asked"]) == (
        1,
        9,
        {"first": 1, "end": 9, "formats": ["jsonl"]},
    )


Spoiled = Callable[[dict[str, Any]], dict[str, Any]]
LIES: dict[str, tuple[Spoiled, str]] = {
    "another log": (lambda part: {**part, "range": {**part["range"], "origin": "x"}}, "which is something else"),
    "another range": (lambda part: {**part, "range": {**part["range"], "end": 7}}, "which is something else"),
    "an entry left out": (lambda part: {**part, "entries": part["entries"][1:]}, "the log has no entry 3"),
    "no hash": (lambda part: {**part, "entries": [{**part["entries"][0], "hash": "x"}]}, "entry 3 has no hash"),
    "no part": (lambda part: {}, "of another version than this program"),
    "an end too soon": (lambda part: {**part, "entries": part["entries"][:1], "next": None}, "before the range did"),
}


@pytest.mark.parametrize("how", LIES)
def test_a_server_that_goes_on_with_something_else_is_not_believed(
    how: str, server: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie, said = LIES[how]
    whole, streams = events.events, iter([True])

    def pieces(told: Iterator[bytes]) -> Iterator[Event]:
        for event in whole(told):
            if next(streams, False):
                yield torn(event, 2)
                return
            yield replace(event, data=json.dumps(lie(json.loads(event.data))))

    monkeypatch.setattr(events, "events", pieces)
    monkeypatch.setattr(fetching, "sleep", lambda seconds: None)
    done = server.run("audit", "export", "--to", str(tmp_path / "lie"), "--first", "1", "--end", "9", "--server")
    assert done.exit_code != 0
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_breaks_off_too_often_is_given_up_and_nothing_is_left(
    server: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.0)
    done = server.run("audit", "export", "--to", str(tmp_path / "none"), "--endpoint", "http://127.0.0.1:9")
    assert done.exit_code == 2
    *tries, last = done.stderr.splitlines()
    assert len(tries) == fetching.TRIES - 1
    assert last.endswith("It broke off at 0 and nothing is left of it")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_in_a_line(server: Installation, tmp_path: Path) -> None:
    assert "cannot be written" in in_one_line(server.run("audit", "export", "--to", str(tmp_path / "no" / "where")))
    missing = {**server.environment, "CHAMBERLAIN_DATA_DIR": str(tmp_path / "data")}
    told = in_one_line(invoke("audit", "export", "--to", str(tmp_path / "none"), **missing))
    assert "there is no installation here" in told
    assert os.listdir(tmp_path) == []
