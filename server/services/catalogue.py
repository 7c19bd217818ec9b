"""The catalogue: every declared action paired with what carries it out, here and nowhere else.

The program refuses to start when a declaration and its service or repository disagree. Adding an entity adds a line
to ``build``.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from pydantic import BaseModel

from actions.entities import ALL_SPECS
from actions.entities.audit_archive import SPECS as ARCHIVE_SPECS
from actions.model import SECRET, marks
from actions.processor import Offer
from actions.query import Filter, filter_of, item_of
from actions.standard import STANDARD_OPERATIONS, Spec
from actions.streams import AFTER
from actions.vocabulary import SEARCH, UPDATE, Effect, declaration_faults
from server.keyring import KeyRing
from server.login_throttle import LoginThrottle
from server.passwords import Passwords
from server.repositories.access_history import AccessHistory
from server.repositories.audit_archives import AuditArchiveRepository
from server.repositories.audit_export import AuditExportRepository
from server.repositories.audit_keys import AuditKeyRepository
from server.repositories.audit_records import AuditRecordRepository
from server.repositories.audit_subjects import AuditSubjectRepository
from server.repositories.base import Repository
from server.repositories.decisions import DecisionRepository
from server.repositories.directory import LOCATABLE
from server.repositories.domains import DomainRepository
from server.repositories.installation import InstallationRepository
from server.repositories.keypairs import KeypairRepository
from server.repositories.logins import LoginRepository
from server.repositories.partitions import Partitions
from server.repositories.policies import PolicyRepository
from server.repositories.policy_diff import PolicyDiffRepository
from server.repositories.policy_people import PolicyPeopleRepository
from server.repositories.policy_shadow import PolicyShadowRepository
from server.repositories.projects import ProjectRepository
from server.repositories.resealing import ResealingRepository
from server.repositories.role_bindings import RoleBindingRepository
from server.repositories.signing_keys import SigningKeyRepository
from server.repositories.standings import StandingRepository
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from server.services.audit_export import AuditExportService
from server.services.audit_hashes import AuditHashService
from server.services.audit_keys import AuditKeyService
from server.services.audit_partitions import AuditPartitionService
from server.services.audit_proofs import AuditProofService
from server.services.audit_records import AuditRecordService
from server.services.audit_subjects import AuditSubjectService
from server.services.authzen import AuthZenService
from server.services.base import Service
from server.services.chosen_policy import ChosenPolicy
from server.services.domains import DomainService
from server.services.installation import InstallationService
from server.services.keypairs import KeypairService
from server.services.logins import LoginService
from server.services.policies import PolicyService
from server.services.policy_cases import PolicyCaseService
from server.services.policy_checks import PolicyCheckService
from server.services.policy_diff import PolicyDiffService
from server.services.policy_evidence import ActivationAt, PolicyEvidenceService
from server.services.policy_explain import PolicyExplainService
from server.services.policy_gate import PolicyGate
from server.services.policy_questions import PolicyQuestionService
from server.services.policy_shadow import PolicyShadowService
from server.services.policy_usage import PolicyUsageService
from server.services.projects import ProjectService
from server.services.resealing import Resealing
from server.services.role_bindings import RoleBindingService
from server.services.signing_keys import SigningKeyService
from server.services.users import UserService
from server.tokens import Terms


class CatalogueError(RuntimeError):
    """Declarations and implementations disagree; the message lists every place."""


class Offering(Protocol):
    """What the catalogue needs of a service."""

    @property
    def specs(self) -> Sequence[Spec]: ...

    def offers(self) -> Iterator[Offer[Unit]]: ...


Catalogue = Mapping[Spec, Offer[Unit]]


def build(
    passwords: Passwords,
    ring: KeyRing,
    terms: Terms,
    throttle: LoginThrottle,
    chosen: ChosenPolicy,
    gate: PolicyGate,
    activation_at: ActivationAt,
    partitions: Partitions,
    retention: timedelta | None,
) -> Catalogue:
    """The whole catalogue. Raises ``CatalogueError``."""
    archives, exports = AuditArchiveRepository(), AuditExportRepository()
    users, bindings, logins = UserRepository(), RoleBindingRepository(), LoginRepository()
    keys, standings = SigningKeyRepository(), StandingRepository()
    return pair(
        DomainService(DomainRepository(), users),
        ProjectService(ProjectRepository()),
        UserService(users, bindings, logins, passwords),
        KeypairService(KeypairRepository(), ring),
        LoginService(logins, users, keys, passwords, ring, terms, throttle),
        SigningKeyService(keys, ring, terms),
        AuditKeyService(AuditKeyRepository(), ring),
        Service(archives, ARCHIVE_SPECS),
        AuditSubjectService(AuditSubjectRepository(), ring),
        AuditPartitionService(partitions, exports, archives, retention),
        RoleBindingService(bindings, users),
        PolicyService(PolicyRepository(), gate),
        PolicyEvidenceService(AccessHistory(), chosen, activation_at, ring),
        PolicyCheckService(chosen),
        PolicyDiffService(chosen, PolicyDiffRepository()),
        PolicyCaseService(chosen),
        PolicyUsageService(DecisionRepository(), chosen),
        PolicyExplainService(PolicyPeopleRepository(), standings, chosen),
        PolicyQuestionService(standings, chosen),
        AuthZenService(standings, chosen),
        PolicyShadowService(PolicyShadowRepository(), PolicyRepository(), chosen),
        InstallationService(InstallationRepository(), passwords, ring, Resealing(ResealingRepository(), ring)),
        AuditRecordService(AuditRecordRepository(), ring),
        AuditProofService(AuditRecordRepository()),
        AuditExportService(exports),
        AuditHashService(ring),
        declared=ALL_SPECS,
    )


def pair(*services: Offering, declared: tuple[Spec, ...]) -> Catalogue:
    """Pair specs with offers, and check what can be checked before the first request."""
    offers = [offer for service in services for offer in service.offers()]
    catalogue = {offer.spec: offer for offer in offers}
    faults = list(declaration_faults(declared))
    faults += [f"{spec.name}: declared, but no service offers it" for spec in declared if spec not in catalogue]
    faults += [f"{spec.name}: offered, but not declared" for spec in catalogue if spec not in declared]
    if len(offers) != len(catalogue):
        faults.append("an action is offered twice")
    for offer in offers:
        faults += _offer_faults(offer)
    for service in services:
        if isinstance(service, Service):
            faults += _service_faults(service)
    if faults:
        raise CatalogueError("the catalogue does not hold together:\n  " + "\n  ".join(faults))
    return catalogue


def _offer_faults(offer: Offer[Unit]) -> Iterator[str]:
    for name, use in offer.spec.uses.items():
        if use.entity not in LOCATABLE:
            yield f"{offer.spec.name}: '{name}' names a {use.entity}, which the directory cannot locate"
    if offer.spec.stream is not None and (offer.follow is None or AFTER not in offer.spec.input.model_fields):
        yield f"{offer.spec.name}: a stream has something that follows it, and an input that says `{AFTER}` what"
    if (offer.spec.effect is Effect.OUTSIDE) != (offer.effect is not None and offer.conclude is not None):
        yield f"{offer.spec.name}: `effect` and `conclude` belong to an effect outside the database, and to no other"


def _service_faults(service: Service[Any]) -> Iterator[str]:
    repository: Repository[Any] = service.repository
    for spec in service.specs:
        if spec.scope_type not in repository.scope_types:
            yield f"{spec.name}: its repository cannot narrow to the scope {spec.scope_type}"
        if spec.operation == UPDATE and (moved := repository.scope_columns & spec.input.model_fields.keys()):
            yield f"{spec.name}: {', '.join(sorted(moved))} decides where a row lies and cannot be changed"
        if spec.operation == SEARCH:
            yield from _search_faults(spec, repository)
        if spec.operation in STANDARD_OPERATIONS:
            yield from _output_faults(spec, repository)


def _search_faults(spec: Spec, repository: Repository[Any]) -> Iterator[str]:
    fields = set(filter_of(spec.input).model_fields) - set(Filter.model_fields)
    for name in sorted(fields | set(spec.orders)):
        try:
            column = repository.field(name)
        except KeyError:
            yield f"{spec.name}: there is no column behind the field '{name}'"
            continue
        if name in spec.orders and getattr(column, "nullable", False):
            yield f"{spec.name}: '{name}' can be null, so nothing can be ordered by it"


def _output_faults(spec: Spec, repository: Repository[Any]) -> Iterator[str]:
    """What a standard operation shows is read from a row; a secret apart, which is told by who makes it."""
    shown: type[BaseModel] = item_of(spec.output) if spec.operation == SEARCH else spec.output
    told = {name for name, mark in marks(shown).items() if mark == SECRET.name}
    for name in sorted(shown.model_fields.keys() - repository.output.model_fields.keys() - told):
        yield f"{spec.name}: its repository reads nothing for the output field '{name}'"
