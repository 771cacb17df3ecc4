"""Metrics of a broker in Prometheus' formats, and an endpoint that serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import accumulate

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.platform_collector import PlatformCollector
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import Collector
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.observability.prometheus needs Starlette and prometheus-client: "
        "pip install 'asgi-broker[server]'"
    ) from error

from broker import Broker, BrokerClosed, EndKind, Overflow, Statistics, UsageError
from broker.stats import TIME_BOUNDS_S, Counters, Histogram

__all__ = ("BrokerCollector", "metrics_endpoint", "metrics_response")

PREFIX = "broker_"

# Each with its help, and where its value is.
GAUGES: tuple[tuple[str, str, Callable[[Statistics], float]], ...] = (
    (
        "draining",
        "1 while no new clients are taken, else 0.",
        lambda now: now.is_draining,
    ),
    (
        "backplane_up",
        "1 while what is published reaches the other nodes, else 0.",
        lambda now: now.is_backplane_up,
    ),
    ("nodes", "Nodes that can be heard, this one included.", lambda now: now.nodes),
    ("sessions", "Clients connected now.", lambda now: now.sessions),
    (
        "sessions_leaving",
        "Sessions that have ended and whose client is not yet gone.",
        lambda now: now.leaving,
    ),
    (
        "sessions_stalled",
        "Sessions whose client does not take what is being sent.",
        lambda now: now.stalled,
    ),
    (
        "subscriptions",
        "Subscriptions of code in this process, without those of clients.",
        lambda now: now.subscriptions,
    ),
    ("topics", "Topics with subscribers on this node.", lambda now: now.topics),
    ("patterns", "Patterns with subscribers on this node.", lambda now: now.patterns),
    (
        "queued_bytes",
        "Bytes that wait in all outboxes and inboxes.",
        lambda now: now.queued_bytes,
    ),
    (
        "outbox_messages",
        "Messages and gaps that wait in all outboxes.",
        lambda now: now.waiting,
    ),
)

# Without _total, which the formats add.
COUNTERS: tuple[tuple[str, str, Callable[[Counters], float]], ...] = (
    (
        "messages_published",
        "Messages fanned out on this node.",
        lambda totals: totals.published,
    ),
    (
        "messages_handed",
        "Messages handed to outboxes; one message to ten is ten.",
        lambda totals: totals.handed,
    ),
    (
        "messages_missed",
        "Messages that subscribers were told they missed.",
        lambda totals: totals.missed,
    ),
    ("gaps", "Gaps that told them so.", lambda totals: totals.gaps),
    (
        "slow_consumers",
        "Subscriptions ended because they fell behind.",
        lambda totals: totals.slow_consumers,
    ),
    (
        "duplicates",
        "Publishes that were recognised as repeats.",
        lambda totals: totals.duplicates,
    ),
    (
        "backplane_outages",
        "Times that the link to the other nodes went down.",
        lambda totals: totals.outages,
    ),
    (
        "frames_received",
        "Frames received from clients.",
        lambda totals: totals.received,
    ),
    ("frames_sent", "Frames sent to clients.", lambda totals: totals.sent),
    (
        "bytes_received",
        "Bytes that clients' frames carried.",
        lambda totals: totals.received_bytes,
    ),
    (
        "bytes_sent",
        "Bytes of the payloads and headers sent to clients.",
        lambda totals: totals.sent_bytes,
    ),
)

# The same, then a label and {label value: count}.
LABELLED: tuple[tuple[str, str, str, Callable[[Counters], dict[str, int]]], ...] = (
    (
        "sessions_ended",
        "Sessions that have ended, by how.",
        "reason",
        lambda totals: {kind.value: totals.ended.get(kind, 0) for kind in EndKind},
    ),
    (
        "clients_refused",
        "Clients that no session was opened for, by why.",
        "reason",
        lambda totals: {kind.value: totals.refused.get(kind, 0) for kind in EndKind},
    ),
    (
        "messages_dropped",
        "Messages that full outboxes dropped, by overflow policy.",
        "policy",
        lambda totals: {rule.value: totals.dropped.get(rule, 0) for rule in Overflow},
    ),
)

# The first two of messages that stats.SAMPLE chose.
HISTOGRAMS: tuple[tuple[str, str, Callable[[Counters], Histogram]], ...] = (
    (
        "fan_out_seconds",
        "Time to hand one message to all outboxes of this node; sampled.",
        lambda totals: totals.fan_out,
    ),
    (
        "queueing_seconds",
        "Time from its fan-out until a message was sent to one client; sampled.",
        lambda totals: totals.queueing,
    ),
    (
        "backplane_accepting_seconds",
        "Time that the backplane takes to accept a publication.",
        lambda totals: totals.accepting,
    ),
    (
        "backplane_lag_seconds",
        "Time from then until it has brought it to this node as well; sampled.",
        lambda totals: totals.lag,
    ),
)

NEVER_RUN = Statistics(
    sessions=0,
    leaving=0,
    stalled=0,
    subscriptions=0,
    topics=0,
    patterns=0,
    waiting=0,
    queued_bytes=0,
    is_draining=False,
    is_backplane_up=False,
    nodes=0,
    totals=Counters(),
)


class BrokerCollector(Collector):
    """A broker's statistics, as metrics; read at the moment they are asked for.

    Collect on the event loop that the broker runs on. Label values are those of enums
    only, and all are there from the start: a series that appeared with its first event
    would hide that event from ``rate``.

    While the broker does not run there is ``broker_up 0`` and nothing else.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def describe(self) -> Iterable[Metric]:
        """Return all metrics there can be; registries look for name clashes."""
        return families(NEVER_RUN)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        try:
            now = self._broker.statistics()
        except (UsageError, BrokerClosed):  # not yet entered, or left
            now = None
        return families(now)


def families(now: Statistics | None) -> list[Metric]:
    """Return the metrics of a snapshot; None for a broker that does not run."""
    found: list[Metric] = [
        GaugeMetricFamily(
            f"{PREFIX}up", "1 while the broker runs, else 0.", now is not None
        )
    ]
    if now is None:
        return found
    totals = now.totals
    found += [
        GaugeMetricFamily(PREFIX + name, text, value(now))
        for name, text, value in GAUGES
    ]
    found += [
        CounterMetricFamily(PREFIX + name, text, count(totals))
        for name, text, count in COUNTERS
    ]
    for name, text, label, counts in LABELLED:
        family = CounterMetricFamily(PREFIX + name, text, labels=[label])
        for label_value, count_of_it in counts(totals).items():
            family.add_metric([label_value], count_of_it)
        found.append(family)
    found += [
        HistogramMetricFamily(
            PREFIX + name, text, buckets(times(totals)), times(totals).sum_s
        )
        for name, text, times in HISTOGRAMS
    ]
    return found


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return (upper bound, times at most as long) for each bound, and for +Inf."""
    bounds = [*map(str, TIME_BOUNDS_S), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def metrics_response(registry: CollectorRegistry, accept: str) -> Response:
    """Return all metrics of a registry, in the format that the client prefers.

    Args:
        accept: the request's ``Accept`` header; empty, or one that cannot be
            understood, for Prometheus' text format 0.0.4.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # version=x: prometheus-client 0.26 compares it
        encode, content_type = choose_encoder("")
    return Response(encode(registry), headers={"content-type": content_type})


def metrics_endpoint(
    broker: Broker, *, allowed: Sequence[str], others: Iterable[Collector] = ()
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint for Starlette or FastAPI: the broker's and the process' own.

    A request with ``X-Forwarded-For`` or ``Forwarded`` gets 403 as well: it came by way
    of a proxy that is not trusted, or somebody wants us to believe so. ``broker serve``
    with ``trusted_proxies`` has put the client's own address in its place.

    Args:
        allowed: networks such as ``10.0.0.0/8`` or ``::1`` whose peers may read; all
            others get 403. A peer without an address, as on a Unix socket, is local
            and may. An IPv4 peer of an IPv6 socket (``::ffff:10.0.0.1``) counts as
            IPv4.
        others: collectors besides the broker's and the process' own.

    Raises:
        ValueError: one that is no network, such as ``10.0.0.1/8``, or no list of them.
    """
    if isinstance(allowed, str):  # which is a list of characters as well
        raise ValueError(  # noqa: TRY004 # as for what is no network
            f"allowed must be a list of networks: [{allowed!r}], not {allowed!r}"
        )
    networks = [ip_network(network) for network in allowed]
    # Not the global one: two applications in one process do not collide.
    registry = CollectorRegistry()
    for collector in (BrokerCollector(broker), *others):
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)

    def is_allowed(host: str) -> bool:
        try:
            peer = ip_address(host)
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in networks)

    def is_forwarded(request: Request) -> bool:
        return "x-forwarded-for" in request.headers or "forwarded" in request.headers

    async def metrics(request: Request) -> Response:
        peer = request.client
        if is_forwarded(request) or (peer is not None and not is_allowed(peer.host)):
            return PlainTextResponse("metrics are not for this address\n", 403)
        # Not in a thread: statistics belong to the event loop, and the process' own
        # files in /proc are memory.
        return metrics_response(registry, request.headers.get("accept", ""))

    return metrics
