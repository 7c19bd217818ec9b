"""The laws of the process layout, with real processes on the loopback interface."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from server.metrics_endpoint import render
from server.metrics_merge import decode
from server.supervisor import StartFailed, Supervisor
from server.worker_link import Assignment

HERE = Path(__file__).resolve().parent
WORKER = (sys.executable, str(HERE / "tiny_worker.py"))
PATIENCE = 30.0  # seconds after which something that should happen has not
REQUESTS = "chamberlain_http_server_requests_total"

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def foundation() -> AsyncIterator[Mapping[str, str]]:
    yield {"PYTHONPATH": str(HERE.parent), "TINY_SETTING": "from the foundation"}


@asynccontextmanager
async def running(manner: str = "well", *, workers: int = 2, **options: Any) -> AsyncIterator[Supervisor]:
    """A supervisor in this process, ready, and at the end stopped with exit code 0."""
    supervisor = Supervisor((*WORKER, manner), workers=workers, port=0, metrics_port=0, **options)
    task = asyncio.create_task(supervisor.run(foundation()))
    try:
        await asyncio.wait_for(supervisor.ready(), PATIENCE)
        yield supervisor
    finally:
        supervisor.stop()
        assert await asyncio.wait_for(task, PATIENCE) == 0


@asynccontextmanager
async def process(manner: str = "well", workers: int = 2) -> AsyncIterator[asyncio.subprocess.Process]:
    """A supervisor in a process of its own; all it and its workers say comes through its standard output."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "tiny_server.py"),
        manner,
        str(workers),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def parse_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


async def said(child: asyncio.subprocess.Process) -> dict[str, Any]:
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), PATIENCE)
    answer: dict[str, Any] = json.loads(line)
    return answer


async def rest(child: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """What is still said until the last process that holds the output is gone."""
    assert child.stdout is not None
    return [json.loads(line) for line in (await asyncio.wait_for(child.stdout.read(), PATIENCE)).splitlines()]


async def until(happens: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await happens():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def get(address: tuple[str, int], path: str = "/", **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        return await client.get(f"http://{address[0]}:{address[1]}{path}", **options)


async def ask(supervisor: Supervisor) -> dict[str, Any]:
    answer: dict[str, Any] = (await get(supervisor.http_address)).json()
    return answer


async def ask_each(supervisor: Supervisor) -> tuple[dict[int, dict[str, Any]], int]:
    """An answer of every worker, by place, and how many requests that took."""
    answers: dict[int, dict[str, Any]] = {}
    asked = 0

    async def all_answered() -> bool:
        nonlocal asked
        batch = await asyncio.gather(*(ask(supervisor) for _ in range(4)))
        asked += len(batch)
        answers.update((answer["worker"], answer) for answer in batch)
        return len(answers) == len(supervisor.workers)

    await until(all_answered)
    return answers, asked


async def scrape(supervisor: Supervisor) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await get(supervisor.metrics_address, "/metrics")
    assert answer.status_code == 200
    samples = [sample for family in parse_text(answer.text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def counted(samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    found = [value for (n, given), value in samples.items() if n == name and labels.items() <= dict(given).items()]
    assert found, f"no {name}{labels}"
    return sum(found)


async def served(supervisor: Supervisor) -> float:
    """Requests for ``/`` that were counted so far."""
    samples = await scrape(supervisor)
    return sum(v for (name, labels), v in samples.items() if name == REQUESTS and ("route", "/") in labels)


async def replaced(supervisor: Supervisor, place: int, old: int) -> None:
    async def done() -> bool:
        worker = supervisor.workers.get(place)
        return worker is not None and worker.pid != old and worker.state == "ready"

    await until(done)


async def test_one_port_is_served_by_all_workers_and_metrics_are_their_exact_sum() -> None:
    async with running() as supervisor:
        answers, asked = await ask_each(supervisor)
        assert {answer["pid"] for answer in answers.values()} == {w.pid for w in supervisor.workers.values()}
        samples = await scrape(supervisor)
        assert counted(samples, REQUESTS, route="/", method="GET", status_class="2xx") == asked
        seconds = "chamberlain_http_server_request_duration_seconds"
        assert counted(samples, f"{seconds}_count", route="/") == asked
        assert counted(samples, f"{seconds}_bucket", route="/", le="+Inf") == asked
        assert counted(samples, "chamberlain_workers", state="ready") == 2
        assert counted(samples, "chamberlain_worker_restarts_total") == 0
        for worker in ("1", "2"):
            assert counted(samples, "chamberlain_worker_resident_memory_bytes", worker=worker) > 1_000_000
        assert counted(samples, "process_resident_memory_bytes") > 1_000_000


async def test_a_killed_worker_is_replaced_and_what_it_counted_stays_counted() -> None:
    async with running() as supervisor:
        _, asked = await ask_each(supervisor)
        assert await served(supervisor) == asked
        seen = [float(asked)]
        for place in (1, 2, 1):
            old = supervisor.workers[place].pid
            os.kill(old, signal.SIGKILL)
            replacing = asyncio.create_task(replaced(supervisor, place, old))
            while not replacing.done():
                seen.append(await served(supervisor))
            await replacing
        assert seen == [asked] * len(seen)
        _, more = await ask_each(supervisor)
        assert await served(supervisor) == asked + more
        assert counted(await scrape(supervisor), "chamberlain_worker_restarts_total") == 3


async def test_exactly_one_worker_keeps_house_and_so_does_its_replacement() -> None:
    async with running() as supervisor:
        for victim in (1, 2):
            old = supervisor.workers[victim].pid
            os.kill(old, signal.SIGKILL)
            await replaced(supervisor, victim, old)
            answers, _ = await ask_each(supervisor)
            assert {place: answer["housekeeper"] for place, answer in answers.items()} == {1: True, 2: False}
            assert answers[victim]["pid"] != old


async def test_a_scrape_asks_the_workers_and_does_not_wait_for_what_they_send_unasked() -> None:
    async with running("quiet") as supervisor:
        _, asked = await ask_each(supervisor)
        assert await served(supervisor) == asked


async def test_what_a_worker_sent_unasked_is_kept_when_it_is_killed_before_any_scrape() -> None:
    async with running(workers=1) as supervisor:
        for _ in range(5):
            await ask(supervisor)
        worker = supervisor.workers[1]

        async def sent() -> bool:
            families = decode(worker.channel.snapshot or b"[]")
            return [s.value for f in families for s in f.samples() if s.name == REQUESTS] == [5.0]

        await until(sent)
        os.kill(worker.pid, signal.SIGKILL)
        await replaced(supervisor, 1, worker.pid)
        assert await served(supervisor) == 5


async def test_a_worker_that_is_told_to_leave_takes_no_count_with_it() -> None:
    async with running(workers=1) as supervisor:
        for _ in range(5):
            await ask(supervisor)
        old = supervisor.workers[1].pid
        os.kill(old, signal.SIGTERM)  # at once: nothing was scraped, and perhaps nothing sent yet
        await replaced(supervisor, 1, old)
        assert await served(supervisor) == 5


async def test_a_silent_worker_is_scraped_from_memory_and_its_silence_shows() -> None:
    async with running() as supervisor:
        _, asked = await ask_each(supervisor)
        assert await served(supervisor) == asked
        silent = supervisor.workers[2].pid
        os.kill(silent, signal.SIGSTOP)
        try:
            samples = await scrape(supervisor)
            age = "chamberlain_worker_snapshot_age_seconds"
            assert counted(samples, REQUESTS, route="/") == asked
            assert counted(samples, age, worker="2") >= 0.5 > counted(samples, age, worker="1")
        finally:
            os.kill(silent, signal.SIGCONT)


async def test_workers_stand_on_the_foundation_and_outside_the_terminal_s_session() -> None:
    async with running(workers=1) as supervisor:
        answer = await ask(supervisor)
        assert answer["setting"] == "from the foundation"
        assert os.getsid(answer["pid"]) == answer["pid"]


async def test_a_request_that_has_begun_is_answered_before_the_end() -> None:
    async with running() as supervisor:
        slow = asyncio.create_task(get(supervisor.http_address, "/slow"))

        async def begun() -> bool:
            return counted(await scrape(supervisor), "chamberlain_inflight_requests") == 1

        await until(begun)
        supervisor.stop()
        assert (await slow).json()["draining"] is True


async def test_during_the_drain_delay_workers_still_serve_but_know_of_the_end() -> None:
    async with running(drain_delay=PATIENCE) as supervisor:
        assert (await ask(supervisor))["draining"] is False
        supervisor.stop()

        async def all_know() -> bool:
            answers, _ = await ask_each(supervisor)
            return all(answer["draining"] for answer in answers.values())

        await until(all_know)

        async def hurried() -> bool:
            supervisor.stop()
            return not supervisor.workers

        await until(hurried)


async def test_openmetrics_is_spoken_to_who_asks_for_it_with_exemplars() -> None:
    async with running(workers=1) as supervisor:
        await ask(supervisor)
        accept = {"accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
        answer = await get(supervisor.metrics_address, "/metrics", headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        samples = [sample for family in parse_openmetrics(answer.text) for sample in family.samples]
        exemplars = [sample.exemplar.labels for sample in samples if sample.exemplar]
        assert exemplars == [{"trace_id": "0af7651916cd43dd8448eb211c80319c"}]


async def test_the_metrics_port_serves_two_paths_and_reads_only() -> None:
    async with running(workers=1) as supervisor:
        live = await get(supervisor.metrics_address, "/livez")
        assert (live.status_code, live.text) == (200, "ok\n")
        missing = await get(supervisor.metrics_address, "/users")
        assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
        assert missing.headers["content-type"] == "application/problem+json"
        async with httpx.AsyncClient() as client:
            host, port = supervisor.metrics_address
            written = await client.post(f"http://{host}:{port}/metrics")
        assert (written.status_code, written.headers["allow"]) == (405, "GET, HEAD")


async def test_a_server_whose_workers_cannot_start_says_why_in_their_words() -> None:
    supervisor = Supervisor((*WORKER, "broken"), port=0, metrics_port=0)
    task = asyncio.create_task(supervisor.run(foundation()))
    with pytest.raises(StartFailed, match=r"^ValueError: no such database$"):
        await asyncio.wait_for(supervisor.ready(), PATIENCE)
    assert await task == 1
    assert not supervisor.workers


async def test_a_worker_that_does_not_exist_is_named() -> None:
    supervisor = Supervisor(["/no/such/worker"], port=0, metrics_port=0)
    assert await supervisor.run() == 1
    with pytest.raises(StartFailed, match=r"^cannot start /no/such/worker: No such file or directory$"):
        await supervisor.ready()


async def test_a_port_that_is_taken_is_named_and_nothing_is_started() -> None:
    entered = []

    @asynccontextmanager
    async def database() -> AsyncIterator[Mapping[str, str]]:
        entered.append("database")
        yield {}

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = Supervisor([*WORKER, "well"], port=port, metrics_port=0)
        assert await supervisor.run(database()) == 1
        with pytest.raises(StartFailed, match=rf"^cannot listen on 127.0.0.1:{port}: Address already in use$"):
            await supervisor.ready()
    assert entered == []


async def test_a_stop_while_the_foundation_is_laid_ends_it_there() -> None:
    waiting, steps = asyncio.Event(), []

    @asynccontextmanager
    async def database() -> AsyncIterator[Mapping[str, str]]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield {}
        finally:
            steps.append("cleaned up")

    supervisor = Supervisor([*WORKER, "well"], port=0, metrics_port=0)
    task = asyncio.create_task(supervisor.run(database()))
    await waiting.wait()
    supervisor.stop()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    assert done, "the stop did not reach it"
    assert task.result() == 0
    assert steps == ["cleaned up"]
    with pytest.raises(StartFailed, match="stopped before it was ready"):
        await supervisor.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_everything_in_order_with_exit_code_0(number: signal.Signals) -> None:
    async with process() as child:
        assert await said(child) == {"foundation": "laid"}
        address = tuple((await said(child))["http"])
        assert (await get((address[0], address[1]))).status_code == 200
        child.send_signal(number)
        assert await rest(child) == [{"foundation": "removed"}]  # after the workers: they hold this pipe as well
        assert await asyncio.wait_for(child.wait(), PATIENCE) == 0
        with pytest.raises(httpx.ConnectError):
            await get((address[0], address[1]))


async def test_a_second_ctrl_c_ends_workers_that_do_not_leave() -> None:
    async with process("stubborn") as child:
        await said(child)
        await said(child)
        ending = asyncio.create_task(rest(child))

        while not ending.done():  # the first asks; one that follows after a while insists
            child.send_signal(signal.SIGINT)
            await asyncio.wait({ending}, timeout=1.0)
        assert (await ending)[-1] == {"foundation": "removed"}
        assert await asyncio.wait_for(child.wait(), PATIENCE) == 0


async def test_workers_that_do_not_leave_are_killed_when_their_grace_is_over() -> None:
    async with running("stubborn", grace=0.5) as supervisor:
        supervisor.stop()

        async def gone() -> bool:
            return not supervisor.workers

        await until(gone)


async def test_workers_do_not_outlive_a_supervisor_that_was_killed() -> None:
    async with process() as child:
        await said(child)
        assert len((await said(child))["pids"]) == 2
        child.kill()
        await child.wait()
        assert await rest(child) == []  # the end of the pipe: no worker holds it any more


async def test_workers_that_are_stuck_do_not_outlive_it_either() -> None:
    async with process("stubborn") as child:
        await said(child)
        for pid in (await said(child))["pids"]:
            os.kill(pid, signal.SIGTERM)
            assert await said(child) == {"stuck": True}
        child.kill()
        await child.wait()
        assert await rest(child) == []


async def test_a_failed_start_is_exit_code_1_with_the_reason_and_the_foundation_removed() -> None:
    async with process("broken") as child:
        _, errors = await asyncio.wait_for(child.communicate(), PATIENCE)
        assert child.returncode == 1
        assert errors.count(b"loading\n") >= 5
        assert "ValueError: no such database" in errors.decode().splitlines()[-1]


def test_an_assignment_survives_the_command_line() -> None:
    for housekeeper in (True, False):
        assignment = Assignment(worker=2, listen_fd=7, link_fd=8, log_fd=9, housekeeper=housekeeper)
        assert Assignment.parse(assignment.arguments()) == assignment


def test_a_server_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 worker"):
        Supervisor(WORKER, workers=0)


def test_an_exposition_without_any_worker_is_well_formed() -> None:
    text, _ = render([], "application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert parse_openmetrics(text.decode())
