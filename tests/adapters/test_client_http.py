"""The protocol over HTTP streams and posts, in memory on both loops."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from collections import Counter
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from adapters.asgi.body import LINGER_BYTES
from adapters.asgi.client import client_routes
from adapters.asgi.emulation import ENVELOPE_BYTES, MAX_WAITING, Emulation
from broker import (
    Broker,
    ConnectRequest,
    EndKind,
    Hooks,
    Limits,
    NotAllowed,
    Session,
    TopicRules,
    drain,
)
from broker.client_protocol import ClientProtocol
from broker.protocol.rules import ProtocolTimes

from .http_client import Answer, Request, ask, streaming

CONNECT = '{"id":1,"connect":{}}'
STREAMS = [("http_stream", "POST"), ("sse", "POST"), ("sse", "GET")]
ONE_WAYS = [("uni_http_stream", "POST"), ("uni_sse", "POST"), ("uni_sse", "GET")]
GOODBYE = {"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}}
LIMITS = Limits(
    max_message_bytes=2_000,
    max_inbox_messages=5,
    max_inbox_bytes=6_000,
    messages_per_s=None,
)
TIMES = ProtocolTimes(ping_s=40, pong_s=8)
ORIGIN = "https://app.example"
PART = b"x" * 100_000  # of a body


class Handled:
    """An application of the protocol, whose messages are handled when it says so.

    Attributes:
        messages: that were handled.
        go_on: handling waits for it.
    """

    def __init__(self, broker: Broker, **options: Any) -> None:
        self.broker = broker
        self.messages: list[str] = []
        self.go_on = anyio.Event()
        self.protocol = ClientProtocol(
            clock=time.time, message=self.handle, times=TIMES, **options
        )
        routes = client_routes(broker, self.protocol)
        self.app = Starlette(routes=routes)
        assert isinstance(routes[-1], Route)
        self.emulation: Emulation = routes[-1].endpoint.__self__  # type: ignore[attr-defined] # of a bound method

    async def handle(self, session: Session[Any], data: Any) -> None:
        """Wait until told to go on."""
        await self.go_on.wait()
        self.messages.append(data)


def served(broker: Broker, **options: Any) -> Starlette:
    here = Handled(broker, **options)
    here.go_on.set()
    return here.app


def send(data: Any) -> dict[str, Any]:
    """Return a command that gets no reply."""
    return {"send": {"data": data}}


async def ended(broker: Broker, kind: EndKind) -> None:
    """Wait until no session is left; one has ended like this."""
    with anyio.fail_after(60):
        await broker.wait_empty()
    assert broker.statistics().totals.ended[kind] == 1


@pytest.mark.parametrize(("name", "method"), STREAMS)
async def test_a_conversation(name: str, method: str) -> None:
    rules = [TopicRules(pattern="chat.>", history_size=9, presence=True)]
    async with Broker(rules=rules) as broker:
        app = served(broker)
        first = f'{CONNECT}\n{{"id":2,"subscribe":{{"channel":"chat.a"}}}}'
        path = f"/connection/{name}"
        async with streaming(app, path, first, method=method) as client:
            assert set(client.address) == {"session", "node"}
            assert (await client.next())["subscribe"]["recoverable"]
            published = {"id": 3, "publish": {"channel": "chat.a", "data": {"n": 1}}}
            assert await client.post(published, send("ignored")) == 204
            push = (await client.next())["push"]
            assert (push["channel"], push["pub"]["data"]) == ("chat.a", {"n": 1})
            assert await client.next() == {"id": 3, "publish": {}}
            present = await client.call("presence", channel="chat.a")
            assert len(present["presence"]) == 1
        await ended(broker, EndKind.CLIENT_LEFT)


@pytest.mark.parametrize(("name", "method"), STREAMS)
async def test_what_the_response_says_to_those_in_between(
    name: str, method: str
) -> None:
    async with Broker() as broker:
        path = f"/connection/{name}"
        async with streaming(served(broker), path, method=method) as client:
            headers = client.request.headers
            expected = {
                "sse": "text/event-stream; charset=utf-8",
                "http_stream": "application/x-ndjson",
            }
            assert headers["content-type"] == expected[name]
            assert headers["x-accel-buffering"] == "no"
            assert {"no-store", "private"} <= set(headers["cache-control"].split(", "))
            assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(("name", "method"), STREAMS)
async def test_what_a_burst_becomes(name: str, method: str) -> None:
    """One frame of many lines is as many lines, or as many events."""
    async with Broker() as broker:
        subscribe = '{"id":2,"subscribe":{"channel":"news"}}'
        async with streaming(
            served(broker),
            f"/connection/{name}",
            f"{CONNECT}\n{subscribe}",
            method=method,
        ) as client:
            assert (await client.next())["id"] == 2
            sent = broker.statistics().totals.sent
            for number in range(20):
                await broker.publish("news", f'{{"n":\r\n{number}}}')
            for number in range(20):
                assert (await client.next())["push"]["pub"]["data"] == {"n": number}
            assert broker.statistics().totals.sent - sent < 20


async def test_the_address_is_a_secret_of_each_session() -> None:
    """It is not what others are told of a client, nor to be guessed from others'."""
    async with Broker() as broker:
        served_here = Handled(broker)
        secrets = set()
        for _ in range(20):
            async with streaming(served_here.app, "/connection/http_stream") as client:
                secrets.add(client.address["session"])
                assert client.address["node"] == served_here.emulation.node
                ids = [session.client_id for session in broker.sessions()]
                assert not secrets & {*ids}
        assert len(secrets) == 20
        assert all(len(secret) >= 22 for secret in secrets)  # 128 bits in Base64
        assert not any(a[:8] == b[:8] for a in secrets for b in secrets if a != b)


async def test_other_nodes_have_other_names() -> None:
    async with Broker() as broker:
        assert Emulation(broker).node != Emulation(broker).node


@pytest.mark.parametrize(("name", "method"), STREAMS + ONE_WAYS)
async def test_a_goodbye_is_a_push_and_the_end(name: str, method: str) -> None:
    async with Broker() as broker:
        first = "{}" if name.startswith("uni") else CONNECT
        path = f"/connection/{name}"
        async with streaming(served(broker), path, first, method=method) as client:
            before = anyio.current_time()
            await drain(broker)
            assert anyio.current_time() - before < 1  # nobody waits for an answer
            goodbye = GOODBYE["push"] if name.startswith("uni") else GOODBYE
            assert client.lines[-1] == goodbye
            assert client.request.is_over


async def test_when_a_client_hangs_up() -> None:
    """Its session ends at once, and its address leads nowhere."""
    async with Broker() as broker:
        here = Handled(broker)
        async with streaming(here.app, "/connection/http_stream") as client:
            assert len(here.emulation) == 1
            client.request.leave()
            await ended(broker, EndKind.CLIENT_LEFT)
            assert len(here.emulation) == 0
            assert await client.post({}) == 404
            assert not client.request.is_over  # nobody was told goodbye


async def test_a_post_while_the_session_says_goodbye() -> None:
    """Until the client has heard why, it is not told that there is no such session."""
    async with Broker(limits=Limits(stall_s=50, grace_s=20)) as broker:
        here = Handled(broker)
        async with streaming(here.app, "/connection/http_stream") as client:
            client.request.is_stalled = True
            await broker.disconnect(client=broker.sessions()[0].client_id)
            await anyio.wait_all_tasks_blocked()
            assert await client.post(send(1)) == 204
            assert here.messages == []  # and nothing comes of it
            await ended(broker, EndKind.DISCONNECTED)
            assert await client.post(send(1)) == 404


def post(**changes: Any) -> bytes:
    return json.dumps({"session": "s", "node": "n", "data": "{}", **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"{",
        b"[]",
        b"null",
        b'{"session":"a","node":"b"}',
        b'{"session":"a","node":"b","data":{}}',
        post(session=1),
        post(node=None),
        b'{"session":"a","node":"b","data":"\xff"}',
        b'{"session":"a","node":"b","data":"\\ud800"}',
        b'{"x":' + b"[" * 4_000,
    ],
)
async def test_a_post_that_is_none(body: bytes) -> None:
    async with Broker(limits=LIMITS) as broker:
        app = served(broker)
        answer = await ask(app, "POST", "/emulation", body=body)
        assert (answer.status, answer.body) == (400, b"")


async def test_whom_a_post_reaches() -> None:
    """Only who knows a session's address, as long as there is one."""
    async with Broker() as broker:
        app = served(broker)
        async with (
            streaming(app, "/connection/http_stream") as ann,
            streaming(app, "/connection/sse", method="GET") as ben,
        ):
            client_id = broker.sessions()[0].client_id
            secret = ann.address["session"]
            for guess in ("", client_id, secret[:-1], secret + "A", secret.swapcase()):
                assert await ann.post({}, session=guess) == 404
            for node in ("", client_id, ann.address["node"] + "0"):
                assert await ann.post({}, node=node) == 404
            # A pong that nobody asked for would have ended it.
            assert await ben.call("subscribe", channel="a") == {}
            assert await ann.call("subscribe", channel="a") == {}


@pytest.mark.parametrize("size", [2_000, 2_001])
async def test_the_largest_post(size: int) -> None:
    """As large as any message, however many backslashes it takes to post it."""
    async with Broker(limits=LIMITS) as broker:
        here = Handled(broker)
        here.go_on.set()
        async with streaming(here.app, "/connection/http_stream") as client:
            start = '{"send":{"data":"'
            data = start + '\\"' * ((size - len(start) - 3) // 2)
            data += "x" * (size - len(data) - 3) + '"}}'
            assert len(data) == size
            body = json.dumps({**client.address, "data": data}).encode()
            answer = await ask(here.app, "POST", "/emulation", body=body)
            await anyio.wait_all_tasks_blocked()
            assert answer.status == (204 if size == 2_000 else 413)
            assert len(here.messages) == (1 if size == 2_000 else 0)


@pytest.mark.parametrize("path", ["/connection/http_stream", "/emulation"])
async def test_a_huge_body(path: str) -> None:
    """It is not kept, and read no further than to let the client see the answer."""
    async with Broker(limits=LIMITS) as broker:
        app = served(broker)
        for told in (None, str(LINGER_BYTES * 2), "9" * 5_000):
            headers = {} if told is None else {"content-length": told}
            request = Request("POST", path, body=None, headers=headers)
            if told is None:
                for _ in range(50):
                    request.upload(PART, more=True)
            tracemalloc.start()
            try:
                await request.run(app)
                _, most_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert request.status == 413
            assert most_bytes < 1_000_000
            if told is None:
                taken = 50 - request.left
                assert taken * len(PART) <= LINGER_BYTES + 2 * len(PART)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/connection/http_stream", 2_000),
        ("/emulation", 2 * 2_000 + ENVELOPE_BYTES),
    ],
)
async def test_a_body_over_the_limit_in_parts(path: str, limit: int) -> None:
    async with Broker(limits=LIMITS) as broker:
        request = Request("POST", path, body=None)
        request.upload(b" " * limit, more=True)
        request.upload(b" ")
        await request.run(served(broker))
        assert request.status == 413


@pytest.mark.parametrize(
    ("path", "within_s"),
    [("/connection/http_stream", TIMES.stale_s), ("/emulation", LIMITS.stall_s)],
)
async def test_a_slow_body(path: str, within_s: float) -> None:
    async with Broker(limits=LIMITS) as broker:
        app = served(broker)
        request = Request("POST", path, body=None)
        before = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request.run, app)
            for _ in range(5):
                request.upload(b"{", more=True)
                await anyio.sleep(within_s / 6)
        assert request.status == 408
        assert anyio.current_time() - before == pytest.approx(within_s, abs=0.2)
        assert not any(broker.statistics().totals.ended.values())


@pytest.mark.parametrize("path", ["/connection/http_stream", "/emulation"])
async def test_leaving_in_the_middle_of_a_body(path: str) -> None:
    async with Broker() as broker:
        request = Request("POST", path, body=None)
        request.upload(b"{", more=True)
        request.leave()
        await request.run(served(broker))
        assert request.status == 400


async def test_leaving_while_connecting() -> None:
    """Nothing stays of who has gone before it was known who that is."""
    inside, go_on = anyio.Event(), anyio.Event()

    async def authenticate(_: ConnectRequest) -> str:
        inside.set()
        await go_on.wait()
        return "ann"

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:
        here = Handled(broker)
        async with streaming(
            here.app, "/connection/sse", method="GET", is_connected=False
        ) as client:
            await inside.wait()
            client.request.leave()
            go_on.set()
            await anyio.wait_all_tasks_blocked()
        await broker.wait_empty()
        assert len(here.emulation) == 0


async def test_a_client_that_posts_faster_than_it_is_served() -> None:
    """It is held back, and of what it says no more is kept than the limits allow."""
    async with Broker(limits=LIMITS) as broker:
        here = Handled(broker)
        answers: Counter[int] = Counter()
        async with streaming(here.app, "/connection/http_stream") as client:

            async def speak(number: int) -> None:
                answers[await client.post(send(number))] += 1

            async with anyio.create_task_group() as tasks:
                for number in range(2 * MAX_WAITING):
                    tasks.start_soon(speak, number)
                await anyio.wait_all_tasks_blocked()
                # One is being handled, five are in the inbox, the rest wait.
                assert answers[429] == MAX_WAITING
                assert answers[204] == 6
                here.go_on.set()
            assert answers == {204: MAX_WAITING, 429: MAX_WAITING}
            await anyio.wait_all_tasks_blocked()
            assert len(here.messages) == MAX_WAITING
            assert len({*here.messages}) == MAX_WAITING  # each of them once


async def test_posts_one_after_the_other() -> None:
    """None is counted as waiting that has been answered."""
    async with Broker(limits=LIMITS) as broker:
        app = served(broker)
        async with streaming(app, "/connection/http_stream") as client:
            for number in range(MAX_WAITING + 10):
                assert await client.post(send(number)) == 204


async def test_what_waits_is_bounded_in_bytes() -> None:
    async with Broker(limits=LIMITS) as broker:
        here = Handled(broker)
        answers: Counter[int] = Counter()
        async with streaming(here.app, "/connection/http_stream") as client:

            async def speak() -> None:
                answers[await client.post(send("x" * 1_900))] += 1

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(speak)
                await anyio.wait_all_tasks_blocked()
                kept = 50 - answers[429]
                # One is being handled; the inbox holds 6,000 bytes, and so do requests.
                assert kept <= 1 + 4 + 3
                here.go_on.set()


async def test_a_session_that_takes_nothing() -> None:
    """Who waits is told, and after as long the session is ended."""
    limits = Limits(max_inbox_messages=1, stall_s=5, messages_per_s=None)
    async with Broker(limits=limits) as broker:
        here = Handled(broker)
        async with streaming(here.app, "/connection/http_stream") as client:
            for number in range(2):  # one is being handled, one is in the inbox
                assert await client.post(send(number)) == 204
                await anyio.wait_all_tasks_blocked()
            before = anyio.current_time()
            answers = []

            async def speak() -> None:
                answers.append(await client.post(send("late")))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(speak)
            assert anyio.current_time() - before <= 5.5
            # Which of the two comes first is not said: both have waited as long.
            assert answers in ([503], [204])
            with anyio.fail_after(10):
                while client.lines[-1].get("push") is None:
                    await client.request.wait()
            assert client.lines[-1]["push"]["disconnect"]["code"] == 3013
            here.go_on.set()
        assert "late" not in here.messages


async def test_thousands_of_posts_at_once() -> None:
    """Each is answered, and what was taken is handled once: no more, no less."""
    limits = Limits(messages_per_s=None)
    async with Broker(limits=limits) as broker:
        here = Handled(broker)
        here.go_on.set()
        answers: Counter[int] = Counter()
        async with streaming(here.app, "/connection/http_stream") as client:

            async def speak(number: int) -> None:
                answers[await client.post(send(number))] += 1

            async with anyio.create_task_group() as tasks:
                for number in range(2_000):
                    tasks.start_soon(speak, number)
            await anyio.wait_all_tasks_blocked()
        assert set(answers) <= {204, 429}
        assert answers.total() == 2_000
        assert answers[204] >= MAX_WAITING
        assert len(here.messages) == len({*here.messages}) == answers[204]


@pytest.mark.parametrize("ticks", range(8))
async def test_leaving_while_posts_wait(ticks: int) -> None:
    """None hangs, whenever the client goes; each is told one of two things."""
    async with Broker(limits=LIMITS) as broker:
        here = Handled(broker)
        answers: Counter[int] = Counter()

        async def speak() -> None:
            answers[await client.post(send(1))] += 1

        async with streaming(here.app, "/connection/http_stream") as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(speak)
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                client.request.leave()
                here.go_on.set()
        assert set(answers) <= {204, 404}
        assert answers.total() == 4
        assert len(here.emulation) == 0


async def test_a_rate_holds_for_posts_as_well() -> None:
    async with Broker(limits=Limits(messages_per_s=10, burst_s=1)) as broker:
        here = Handled(broker)
        here.go_on.set()
        async with streaming(here.app, "/connection/http_stream") as client:
            for number in range(12):
                await client.post(send(number))
            await anyio.wait_all_tasks_blocked()
            told = client.lines[-1]["push"]["disconnect"]
            assert told == {"code": 3013, "reason": "too many requests"}


async def test_pings_are_answered_by_posts() -> None:
    async with Broker() as broker:
        async with streaming(served(broker), "/connection/http_stream") as client:
            for _ in range(3):
                assert await client.next() == {}
                assert await client.post({}) == 204
            assert await client.next() == {}
            before = anyio.current_time()
            told = (await client.next())["push"]["disconnect"]
            assert told == {"code": 3012, "reason": "no pong"}
            assert anyio.current_time() - before == pytest.approx(8, abs=1.2)
            assert client.request.is_over


@pytest.mark.parametrize("first", ["{", "[]", '"', "{}", '{"id":1,"rpc":{}}', "\x00"])
@pytest.mark.parametrize(("name", "method"), STREAMS)
async def test_a_first_frame_that_is_none(name: str, method: str, first: str) -> None:
    async with Broker() as broker:
        async with streaming(
            served(broker),
            f"/connection/{name}",
            first,
            method=method,
            is_connected=False,
        ) as client:
            told = (await client.next())["push"]["disconnect"]
            assert told == {"code": 3501, "reason": "bad request"}
        await broker.wait_empty()


@pytest.mark.parametrize(
    ("method", "name", "status"),
    [
        ("GET", "sse", 400),
        ("POST", "sse", 400),
        ("POST", "http_stream", 400),
        ("HEAD", "sse", 405),
        ("HEAD", "uni_sse", 405),
        ("GET", "http_stream", 405),
        ("PUT", "sse", 405),
    ],
)
async def test_requests_that_are_none(method: str, name: str, status: int) -> None:
    async with Broker() as broker:
        answer = await ask(served(broker), method, f"/connection/{name}")
        assert answer.status == status
        assert not any(broker.statistics().totals.ended.values())


async def test_a_body_that_is_no_text() -> None:
    async with Broker() as broker:
        path = "/connection/http_stream"
        answer = await ask(served(broker), "POST", path, body=b'{"id":\xff}')
        assert answer.status == 400


async def test_a_query_that_is_too_long() -> None:
    async with Broker(limits=LIMITS) as broker:
        query = {"cf_connect": "é" * 1_001}
        answer = await ask(served(broker), "GET", "/connection/sse", query=query)
        assert answer.status == 413


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotAllowed("who are you?", authenticated=False), 401),
        (NotAllowed("not you"), 403),
    ],
)
async def test_who_is_not_wanted(error: NotAllowed, status: int) -> None:
    async def authenticate(_: ConnectRequest) -> str:
        raise error

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:
        path = "/connection/http_stream"
        answer = await ask(served(broker), "POST", path, body=CONNECT.encode())
        assert answer.status == status
        assert json.loads(answer.body) == {"detail": str(error)}


async def test_when_all_places_are_taken() -> None:
    async with Broker(limits=Limits(max_sessions=1)) as broker:
        app = served(broker)
        async with streaming(app, "/connection/http_stream"):
            answer = await ask(app, "POST", "/connection/http_stream")
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"


async def test_the_last_place_goes_to_one_of_two() -> None:
    """Both were told to come in while there was room; the second is told why not."""
    both, seen = anyio.Event(), 0

    async def authenticate(_: ConnectRequest) -> str:
        nonlocal seen
        seen += 1
        if seen == 2:
            both.set()
        await both.wait()
        return "ann"

    hooks = Hooks(authenticate=authenticate)
    async with Broker(limits=Limits(max_sessions=1), hooks=hooks) as broker:
        app = served(broker)
        path, body = "/connection/http_stream", CONNECT.encode()
        requests = [Request("POST", path, body=body) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            for request in requests:
                tasks.start_soon(request.run, app)
            await anyio.wait_all_tasks_blocked()
            assert sorted(request.status or 0 for request in requests) == [200, 503]
            for request in requests:
                if request.status == 200:
                    request.leave()


async def test_who_comes_while_draining() -> None:
    async with Broker() as broker:
        app = served(broker)
        await drain(broker)
        answer = await ask(app, "POST", "/connection/http_stream", body=b"x")
        assert answer.status == 503


async def test_when_on_connect_refuses() -> None:
    async def on_connect(_: Session[Any]) -> None:
        raise NotAllowed("not today")

    async with Broker(hooks=Hooks(on_connect=on_connect)) as broker:
        path = "/connection/http_stream"
        answer = await ask(served(broker), "POST", path, body=CONNECT.encode())
        told = json.loads(answer.body)["push"]["disconnect"]
        assert told == {"code": 3507, "reason": "not today"}


@pytest.mark.parametrize("how", ["fails", "is_stalled"])
async def test_a_client_that_cannot_be_written_to(how: str) -> None:
    """It ends; one that takes nothing costs no more than its outbox."""
    async with Broker(limits=Limits(stall_s=5, grace_s=2)) as broker:
        here = Handled(broker)
        first = f'{CONNECT}\n{{"id":2,"subscribe":{{"channel":"news"}}}}'
        path = "/connection/http_stream"
        async with streaming(here.app, path, first) as client:
            assert (await client.next())["id"] == 2
            setattr(client.request, how, True)
            before = anyio.current_time()
            for _ in range(9):
                await broker.publish("news", "x" * 60_000)
            await broker.wait_empty()
            assert anyio.current_time() - before <= (9 if how == "is_stalled" else 1)
            assert broker.statistics().queued_bytes == 0
            assert len(here.emulation) == 0
            assert not client.request.is_over
        kind = EndKind.STALLED if how == "is_stalled" else EndKind.CLIENT_LEFT
        assert broker.statistics().totals.ended[kind] == 1


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Broker() as broker:
        app = served(broker)
        token = "a-token-of-somebody"
        first = json.dumps({"id": 1, "connect": {"data": token}})
        path = "/connection/sse"
        async with streaming(app, path, first, method="GET") as client:
            secret = client.address["session"]
            await client.post(send("very private"))
            await ask(app, "POST", "/emulation", body=post(data=["very private"]))
        async with streaming(app, path, first, method="GET") as client:
            await client.post("garbage: very private")
    assert "client_left" in caplog.text
    for private in (secret, token, "very private"):
        assert private not in caplog.text


# --- Clients that only listen ---


@pytest.mark.parametrize(("name", "method"), ONE_WAYS)
async def test_a_listener(name: str, method: str) -> None:
    """Bare pushes; no address, because it has nothing more to say."""
    async with Broker() as broker:
        here = Handled(broker)
        path = f"/connection/{name}"
        first = '{"subs":{"news":{}}}'
        async with streaming(here.app, path, first, method=method) as client:
            told = client.lines[0]["connect"]
            assert set(told["subs"]) == {"news"}
            assert "node" not in told
            assert len(here.emulation) == 0
            await broker.publish("news", '{"n":1}')
            push = await client.next()
            assert set(push) == {"channel", "pub"}
            assert (push["channel"], push["pub"]["data"]) == ("news", {"n": 1})
            for _ in range(4):
                assert await client.next() == {}  # and nobody waits for a pong
            await broker.disconnect(client=told["client"], reason="bye")
            told = await client.next()
            assert told == {"disconnect": {"code": 3503, "reason": "bye"}}
            assert client.request.is_over


@pytest.mark.parametrize(("name", "method"), ONE_WAYS)
async def test_a_listener_that_says_nothing(name: str, method: str) -> None:
    """A plain EventSource connects, as whom ``authenticate`` says."""

    async def authenticate(request: ConnectRequest) -> str | None:
        return request.cookies.get("user")

    async with Broker(hooks=Hooks(authenticate=authenticate)) as broker:
        app = served(broker, anonymous=False)
        path = f"/connection/{name}"
        headers = {"cookie": "user=ann"}
        async with streaming(app, path, "", method=method, headers=headers) as client:
            assert "connect" in client.lines[0]
            assert [session.user for session in broker.sessions()] == ["ann"]
        async with streaming(
            app, path, "", method=method, is_connected=False
        ) as client:
            assert "disconnect" in await client.next()
            assert client.request.is_over


# --- Pages of other sites ---


@pytest.mark.parametrize("path", ["http_stream", "sse", "uni_http_stream", "uni_sse"])
@pytest.mark.parametrize(
    ("origin", "listed", "allowed", "credentials"),
    [
        (None, (), None, False),
        ("https://chat.example", (), None, False),
        (ORIGIN, (ORIGIN,), ORIGIN, True),
        (ORIGIN, ("*",), "*", False),
        (ORIGIN, ("*", ORIGIN), ORIGIN, True),
        (ORIGIN, (), "refused", False),
        ("null", (), "refused", False),
        ("null", ("null",), "null", True),
        ("https://chat.example.evil.example", (), "refused", False),
        (ORIGIN + ".evil.example", (ORIGIN,), "refused", False),
    ],
)
async def test_pages_of_other_sites(
    path: str,
    origin: str | None,
    listed: tuple[str, ...],
    allowed: str | None,
    credentials: bool,
) -> None:
    async with Broker(origins=listed) as broker:
        app = served(broker)
        headers = {} if origin is None else {"origin": origin}
        first = "{}" if path.startswith("uni") else CONNECT
        url = f"/connection/{path}"
        if allowed == "refused":
            for target in (url, "/emulation"):
                answer = await ask(
                    app, "POST", target, body=first.encode(), headers=headers
                )
                assert answer.status == 403
                assert json.loads(answer.body) == {"detail": "origin not allowed"}
                check_cors(answer.headers, None, credentials=False)
                answer = await ask(app, "OPTIONS", target, headers=headers)
                assert answer.status == 403
            refused = broker.statistics().totals.refused
            assert refused[EndKind.ORIGIN_NOT_ALLOWED] >= 1
            assert not any(broker.statistics().totals.ended.values())
            return
        async with streaming(app, url, first, headers=headers) as client:
            check_cors(client.request.headers, allowed, credentials=credentials)
            body = post(**client.address)
            answer = await ask(app, "POST", "/emulation", body=body, headers=headers)
            assert answer.status == (404 if path.startswith("uni") else 204)
            check_cors(answer.headers, allowed, credentials=credentials)
        for target in (url, "/emulation"):
            answer = await ask(app, "OPTIONS", target, headers=headers)
            assert answer.status == 204
            check_cors(answer.headers, allowed, credentials=credentials)
            if allowed is not None:
                methods = answer.headers["access-control-allow-methods"]
                assert "POST" in methods.split(", ")
                names = answer.headers["access-control-allow-headers"]
                assert "content-type" in names.split(", ")


def check_cors(
    headers: dict[str, str], allowed: str | None, *, credentials: bool
) -> None:
    assert headers.get("access-control-allow-origin") == allowed
    told = headers.get("access-control-allow-credentials")
    assert told == ("true" if credentials else None)
    assert headers.get("vary", "Origin") == "Origin"
    assert allowed is None or "vary" in headers


async def test_a_page_of_a_listed_site_sees_why_it_is_refused() -> None:
    async with Broker(origins=[ORIGIN], limits=Limits(max_sessions=1)) as broker:
        app = served(broker)
        headers = {"origin": ORIGIN}
        async with streaming(app, "/connection/http_stream"):
            answers: list[Answer] = [
                await ask(app, "POST", path, headers=headers)
                for path in ("/connection/http_stream", "/emulation")
            ]
        assert [answer.status for answer in answers] == [503, 400]
        for answer in answers:
            check_cors(answer.headers, ORIGIN, credentials=True)


@pytest.mark.parametrize(
    ("mode", "is_allowed"),
    [
        ("cors", True),
        ("same-origin", True),
        ("no-cors", False),
        ("navigate", False),
        ("websocket", False),
    ],
)
async def test_links_and_images_do_nothing(mode: str, is_allowed: bool) -> None:
    """Any site has them, they bring cookies along, and no origin."""
    async with Broker() as broker:
        app = served(broker)
        headers = {"sec-fetch-mode": mode}
        path = "/connection/sse"
        if is_allowed:
            async with streaming(app, path, method="GET", headers=headers):
                return
        for method, target in (("GET", path), ("POST", path), ("POST", "/emulation")):
            answer = await ask(
                app,
                method,
                target,
                headers=headers,
                query={"cf_connect": CONNECT},
                body=CONNECT.encode(),
            )
            assert answer.status == 403
        assert not any(broker.statistics().totals.ended.values())
