"""The laws of adding up what many workers count."""

import asyncio
import time
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.metrics import MOST_SERIES, ROWS_AT_ONCE, STAGES, Metrics, sample_event_loop_lag
from server.metrics_endpoint import render
from server.metrics_merge import Exemplar, Family, Row, Rule, decode, fold, merge

COLOURS = ("red", "green")
amounts = st.floats(min_value=0, max_value=1e9)
# What happens to one of three places: it counts (colour, amount), reports, dies without a word or leaves in order.
events = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["count", "report", "die", "leave"]), st.sampled_from(COLOURS), amounts
    ),
    max_size=60,
)


def counter(values: dict[str, float]) -> Family:
    rows = tuple(Row((colour,), (value,)) for colour, value in values.items())
    return Family("sold", "counter", "Sold.", ("colour",), (("_total", ()),), rows)


def gauge(value: float, rule: Rule = "sum") -> Family:
    return Family("depth", "gauge", "Depth.", (), (("", ()),), (Row((), (value,)),), rule)


def values(families: Sequence[Family]) -> dict[str, float]:
    return {sample.labels["colour"]: sample.value for family in families for sample in family.samples()}


def total(families: Sequence[Family], name: str, **labels: str) -> float:
    found = (s for family in families for s in family.samples() if s.name == name)
    return sum(sample.value for sample in found if labels.items() <= sample.labels.items())


@given(events)
def test_every_reported_count_is_in_the_sum_exactly_once_and_no_sum_ever_falls(
    happened: list[tuple[int, str, str, float]],
) -> None:
    counted: list[dict[str, float]] = [{}, {}, {}]
    reported: list[dict[str, float]] = [{}, {}, {}]
    buried: list[dict[str, float]] = []
    dead: Sequence[Family] = ()
    before: dict[str, float] = {}
    for place, what, colour, amount in happened:
        if what == "count":
            counted[place][colour] = counted[place].get(colour, 0.0) + amount
        elif what in ("report", "leave"):
            reported[place] = dict(counted[place])
        if what in ("die", "leave"):
            dead = fold(dead, [counter(reported[place])])
            buried.append(reported[place])
            counted[place], reported[place] = {}, {}
        now = values(merge(dead, [[counter(last)] for last in reported]))
        truth = {
            colour: float(sum(Fraction(last[colour]) for last in [*buried, *reported] if colour in last))
            for colour in now
        }
        assert now == truth
        assert set(before) <= set(now)
        assert all(now[colour] >= value for colour, value in before.items())
        before = now


@given(st.lists(amounts, min_size=1, max_size=20).flatmap(st.permutations))
def test_the_order_in_which_workers_die_changes_not_even_the_last_bit(counts: list[float]) -> None:
    totals = set()
    for order in (counts, sorted(counts), sorted(counts, reverse=True)):
        dead: Sequence[Family] = ()
        for count in order:
            dead = fold(dead, [counter({"red": count})])
        totals.add(values(merge(dead, []))["red"])
    assert totals == {float(sum(map(Fraction, counts)))}


def test_what_is_kept_of_the_dead_does_not_grow_with_their_number() -> None:
    dead: Sequence[Family] = ()
    for number in range(1000):
        dead = fold(dead, [counter({"red": 0.1 * number})])
    assert len(dead[0].rows) <= 3


@pytest.mark.parametrize(("rule", "expected"), [("sum", 6.0), ("max", 3.0), ("min", 1.0), ("mean", 2.0)])
def test_a_gauge_is_merged_by_its_own_rule_and_only_among_the_living(rule: Rule, expected: float) -> None:
    dead = fold([], [gauge(100.0, rule=rule)])
    [merged] = merge(dead, [[gauge(value, rule=rule)] for value in (1.0, 2.0, 3.0)])
    assert merged.rows == (Row((), (expected,)),)


def test_a_counter_cannot_be_declared_to_merge_by_anything_but_sum() -> None:
    with pytest.raises(ValueError, match="a counter is always merged by sum"):
        Family("sold", "counter", "Sold.", (), (), (), "max")


def test_a_family_that_two_workers_declare_differently_is_refused() -> None:
    counted, measured = (Family("sold", kind, "Sold.", (), (), ()) for kind in ("counter", "gauge"))
    with pytest.raises(ValueError, match="metric sold is declared in two ways"):
        merge([], [[counted], [measured]])


def test_the_newest_exemplar_stands_for_all_workers_and_outlives_its_own() -> None:
    def buckets(trace: str, at: float) -> Family:
        columns = (("_bucket", (("le", "1.0"),)), ("_bucket", (("le", "+Inf"),)))
        row = Row((), (1.0, 2.0), (Exemplar((("trace_id", trace),), 0.2, at), None))
        return Family("wait", "histogram", "Wait.", (), columns, (row,))

    [merged] = merge(fold([], [buckets("newest", 30.0)]), [[buckets("old", 10.0)], [buckets("newer", 20.0)]])
    assert merged.rows == (Row((), (3.0, 6.0), (Exemplar((("trace_id", "newest"),), 0.2, 30.0), None)),)


@pytest.mark.parametrize(
    "raw", [b"", b"{}{", b'{"a": 1}', b"[1]", b'[["a", "info", "", "sum", [], [], []]]', b"[[1, 2, 3, 4, [5], 6, 7]]"]
)
def test_what_is_not_a_snapshot_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(raw)


async def test_a_worker_s_snapshot_says_all_that_was_fed_to_it() -> None:
    metrics = Metrics()
    metrics.request_started()
    metrics.request_started()
    metrics.request_finished("/users/{user}", "GET", 204, 0.002, trace="abc")
    metrics.action_finished("user_user", "allow", "succeeded")
    metrics.stage_finished("authorize", 0.0001)
    metrics.policy_decided("allow", "exact")
    metrics.policy_loaded("1234", at=50.0)
    metrics.policy_refused()
    metrics.audit_recorded("succeeded", 3)
    metrics.audit_committed(0.001, 3)
    metrics.audit_rejected()
    metrics.authentication_failed("bad-signature")
    metrics.rate_limited("login")
    metrics.directory_asked("lineage", "hit")
    metrics.loop_lagged(0.0)
    metrics.watch_audit_queue(lambda: 4)
    metrics.watch_pool("main", "idle", lambda: 5)
    metrics.watch_directory_channel(lambda: 0.5)
    families = merge([], [decode(await metrics.snapshot())])

    request = {"route": "/users/{user}", "method": "GET"}
    assert total(families, "chamberlain_http_server_requests_total", **request, status_class="2xx") == 1
    seconds = "chamberlain_http_server_request_duration_seconds"
    assert total(families, f"{seconds}_bucket", **request, le="0.001") == 0
    assert total(families, f"{seconds}_bucket", **request, le="0.0025") == 1
    assert total(families, f"{seconds}_sum", **request) == 0.002
    assert total(families, "chamberlain_inflight_requests") == 1
    one_each = {
        "action_total": {"action": "user_user", "decision": "allow", "outcome": "succeeded"},
        "action_stage_duration_seconds_count": {"stage": "authorize"},
        "policy_decisions_total": {"effect": "allow", "rule_class": "exact"},
        "policy_info": {"digest": "1234"},
        "policy_reload_failures_total": {},
        "audit_commit_duration_seconds_count": {},
        "audit_rejected_requests_total": {},
        "auth_failures_total": {"reason": "bad-signature"},
        "rate_limited_total": {"policy": "login"},
        "directory_cache_requests_total": {"kind": "lineage", "result": "hit"},
        "event_loop_lag_seconds_count": {},
    }
    for name, labels in one_each.items():
        assert total(families, f"chamberlain_{name}", **labels) == 1, name
    assert total(families, "chamberlain_policy_last_reload_success_timestamp_seconds") == 50
    assert total(families, "chamberlain_audit_records_total", outcome="succeeded") == 3
    assert total(families, "chamberlain_audit_batch_size_sum") == 3
    assert total(families, "chamberlain_audit_queue_depth") == 4
    assert total(families, "chamberlain_db_pool_connections", pool="main", state="idle") == 5
    assert total(families, "chamberlain_directory_channel_age_seconds") == 0.5
    assert not any(s.name.endswith("_created") for f in families for s in f.samples())


async def test_the_stages_are_there_before_the_first_action() -> None:
    [stages] = [f for f in decode(await Metrics().snapshot()) if f.name == "chamberlain_action_stage_duration_seconds"]
    assert {row.labels for row in stages.rows} == {(stage,) for stage in STAGES}
    assert all(set(row.values) == {0.0} for row in stages.rows)


async def test_a_later_snapshot_says_what_changed_and_what_did_not() -> None:
    metrics = Metrics()
    metrics.audit_recorded("succeeded")
    metrics.authentication_failed("unknown-key")
    first = decode(await metrics.snapshot())
    metrics.audit_recorded("succeeded")
    metrics.audit_recorded("denied")
    second = decode(await metrics.snapshot())
    for families, succeeded, denied in ((first, 1, 0), (second, 2, 1)):
        assert total(families, "chamberlain_audit_records_total", outcome="succeeded") == succeeded
        assert total(families, "chamberlain_audit_records_total", outcome="denied") == denied
        assert total(families, "chamberlain_auth_failures_total", reason="unknown-key") == 1


async def test_what_is_counted_while_a_snapshot_is_taken_is_in_the_next_at_the_latest() -> None:
    metrics = Metrics()
    counted = 0

    async def count() -> None:
        nonlocal counted
        while True:
            for reason in range(50):
                metrics.authentication_failed(str(reason))
            counted += 50
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    before = 0.0
    for _ in range(20):
        now = total(decode(await metrics.snapshot()), "chamberlain_auth_failures_total")
        assert before <= now <= counted
        before = now
    counting.cancel()
    assert total(decode(await metrics.snapshot()), "chamberlain_auth_failures_total") == counted


async def test_gauges_of_several_workers_follow_their_declarations() -> None:
    snapshots = []
    for number in (1.0, 2.0):
        metrics = Metrics()
        metrics.policy_loaded("same", at=number)
        metrics.watch_directory_channel(lambda number=number: number)  # type: ignore[misc]
        metrics.watch_audit_queue(lambda number=number: number)  # type: ignore[misc]
        snapshots.append(decode(await metrics.snapshot()))
    families = merge([], snapshots)
    assert total(families, "chamberlain_policy_info", digest="same") == 1
    assert total(families, "chamberlain_policy_last_reload_success_timestamp_seconds") == 1
    assert total(families, "chamberlain_directory_channel_age_seconds") == 2
    assert total(families, "chamberlain_audit_queue_depth") == 3


async def test_a_worker_shows_one_policy_version_at_a_time_even_when_it_goes_back() -> None:
    metrics = Metrics()
    for digest in ("old", "new", "old"):
        metrics.policy_loaded(digest, at=1.0)
    families = decode(await metrics.snapshot())
    [info] = [family for family in families if family.name == "chamberlain_policy_info"]
    assert info.rows == (Row(("old",), (1.0,)),)


async def test_a_gauge_that_cannot_be_read_is_left_out_and_harms_no_other() -> None:
    def broken() -> float:
        raise RuntimeError("the pool is closed")

    metrics = Metrics()
    metrics.watch_audit_queue(broken)
    metrics.audit_rejected()
    families = decode(await metrics.snapshot())
    assert [family.rows for family in families if family.name == "chamberlain_audit_queue_depth"] == [()]
    assert total(families, "chamberlain_audit_rejected_requests_total") == 1


async def test_labels_from_a_careless_caller_stay_bounded_and_nothing_goes_uncounted() -> None:
    metrics = Metrics()
    for number in range(MOST_SERIES + 100):
        metrics.authentication_failed(f"user {number}")
    families = decode(await metrics.snapshot())
    [failures] = [family for family in families if family.name == "chamberlain_auth_failures"]
    assert len(failures.rows) == MOST_SERIES + 1
    assert total(families, "chamberlain_auth_failures_total") == MOST_SERIES + 100
    assert total(families, "chamberlain_auth_failures_total", reason="overflow") == 100


async def test_an_unknown_method_and_an_unmatched_route_have_one_label_each() -> None:
    metrics = Metrics()
    for method in ("BREW", "WHEN"):
        metrics.request_started()
        metrics.request_finished(None, method, 405, 0.1, trace="x" * 1000)
    families = decode(await metrics.snapshot())
    labels = {"route": "unmatched", "method": "other", "status_class": "4xx"}
    assert total(families, "chamberlain_http_server_requests_total", **labels) == 2


async def test_sampling_lets_other_tasks_run_every_few_rows() -> None:
    metrics, turns = Metrics(), 0
    for number in range(1000):
        metrics.authentication_failed(str(number))

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    await metrics.snapshot()
    other.cancel()
    assert turns >= 1000 // ROWS_AT_ONCE


async def test_a_worker_that_knows_no_policy_yet_does_not_speak_for_the_others() -> None:
    loaded, starting = Metrics(), Metrics()
    loaded.policy_loaded("1234", at=50.0)
    families = merge([], [decode(await loaded.snapshot()), decode(await starting.snapshot())])
    assert total(families, "chamberlain_policy_last_reload_success_timestamp_seconds") == 50


async def test_exemplars_are_rendered_only_for_who_asks_for_openmetrics() -> None:
    metrics = Metrics()
    metrics.request_started()
    metrics.request_finished("/", "GET", 200, 0.002, trace="abc")
    families = decode(await metrics.snapshot())
    text, plain = render(families, "text/plain")
    openmetrics, open_type = render(families, "application/openmetrics-text; version=1.0.0")
    assert plain.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text; version=1.0.0")
    assert b'# {trace_id="abc"} 0.002' in openmetrics
    assert b"abc" not in text


async def test_a_loop_that_was_held_up_shows_as_lag() -> None:
    metrics = Metrics()
    sampling = asyncio.create_task(sample_event_loop_lag(metrics, interval=0.0))
    name = "chamberlain_event_loop_lag_seconds"
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.03)  # noqa: ASYNC251 -- holds up the loop, on purpose
    for _ in range(3):
        await asyncio.sleep(0)
    sampling.cancel()
    families = decode(await metrics.snapshot())
    late = total(families, f"{name}_bucket", le="+Inf") - total(families, f"{name}_bucket", le="0.025")
    assert late >= 1
