"""OpenTelemetry traces of what a backplane carries, from publish to delivery."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace

try:
    from opentelemetry.context import Context
    from opentelemetry.propagate import extract, inject
    from opentelemetry.trace import (
        Span,
        SpanKind,
        Tracer,
        TracerProvider,
        get_tracer,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.observability.opentelemetry needs opentelemetry-api: "
        "pip install 'asgi-broker[opentelemetry]'"
    ) from error

from broker import Backplane, Limits, Member, Message, Page, Position, TopicRules
from broker.backplane import Link, Node, Publication, Published
from broker.message import Payload, size_of

__all__ = ("traced",)

# (name of span and operation, type of operation, kind of span)
# Source: OpenTelemetry semantic conventions 1.36, messaging spans. They would put the
# topic into the name; ours are made by users, and names are to be few.
PUBLISH = "publish", "send", SpanKind.PRODUCER
DELIVER = "deliver", "process", SpanKind.CONSUMER
HISTORY = "history", "receive", SpanKind.CLIENT


def traced(
    backplane: Backplane, tracer_provider: TracerProvider | None = None
) -> Backplane:
    """Return the backplane with a span around each publish, delivery and history.

    The trace goes with the message: ``publish`` puts its context into the headers
    (``traceparent`` and whatever else the global propagator writes, over those of the
    same name), and each node's ``deliver`` continues it, as can who reads
    ``Message.headers``. It is left out where the message would become larger than
    ``Limits.max_message_bytes``; its delivery then starts a trace of its own.

    A publisher that waits for room (``Overflow.BLOCK``) waits for room without the
    trace: bound such an outbox by messages, with bytes to spare, or the few bytes more
    may end its subscription with ``SlowConsumer``.

    Of a payload only the size is looked at. What raises is recorded as an error of its
    span, and raised as it is; cancellation is none.

    Args:
        tracer_provider: None for the global one.
    """
    return TracedBackplane(backplane, get_tracer("asgi-broker", None, tracer_provider))


class TracedBackplane:
    """A ``Backplane``; ``traced`` says what it adds."""

    def __init__(self, backplane: Backplane, tracer: Tracer) -> None:
        self._backplane = backplane
        self._tracer = tracer

    @asynccontextmanager
    async def connect(self, node: Node, limits: Limits) -> AsyncGenerator[Link, None]:
        """See ``broker.Backplane``."""
        inside = TracedNode(node, self._tracer)
        async with self._backplane.connect(inside, limits) as link:
            yield TracedLink(link, self._tracer, limits.max_message_bytes)


class TracedNode:
    """A ``Node`` whose deliveries are spans."""

    def __init__(self, node: Node, tracer: Tracer) -> None:
        self._node = node
        self._tracer = tracer

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        """Take a message; see ``broker.backplane.Node``."""
        # Of the message alone: this may run in any task, inside spans of others.
        parent = extract(message.headers, Context())
        with span(self._tracer, DELIVER, message.topic, message.payload, parent):
            self._node.deliver(message, exclude)

    def skip(self, topic: str, position: Position) -> None:
        """See ``broker.backplane.Node``."""
        self._node.skip(topic, position)

    def hear(self, news: bytes) -> None:
        """See ``broker.backplane.Node``."""
        self._node.hear(news)

    def down(self, reason: str) -> None:
        """See ``broker.backplane.Node``."""
        self._node.down(reason)

    def up(self) -> None:
        """See ``broker.backplane.Node``."""
        self._node.up()


class TracedLink:
    """A ``Link`` whose publishes and reads are spans; the rest goes through."""

    def __init__(self, link: Link, tracer: Tracer, max_message_bytes: int) -> None:
        self._link = link
        self._tracer = tracer
        self._max_message_bytes = max_message_bytes

    async def publish(self, publication: Publication) -> Published:
        """Publish, and send the trace along; see ``broker.backplane.Link``."""
        topic, payload = publication.topic, publication.payload
        with span(self._tracer, PUBLISH, topic, payload):
            return await self._link.publish(self._labelled(publication))

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        """Read; see ``broker.backplane.Link``."""
        with span(self._tracer, HISTORY, topic) as reading:
            page = await self._link.history(
                topic, since=since, limit=limit, reverse=reverse
            )
            reading.set_attribute("messaging.batch.message_count", len(page.messages))
            return page

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        """See ``broker.backplane.Link``."""
        return await self._link.subscribe(name, rules)

    async def unsubscribe(self, name: str) -> None:
        """See ``broker.backplane.Link``."""
        await self._link.unsubscribe(name)

    async def clear_history(self, topic: str) -> None:
        """See ``broker.backplane.Link``."""
        await self._link.clear_history(topic)

    async def tell(self, news: bytes) -> None:
        """See ``broker.backplane.Link``."""
        await self._link.tell(news)

    async def enter(self, topic: str, member: Member) -> bool:
        """See ``broker.backplane.Link``."""
        return await self._link.enter(topic, member)

    async def leave(self, topic: str, client_id: str) -> bool:
        """See ``broker.backplane.Link``."""
        return await self._link.leave(topic, client_id)

    async def members(self, topic: str) -> list[Member]:
        """See ``broker.backplane.Link``."""
        return await self._link.members(topic)

    def _labelled(self, publication: Publication) -> Publication:
        """Return the publication with the current trace in its headers, if it fits."""
        before = publication.headers
        headers = dict(before)
        inject(headers)
        size = publication.size_bytes - headers_size(before) + headers_size(headers)
        if headers == before or size > self._max_message_bytes:
            return publication
        return replace(publication, headers=headers, size_bytes=size)


def span(
    tracer: Tracer,
    what: tuple[str, str, SpanKind],
    topic: str,
    payload: Payload | None = None,
    parent: Context | None = None,
) -> AbstractContextManager[Span]:
    """Start a span and make it the current one; no payload reaches it.

    Args:
        parent: None for the current context.
    """
    name, operation_type, kind = what
    attributes: dict[str, str | int] = {
        "messaging.system": "asgi-broker",
        "messaging.operation.name": name,
        "messaging.operation.type": operation_type,
        "messaging.destination.name": topic,
    }
    if payload is not None:
        attributes["messaging.message.body.size"] = size_of(payload)
    return tracer.start_as_current_span(
        name, context=parent, kind=kind, attributes=attributes
    )


def headers_size(headers: Mapping[str, str]) -> int:
    """Return what headers add to a message (bytes)."""
    return sum(size_of(name) + size_of(value) for name, value in headers.items())
