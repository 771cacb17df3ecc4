"""Traces from publish to delivery, seen by OpenTelemetry's own exporter in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from opentelemetry import baggage, context
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NoOpTracerProvider,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
)

from adapters.observability.opentelemetry import traced
from broker import (
    BackplaneError,
    Broker,
    Limits,
    MemoryBackplane,
    Message,
    Position,
    RecoveryImpossible,
    TopicRules,
)
from broker.message import NO_HEADERS
from broker.testing import FaultyBackplane
from tests.runtime.helpers import LONG_S, connected, payloads

SECRET = "what-was-said"
HISTORY = TopicRules(pattern=">", history_size=10, presence=True)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of a span, without ``messaging.`` before each."""
    assert span.attributes is not None
    return {
        name.removeprefix("messaging."): value
        for name, value in span.attributes.items()
    }


def own(span: ReadableSpan) -> SpanContext:
    """Return a span's own context, as others refer to it."""
    found = span.get_span_context()
    assert found is not None
    return found


def trace_of(message: Any) -> SpanContext:
    """Return the span context that a message's headers carry."""
    assert isinstance(message, Message)
    carried = extract(message.headers, context.Context())
    return get_current_span(carried).get_span_context()


async def test_delivery_continues_the_trace_of_its_publish(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """From the application's span over both of ours to whoever reads the headers."""
    broker = Broker(traced(MemoryBackplane(), provider))
    with anyio.fail_after(LONG_S):
        async with broker, broker.subscribe("chat") as subscription:
            tracer = provider.get_tracer("test")
            with tracer.start_as_current_span("application") as application:
                receipt = await broker.publish("chat", SECRET, headers={"a": "b"})
                assert get_current_span() is application
            message = await subscription.receive()
    assert receipt.subscribers == 1
    [publish] = named(exporter, "publish")
    [deliver] = named(exporter, "deliver")
    assert publish.kind is SpanKind.PRODUCER
    assert deliver.kind is SpanKind.CONSUMER
    assert publish.parent == application.get_span_context()
    assert deliver.parent is not None
    assert deliver.parent.is_remote
    assert deliver.parent.span_id == own(publish).span_id
    assert own(deliver).trace_id == own(publish).trace_id
    common = {
        "system": "asgi-broker",
        "destination.name": "chat",
        "message.body.size": len(SECRET),
    }
    assert attributes(publish) == common | {
        "operation.name": "publish",
        "operation.type": "send",
    }
    assert attributes(deliver) == common | {
        "operation.name": "deliver",
        "operation.type": "process",
    }
    assert isinstance(message, Message)
    assert message.payload == SECRET
    assert message.headers.keys() == {"a", "traceparent"}
    assert message.headers["a"] == "b"
    assert trace_of(message).span_id == own(publish).span_id


async def test_each_node_has_its_own_delivery(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    shared = traced(MemoryBackplane(), provider)
    with anyio.fail_after(LONG_S):
        async with Broker(shared) as one, Broker(shared) as other:
            async with one.subscribe("t") as here, other.subscribe("*") as there:
                await one.publish("t", "1")
                seen = [await here.receive(), await there.receive()]
    assert payloads(seen) == ["1", "1"]
    [publish] = named(exporter, "publish")
    deliveries = named(exporter, "deliver")
    assert len(deliveries) == 2
    for span in deliveries:
        assert span.parent is not None
        assert span.parent.span_id == own(publish).span_id


async def test_size_counts_the_trace(provider: TracerProvider) -> None:
    """What an outbox holds is what its bounds and the budget are told."""
    broker = Broker(traced(MemoryBackplane(), provider))
    async with broker, broker.subscribe("t") as subscription:
        await broker.publish("t", "äb", headers={"traceparent": "mine", "k": "ö"})
        message = await subscription.receive()
        assert isinstance(message, Message)
        carried = sum(
            len(name.encode()) + len(text.encode())
            for name, text in message.headers.items()
        )
        assert len(message.headers["traceparent"]) == 55
        assert message.size_bytes == 3 + carried
        assert broker.statistics().queued_bytes == 0


@pytest.mark.parametrize("room", [65, 66])
async def test_a_message_never_outgrows_its_limit(
    room: int, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """ "traceparent" and its value are 66 bytes: without them, rather than refused."""
    limits = Limits(max_message_bytes=100, max_outbox_bytes=100)
    broker = Broker(traced(MemoryBackplane(), provider), limits=limits)
    async with broker, broker.subscribe("t") as subscription:
        await broker.publish("t", "x" * (100 - room))
        message = await subscription.receive()
    assert isinstance(message, Message)
    assert ("traceparent" in message.headers) is (room == 66)
    assert message.size_bytes == (100 if room == 66 else 35)
    [publish] = named(exporter, "publish")
    [deliver] = named(exporter, "deliver")
    is_continued = own(deliver).trace_id == own(publish).trace_id
    assert is_continued is (room == 66)
    assert (deliver.parent is None) is (room == 65)


async def test_baggage_goes_along(provider: TracerProvider) -> None:
    """Whatever the global propagator writes, not the trace alone."""
    broker = Broker(traced(MemoryBackplane(), provider))
    async with broker, broker.subscribe("t") as subscription:
        token = context.attach(baggage.set_baggage("tenant", "a"))
        try:
            await broker.publish("t", "1")
        finally:
            context.detach(token)
        message = await subscription.receive()
    assert isinstance(message, Message)
    assert message.headers["baggage"] == "tenant=a"


async def test_headers_that_carry_no_trace_start_a_new_one(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """As from a node that is not traced; the headers are anybody's text."""
    shared = MemoryBackplane()
    async with Broker(shared) as plain, Broker(traced(shared, provider)) as broker:
        async with broker.subscribe("t") as subscription:
            for text in ("", "00-zz-1-01", "\n" * 100, "00-" + "0" * 52):
                await plain.publish("t", text, headers={"traceparent": text})
                message = await subscription.receive()
                assert isinstance(message, Message)
                assert message.headers == {"traceparent": text}
    spans = named(exporter, "deliver")
    assert [span.parent for span in spans] == [None] * 4
    assert len({own(span).trace_id for span in spans}) == 4


async def test_history_is_a_span(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    broker = Broker(traced(MemoryBackplane(), provider), rules=[HISTORY])
    async with broker:
        for text in "123":
            await broker.publish("t", text)
        page = await broker.history("t", limit=2, reverse=True)
        assert [message.payload for message in page.messages] == ["3", "2"]
        rest = await broker.history("t", since=page.messages[1].position)
        assert [message.payload for message in rest.messages] == ["3"]
        with pytest.raises(RecoveryImpossible):
            await broker.history("t", since=Position("another life", 1))
    newest, since, failed = named(exporter, "history")
    assert newest.kind is SpanKind.CLIENT
    assert attributes(newest) == {
        "system": "asgi-broker",
        "operation.name": "history",
        "operation.type": "receive",
        "destination.name": "t",
        "batch.message_count": 2,
    }
    assert attributes(since)["batch.message_count"] == 1
    assert "batch.message_count" not in attributes(failed)
    assert failed.status.status_code is StatusCode.ERROR


async def test_errors_are_recorded_and_raised(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    faulty = FaultyBackplane()
    broker = Broker(traced(faulty, provider))
    async with broker:
        faulty.fail_next = 2
        with pytest.raises(BackplaneError, match="told to fail"):
            await broker.publish("t", SECRET)
        with pytest.raises(BackplaneError, match="told to fail"):
            await broker.history("t")
        await broker.publish("t", "2")
    publish, history, good = exporter.get_finished_spans()
    for span, name in ((publish, "publish"), (history, "history")):
        assert span.name == name
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "BackplaneError: told to fail"
        [event] = span.events
        assert event.name == "exception"
        assert event.attributes is not None
        assert event.attributes["exception.type"] == "broker.errors.BackplaneError"
    assert good.name == "publish"
    assert good.status.status_code is StatusCode.UNSET


async def test_cancellation_is_no_error(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    faulty = FaultyBackplane()
    broker = Broker(traced(faulty, provider))
    async with broker:
        faulty.delay_s = 10
        with anyio.move_on_after(1) as scope:
            await broker.publish("t", SECRET)
        assert scope.cancelled_caught
        faulty.delay_s = 0
    [span] = named(exporter, "publish")
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events


async def test_payloads_are_in_no_span(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    faulty = FaultyBackplane()
    broker = Broker(traced(faulty, provider), rules=[HISTORY])
    with anyio.fail_after(LONG_S):
        async with broker, connected(broker) as (client, session):
            await session.subscribe("t")
            for payload in (SECRET, SECRET.encode()):
                await broker.publish("t", payload, headers={"h": SECRET})
                assert await client.receive() == payload
            await broker.history("t")
            faulty.fail_next = 1
            with pytest.raises(BackplaneError):
                await broker.publish("t", SECRET)
    spans = exporter.get_finished_spans()
    assert {span.name for span in spans} == {"publish", "deliver", "history"}
    assert not [span.name for span in spans if SECRET in span.to_json()]


async def test_all_else_goes_through(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Presence, ``message_id``, ``exclude`` and resuming work as without it."""
    broker = Broker(traced(MemoryBackplane(), provider), rules=[HISTORY])
    with anyio.fail_after(LONG_S):
        async with broker:
            async with connected(broker, user="ann") as (client, session):
                await session.subscribe("t")
                assert [m.user for m in await broker.presence("t")] == ["ann"]
                one = await broker.publish("t", "1", message_id="same")
                two = await broker.publish("t", "1", message_id="same")
                assert (one.duplicate, two.duplicate) == (False, True)
                assert one.position == two.position
                await broker.publish("t", "2", exclude=session)
                await broker.publish("t", "3")
                assert [await client.receive() for _ in "13"] == ["1", "3"]
                await session.unsubscribe("t")
                assert await broker.presence("t") == []
                await anyio.wait_all_tasks_blocked()
                exporter.clear()
                await broker.publish("t", "4")
                assert not named(exporter, "deliver")  # nobody is subscribed
            async with broker.subscribe("t", since=one.position) as subscription:
                assert subscription.recovered
                items = [await subscription.receive() for _ in "234"]
    assert payloads(items) == ["2", "3", "4"]


async def test_what_is_not_sampled_is_carried_as_such(
    exporter: InMemorySpanExporter,
) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    broker = Broker(traced(MemoryBackplane(), provider))
    async with broker, broker.subscribe("t") as subscription:
        await broker.publish("t", "1")
        carried = trace_of(await subscription.receive())
    assert carried.is_valid
    assert not carried.trace_flags.sampled
    assert not exporter.get_finished_spans()


async def test_without_a_provider_messages_stay_as_they_are() -> None:
    broker = Broker(traced(MemoryBackplane(), NoOpTracerProvider()))
    async with broker, broker.subscribe("t") as subscription:
        await broker.publish("t", "1", headers={"a": "b"})
        message = await subscription.receive()
        assert isinstance(message, Message)
        assert message.headers == {"a": "b"}
        assert message.size_bytes == 3
        await broker.publish("t", "1")
        message = await subscription.receive()
    assert isinstance(message, Message)
    assert message.headers is NO_HEADERS  # not even a copy


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.trace'] = None;"
        "import adapters.observability.opentelemetry"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[opentelemetry]'" in run.stderr
