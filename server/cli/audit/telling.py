"""One action, told from its records as a person would want to hear it.

What is told is what the server's answer says; nothing is looked up beside it but the catalogue's sentence, and the
proof that the log holds what is told.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from actions.entities import ALL_SPECS
from server.cli.api import Call, send, show_answer
from server.cli.output import Format, Refused, plain_console, show_json, unsteered
from server.cli.proofs import Checked, ask, checked, is_not_yet, vouching
from server.cli.signing_client import Credentials
from server.services.disclosure import told as told_of

_RESULTS = {"succeeded": "green", "pending": "yellow", "unknown": "yellow"}
_PHASES = {
    "intent": "an effect outside the database was about to happen",
    "outcome": "what came of it",
    "settled": "closed later, having been left open",
}
_SEALS = {
    "erased": "erased: this person's key is gone",
    "withheld": "withheld: this person is not of the domain",
    "broken": "BROKEN: what is sealed is not what the record vouches for",
}
_ARROW = " \N{RIGHTWARDS ARROW} "
_LABEL = 9
Line = tuple[str, Text]


def show(who: Credentials, action_id: str, domain: str | None, form: Format) -> int:
    """Ask for the records of an action and print them: 0, or 1 for a problem, which goes to standard error."""
    scope = "/admin" if domain is None else f"/domains/{quote(domain, safe='')}"
    response = send(who, Call("GET", f"{scope}/audit-records/{quote(action_id, safe='')}", {}))
    if not response.is_success:
        show_answer(response, err=True)
        return 1
    told = response.json()
    if form is Format.JSON:
        show_json(told)
        return 0
    console = plain_console()
    if (kept := told["archived"]) is not None:
        console.print(
            _plain(f"Its records were dropped. They are kept in {kept['location']}, from index {kept['index']} on.")
        )
        console.print(_plain(f"The SHA-256 of its manifest is {kept['digest']}."))
        return 0
    proofs = None if domain is not None else _proofs(who, action_id)
    for place, record in enumerate(told["records"]):
        if place:
            console.print()
        _print(console, record, [] if proofs is None else list(_proven(record, proofs)))
    return 0


def _proofs(who: Credentials, action_id: str) -> Mapping[str, Checked] | str:
    """The checked proofs of an action by phase, or why there are none."""
    response = ask(who, action_id)
    if is_not_yet(response):
        return "not yet: it is in the log, and has no number there so far"
    if not response.is_success:
        return f"none: the server answers {response.status_code}"
    try:
        return {one.phase: one for one in checked(response.json())}
    except Refused as error:
        return f"NONE: {error}"


def _proven(record: Mapping[str, Any], proofs: Mapping[str, Checked] | str) -> Iterator[Line]:
    if isinstance(proofs, str):
        yield "proof", _plain(proofs)
        return
    found = proofs.get(record["phase"])
    shown = {name: value for name, value in record.items() if name != "personal"}
    if found is None or told_of(found.proof.leaf, found.proof.index).model_dump(mode="json") != shown:
        yield "proof", Text("NONE: what is proven is not what is told here", "red")
        return
    checkpoint = found.proof.checkpoint
    yield "proof", _plain(f"record {found.proof.index} of {checkpoint.size} in {checkpoint.origin}, checked here")
    for vouched in found.vouched:
        yield "proof", _plain(vouching(vouched))


def _print(console: Console, record: Mapping[str, Any], proven: list[Line]) -> None:
    phase = "" if record["phase"] == "done" else f" ({record['phase']})"
    head = Text.assemble((unsteered(record["action"]), "bold"), "  ", _result(record["result"]), phase)
    console.print(head, soft_wrap=True)
    before = ""
    for name, text in [*_lines(record), *proven]:
        label = "" if name == before else name
        console.print(Text.assemble((f"{unsteered(label):<{_LABEL}}", "dim"), text), soft_wrap=True)
        before = name


def _lines(record: Mapping[str, Any]) -> Iterator[Line]:
    """What is told of a record, a line for each thing that it says."""
    if sentence := next((spec.sentence for spec in ALL_SPECS if spec.name == record["action"]), None):
        yield "what", Text(sentence)
    if meaning := _PHASES.get(record["phase"]):
        yield "phase", Text(meaning)
    yield "action", Text(record["id"])
    yield "who", _who(record["principal"])
    for part in record["personal"]:
        if part["client_address"] is not None:
            yield "from", _plain(part["client_address"])
    if (scope := record["scope"]) is not None:
        yield "where", _where(scope)
    if (target := record["target"]) is not None:
        yield "on", _on(target)
    yield "when", Text(_time(record["at"]))
    if record["duration_us"] is not None:
        yield "took", Text(f"{record['duration_us'] / 1000:,.1f} ms")
    if (request := record["request"]) is not None:
        yield "request", _plain(f"{request['id']}, over {request['surface']}")
    if (decision := record["decision"]) is not None:
        yield "decided", _decided(decision)
        yield "policy", Text(decision["policy"])
    for use in record["uses"]:
        yield "used", _used(use)
    yield from _asked(record)
    yield from _changes(record)
    for part in record["personal"]:
        if meaning := _SEALS.get(part["seal"]):
            yield "sealed", _plain(f"about {part['subject'] or 'a caller without an identity'}, {meaning}")
        for name, value in part["more"].items():
            yield "personal", _plain(f"{name}: {_value(value)}")
    for name, value in record["more"].items():
        yield name, _plain(_value(value))
    yield "ended", _ended(record)


def _who(principal: Mapping[str, Any]) -> Text:
    kind, _, key = principal["name"].partition(":")
    name = f"user {key}" if kind == "user" and key else principal["name"]
    with_it = f", with the credential {principal['credential']}" if principal["credential"] else ""
    return _plain(name + with_it)


def _where(scope: Mapping[str, Any]) -> Text:
    if scope["lineage"]:
        return _plain(_lineage(scope["lineage"]))
    if scope["asked_for"]:
        return _plain(f"{scope['type']} {scope['asked_for']}, which is none")
    return _plain(scope["type"])


def _on(target: Mapping[str, Any]) -> Text:
    places = target["lineage"] or []
    around = [place for place in places if place["id"] != target["id"]]
    itself = next((f"{place['type']} " for place in places if place["id"] == target["id"]), "")
    return _plain(itself + target["id"] + (f", of {_lineage(around)}" if around else ""))


def _lineage(places: list[Mapping[str, Any]]) -> str:
    return ", in ".join(f"{place['type']} {place['id']}" for place in places)


def _decided(decision: Mapping[str, Any]) -> Text:
    word = ("allowed", "green") if decision["allowed"] else ("denied", "red")
    by = f" by {decision['rule']}" if decision["rule"] else ": no rule allows it"
    roles = f", as {', '.join(decision['roles'])}" if decision["roles"] else ""
    return Text.assemble(word, unsteered(by + roles))


def _used(use: Mapping[str, Any]) -> Text:
    word = ("allowed", "green") if use["allowed"] else ("not to be used, or not there", "red")
    by = f" by {use['rule']}" if use["rule"] else ""
    thing = f"{use['field']}: {use['entity']} {use['id'] or 'outside the domain'}, "
    return Text.assemble(unsteered(thing), word, unsteered(by))


def _asked(record: Mapping[str, Any]) -> Iterator[Line]:
    """Each part of the question, in words: ``filter username equals "mia"``."""
    opened = {part["field"]: part["value"] for person in record["personal"] for part in person["asked"]}
    for part in record["asked"]:
        field, kind, more = part["field"], part["confidential"], part["more"]
        left_out = Text(f", and {more} more" if field else f"and {more} more, left out for their length", "dim")
        if kind == "personal" and field in opened:
            value = Text.assemble(unsteered(_value(opened[field])), (" (personal)", "dim"))
        elif kind == "personal":
            value = Text("stays sealed", "dim")
        elif kind == "hashed" or (kind == "secret" and part["value"] is not None):
            value = Text.assemble(unsteered(_value(part["value"])), (" (hashed)", "dim"))
        elif kind is not None:
            value = Text("stands nowhere", "dim")
        else:
            value = Text("" if part["value"] is None and more is not None else unsteered(_value(part["value"])))
        told = Text.assemble(unsteered(field.replace("/", " ")), "  " if field else "", value)
        yield "asked", told if more is None else Text.assemble(told, left_out)


def _changes(record: Mapping[str, Any]) -> Iterator[Line]:
    """Each changed field, its personal values from the opened parts."""
    opened = {change["field"]: change for part in record["personal"] for change in part["changes"]}
    width = max((len(change["field"]) for change in record["changes"]), default=0)
    for change in record["changes"]:
        kind = change["confidential"]
        shown = opened.get(change["field"]) if kind == "personal" else change
        if kind in ("secret", "omitted", "hashed"):
            values = Text("changed; what it was and is stands nowhere", "dim")
            if change["new"] is not None:
                values = Text.assemble(unsteered(change["new"]), (" (what it is, hashed)", "dim"))
        elif shown is None:
            values = Text("changed; what it was and is stays sealed", "dim")
        else:
            values = Text.assemble(
                (unsteered(_value(shown["old"])), "red"), _ARROW, (unsteered(_value(shown["new"])), "green")
            )
            values.append(" (personal)" if kind == "personal" else "", "dim")
        yield "changed", Text.assemble(unsteered(change["field"].ljust(width)), "  ", values)


def _ended(record: Mapping[str, Any]) -> Text:
    error = record["error"]
    if error is None:
        return _result(record["result"])
    told = {name: value for name, value in error.items() if value is not None}
    status, reason, cause = (told.pop(name, None) for name in ("status", "reason", "cause"))
    parts = [f"with {status}" if status else "", str(reason or ""), str(cause or "")]
    parts += [f"{name}: {_value(value)}" for name, value in told.items()]
    return Text.assemble(_result(record["result"]), " ", unsteered(", ".join(part for part in parts if part)))


def _result(result: str) -> Text:
    return Text(unsteered(result), _RESULTS.get(result, "red"))


def _time(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%S.%f UTC")


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> Text:
    return Text(unsteered(text))
