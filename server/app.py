"""The composition root: every part of one process made once and handed what it needs. Nothing here decides anything."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from actions.action import ADMIN_SCOPE, Action, Address, Principal, PrincipalKind, RequestContext
from actions.authorization.source import PolicySource
from actions.entities import ALL_SPECS
from actions.entities.policy import PUBLISH
from actions.entities.policy import SPECS as POLICY_SPECS
from actions.errors import ChamberlainError
from actions.processor import Processor
from actions.recording import Recorder
from actions.standard import Spec
from audit.keyed import KeyedHashes
from audit.lane import Lane
from audit.log import LogUnavailable
from audit.pulse import Pulse
from audit.record import new_id
from audit.redaction import Sealer
from audit.sequencer import Sequencer
from audit.writer import GroupCommitLog
from server.folder_memory import FolderMemory
from server.http import authzen_metadata, key_set, log_tree, rest
from server.http.address_limiter import AddressLimiter
from server.http.authentication_log import AuthenticationLog
from server.http.credentials.bearer import BearerTokens
from server.http.credentials.keypair import KeypairTokens, SignedRequests
from server.http.events import EventStreams
from server.http.graphql.endpoint import PATH as GRAPHQL
from server.http.graphql.endpoint import GraphQLEndpoint
from server.http.graphql.explorer import Explorer
from server.http.graphql.schema import build as graphql_schema
from server.http.health import Health, Unready
from server.http.metrics import Metrics
from server.http.middleware.authentication import AuthenticationMiddleware, Forms
from server.http.middleware.error_handling import ErrorHandlingMiddleware
from server.http.middleware.limits import LimitsMiddleware
from server.http.middleware.request_id import RequestIdMiddleware
from server.http.openapi import Described, document
from server.http.paths import Paths
from server.keyring import HASHES, KeyRing
from server.login_throttle import LoginThrottle
from server.monitoring import Monitoring
from server.partition_watch import PartitionsWanting, PartitionWatch
from server.partition_watch import tell as tell_of_partitions
from server.passwords import Passwords
from server.policy import ActivePolicy
from server.policy_folder import FolderNote, FolderWatch
from server.repositories.access_history import activation_at
from server.repositories.audit_keys import signers
from server.repositories.channel import Channel
from server.repositories.database import Database
from server.repositories.directory import CachedDirectory, StoredCredential
from server.repositories.partitions import Partitions
from server.repositories.policies import active_digest
from server.repositories.public_tree import PublicTree
from server.repositories.subject_keys import SubjectKeys
from server.repositories.unit import Unit, Units
from server.services.catalogue import build
from server.services.chosen_policy import ChosenPolicy
from server.services.keypairs import sealed_purpose
from server.services.policy_gate import PolicyGate
from server.settings import Settings
from server.shadow import Shadow
from server.sweeper import Sweeper, Uses
from server.tokens import Terms
from server.tree_watch import TreeLate, TreeWatch
from server.tree_watch import tell as tell_of_tree
from server.witnessing import Witnessing

VERSION = "0.1.0"
_PUBLISH = next(spec for spec in POLICY_SPECS if spec.operation == PUBLISH)


@dataclass(frozen=True)
class Application:
    """The parts that the process's entry points use."""

    settings: Settings
    metrics: Metrics
    database: Database
    channel: Channel
    directory: CachedDirectory
    policy: ActivePolicy
    shadow: Shadow
    processor: Processor[Unit]
    log: GroupCommitLog
    pulse: Pulse
    sequencer: Sequencer
    witnessing: Witnessing
    public_tree: PublicTree
    failures: AuthenticationLog
    units: Units
    ring: KeyRing
    uses: Uses

    async def internally(
        self, spec: Spec, principal: str, given: Mapping[str, object], credential: str | None = None
    ) -> Any:
        """Run an action as a system principal: through the same pipeline as any other (law 11).

        ``credential`` names on whose behalf, where a person stands behind it.
        """
        return await self.processor.execute(_internal(spec, principal, given, credential))

    def following(
        self, spec: Spec, principal: str, given: Mapping[str, object], credential: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """The same for a stream: the parts, for as long as it is open."""
        return self.processor.follow(_internal(spec, principal, given, credential))

    async def publish(self, source: PolicySource, reason: str, before: str | None = None) -> None:
        """Store a checked policy folder and make it active, as ``system:policy``.

        ``before`` is the digest that the folder held when it was last in force.
        """
        files = {name: content.decode() for name, content in source.files.items()}
        told = {"digest": source.digest, "files": files, "signature": source.signature, "before": before}
        await self.internally(_PUBLISH, "system:policy", {**told, "reason": reason})

    def sweeper(self, *, housekeeper: bool) -> Sweeper:
        """What a worker does at intervals; the housekeeper does more of it."""
        return Sweeper(
            self.database,
            self.units,
            self.log,
            self.failures,
            self.uses,
            self.shadow,
            self.internally,
            self.metrics,
            housekeeper=housekeeper,
            signing_key_life=terms_of(self.settings).signing_key,
        )

    @asynccontextmanager
    async def working(self, *, housekeeper: bool) -> AsyncIterator[Sweeper]:
        """The background work of a worker: following the policy and its shadow, numbering the log where it leads,
        sweeping, and, in one of them, watching the folder."""
        sweeper = self.sweeper(housekeeper=housekeeper)
        works = [
            self.policy.follow(self.channel),
            self.shadow.follow(self.channel),
            self.sequencer.run(),
            self.witnessing.run(),
            sweeper.run(),
        ]
        if housekeeper:
            settings = self.settings
            memory, poll = FolderMemory(settings.data_dir), settings.policy_poll_seconds
            watch = FolderWatch(settings.policy_dir, self.policy, self.publish, self.metrics, poll, memory)
            works += [watch.run(), TreeWatch(self.database, self.metrics).run()]
            works.append(PartitionWatch(self.database, self.metrics).run())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield sweeper
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await sweeper.last()


def terms_of(settings: Settings) -> Terms:
    """For how long tokens, logins and signing keys are good, as the settings have it."""
    return Terms(
        settings.token_issuer,
        timedelta(seconds=settings.access_token_seconds),
        timedelta(days=settings.login_days),
        timedelta(days=settings.signing_key_days),
    )


def retention_of(settings: Settings) -> timedelta | None:
    """What of the log is younger stays; None: what is old enough has to be said each time."""
    days = settings.audit_retention_days
    return None if days is None else timedelta(days=days)


def _internal(spec: Spec, principal: str, given: Mapping[str, object], credential: str | None) -> Action[Any, Any]:
    return Action(
        id=new_id(),
        spec=spec,
        principal=Principal(PrincipalKind.SYSTEM, principal, credential=credential),
        address=Address(ADMIN_SCOPE.type),
        context=RequestContext(uuid.uuid4().hex, datetime.now(UTC)),
        given=given,
    )


@asynccontextmanager
async def application(
    settings: Settings, database_url: str, metrics: Metrics, owner_url: str | None = None
) -> AsyncIterator[Application]:
    """Every part of one process, opened in order and closed in reverse. The policy is loaded by the caller.

    ``owner_url`` is the database as the owner of its tables: for who drops some of them, on the machine itself.
    """
    async with AsyncExitStack() as stack:
        ring = KeyRing.load(settings.keys_path)
        passwords = Passwords()
        stack.callback(passwords.close)
        database = await stack.enter_async_context(Database(database_url, size=settings.database_pool))
        # The directory and the subjects' keys are asked for in the midst of transactions. A pool of their own keeps
        # a full house of transactions from waiting for connections that they hold themselves.
        side = await stack.enter_async_context(Database(database_url, size=3, name="chamberlain-side"))
        channel = await stack.enter_async_context(Channel(side))
        directory = CachedDirectory(side, channel, metrics.directory_asked)
        pulse = Pulse()
        log = await stack.enter_async_context(GroupCommitLog(lambda: database.connect("audit"), metrics, pulse))
        connect = partial(database.connect, "sequencer")
        sequencer = await stack.enter_async_context(Sequencer(connect, signers(ring), metrics))
        sealer = Sealer(SubjectKeys(side, ring))
        channel.listen(sealer.hear)
        lane = Lane()
        recorder = Recorder(sealer, log, lane, pulse, KeyedHashes(ring.derived(HASHES)), metrics)
        units = Units(database, directory, recorder, pulse)
        policy = ActivePolicy(database, metrics, settings.trusted_keys)
        shadow = Shadow(database, policy.stored, metrics)
        hooks = (Monitoring(metrics), shadow, recorder)
        throttle = LoginThrottle(settings.login_failures_per_minute, settings.login_failures_burst)
        chosen = ChosenPolicy(policy.current, policy.stored, policy.check_stored)
        gate = PolicyGate(policy.trusted, policy.stored, policy.check, policy.before)
        then = partial(activation_at, database)
        owned, retention = Partitions(owner_url), retention_of(settings)
        catalogue = build(passwords, ring, terms_of(settings), throttle, chosen, gate, then, owned, retention)
        processor = Processor(catalogue, directory, policy.current, units.open, hooks, pulse)
        metrics.watch_audit_queue(log.depth)
        metrics.watch_directory_channel(channel.age)
        for state, place in (("used", 0), ("idle", 1)):
            metrics.watch_pool("main", state, lambda place=place: database.occupancy()[place])  # type: ignore[misc]
        yield Application(
            settings,
            metrics,
            database,
            channel,
            directory,
            policy,
            shadow,
            processor,
            log,
            pulse,
            sequencer,
            Witnessing(database, sequencer, settings.witnesses, metrics),
            PublicTree(database),
            AuthenticationLog(sealer, log, lane, pulse, metrics),
            units,
            ring,
            Uses(),
        )


class _Keypairs:
    """Key pairs for authentication: the directory's, with the secret opened."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._decoys = KeyRing({"decoy": os.urandom(32)}, "decoy")
        self._decoy = self._decoys.seal(bytes(40), "decoy")
        # Opening costs as much as the signature; what is kept is what the directory's cache could open anyway.
        self._open = lru_cache(maxsize=10_000)(app.ring.open)
        self._open_decoy = lru_cache(maxsize=1)(self._decoys.open)

    def remembered(self, access_key: str) -> tuple[StoredCredential, str] | None:
        return self._opened(self._app.directory.remembered_credential(access_key))

    async def find(self, access_key: str) -> tuple[StoredCredential, str] | None:
        return self._opened(await self._app.directory.credential(access_key))

    def _opened(self, stored: StoredCredential | None) -> tuple[StoredCredential, str] | None:
        if stored is None:
            self._open_decoy(self._decoy, "decoy")  # an unknown key costs what a known one does
            return None
        return stored, self._open(stored.sealed_secret, sealed_purpose(stored.access_key)).decode()


def http_app(app: Application, draining: asyncio.Event) -> ASGIApp:
    """The ASGI application: the ungoverned routes, those of actions that anybody may ask for, and behind
    authentication every other route of the catalogue."""
    settings, metrics = app.settings, app.metrics
    streams = EventStreams(app.processor, draining, metrics)
    open_to_all = rest.routes((spec for spec in ALL_SPECS if spec.anonymous), app.processor, streams)
    documents = GraphQLEndpoint(graphql_schema(ALL_SPECS), app.processor)
    signed_in = rest.routes((spec for spec in ALL_SPECS if not spec.anonymous), app.processor, streams)
    governed = Paths([*signed_in, Route(GRAPHQL, documents)], default=rest.nowhere)
    keypairs = _Keypairs(app)
    authenticated = AuthenticationMiddleware(
        governed,
        Forms(
            SignedRequests(keypairs), KeypairTokens(keypairs), BearerTokens(app.directory, terms_of(settings).issuer)
        ),
        app.uses.note,
        AddressLimiter(settings.authentication_failures_per_minute, settings.authentication_failures_burst),
        app.failures,
        metrics,
        app.pulse,
        require_signed_body=settings.require_signed_body,
        partly_open=frozenset({GRAPHQL}),
    )
    health = _health(app, draining)
    described = Described.of(document(ALL_SPECS, VERSION))
    explorer = Route(GRAPHQL, Explorer(authenticated))
    ungoverned = [
        *health.routes(),
        *described.routes(),
        key_set.route(app.directory),
        authzen_metadata.route(settings.public_url),
        *log_tree.routes(app.public_tree),
        explorer,
    ]
    outer: ASGIApp = Paths([*ungoverned, *open_to_all, Mount("", app=authenticated)])
    for layer in (
        Middleware(LimitsMiddleware, max_body=settings.max_body),
        Middleware(ErrorHandlingMiddleware),
        Middleware(RequestIdMiddleware, metrics=metrics),
    ):
        outer = layer.cls(outer, *layer.args, **layer.kwargs)
    return outer


def _health(app: Application, draining: asyncio.Event) -> Health:
    note = FolderNote(app.settings.policy_dir, app.settings.trusted_keys)

    async def serving() -> str:
        if draining.is_set():
            raise Unready("the server is stopping")
        return "serving"

    async def database() -> str:
        try:
            with app.pulse.watched():
                return f"PostgreSQL {await app.database.server_version()}"
        except LogUnavailable as error:
            raise Unready("the database does not answer") from error
        except ChamberlainError as error:
            raise Unready(error.detail) from error

    async def audit() -> str:
        try:
            await app.log.probe()
        except LogUnavailable as error:
            raise Unready("the audit log cannot be written") from error
        return "writable"

    async def policy() -> str:
        return f"version {app.policy.current().digest[:12]}"

    async def channel() -> str:
        if not app.channel.trusted:
            raise Unready("the invalidation channel is silent, so every look-up goes to the database")
        return f"heard {app.channel.age():.1f} s ago"

    async def log_partitions() -> str:
        try:
            return await tell_of_partitions(app.database)
        except PartitionsWanting as error:
            raise Unready(str(error)) from error
        except ChamberlainError as error:
            raise Unready(error.detail) from error

    async def folder() -> str:
        try:
            active = await active_digest(app.database)
            return await note.tell(app.policy.current(), active)
        except ValueError as error:
            raise Unready(str(error)) from error
        except ChamberlainError as error:
            raise Unready(error.detail) from error

    async def tree() -> str:
        try:
            return await tell_of_tree(app.database)
        except TreeLate as error:
            raise Unready(str(error)) from error
        except ChamberlainError as error:
            raise Unready(error.detail) from error

    async def witnesses() -> str:
        try:
            return await app.witnessing.told()
        except ValueError as error:
            raise Unready(str(error)) from error
        except ChamberlainError as error:
            raise Unready(error.detail) from error

    notes = {
        "invalidation_channel": channel,
        "policy_folder": folder,
        "audit_tree": tree,
        "audit_partitions": log_partitions,
    }
    if app.settings.audit_witnesses:
        notes["audit_witnesses"] = witnesses
    return Health(
        {"serving": serving, "database": database, "audit": audit, "policy": policy},
        notes,
        VERSION,
    )
