"""Requests per second of Chamberlain against the bare server, and of its surfaces against each other, as the median
ratio of many short turns.

Both servers stand side by side on one PostgreSQL, idle while the other works; they take turns, so that whatever else
the machine does falls on both. The requests of a turn are counted, not timed out: as many as the server answered in a
second of its first turn.
"""

import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
from sqlalchemy import make_url

from server.cli.signing_client import Credentials, SignedClient
from server.embedded import DatabaseUrls
from tests.bench import bare, servers
from tests.bench.load import Job, Load
from tests.bench.rows import Row
from tests.bench.servers import BenchFailed, Generator, Served

USERS = 64
"""Each of the load's connections has users of its own: what is measured is not a fight for one row."""
BATCHERS = 4
"""Connections that send batches, each with users of its own, as many as a batch holds."""
GET_FLOOR = 40.0
BEARER_FLOOR = 45.0
GRAPHQL_FLOOR = 40.0
PATCH_FLOOR = 35.0
BATCH_FLOOR = 25.0
MEMORY_FLOOR = 130.0
RECORDED_FLOORS = (("GET", "reads", 85.0), ("PATCH", "mutations", 80.0))
"""Of the requests/s of the same server where it records nothing."""
_BODY = '{"description": "number %d"}'
_QUERY = """
query User($id: ID!) {
  domainUser(scope: {domain: "research"}, id: $id) {
    id username email fullName description domainId status needPasswordChange passwordChangedAt allowedClientIp
    sudoSessionEnabled createdAt updatedAt deleted version
  }
}
"""


@dataclass(frozen=True)
class Plan:
    """How much is measured: ``pairs`` of turns of about ``seconds`` each, over ``connections``; ``batch`` is how many
    users one batch changes."""

    pairs: int = 9
    seconds: float = 1.2
    warm_up: int = 1000
    connections: int = 64
    batch: int = 100
    workers: int = min(os.cpu_count() or 1, 4)  # as many as `chamberlain serve` starts unasked


QUICK = Plan(pairs=1, seconds=0.0, warm_up=64, batch=8)


async def measure(place: Path, plan: Plan) -> list[Row]:
    data = place / "data"
    async with servers.postgres(place) as urls, servers.generator() as generator:
        settings = {
            "CHAMBERLAIN_DATABASE_URL": urls.application,
            "CHAMBERLAIN_MIGRATOR_DATABASE_URL": urls.migrator,
        }
        async with servers.chamberlain(data, settings, plan.workers) as ours:
            jobs = await _jobs(data, ours, urls, plan)
            async with servers.bare_server(place, urls.application, plan.workers) as theirs:
                base = {name: _unsigned(jobs[name], theirs.port) for name in ("GET", "PATCH")}
                turns = _Turns(generator, plan)
                rows = await turns.against_bare("GET of one user", jobs["GET"], base["GET"], GET_FLOOR)
                rows += await turns.against_bare(
                    "GET of one user with a bearer token", jobs["bearer"], base["GET"], BEARER_FLOOR
                )
                rows += await turns.against_bare("PATCH of one user", jobs["PATCH"], base["PATCH"], PATCH_FLOOR)
                rows.append(await turns.graphql(jobs["graphql"], jobs["bearer"]))
                rows.append(await turns.batch(jobs["batch"], jobs["PATCH"]))
                async with servers.unrecorded(data, settings, plan.workers) as silent:
                    for name, of_what, floor in RECORDED_FLOORS:
                        base_job = replace(jobs[name], name=f"{name} unrecorded", port=silent.port)
                        rows.append(await turns.recorded(of_what, jobs[name], base_job, floor))
                await _all_recorded(urls, ours, generator, plan)
            rows.append(_memory(ours))
        async with servers.echo() as port:
            count = max(plan.warm_up, int(20_000 * plan.seconds))
            ceiling = await generator.run(replace(base["GET"], port=port, count=count))
        rows.append(Row("load generator, ceiling", ceiling.rate, "requests/s"))
    return rows


async def _jobs(data: Path, ours: Served, urls: DatabaseUrls, plan: Plan) -> Mapping[str, Job]:
    """Set the scene through the API: a domain, its admin who signs the load, the users that are read and changed."""
    credentials = Credentials.from_file(data / "credentials.json")
    endpoint = f"http://127.0.0.1:{ours.port}"
    with SignedClient(endpoint, credentials.access_key, credentials.secret_key) as root:

        def post(path: str, given: Mapping[str, object]) -> dict[str, str]:
            answer = root.request("POST", path, json=given)
            if answer.status_code != 201:
                raise BenchFailed(f"POST {path}: {answer.status_code} {answer.text}")
            told: dict[str, str] = answer.json()
            return told

        def user(name: str, password: str) -> str:
            given = {"username": name, "email": f"{name}@example.org", "full_name": name, "password": password}
            return post("/domains/research/users", given)["id"]

        post("/admin/domains", {"name": "research"})
        password = uuid4().hex
        dana = user("dana", password)
        post("/domains/research/role-bindings", {"user_id": dana, "role": "domain_admin"})
        key = post(f"/users/{dana}/keypairs", {})
        count = max(USERS, BATCHERS * plan.batch)
        everybody = [user(f"user-{number}", uuid4().hex) for number in range(count)]
    async with httpx.AsyncClient(base_url=endpoint) as client:
        given = {"domain": "research", "username": "dana", "password": password}
        bearer = (await client.post("/auth/authorize", json=given)).raise_for_status().json()["access_token"]
    await _copy_users(urls)
    users = everybody[:USERS]
    paths = [f"/domains/research/users/{user}" for user in users]
    get = Job("GET", ours.port, "GET", paths, plan.warm_up, plan.connections)
    signed = replace(get, access_key=key["access_key"], secret_key=key["secret_key"])
    asked = [json.dumps({"query": _QUERY, "variables": {"id": user}}) for user in users]
    batches = [
        json.dumps({"items": [{"id": user, "change": {"description": "number %d"}} for user in users]})
        for users in (everybody[start : start + plan.batch] for start in range(0, BATCHERS * plan.batch, plan.batch))
    ]
    return {
        "GET": signed,
        "PATCH": replace(signed, name="PATCH", method="PATCH", bodies=[_BODY] * len(paths)),
        "bearer": replace(get, name="bearer", bearer=bearer),
        "graphql": replace(
            get, name="graphql", method="POST", paths=["/graphql"] * len(users), bodies=asked, bearer=bearer
        ),
        "batch": replace(
            signed,
            name="batch",
            method="POST",
            paths=["/domains/research/users/batch_update"] * BATCHERS,
            bodies=batches,
            connections=BATCHERS,
        ),
    }


def _unsigned(job: Job, port: int) -> Job:
    """The same work, asked of the bare server."""
    paths = [path.removeprefix("/domains/research") for path in job.paths]
    return replace(job, port=port, paths=paths, access_key="", secret_key="")


async def _copy_users(urls: DatabaseUrls) -> None:
    """The bare server's table: the same columns, indexes and rows."""
    connection = await asyncpg.connect(urls.migrator)
    try:
        await connection.execute(f"CREATE TABLE {bare.TABLE} (LIKE users INCLUDING ALL)")
        await connection.execute(f"INSERT INTO {bare.TABLE} SELECT * FROM users")
        role = make_url(urls.application).username
        await connection.execute(f'GRANT SELECT, UPDATE ON {bare.TABLE} TO "{role}"')
    finally:
        await connection.close()


class _Turns:
    """Jobs that take turns with what they are compared with."""

    def __init__(self, generator: Generator, plan: Plan) -> None:
        self._generator = generator
        self._plan = plan

    async def against_bare(self, name: str, ours: Job, base: Job, floor: float) -> list[Row]:
        pairs = await self._pairs(ours, base)
        ratio = statistics.median(100 * own.rate / bare_load.rate for own, bare_load in pairs)
        typical = [statistics.median(load.rate for load in side) for side in zip(*pairs, strict=True)]
        return [
            Row(f"{name}, share of the bare server's requests/s", ratio, "%", floor),
            Row(name, typical[0], "requests/s"),
            Row(f"{name}, bare", typical[1], "requests/s"),
            Row(f"{name}, latency p50", statistics.median(own.p50 for own, _ in pairs), "ms"),
            Row(f"{name}, latency p99", statistics.median(own.p99 for own, _ in pairs), "ms"),
            Row(f"{name}, bare, latency p99", statistics.median(load.p99 for _, load in pairs), "ms"),
        ]

    async def recorded(self, name: str, ours: Job, unrecorded: Job, floor: float) -> Row:
        pairs = await self._pairs(ours, unrecorded)
        ratio = statistics.median(100 * recorded.rate / silent.rate for recorded, silent in pairs)
        return Row(f"audited {name}, share of the same with recording off", ratio, "%", floor)

    async def graphql(self, ours: Job, rest: Job) -> Row:
        pairs = await self._pairs(ours, rest)
        ratio = statistics.median(100 * graphql.rate / load.rate for graphql, load in pairs)
        return Row("get of one user by GraphQL, share of REST's requests/s", ratio, "%", GRAPHQL_FLOOR)

    async def batch(self, ours: Job, single: Job) -> Row:
        """The time that a change takes as one of a batch, against the time that it takes alone."""
        pairs = await self._pairs(ours, single)
        ratio = statistics.median(100 * alone.rate / (batch.rate * self._plan.batch) for batch, alone in pairs)
        name = f"batch of {self._plan.batch} updates, share of the cost of as many single ones"
        return Row(name, ratio, "%", BATCH_FLOOR, "at most")

    async def _pairs(self, ours: Job, base: Job) -> list[tuple[Load, Load]]:
        ours, base = await self._sized(ours), await self._sized(base)
        pairs: list[tuple[Load, Load]] = []
        for number in range(self._plan.pairs):
            if number % 2:
                base_load = await self._generator.run(base)
                pairs.append((await self._generator.run(ours), base_load))
            else:
                own_load = await self._generator.run(ours)
                pairs.append((own_load, await self._generator.run(base)))
        return pairs

    async def _sized(self, job: Job) -> Job:
        """Warm up, then make a turn as long as planned."""
        warm_up = self._plan.warm_up if job.name != "batch" else max(BATCHERS, self._plan.warm_up // self._plan.batch)
        job = replace(job, count=warm_up)
        await self._generator.run(job)
        rate = (await self._generator.run(job)).rate
        return replace(job, count=max(warm_up, int(rate * self._plan.seconds)))


async def _all_recorded(urls: DatabaseUrls, ours: Served, generator: Generator, plan: Plan) -> None:
    """What was measured is what was promised: a record in the log for each request that was answered, and for each
    part of a batch."""
    answered = {name: generator.answered[ours.port, name] for name in ("GET", "bearer", "graphql", "PATCH", "batch")}
    promised = {
        "domain_user": answered["GET"] + answered["bearer"] + answered["graphql"],
        "domain_update_user": answered["PATCH"] + answered["batch"] * plan.batch,
        "domain_batch_update_users": answered["batch"],
    }
    connection = await asyncpg.connect(urls.migrator)
    try:
        for action, count in promised.items():
            recorded = await connection.fetchval("SELECT count(*) FROM audit_record WHERE action = $1", action)
            if recorded != count:
                raise BenchFailed(f"{count} times {action} was answered, and {recorded} were recorded")
    finally:
        await connection.close()


def _memory(ours: Served) -> Row:
    workers = ours.workers()
    if not workers:
        raise BenchFailed("the server has no workers")
    largest = max(servers.resident_mib(pid) for pid in workers)
    return Row("memory of one worker after load", largest, "MiB", MEMORY_FLOOR, "at most")
