"""``chamberlain audit export`` against a real server, as whoever works on the machine runs it."""

import json
import os
from pathlib import Path

import pytest

from tests.commands import Installation, in_one_line, invoke
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
    assert closed["changes"][-1]["new"] == {"first": manifest["first"], "end": manifest["end"]}

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


def test_a_folder_that_cannot_be_written_is_said_in_a_line(server: Installation, tmp_path: Path) -> None:
    assert "cannot be written" in in_one_line(server.run("audit", "export", "--to", str(tmp_path / "no" / "where")))
    missing = {**server.environment, "CHAMBERLAIN_DATA_DIR": str(tmp_path / "data")}
    told = in_one_line(invoke("audit", "export", "--to", str(tmp_path / "none"), **missing))
    assert "there is no installation here" in told
    assert os.listdir(tmp_path) == []
