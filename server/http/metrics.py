"""The metrics of one worker: their names, labels, help texts and buckets, stated once, and how to feed them.

One ``Metrics`` per worker, with a registry of its own: no process-wide registry, no multiprocess files. Its
``snapshot`` goes over the worker link, and the supervisor adds up those of all workers. How a gauge of several
workers becomes one number stands in its declaration (``rule``) and travels with the snapshot.

Labels are bounded. Their values come from the code (an action, a stage, an outcome) or from the matched route,
never from what a caller wrote; and should that be broken one day, a family stops growing at ``MOST_SERIES`` label
sets and counts all further ones together, as ``overflow``. No id of a user or an object is ever a label.

This module knows no request, no policy and no database: whoever knows something calls a method here.
"""

import asyncio
import contextlib
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson

from audit.accounts import Settled
from server.metrics_merge import Kind, Rule

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds of every duration, in seconds: half a millisecond to ten seconds."""
BATCHES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STAGES: Final = ("authentication", "authorize", "validate", "handler", "record")
MOST_SERIES: Final = 2000
"""Label sets a family may have in one worker; a histogram has one series per bucket for each."""
LONGEST_TRACE: Final = 64
ROWS_AT_ONCE: Final = 16

_OWED: Final = "owed"

_Exemplar = tuple[dict[str, str], float, float]
"""Labels, the value observed, and the Unix time of it in seconds."""


class _Series(Protocol):
    """What one label set has counted: its numbers, in the order of its family's columns."""

    def values(self) -> list[float]: ...
    def exemplars(self) -> Sequence[_Exemplar | None]: ...


class _Count:
    """Of a counter: it only grows."""

    __slots__ = ("_total",)

    def __init__(self) -> None:
        self._total = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self._total += amount

    def values(self) -> list[float]:
        return [self._total]

    def exemplars(self) -> Sequence[_Exemplar | None]:
        return ()


class _Level:
    """Of a gauge: what it was set to, or what a function says at the moment of the snapshot."""

    __slots__ = ("_read", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        self._value = value

    def inc(self, amount: float = 1.0) -> None:
        self._value += amount

    def watch(self, read: Callable[[], float]) -> None:
        self._read = read

    def values(self) -> list[float]:
        if self._read is None:
            return [self._value]
        with contextlib.suppress(Exception):
            return [float(self._read())]
        return [math.nan]

    def exemplars(self) -> Sequence[_Exemplar | None]:
        return ()


class _Spread:
    """Of a histogram: how many observations fell under each bound, how many there were, and their sum."""

    __slots__ = ("_bounds", "_examples", "_fell", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._fell = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._examples: dict[int, _Exemplar] = {}

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        place = bisect_left(self._bounds, amount)
        self._fell[place] += 1
        self._sum += amount
        if exemplar is not None:
            self._examples[place] = (exemplar, amount, time.time())

    def values(self) -> list[float]:
        total = 0.0
        buckets = [total := total + fell for fell in self._fell]
        return [*buckets, total, self._sum]

    def exemplars(self) -> Sequence[_Exemplar | None]:
        return [self._examples.get(place) for place in range(len(self._fell) + 2)] if self._examples else ()


S = TypeVar("S", bound=_Series)


class _Table(Generic[S]):
    """A family, with what makes it cheap to feed and to send: its series at hand, and its rows ready-made.

    ``table(value, ...)`` is the series to feed, at once: a dictionary look-up. It marks the series' row, and a
    snapshot renders only marked rows anew (and all of a gauge, which changes without being told). All of this
    happens on the event loop's thread. ``columns`` are a suffix and further labels for each of a row's numbers.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        text: str,
        columns: Sequence[tuple[str, dict[str, str]]],
        make: Callable[[], S],
        labels: Sequence[str],
        rule: Rule = "sum",
    ) -> None:
        self._declaration = (name, kind, text, rule, labels, columns)
        self._changes_untold = kind == "gauge"
        self._make = make
        self._overflow = ("overflow",) * len(labels)
        self._rows: dict[tuple[str, ...], orjson.Fragment] = {}
        self._marked: set[tuple[str, ...]] = set()
        self._series: dict[tuple[str, ...], S] = {}
        if not labels:
            self()

    def __call__(self, *values: str) -> S:
        series = self._series.get(values)
        if series is None:
            if len(self._series) >= MOST_SERIES:
                values = self._overflow
            series = self._series.get(values) or self._series.setdefault(values, self._make())
        self._marked.add(values)
        return series

    def clear(self) -> None:
        for kept in (self._series, self._rows, self._marked):
            kept.clear()

    def stale(self) -> Sequence[tuple[str, ...]]:
        return tuple(self._series if self._changes_untold else self._marked)

    def refresh(self, values: tuple[str, ...]) -> None:
        """Render one row, all its numbers of one moment."""
        series = self._series.get(values)
        if series is None:  # cleared meanwhile
            return
        self._marked.discard(values)
        self._rows[values] = orjson.Fragment(orjson.dumps((values, series.values(), series.exemplars())))

    def whole(self) -> tuple[object, ...]:
        """The family in the form that ``metrics_merge.decode`` reads, as of each row's last ``refresh``."""
        return (*self._declaration, list(self._rows.values()))


class Metrics:
    """What one worker counts. Durations are in seconds. Feeding it takes a microsecond or two and never waits."""

    def __init__(self) -> None:
        self._tables: list[_Table[Any]] = []

        self._requests = self._counter(
            "http_server_requests_total", "HTTP requests answered.", "route", "method", "status_class"
        )
        self._request_seconds = self._seconds(
            "http_server_request_duration_seconds",
            "Time from the arrival of an HTTP request to the end of its answer, in seconds.",
            "route",
            "method",
        )
        self._inflight = self._gauge("inflight_requests", "HTTP requests in progress, summed over workers.")
        self._streams = self._gauge(
            "event_streams", "Streams of events that are open, summed over workers; requests in progress, too."
        )
        self._actions = self._counter(
            "action_total",
            "Actions that ended, by what the policy decided and what came of them.",
            "action",
            "decision",
            "outcome",
        )
        self._stage_seconds = self._seconds(
            "action_stage_duration_seconds", "Time that actions spent in a stage of the pipeline, in seconds.", "stage"
        )
        self._decisions = self._counter(
            "policy_decisions_total",
            "Policy decisions, by effect and the kind of rule that decided.",
            "effect",
            "rule_class",
        )
        self._policy = self._gauge(
            "policy_info",
            "1 for each policy version by which some worker decides; more than one only during a swap.",
            "digest",
            rule="max",
        )
        self._policy_loaded_at = self._gauge(
            "policy_last_reload_success_timestamp_seconds",
            "Unix time of the last successful policy load, in the worker where it is longest ago, in seconds.",
            rule="min",
        )
        self._policy_failures = self._counter(
            "policy_reload_failures_total", "Policy versions that were refused, so that nothing changed."
        )
        self._shadow = self._gauge(
            "policy_shadow_info",
            "1 for each policy version that some worker asks beside the active one.",
            "digest",
            rule="max",
        )
        self._shadow_decisions = self._counter(
            "policy_shadow_decisions_total",
            "Policy decisions that the shadowed version was asked about, too, by how its answer compares.",
            "outcome",
        )
        self._records = self._counter("audit_records_total", "Audit records made durable, by outcome.", "outcome")
        self._commit_seconds = self._seconds(
            "audit_commit_duration_seconds", "Time to make a batch of audit records durable, in seconds."
        )
        self._sequenced = self._counter("audit_sequenced_records_total", "Audit records that were given their index.")
        self._sequencing = self._seconds(
            "audit_sequencing_duration_seconds", "Time to number and sign a batch of audit records, in seconds."
        )
        self._tree_size = self._gauge(
            "audit_tree_size", "Audit records that have an index and are covered by a checkpoint.", rule="max"
        )
        self._unsequenced = self._gauge(
            "audit_unsequenced_records",
            "Audit records that wait for their index; counted to 10,000.",
            rule="max",
        )
        self._checkpoint_age = self._gauge(
            "audit_checkpoint_age_seconds",
            "Time since the newest checkpoint was signed, in seconds; it grows while nothing is recorded.",
            rule="max",
        )
        self._unvouched = self._gauge(
            "audit_unvouched",
            "Of the log's keys and its newest checkpoint: 1 each, where somebody else has written such a row.",
            rule="max",
        )
        self._witness_age = self._gauge(
            "audit_witness_age_seconds",
            "Time since a witness last vouched for the newest checkpoint, told by the worker that asks it, in seconds.",
            "witness",
            rule="min",
        )
        self._witness_conflicts = self._counter(
            "audit_witness_conflicts_total",
            "Times that a witness began to refuse because the log did not go on from what it had seen.",
            "witness",
        )
        self._witness_failing = self._gauge(
            "audit_witness_failing",
            "1 where a witness does not vouch for the log, by why, told by the worker that asks it; 0 for all else.",
            "witness",
            "cause",
            rule="max",
        )
        self._partitions_ahead = self._gauge(
            "audit_partitions_ahead",
            "Months to come, without a gap, that the audit log has partitions for; -1 if the present one has none.",
            rule="min",
        )
        self._astray = self._gauge(
            "audit_default_partition_records",
            "Audit records that lie in no month's partition, and are moved at the next start; counted to 10,000.",
            rule="max",
        )
        self._batch = self._histogram("audit_batch_size", "Audit records in one batch.", BATCHES)
        self._queue = self._gauge("audit_queue_depth", "Audit records that wait for their batch, summed over workers.")
        self._accounts = self._counter(
            "audit_accounts_total",
            "Audit records that were owed, and, beside these, what became of each.",
            "as",
        )
        self._under_way = self._gauge("audit_actions_under_way", "Actions that have begun and not ended.")
        self._to_count = self._gauge("audit_failures_to_count", "Failures whose count is still to be written.")
        self._rejected = self._counter(
            "audit_rejected_requests_total", "Requests refused because they could not be recorded."
        )
        self._auth_failures = self._counter(
            "auth_failures_total", "Requests that failed to authenticate, by reason.", "reason"
        )
        self._rate_limited = self._counter(
            "rate_limited_total", "Requests refused by a rate limit, by its policy.", "policy"
        )
        self._connections = self._gauge(
            "db_pool_connections", "Database connections, by pool and state, summed over workers.", "pool", "state"
        )
        self._lag = self._seconds(
            "event_loop_lag_seconds", "How late the event loop ran a timer that was due, sampled, in seconds."
        )
        self._lookups = self._counter(
            "directory_cache_requests_total",
            "Look-ups in the cache of the directory, by kind of thing and result.",
            "kind",
            "result",
        )
        self._channel_age = self._gauge(
            "directory_channel_age_seconds",
            "Time since the invalidation channel was last heard, in the worker where it is longest, in seconds.",
            rule="max",
        )

        for stage in STAGES:  # known beforehand, so they are there from the first scrape
            self._stage_seconds(stage)
        for account in (_OWED, *Settled):
            self._accounts(account)

    def request_started(self) -> None:
        self._inflight().inc()

    def request_finished(
        self, route: str | None, method: str, status: int, seconds: float, trace: str | None = None
    ) -> None:
        """One HTTP request was answered, once for each ``request_started``.

        ``route`` is the matched template (``/domains/{domain}/users``), None if none matched. ``trace``, an id by
        which the request can be found again, becomes an exemplar if it has at most ``LONGEST_TRACE`` characters.
        """
        route, method = route or "unmatched", method if method in METHODS else "other"
        exemplar = {"trace_id": trace} if trace and len(trace) <= LONGEST_TRACE else None
        self._inflight().inc(-1)
        self._requests(route, method, f"{status // 100}xx").inc()
        self._request_seconds(route, method).observe(seconds, exemplar)

    def action_finished(self, action: str, decision: str, outcome: str) -> None:
        """``decision`` is ``allow``, ``deny``, ``error`` or ``none`` (undecided); ``outcome`` is that of its record."""
        self._actions(action, decision, outcome).inc()

    def stage_finished(self, stage: str, seconds: float) -> None:
        """``stage`` is one of ``STAGES``."""
        self._stage_seconds(stage).observe(seconds)

    def policy_decided(self, effect: str, rule_class: str) -> None:
        """``rule_class`` is the kind of rule, never the rule: ``allow``, ``deny``, ``wildcard``, ``default``..."""
        self._decisions(effect, rule_class).inc()

    def policy_loaded(self, digest: str, at: float) -> None:
        """This worker decides by version ``digest`` since Unix time ``at``; it forgets the version before."""
        self._policy.clear()
        self._policy(digest).set(1)
        self._policy_loaded_at().set(at)

    def policy_refused(self) -> None:
        self._policy_failures().inc()

    def shadowed(self, digest: str | None) -> None:
        """This worker asks version ``digest`` beside the active one from now on, or none."""
        self._shadow.clear()
        if digest is not None:
            self._shadow(digest).set(1)

    def shadow_compared(self, outcome: str) -> None:
        """``outcome`` is ``same``, ``gain``, ``loss`` or ``error``."""
        self._shadow_decisions(outcome).inc()

    def audit_recorded(self, outcome: str, count: int = 1) -> None:
        """``count`` records became durable."""
        self._records(outcome).inc(count)

    def audit_committed(self, seconds: float, records: int) -> None:
        """One batch of ``records`` was committed."""
        self._commit_seconds().observe(seconds)
        self._batch().observe(records)

    def audit_sequenced(self, seconds: float, records: int, size: int) -> None:
        """One transaction of the sequencer: how long it took, how many records it numbered, how many there are."""
        self._sequenced().inc(records)
        self._sequencing().observe(seconds)

    def audit_tree(self, size: int, waiting: int, signed_at: float, unvouched: int) -> None:
        """How large the log's tree is, how many records wait for it, the monotonic time of its last checkpoint, and
        what of keys and checkpoint no key of the log vouches for."""
        self._tree_size().set(size)
        self._unsequenced().set(waiting)
        self._unvouched().set(unvouched)
        self._checkpoint_age().watch(lambda: time.monotonic() - signed_at)

    def audit_witnessed(self, witness: str, age: float) -> None:
        """``witness`` is the name of its key; ``age`` the number of seconds since it last vouched for the log."""
        self._witness_age(witness).set(age)

    def audit_witness_conflict(self, witness: str) -> None:
        """A witness began to refuse because of what it had seen of this log before."""
        self._witness_conflicts(witness).inc()

    def audit_witness_failing(self, witness: str, cause: str, failing: bool) -> None:
        """Whether a witness does not vouch for the log because of ``cause``, one of a few words."""
        self._witness_failing(witness, cause).set(failing)

    def audit_unwitnessed(self) -> None:
        """This worker asks witnesses no more; another does."""
        self._witness_age.clear()
        self._witness_failing.clear()

    def audit_partitioned(self, ahead: int, astray: int) -> None:
        """For how many months to come the log has partitions, and how many records lie in none of a month."""
        self._partitions_ahead().set(ahead)
        self._astray().set(astray)

    def owed(self, count: int = 1) -> None:
        """``count`` records are owed: an action has begun, or credentials have failed."""
        if count:
            self._accounts(_OWED).inc(count)

    def settled(self, how: Settled, count: int = 1) -> None:
        """What became of ``count`` of them. What is to be counted is settled once its count is written."""
        if how is Settled.COUNTED:
            self._to_count().inc(count)
        elif count:
            self._accounts(how).inc(count)

    def counted(self, count: int) -> None:
        """A count of so many failures stands in the log."""
        self._to_count().inc(-count)
        self._accounts(Settled.COUNTED).inc(count)

    def account_begun(self) -> None:
        self._under_way().inc()

    def account_ended(self) -> None:
        self._under_way().inc(-1)

    def audit_rejected(self) -> None:
        """A request was refused because it could not be recorded."""
        self._rejected().inc()

    def authentication_failed(self, reason: str) -> None:
        self._auth_failures(reason).inc()

    def rate_limited(self, policy: str) -> None:
        self._rate_limited(policy).inc()

    def directory_asked(self, kind: str, result: str) -> None:
        """``result`` is ``hit``, ``miss`` or ``bypass`` (the cache was not to be trusted)."""
        self._lookups(kind, result).inc()

    def loop_lagged(self, seconds: float) -> None:
        self._lag().observe(seconds)

    # Gauges are read when a snapshot is taken, so nothing has to be told when they change. One whose function
    # raises is left out of that snapshot.

    def watch_audit_queue(self, depth: Callable[[], float]) -> None:
        self._queue().watch(depth)

    def stream_opened(self, change: int) -> None:
        """1 for a stream that has begun, -1 for one that has ended."""
        self._streams().inc(change)

    def watch_pool(self, pool: str, state: str, connections: Callable[[], float]) -> None:
        """``state`` is ``idle`` or ``used``."""
        self._connections(pool, state).watch(connections)

    def watch_directory_channel(self, age: Callable[[], float]) -> None:
        """``age`` is the number of seconds since the channel was last heard."""
        self._channel_age().watch(age)

    async def snapshot(self) -> bytes:
        """All of it, in the form that ``metrics_merge.decode`` reads.

        A row is of one moment. Other tasks get their turn after every ``ROWS_AT_ONCE`` rows, so a snapshot holds
        the event loop for well under a millisecond at a time, however many series there are.
        """
        families = []
        for table in self._tables:
            for number, values in enumerate(table.stale(), 1):
                table.refresh(values)
                if number % ROWS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            families.append(table.whole())
            await asyncio.sleep(0)
        return orjson.dumps([family for family in families if family[-1]])

    def _counter(self, name: str, text: str, *labels: str) -> _Table[_Count]:
        columns: list[tuple[str, dict[str, str]]] = [("_total", {})]
        name = name.removesuffix("_total")  # as OpenMetrics names a counter
        return self._kept(_Table(f"chamberlain_{name}", "counter", text, columns, _Count, labels))

    def _gauge(self, name: str, text: str, *labels: str, rule: Rule = "sum") -> _Table[_Level]:
        table = _Table(f"chamberlain_{name}", "gauge", text, [("", {})], _Level, labels, rule)
        if rule != "sum" and not labels:
            table().set(math.nan)  # not known yet: a worker that is starting must not be the minimum of all
        return self._kept(table)

    def _seconds(self, name: str, text: str, *labels: str) -> _Table[_Spread]:
        return self._histogram(name, text, SECONDS, *labels)

    def _histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> _Table[_Spread]:
        columns: list[tuple[str, dict[str, str]]] = [("_bucket", {"le": str(bound)}) for bound in bounds]
        columns += [("_bucket", {"le": "+Inf"}), ("_count", {}), ("_sum", {})]
        return self._kept(_Table(f"chamberlain_{name}", "histogram", text, columns, lambda: _Spread(bounds), labels))

    def _kept(self, table: _Table[S]) -> _Table[S]:
        self._tables.append(table)
        return table


async def sample_event_loop_lag(metrics: Metrics, interval: float = 0.1) -> None:
    """Feed ``event_loop_lag_seconds`` every ``interval`` seconds, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        metrics.loop_lagged(max(0.0, loop.time() - due))
