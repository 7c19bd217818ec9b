"""Requests per second of Chamberlain against the bare server, as the median ratio of many short turns.

Both servers stand side by side on one PostgreSQL, idle while the other works; they take turns, so that whatever else
the machine does falls on both. The requests of a turn are counted, not timed out: as many as the server answered in a
second of its first turn.
"""

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

from server.cli.signing_client import Credentials, SignedClient
from server.embedded import DatabaseUrls
from tests.bench import bare, servers
from tests.bench.load import Job, Load
from tests.bench.rows import Row
from tests.bench.servers import BenchFailed, Generator, Served

USERS = 32
"""Each of the load's connections has users of its own: what is measured is not a fight for one row."""
GET_FLOOR = 40.0
PATCH_FLOOR = 35.0
MEMORY_FLOOR = 130.0
_BODY = '{"description": "number %d"}'


@dataclass(frozen=True)
class Plan:
    """How much is measured: ``pairs`` of turns of about ``seconds`` each, over ``connections``."""

    pairs: int = 9
    seconds: float = 1.2
    warm_up: int = 1000
    connections: int = 32
    workers: int = min(os.cpu_count() or 1, 4)  # as many as `chamberlain serve` starts unasked


QUICK = Plan(pairs=1, seconds=0.0, warm_up=32)


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
                base = {name: _unsigned(job, theirs.port) for name, job in jobs.items()}
                rows = await _compare("GET", jobs["GET"], base["GET"], generator, plan, GET_FLOOR)
                rows += await _compare("PATCH", jobs["PATCH"], base["PATCH"], generator, plan, PATCH_FLOOR)
                await _all_recorded(urls, ours, generator)
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

        def user(name: str) -> str:
            given = {"username": name, "email": f"{name}@example.org", "full_name": name, "password": uuid4().hex}
            return post("/domains/research/users", given)["id"]

        post("/admin/domains", {"name": "research"})
        dana = user("dana")
        post("/domains/research/role-bindings", {"user_id": dana, "role": "domain_admin"})
        key = post(f"/users/{dana}/keypairs", {})
        users = [user(f"user-{number}") for number in range(USERS)]
    await _copy_users(urls)
    paths = [f"/domains/research/users/{user}" for user in users]
    job = Job(ours.port, "GET", paths, plan.warm_up, plan.connections, "", key["access_key"], key["secret_key"])
    return {"GET": job, "PATCH": replace(job, method="PATCH", body=_BODY)}


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


async def _compare(name: str, ours: Job, base: Job, generator: Generator, plan: Plan, floor: float) -> list[Row]:
    ours, base = await _sized(ours, generator, plan), await _sized(base, generator, plan)
    pairs: list[tuple[Load, Load]] = []
    for number in range(plan.pairs):
        if number % 2:
            bare_load = await generator.run(base)
            pairs.append((await generator.run(ours), bare_load))
        else:
            own_load = await generator.run(ours)
            pairs.append((own_load, await generator.run(base)))
    ratio = statistics.median(100 * own.rate / bare_load.rate for own, bare_load in pairs)
    typical = [statistics.median(load.rate for load in side) for side in zip(*pairs, strict=True)]
    return [
        Row(f"{name} of one user, share of the bare server's requests/s", ratio, "%", floor),
        Row(f"{name} of one user", typical[0], "requests/s"),
        Row(f"{name} of one user, bare", typical[1], "requests/s"),
        Row(f"{name} of one user, latency p50", statistics.median(own.p50 for own, _ in pairs), "ms"),
        Row(f"{name} of one user, latency p99", statistics.median(own.p99 for own, _ in pairs), "ms"),
        Row(f"{name} of one user, bare, latency p99", statistics.median(load.p99 for _, load in pairs), "ms"),
    ]


async def _sized(job: Job, generator: Generator, plan: Plan) -> Job:
    """Warm up, then make a turn as long as planned."""
    await generator.run(job)
    rate = (await generator.run(job)).rate
    return replace(job, count=max(plan.warm_up, int(rate * plan.seconds)))


async def _all_recorded(urls: DatabaseUrls, ours: Served, generator: Generator) -> None:
    """What was measured is what was promised: a record in the log for each request that was answered."""
    connection = await asyncpg.connect(urls.migrator)
    try:
        for method, action in (("GET", "domain_user"), ("PATCH", "domain_update_user")):
            recorded = await connection.fetchval("SELECT count(*) FROM audit_record WHERE action = $1", action)
            answered = generator.answered[ours.port, method]
            if recorded != answered:
                raise BenchFailed(f"{answered} requests {method} were answered, {recorded} were recorded")
    finally:
        await connection.close()


def _memory(ours: Served) -> Row:
    workers = ours.workers()
    if not workers:
        raise BenchFailed("the server has no workers")
    largest = max(servers.resident_mib(pid) for pid in workers)
    return Row("memory of one worker after load", largest, "MiB", MEMORY_FLOOR, "at most")
