"""The parent of the server: it binds the ports, keeps N workers alive and adds up what they count.

The supervisor answers no request of the API and knows neither the application nor its database. It owns three
things: the reservation of the address that every worker listens at, so that a worker's death frees no port; the link
to each worker; and the counts of the workers that died.

A worker that dies is replaced, at once the first time, and after a growing pause of at most 5 s while its
replacements die young. Until every worker has been ready once, a start can fail instead: five deaths in a row in
one place, each before it was ready, stop everything with exit code 1 and the last line the worker wrote.

Workers run in sessions of their own: Ctrl-C in a terminal reaches the supervisor alone, and the supervisor
decides. Drain first (a message, then SIGTERM), SIGKILL after ``grace`` seconds or at a second Ctrl-C.
"""

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

import structlog

from server.metrics_endpoint import serving
from server.metrics_merge import Family, Row, decode, fold, merge
from server.worker_process import Worker

COLLECT_TIMEOUT: Final = 0.5
"""Seconds a scrape waits for a worker's counts before it makes do with the last it has."""
ATTEMPTS: Final = 5
"""Deaths in a row, none of them ready, after which a start has failed."""
YOUNG: Final = 5.0
"""Seconds. A worker that dies before has died young; also the longest pause before a replacement."""

_FIRST_PAUSE: Final = 0.1
_DOUBLE_CLICK: Final = 0.5  # some launchers pass on a Ctrl-C that the terminal has already sent to everybody
_BACKLOG: Final = 2048


class StartFailed(Exception):
    """The server cannot start; the message is one line that says why."""


class Supervisor:
    """N workers behind one port, and one ``/metrics`` that is true of all of them.

    ``command`` starts a worker; the arguments of its ``Assignment`` are appended. Place 1 is the housekeeper, and
    so is whoever replaces it. ``port`` and ``metrics_port`` may be 0: the system picks one. ``grace`` is the number
    of seconds a draining worker has; ``drain_delay`` the number it goes on accepting after it was told to drain,
    so that a load balancer which asks for readiness can turn away first.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        workers: int = 2,
        host: str = "127.0.0.1",
        port: int = 8080,
        metrics_host: str = "127.0.0.1",
        metrics_port: int = 9090,
        grace: float = 30.0,
        drain_delay: float = 0.0,
    ) -> None:
        if workers < 1:
            raise ValueError(f"a server needs at least 1 worker, not {workers}")
        self.http_address = (host, port)
        self.metrics_address = (metrics_host, metrics_port)
        self._command = tuple(command)
        self._places = range(1, workers + 1)
        self._grace = grace
        self._drain_delay = drain_delay
        self._log = structlog.get_logger("chamberlain.supervisor")
        self._workers: dict[int, Worker] = {}
        self._been_ready: set[int] = set()
        self._dead: Sequence[Family] = ()
        self._restarts = 0
        self._entering: asyncio.Task[object] | None = None
        self._stopping = asyncio.Event()
        self._stopped_at = 0.0
        self._hurry = asyncio.Event()
        self._settled = asyncio.Event()  # all were ready once, or never will be
        self._failure: StartFailed | None = None

    @property
    def workers(self) -> Mapping[int, Worker]:
        """The workers that live now, by place."""
        return dict(self._workers)

    async def ready(self) -> None:
        """Wait until every worker has been ready once; both addresses are then those bound.

        Raises ``StartFailed`` when it will not come to that.
        """
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Drain and end, as SIGTERM and SIGINT do. Said again half a second later or more, end without draining."""
        now = asyncio.get_running_loop().time()
        if not self._stopping.is_set():
            self._stopped_at = now
            self._stopping.set()
            if self._entering is not None:
                self._entering.cancel()
        elif now - self._stopped_at >= _DOUBLE_CLICK:
            self._hurry.set()

    async def run(
        self,
        around: AbstractAsyncContextManager[Mapping[str, str]] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> int:
        """Run until told to stop, by ``stop``, SIGTERM or SIGINT; returns the exit code for the process. Call it once.

        ``around`` is what the workers stand on, such as the embedded database. It is entered when both ports are
        bound, left when the last worker is gone, and yields environment variables that the workers get in
        addition. A stop while it is being entered cancels it. ``on_ready`` is called once, when all are ready.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            async with AsyncExitStack() as stack:
                reserved = stack.enter_context(_reserved(*self.http_address))
                metrics_listener = stack.enter_context(_listening(*self.metrics_address))
                self.http_address = reserved.getsockname()[:2]
                self.metrics_address = metrics_listener.getsockname()[:2]
                await stack.enter_async_context(serving(metrics_listener, self.collect))
                environment = await self._enter(stack, around) if around is not None else {}
                if not self._stopping.is_set():
                    await self._supervise(reserved, environment, on_ready)
            return 0
        except StartFailed as failure:
            self._failure = failure
            self._log.error("start-failed", reason=str(failure))
            return 1
        finally:
            if not self._settled.is_set():
                self._failure = self._failure or StartFailed("stopped before it was ready")
                self._settled.set()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def collect(self) -> list[Family]:
        """All metrics of the server, now: each worker is asked, and one that is silent is represented by its last."""
        await asyncio.gather(*(worker.channel.collect(COLLECT_TIMEOUT) for worker in self._workers.values()))
        # From here nothing is awaited: a worker is among the living or among the dead, never both or neither.
        living = [decode(worker.channel.snapshot) for worker in self._workers.values() if worker.channel.snapshot]
        return [*self._own(), *merge(self._dead, living)]

    async def _enter(
        self, stack: AsyncExitStack, around: AbstractAsyncContextManager[Mapping[str, str]]
    ) -> Mapping[str, str]:
        """Enter ``around`` in this very task (it may hold task groups or timeouts), and let ``stop`` cancel that."""
        self._entering = asyncio.current_task()
        try:
            if self._stopping.is_set():
                return {}
            return await stack.enter_async_context(around)
        except asyncio.CancelledError:
            if self._stopping.is_set() and self._entering is not None and self._entering.uncancel() == 0:
                return {}
            raise
        finally:
            self._entering = None

    async def _supervise(
        self, reserved: socket.socket, environment: Mapping[str, str], on_ready: Callable[[], None] | None
    ) -> None:
        keepers = [asyncio.create_task(self._keep(place, reserved, environment, on_ready)) for place in self._places]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # Before the stop, a keeper ends only by failing.
            await asyncio.wait({stopping, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            await self._drain(reserved, keepers)
            await stopping
        await asyncio.gather(*keepers)

    async def _keep(
        self,
        place: int,
        reserved: socket.socket,
        environment: Mapping[str, str],
        on_ready: Callable[[], None] | None,
    ) -> None:
        """Keep one place filled until the stop. Raises ``StartFailed``."""

        def started() -> None:
            self._been_ready.add(place)
            if len(self._been_ready) == len(self._places) and not self._settled.is_set():
                self._settled.set()
                if on_ready is not None:
                    asyncio.get_running_loop().call_soon(on_ready)

        died_young = never_ready = 0
        while not self._stopping.is_set():
            ready, age, reason = await self._one_life(place, reserved, environment, started)
            if self._stopping.is_set():
                return
            never_ready = 0 if ready else never_ready + 1
            died_young = died_young + 1 if age < YOUNG else 0
            if never_ready >= ATTEMPTS and not self._settled.is_set():
                raise StartFailed(reason)
            pause = 0.0 if died_young < 2 else min(YOUNG, _FIRST_PAUSE * 2 ** min(died_young - 2, 10))
            self._log.warning("worker-died", worker=place, reason=reason, age=round(age, 3), pause=pause)
            self._restarts += 1
            await _first(self._stopping, timeout=pause)

    async def _one_life(
        self, place: int, reserved: socket.socket, environment: Mapping[str, str], started: Callable[[], None]
    ) -> tuple[bool, float, str]:
        """One worker from birth to burial: was it ever ready, how old did it get in seconds, why did it end."""
        try:
            worker = await Worker.spawn(
                self._command,
                place=place,
                housekeeper=place == self._places[0],
                reserved=reserved,
                environment=environment,
                on_ready=started,
            )
        except OSError as error:
            return False, 0.0, f"cannot start {self._command[0]}: {error.strerror}"
        self._workers[place] = worker
        self._log.info("worker-born", worker=place, pid=worker.pid)
        if self._stopping.is_set():  # it was being born when the others were told
            worker.drain()
            worker.terminate()
        code = await worker.gone(self._grace)
        if worker.channel.snapshot:
            self._dead = fold(self._dead, decode(worker.channel.snapshot))
        del self._workers[place]
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return worker.channel.ready, worker.age, ended if worker.channel.ready else worker.last_line or ended

    async def _drain(self, reserved: socket.socket, keepers: Sequence[asyncio.Task[None]]) -> None:
        """End all workers: those that can, in good order."""
        for worker in self._workers.values():
            worker.drain()
        if self._workers:
            await _first(self._hurry, timeout=self._drain_delay)
        reserved.close()
        for worker in self._workers.values():
            worker.terminate()
        hurried = asyncio.ensure_future(self._hurry.wait())
        leaving = asyncio.ensure_future(asyncio.wait(keepers))
        await asyncio.wait([hurried, leaving], timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for place, worker in self._workers.items():
            self._log.warning("worker-killed", worker=place, hurried=self._hurry.is_set())
            worker.kill()
        await leaving

    def _own(self) -> list[Family]:
        """What only the supervisor knows. ``worker`` is a place, so its values are bounded."""
        living = list(self._workers.items())
        states = Counter({"starting": 0, "ready": 0, "draining": 0, "waiting": len(self._places) - len(living)})
        states.update(worker.state for _, worker in living)
        ages = [(place, worker.channel.age) for place, worker in living]
        memory = [(place, size) for place, worker in living if (size := worker.resident_bytes()) is not None]
        return [
            _gauge("chamberlain_workers", "Places for workers, by what is in them.", "state", states.items()),
            Family(
                "chamberlain_worker_restarts",
                "counter",
                "Workers that died unasked and were replaced.",
                labels=(),
                columns=(("_total", ()),),
                rows=(Row((), (self._restarts,)),),
            ),
            _gauge(
                "chamberlain_worker_snapshot_age_seconds",
                "Seconds since a worker last sent or confirmed its counts; high when its event loop is stuck.",
                "worker",
                ages,
            ),
            _gauge("chamberlain_worker_resident_memory_bytes", "Resident memory of a worker.", "worker", memory),
        ]


def _reserved(host: str, port: int) -> socket.socket:
    """An address bound and not listened at. Workers may bind beside it (``SO_REUSEPORT``); nobody else can have it.

    The option is set after the bind, which therefore fails, as it should, when a stranger has the address already.
    """
    with _listening(host, port) as first:
        address, family = first.getsockname(), first.family
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    reserved.bind(address)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return reserved


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror  # a negative one: a name that does not resolve
        raise StartFailed(f"cannot listen on {host}:{port}: {reason}") from error
    listener.setblocking(False)
    return listener


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[object, float]]) -> Family:
    rows = tuple(Row((str(key),), (value,)) for key, value in values)
    return Family(name, "gauge", text, labels=(label,), columns=(("", ()),), rows=rows)


async def _first(event: asyncio.Event, *, timeout: float) -> None:
    """Wait for ``event``, but not longer than ``timeout`` seconds."""
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except TimeoutError:
        return
