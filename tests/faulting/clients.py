"""The clients: each asks for one thing after the other, over REST and GraphQL, and notes what it asked and was told.

Each changes domains of its own, so that it alone knows what they must look like. Every request bears an id of the
client's making, by which its records are found even if no answer came.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from server.cli.signing_client import SignatureAuth
from tests.e2e.line import Key
from tests.faulting.history import STRANGER, Told

CLIENTS = 6
ANSWER_SECONDS = 12.0
"""Who has no answer by then has none."""
REASONS = ("outcome-unknown", "audit-unavailable", "database-unavailable", "deadline-exceeded", "too-many-requests")
_CHANGE = "mutation ($id: ID!, $input: DomainChange!) { adminUpdateDomain(id: $id, input: $input) { id } }"


@dataclass
class Crowd:
    """All clients of one round. ``offset`` is how far the server's clock is from ours."""

    endpoint: str
    root: Key
    prefix: str
    choice: random.Random
    offset: Callable[[], timedelta] = timedelta
    told: list[Told] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        for number in range(CLIENTS):
            client = _Client(self, f"{self.prefix}-{number}", random.Random(self.choice.random()))
            self._tasks.append(asyncio.create_task(client.run()))
        self._tasks.append(asyncio.create_task(_stranger(self)))

    async def stop(self) -> None:
        """Let each finish what it has asked."""
        self.prefix = ""
        await asyncio.gather(*self._tasks)

    @property
    def going(self) -> bool:
        return bool(self.prefix)

    def serves_at(self, endpoint: str) -> bool:
        return self.going and self.endpoint == endpoint

    def last_trouble(self) -> float:
        """When somebody was last answered by a failure of the server's, or not at all; by the monotonic clock."""
        return max((told.ended for told in self.told if told.status == 0 or told.status >= 500), default=0.0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset()


class _Client:
    def __init__(self, crowd: Crowd, name: str, choice: random.Random) -> None:
        self._crowd = crowd
        self._name = name
        self._choice = choice
        self._count = 0
        self._mine: list[str] = []

    async def run(self) -> None:
        while self._crowd.going:
            sign = SignatureAuth(
                self._crowd.root.access_key, self._crowd.root.secret_key, sign_body=True, now=self._crowd.now
            )
            endpoint = self._crowd.endpoint
            async with client_of(endpoint, sign) as http:
                while self._crowd.serves_at(endpoint):
                    told, _ = await self._turn(http)
                    if told.status in (0, 503):
                        await asyncio.sleep(0.02)

    async def _turn(self, http: httpx.AsyncClient) -> tuple[Told, Any]:
        self._count += 1
        text = f"{self._name} {self._count}"
        if len(self._mine) < 2:
            told, answer = await self._ask(
                http,
                "create",
                1,
                "POST",
                "/admin/domains",
                {"name": f"{self._name}-{self._count}", "description": text},
            )
            if told.done:
                self._mine.append(answer["id"])
            return told, answer
        one, kind = self._choice.choice(self._mine), self._choice.random()
        path = f"/admin/domains/{one}"
        if kind < 0.40:
            return await self._ask(http, "update", 1, "PATCH", path, {"description": text})
        if kind < 0.52:
            given = {"query": _CHANGE, "variables": {"id": one, "input": {"description": text}}}
            return await self._ask(http, "graphql", 1, "POST", "/graphql", given)
        if kind < 0.62:
            items = [{"id": key, "change": {"description": text}} for key in self._mine[:2]]
            return await self._ask(http, "batch", 2, "POST", "/admin/domains/batch_update", {"items": items})
        if kind < 0.68:
            self._mine.remove(one)  # whatever comes of it
            return await self._ask(http, "delete", 1, "DELETE", path)
        if kind < 0.88:
            return await self._ask(http, "get", 0, "GET", path)
        if kind < 0.94:
            return await self._ask(http, "search", 0, "GET", "/admin/domains?limit=2")
        return await self._ask(http, "missing", 0, "GET", f"/admin/domains/{uuid4()}")

    async def _ask(
        self, http: httpx.AsyncClient, what: str, makes: int, method: str, path: str, body: object = None
    ) -> tuple[Told, Any]:
        clock = self._crowd.offset()
        told, answer = await ask(http, what, makes, method, path, body)
        told = replace(told, overtaken=self._crowd.offset() != clock)
        self._crowd.told.append(told)
        return told, answer


async def _stranger(crowd: Crowd) -> None:
    """Signs badly, again and again."""
    while crowd.going:
        sign = SignatureAuth(crowd.root.access_key, "not the secret", sign_body=True, now=crowd.now)
        endpoint = crowd.endpoint
        async with client_of(endpoint, sign) as http:
            while crowd.serves_at(endpoint):
                told, _ = await ask(http, STRANGER, 0, "GET", "/auth/whoami")
                crowd.told.append(told)
                await asyncio.sleep(0.02)


def client_of(endpoint: str, auth: httpx.Auth) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=endpoint, auth=auth, timeout=ANSWER_SECONDS, trust_env=False)


async def ask(
    http: httpx.AsyncClient, what: str, makes: int, method: str, path: str, body: object = None
) -> tuple[Told, Any]:
    """One request, and what was told."""
    request_id, begun = uuid4().hex, time.monotonic()
    problem: dict[str, Any] = {}
    status, answer, retry_after, silent = 0, None, True, False
    try:
        response = await http.request(method, path, json=body, headers={"x-request-id": request_id})
        status, retry_after = response.status_code, "retry-after" in response.headers
        try:
            answer = response.json()
        except ValueError:
            answer = {"code": f"no JSON: {response.text[:80]}"}
            status = status if status >= 400 else 500
        problem = answer if status >= 400 else {}
        if what == "graphql" and status == 200 and answer.get("errors"):
            problem = answer["errors"][0]["extensions"]
            status, retry_after = problem["status"], "retry_after" in problem
    except httpx.TimeoutException:
        silent = True
    except httpx.TransportError:
        pass  # the connection was ended
    code = str(problem.get("code", ""))
    reason = next((known for known in REASONS if code.endswith(known)), code)
    action_id, ended = problem.get("action_id"), time.monotonic()
    return Told(request_id, what, makes, status, reason, action_id, retry_after, begun, ended, silent), answer
