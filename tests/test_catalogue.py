"""The catalogue: what is declared and what carries it out agree, or the program does not start and says where."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import Column, DateTime, ForeignKey, Integer, MetaData, Table, Text, Uuid

from actions.authorization.signing import TrustedKeys
from actions.entities import ALL_SPECS
from actions.model import SECRET, Input, Kept, Output
from actions.model import Text as ShortText
from actions.processor import Given, Offer
from actions.query import Filter, Page, StringFilter
from actions.standard import Spec, Standard
from actions.vocabulary import CREATE, GET, SEARCH, UPDATE, Alias, Effect, Entity, Operation, ScopeType, Use
from server.app import terms_of
from server.keyring import KeyRing
from server.login_throttle import LoginThrottle
from server.passwords import Passwords
from server.repositories.base import Repository
from server.repositories.partitions import Partitions
from server.repositories.unit import Unit
from server.services.base import Service
from server.services.catalogue import CatalogueError, build, pair
from server.services.chosen_policy import ChosenPolicy
from server.services.policy_gate import PolicyGate
from server.settings import Settings

A, D, P = ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.PROJECT
NOTE = Entity("note", "notes")
_TABLE = Table(
    "note",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Column("domain_id", Uuid, ForeignKey("domain.id"), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text),
)


class Note(Kept):
    subject: str
    body: str | None


class NewNote(Input):
    subject: ShortText


class NoteFilter(Filter):
    subject: StringFilter | None = None


NOTES = Standard(NOTE, Note, NewNote, NewNote, NoteFilter, ("created_at", "subject"))
SPECS = (
    *NOTES.offer(CREATE, D),
    *NOTES.offer(GET, A, D),
    *NOTES.offer(SEARCH, A, D),
    *NOTES.offer(UPDATE, D),
)


def service(*specs: Spec, standard: Standard = NOTES) -> Service[Note]:
    output = cast(type[Note], standard.output)
    repository = Repository[Note](standard, output, _TABLE, {D: _TABLE.c.domain_id})
    return Service(repository, specs or SPECS)


class Offering:
    """A service of the barest kind."""

    def __init__(self, *offers: Offer[Unit]) -> None:
        self._offers = offers
        self.specs: Sequence[Spec] = [offer.spec for offer in offers]

    def offers(self) -> Iterator[Offer[Unit]]:
        return iter(self._offers)


async def nothing(unit: Unit, given: Given[Any]) -> BaseModel:
    raise NotImplementedError


async def no_effect(intent: BaseModel) -> object:
    raise NotImplementedError


async def no_conclusion(unit: Unit, effect: object) -> BaseModel:
    raise NotImplementedError


def faults(*services: Any, declared: tuple[Spec, ...]) -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        pair(*services, declared=declared)
    return str(refused.value).split("\n  ")[1:]


def test_what_is_declared_and_offered_alike_is_a_catalogue() -> None:
    assert pair(service(), declared=SPECS).keys() == set(SPECS)


def test_the_program_s_own_catalogue_holds_together() -> None:
    def never(*_: object) -> NoReturn:
        raise AssertionError("a policy is asked for while the catalogue is built")

    ring, chosen = KeyRing({"k1": bytes(32)}, "k1"), ChosenPolicy(never, never, never)
    gate = PolicyGate(TrustedKeys.read(()), never, never, never)
    throttle, owned = LoginThrottle(1, 1), Partitions(None)
    catalogue = build(Passwords(), ring, terms_of(Settings()), throttle, chosen, gate, never, owned, None)
    assert catalogue.keys() == set(ALL_SPECS)
    assert all(catalogue[spec].spec is spec for spec in ALL_SPECS)


def test_a_declared_action_that_nobody_offers_is_told() -> None:
    assert faults(service(*SPECS[1:]), declared=SPECS) == ["domain_create_note: declared, but no service offers it"]


def test_an_offered_action_that_nobody_declared_is_told() -> None:
    assert faults(service(), declared=SPECS[1:]) == ["domain_create_note: offered, but not declared"]


def test_an_action_that_is_offered_twice_is_told() -> None:
    assert faults(service(), service(), declared=SPECS) == ["an action is offered twice"]


def test_a_scope_that_the_repository_cannot_narrow_to_is_told() -> None:
    specs = NOTES.offer(GET, A, D, P)
    assert faults(service(*specs), declared=specs) == [
        "project_note: its repository cannot narrow to the scope project"
    ]


def test_a_change_of_where_a_row_lies_is_told() -> None:
    class Move(NewNote):
        domain_id: str

    specs = NOTES.offer(UPDATE, D, input=Move)
    assert faults(service(*specs), declared=specs) == [
        "domain_update_note: domain_id decides where a row lies and cannot be changed"
    ]


def test_a_field_with_no_column_behind_it_is_told() -> None:
    class Wider(NoteFilter):
        colour: StringFilter | None = None

    class Shown(Note):
        shade: str

    wider = replace(NOTES, filter=Wider, orders=("created_at", "size"))
    specs = wider.offer(SEARCH, D)
    assert faults(service(*specs, standard=wider), declared=specs) == [
        "domain_search_notes: there is no column behind the field 'colour'",
        "domain_search_notes: there is no column behind the field 'size'",
    ]
    shown = replace(NOTES, output=Shown)
    specs = shown.offer(SEARCH, D)
    with pytest.raises((CatalogueError, KeyError), match="shade"):
        pair(service(*specs, standard=shown), declared=specs)


def test_an_output_that_is_read_nowhere_is_told() -> None:
    class Narrow(Output):
        subject: str

    class Told(Narrow):
        secret: Annotated[str, SECRET]

    class Strange(Narrow):
        colour: str

    narrow = (
        *NOTES.offer(GET, D, output=Narrow),
        *NOTES.offer(SEARCH, D, output=Page[Narrow]),
        *NOTES.offer(CREATE, D, output=Told),
    )
    assert pair(service(*narrow), declared=narrow).keys() == set(narrow)
    strange = (*NOTES.offer(GET, D, output=Strange), *NOTES.offer(SEARCH, D, output=Page[Strange]))
    assert faults(service(*strange), declared=strange) == [
        f"{name}: its repository reads nothing for the output field 'colour'"
        for name in ("domain_note", "domain_search_notes")
    ]


def test_an_order_by_what_may_be_null_is_told() -> None:
    loose = replace(NOTES, orders=("created_at", "body"))
    specs = loose.offer(SEARCH, D)
    assert faults(service(*specs, standard=loose), declared=specs) == [
        "domain_search_notes: 'body' can be null, so nothing can be ordered by it"
    ]


def test_an_effect_outside_has_all_its_parts_and_nothing_else_has_them() -> None:
    (reading,) = NOTES.offer(GET, D)
    (sending,) = NOTES.offer(Operation("send"), D, sentence="Send a note {where}.")
    outside = replace(sending, effect=Effect.OUTSIDE)
    for spec, offer in (
        (outside, Offer(outside, nothing)),
        (outside, Offer(outside, nothing, effect=no_effect)),
        (reading, Offer(reading, nothing, effect=no_effect, conclude=no_conclusion)),
    ):
        (fault,) = faults(Offering(offer), declared=(spec,))
        assert fault.startswith(f"{spec.name}: ")
        assert "`effect` and `conclude`" in fault
    whole: Offer[Unit] = Offer(outside, nothing, effect=no_effect, conclude=no_conclusion)
    assert pair(Offering(whole), declared=(outside,))


def test_a_declaration_that_contradicts_itself_is_told() -> None:
    class Naming(Input):
        friend_id: UUID

    (plain,) = NOTES.offer(Operation("send"), D, sentence="Send a note {where}.")
    (reading,) = NOTES.offer(GET, D)
    for spec, told in (
        (replace(plain, sentence="Send a note"), "its sentence does not end with a full stop"),
        (replace(plain, input=Naming), "the field 'friend_id' names a thing, but `uses` does not say what"),
        (
            replace(plain, uses={"friend": Use("user", "get")}),
            "`uses` speaks of 'friend', which is no field of the input",
        ),
        (replace(plain, entity=Entity("Note", "notes")), "'Note' is not a lower-case name"),
        (replace(reading, effect=Effect.ROWS), "it only reads, yet has an effect"),
        (replace(plain, each=plain), "a batch, and nothing else, says what it does to each of its items"),
    ):
        (fault,) = faults(Offering(Offer(spec, nothing)), declared=(spec,))
        assert fault.startswith(f"{spec.name}: {told}")
    twin = replace(plain)
    found = faults(Offering(Offer(plain, nothing), Offer(twin, nothing)), declared=(plain, twin))
    assert found == [
        f"domain_send_note: '{key}' is taken by domain_send_note"
        for key in ("domain_send_note", "POST /domains/{domain}/notes/{id}/send")
    ]


def test_what_anybody_may_ask_for_takes_place_in_the_admin_scope_and_names_no_item() -> None:
    for asking, place in ((Operation("ask", on_item=False), D), (Operation("take"), A)):
        (spec,) = NOTES.offer(asking, place, anonymous=True, sentence="Ask.")
        told = faults(Offering(Offer(spec, nothing)), declared=(spec,))
        assert told == [f"{spec.name}: what anybody may ask for takes place in the admin scope, and names no item"]


def test_an_alias_leads_to_the_admin_scope_or_to_the_callers_own() -> None:
    (spec,) = NOTES.offer(GET, D, aliases=(Alias("GET", "/notes"),))
    assert faults(Offering(Offer(spec, nothing)), declared=(spec,)) == ["domain_note: an alias names no domain"]


def test_two_actions_do_not_share_an_alias() -> None:
    alias = (Alias("GET", "/notes"),)
    specs = (*NOTES.offer(GET, ScopeType.USER, aliases=alias), *NOTES.offer(GET, A, aliases=alias))
    offers: list[Offer[Unit]] = [Offer(spec, nothing) for spec in specs]
    assert faults(Offering(*offers), declared=specs) == ["admin_note: 'GET /notes' is taken by user_note"]


def test_every_disagreement_is_told_at_once() -> None:
    project = NOTES.offer(GET, P)
    found = faults(service(*project), declared=SPECS)
    assert len(found) == len(SPECS) + 2


# -- the page that says which operation is offered where ---------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "actions.md"
MARK = "●"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_stream_is_followed_begins_after_something_and_changes_nothing() -> None:
    watch, poke = Operation("watch", on_item=False, reads=True), Operation("poke", on_item=False)
    (spec,) = NOTES.offer(watch, D, input=NewNote, output=Note, sentence="Watch notes.", stream="note")
    told = ["domain_watch_note: a stream has something that follows it, and an input that says `after` what"]
    assert faults(Offering(Offer(spec, nothing)), declared=(spec,)) == told
    (strange,) = NOTES.offer(poke, D, input=NewNote, output=Note, sentence="Poke notes.", stream="note")
    found = faults(Offering(Offer(strange, nothing)), declared=(strange,))
    assert found[0] == "domain_poke_note: a stream only reads, is asked for in the address, and has no alias"


def told_by_the_page() -> tuple[set[tuple[str, str, str]], set[tuple[str, str]]]:
    """What the tables say: (entity, operation, scope type), and (entity, operation) of what is internal."""
    served, internal, entity, columns = set(), set(), "", list[str]()
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            entity, columns = line.strip("# "), []
        elif line.startswith("|") and not columns:
            columns = cells(line)
        elif line.startswith("| "):
            row = dict(zip(columns, cells(line), strict=True))
            if "done by" in row:
                internal.add((row["entity"], row["operation"]))
            elif "operation" in row:
                name = (row.get("entity", entity), row["operation"])
                served |= {(*name, scope.value) for scope in ScopeType if row[scope.value] == MARK}
    return served, internal


def test_the_page_of_actions_says_what_is_declared() -> None:
    served, internal = told_by_the_page()
    for spec in ALL_SPECS:
        if spec.internal:
            assert (spec.entity.name, spec.operation.word) in internal, spec.name
    declared = {
        (spec.entity.name, spec.operation.word, spec.scope_type.value)
        for spec in ALL_SPECS
        if not spec.internal and spec.each is None  # a batch is offered wherever the one is
    }
    assert served == declared
    assert internal == {(spec.entity.name, spec.operation.word) for spec in ALL_SPECS if spec.internal}
