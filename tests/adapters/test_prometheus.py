"""What Prometheus gets to see, read by its own parsers."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import DuplicateTimeseries
from starlette.applications import Starlette
from starlette.routing import Route

from adapters.hosting.hardening import Connections
from adapters.hosting.metrics import ConnectionCollector
from adapters.observability.prometheus import (
    BrokerCollector,
    families,
    metrics_endpoint,
    metrics_response,
)
from broker import Broker, EndKind, Overflow, Statistics
from broker.stats import TIME_BOUNDS_S, Counters, Histogram
from tests.runtime.helpers import LONG_S, connected

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TEXT = "text/plain; version=1.0.0"
DOCS = Path(__file__).parents[2] / "docs" / "observability.md"

# {name without _total: type}
METRICS = {
    "broker_up": "gauge",
    "broker_draining": "gauge",
    "broker_backplane_up": "gauge",
    "broker_backplane_outages": "counter",
    "broker_backplane_accepting_seconds": "histogram",
    "broker_backplane_lag_seconds": "histogram",
    "broker_nodes": "gauge",
    "broker_sessions": "gauge",
    "broker_sessions_leaving": "gauge",
    "broker_sessions_stalled": "gauge",
    "broker_subscriptions": "gauge",
    "broker_topics": "gauge",
    "broker_patterns": "gauge",
    "broker_queued_bytes": "gauge",
    "broker_outbox_messages": "gauge",
    "broker_sessions_ended": "counter",
    "broker_clients_refused": "counter",
    "broker_messages_published": "counter",
    "broker_messages_handed": "counter",
    "broker_messages_dropped": "counter",
    "broker_messages_missed": "counter",
    "broker_gaps": "counter",
    "broker_slow_consumers": "counter",
    "broker_duplicates": "counter",
    "broker_frames_received": "counter",
    "broker_frames_sent": "counter",
    "broker_bytes_received": "counter",
    "broker_bytes_sent": "counter",
    "broker_fan_out_seconds": "histogram",
    "broker_queueing_seconds": "histogram",
}
LABELS = {
    "broker_sessions_ended": ("reason", EndKind),
    "broker_clients_refused": ("reason", EndKind),
    "broker_messages_dropped": ("policy", Overflow),
}


class Snapshot:
    """Stands where a collector does, over a snapshot made by hand."""

    def __init__(self, now: Statistics) -> None:
        self._now = now

    def collect(self) -> list[Metric]:
        return families(self._now)


def filled(totals: Counters | None = None) -> Statistics:
    """Return a snapshot in which each number is another one."""
    return Statistics(
        sessions=1001,
        leaving=1002,
        stalled=1003,
        subscriptions=1004,
        topics=1005,
        patterns=1006,
        waiting=1007,
        queued_bytes=1008,
        is_draining=True,
        is_backplane_up=False,
        nodes=1009,
        totals=totals or Counters(),
    )


def exposed(collector: Any, accept: str = OPENMETRICS) -> dict[str, Metric]:
    """Return what a collector says, written down and read again."""
    registry = CollectorRegistry()
    registry.register(collector)
    return parsed(bytes(metrics_response(registry, accept).body), accept)


def parsed(body: bytes, accept: str) -> dict[str, Metric]:
    parse = parse_openmetrics if accept.startswith(OPENMETRICS) else parse_text
    return {family.name: family for family in parse(body.decode())}


def value(family: Metric, **labels: str) -> float:
    """Return the one sample that has these labels."""
    [sample] = [sample for sample in family.samples if sample.labels == labels]
    return sample.value


@pytest.mark.parametrize("accept", [OPENMETRICS, TEXT, ""])
def test_names_types_and_help(accept: str) -> None:
    found = exposed(Snapshot(filled()), accept)
    assert {name: family.type for name, family in found.items()} == METRICS
    assert all(family.documentation.endswith(".") for family in found.values())


def test_every_number_comes_from_its_own_field() -> None:
    totals = Counters(
        published=1,
        handed=2,
        missed=3,
        gaps=4,
        slow_consumers=5,
        duplicates=6,
        received=7,
        received_bytes=8,
        sent=9,
        sent_bytes=10,
        outages=11,
    )
    for number, kind in enumerate(EndKind):
        totals.ended[kind] = 100 + number
        totals.refused[kind] = 200 + number
    for number, policy in enumerate(Overflow):
        totals.dropped[policy] = 300 + number
    found = exposed(Snapshot(filled(totals)))
    plain = {
        name.removeprefix("broker_"): value(found[name])
        for name, kind in METRICS.items()
        if kind != "histogram" and name not in LABELS
    }
    assert plain == {
        "up": 1,
        "draining": 1,
        "backplane_up": 0,
        "sessions": 1001,
        "sessions_leaving": 1002,
        "sessions_stalled": 1003,
        "subscriptions": 1004,
        "topics": 1005,
        "patterns": 1006,
        "outbox_messages": 1007,
        "queued_bytes": 1008,
        "messages_published": 1,
        "messages_handed": 2,
        "messages_missed": 3,
        "gaps": 4,
        "slow_consumers": 5,
        "duplicates": 6,
        "frames_received": 7,
        "bytes_received": 8,
        "frames_sent": 9,
        "bytes_sent": 10,
        "backplane_outages": 11,
        "nodes": 1009,
    }
    for number, kind in enumerate(EndKind):
        assert value(found["broker_sessions_ended"], reason=kind.value) == 100 + number
        assert value(found["broker_clients_refused"], reason=kind.value) == 200 + number
    for number, policy in enumerate(Overflow):
        dropped = found["broker_messages_dropped"]
        assert value(dropped, policy=policy.value) == 300 + number


def test_all_label_values_are_there_from_the_start_and_no_others() -> None:
    found = exposed(Snapshot(filled()))
    for name, family in found.items():
        if family.type == "histogram":
            continue
        labels = [sample.labels for sample in family.samples]
        if name in LABELS:
            label, values = LABELS[name]
            assert labels == [{label: kind.value} for kind in values]
            assert all(sample.value == 0 for sample in family.samples)
        else:
            assert labels == [{}]


@pytest.mark.parametrize("accept", [OPENMETRICS, TEXT, ""])
def test_histograms_are_cumulative(accept: str) -> None:
    times = [0.0, 0.000_01, 0.000_011, 0.5, 0.6, 10.0, 11.0, 500.0]
    histogram = Histogram()
    for time_s in times:
        histogram.observe(time_s)
    totals = Counters(queueing=histogram)
    found = exposed(Snapshot(filled(totals)), accept)
    samples = found["broker_queueing_seconds"].samples
    buckets = {
        float(sample.labels["le"]): sample.value
        for sample in samples
        if sample.name == "broker_queueing_seconds_bucket"
    }
    assert list(buckets) == [*TIME_BOUNDS_S, math.inf]
    for bound, count in buckets.items():
        assert count == sum(time_s <= bound for time_s in times)
    rest = {sample.name: sample.value for sample in samples if not sample.labels}
    assert rest.pop("broker_queueing_seconds_count") == buckets[math.inf] == 8
    assert rest.pop("broker_queueing_seconds_sum") == pytest.approx(sum(times))
    assert not rest
    unused = found["broker_fan_out_seconds"].samples
    assert len(unused) == len(samples)
    assert {sample.value for sample in unused} == {0}


def test_each_histogram_comes_from_its_own_field() -> None:
    totals = Counters()
    names = ("fan_out", "queueing", "accepting", "lag")
    for number, name in enumerate(names, 1):
        getattr(totals, name).observe(number)
    found = exposed(Snapshot(filled(totals)))
    prefixes = ("", "", "backplane_", "backplane_")
    for number, (prefix, name) in enumerate(zip(prefixes, names, strict=True), 1):
        family = f"broker_{prefix}{name}_seconds"
        [total] = [each for each in found[family].samples if each.name.endswith("_sum")]
        assert total.value == number


async def test_totals_agree_with_statistics() -> None:
    broker = Broker()
    collector = BrokerCollector(broker)
    with anyio.fail_after(LONG_S):
        async with broker:
            async with connected(broker) as (client, session):
                await session.subscribe("chat")
                async with broker.subscribe(
                    "chat", "x.*", overflow=Overflow.DROP_OLDEST, max_messages=1
                ):
                    await client.send("12345")
                    assert await session.receive() == "12345"
                    await broker.publish("chat", "1", message_id="same")
                    await broker.publish("chat", "2")
                    await broker.publish("chat", "1", message_id="same")
                    assert [await client.receive() for _ in "12"] == ["1", "2"]
                    await anyio.wait_all_tasks_blocked()
                    now, found = broker.statistics(), exposed(collector)
            later, found_later = broker.statistics(), exposed(collector)
    totals = now.totals
    assert value(found["broker_up"]) == 1
    assert value(found["broker_sessions"]) == now.sessions == 1
    assert value(found["broker_subscriptions"]) == now.subscriptions == 1
    assert value(found["broker_topics"]) == now.topics == 1
    assert value(found["broker_patterns"]) == now.patterns == 1
    assert value(found["broker_outbox_messages"]) == now.waiting > 0
    assert value(found["broker_queued_bytes"]) == now.queued_bytes > 0
    assert value(found["broker_messages_published"]) == totals.published == 2
    assert value(found["broker_messages_handed"]) == totals.handed == 4
    dropped = found["broker_messages_dropped"]
    assert value(dropped, policy="drop_oldest") == 1
    assert totals.dropped[Overflow.DROP_OLDEST] == 1
    assert value(found["broker_duplicates"]) == totals.duplicates == 1
    assert value(found["broker_frames_received"]) == totals.received == 1
    assert value(found["broker_bytes_received"]) == totals.received_bytes == 5
    assert value(found["broker_frames_sent"]) == totals.sent == 2
    assert value(found["broker_bytes_sent"]) == totals.sent_bytes == 2
    for name, times in (
        ("broker_fan_out_seconds", totals.fan_out),
        ("broker_queueing_seconds", totals.queueing),
    ):
        samples = {sample.name: sample.value for sample in found[name].samples}
        assert samples[f"{name}_count"] == sum(times.counts) > 0
    # It has left, and its ending is counted where it belongs.
    ended = found_later["broker_sessions_ended"]
    assert {sample.labels["reason"]: sample.value for sample in ended.samples} == {
        kind.value: count for kind, count in later.totals.ended.items()
    }
    assert sum(sample.value for sample in ended.samples) == 1


async def test_a_broker_that_does_not_run_is_down_and_says_no_more() -> None:
    broker = Broker()
    collector = BrokerCollector(broker)
    found = [exposed(collector)]
    async with broker:
        assert value(exposed(collector)["broker_up"]) == 1
    found.append(exposed(collector))
    for metrics in found:
        assert list(metrics) == ["broker_up"]
        assert value(metrics["broker_up"]) == 0


def test_registries_notice_name_clashes_before_the_broker_runs() -> None:
    registry = CollectorRegistry()
    registry.register(BrokerCollector(Broker()))
    with pytest.raises(DuplicateTimeseries, match="broker_sessions_ended_total"):
        registry.register(BrokerCollector(Broker()))


async def get(
    app: Starlette, *, host: str | None = "127.0.0.1", accept: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of GET /metrics."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "query_string": b"",
        "headers": [(b"accept", accept.encode("latin-1"))] if accept else [],
        "client": None if host is None else (host, 50_000),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    headers = {name.decode(): text.decode() for name, text in start["headers"]}
    return start["status"], headers, b"".join(part["body"] for part in bodies)


def application(broker: Broker, *allowed: str) -> Starlette:
    endpoint = metrics_endpoint(broker, allowed=allowed)
    return Starlette(routes=[Route("/metrics", endpoint)])


async def test_endpoint_serves_broker_and_process_in_the_format_asked_for() -> None:
    broker = Broker()
    app = application(broker, "127.0.0.0/8")
    async with broker:
        for accept, content_type in (
            (OPENMETRICS, "application/openmetrics-text; version=1.0.0;"),
            (TEXT, "text/plain; version=1.0.0;"),
            ("", "text/plain; version=0.0.4;"),
            ("text/html", "text/plain; version=0.0.4;"),
        ):
            status, headers, body = await get(app, accept=accept)
            assert status == 200
            assert headers["content-type"].startswith(content_type)
            found = parsed(body, accept)
            assert found.keys() > METRICS.keys()
            assert found.keys() > {"process_cpu_seconds", "python_info"}


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "application/openmetrics-text; version=1.x",
        "text/plain; version=\xb2",
        "text/plain; version=" + "9" * 5_000 + ".x",
        ";;;=,=,version=",
    ],
)
async def test_accept_that_makes_no_sense(accept: str) -> None:
    status, headers, body = await get(application(Broker(), "127.0.0.1"), accept=accept)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b"broker_up 0.0" in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("::FFFF:0a01:0203", 200),
        ("fd00::7", 200),
        (None, 200),
        ("11.0.0.1", 403),
        ("::ffff:11.0.0.1", 403),
        ("::10.1.2.3", 403),
        ("127.0.0.1", 403),
        ("::1", 403),
        ("fe80::1%eth0", 403),
        ("testclient", 403),
        ("10.1.2.3, 11.0.0.1", 403),
        ("", 403),
    ],
)
async def test_who_may_read(host: str | None, status: int) -> None:
    app = application(Broker(), "10.0.0.0/8", "fd00::/64")
    answer, headers, body = await get(app, host=host)
    assert answer == status
    assert (b"broker_up" in body) is (status == 200)
    assert headers["content-type"].startswith("text/plain")


async def test_mapped_addresses_are_ipv4_and_nothing_else() -> None:
    app = application(Broker(), "::/0")
    assert (await get(app, host="2001:db8::1"))[0] == 200
    assert (await get(app, host="::ffff:10.0.0.1"))[0] == 403


async def test_nobody_is_allowed_but_who_is_listed() -> None:
    app = application(Broker())
    assert (await get(app, host="127.0.0.1"))[0] == 403
    assert (await get(app, host=None))[0] == 200


@pytest.mark.parametrize("network", ["10.0.0.1/8", "localhost", ""])
def test_what_is_no_network_is_noticed_at_once(network: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits set"):
        metrics_endpoint(Broker(), allowed=[network])


def test_one_network_is_no_list_of_them() -> None:
    """It was said that '1' is no network."""
    said = r"^allowed must be a list of networks: \['127.0.0.1'\], not '127.0.0.1'$"
    with pytest.raises(ValueError, match=said):
        metrics_endpoint(Broker(), allowed="127.0.0.1")


async def test_endpoints_keep_to_themselves() -> None:
    """Two in one process, and neither is in the registry of the process."""
    running, other = Broker(), Broker()
    apps = [application(broker, "127.0.0.1") for broker in (running, other)]
    async with running:
        bodies = [(await get(app))[2] for app in apps]
    assert b"\nbroker_up 1.0\n" in bodies[0]
    assert b"\nbroker_up 0.0\n" in bodies[1]
    names = {family.name for family in REGISTRY.collect()}
    assert not {name for name in names if name.startswith("broker_")}


def test_docs_list_exactly_what_is_exported() -> None:
    rows = re.findall(
        r"^\| `(broker_\w+)(?:\{(\w+)\})?` \| (\w+) \| \S",
        DOCS.read_text(),
        re.MULTILINE,
    )
    documented = sorted((name, label, kind) for name, label, kind in rows)
    exported = []
    server = ConnectionCollector(Connections())
    for family in (*BrokerCollector(Broker()).describe(), *server.collect()):
        suffix = "_total" if family.type == "counter" else ""
        label = LABELS[family.name][0] if family.name in LABELS else ""
        exported.append((family.name + suffix, label, family.type))
    assert documented == sorted(exported)


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None;"
        "import adapters.observability.prometheus"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[server]'" in run.stderr
