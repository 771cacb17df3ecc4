"""A client of HTTP over ASGI messages in memory, and one that streams."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import anyio
from starlette.types import ASGIApp

__all__ = ("Answer", "Request", "ask", "streaming")

PATIENCE_S = 600  # virtual


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Request:
    """The server's side of one request: what the application gets and what it says.

    Attributes:
        headers: of the response; None before it has begun.
        is_over: the body has come to its end.
        fails: the next send raises.
        is_stalled: the client takes nothing: sends wait.
    """

    def __init__(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = b"",
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> None:
        given = {"host": "chat.example", **(headers or {})}
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": urlencode(query or {}).encode(),
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
            "client": ("192.0.2.1", 1234),
        }
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_over = False
        self.fails = False
        self.is_stalled = False
        self._changed = anyio.Event()
        self._to_app, self._for_app = anyio.create_memory_object_stream[Any](99)
        if body is not None:
            self.upload(body)

    def upload(self, part: bytes, *, more: bool = False) -> None:
        """Send a part of the request's body."""
        message = {"type": "http.request", "body": part, "more_body": more}
        self._to_app.send_nowait(message)

    def leave(self) -> None:
        """Hang up. Idempotent."""
        self._to_app.send_nowait({"type": "http.disconnect"})

    @property
    def left(self) -> int:
        """Parts of its body that the application has not taken."""
        return self._for_app.statistics().current_buffer_used

    async def receive(self) -> Any:
        return await self._for_app.receive()

    async def send(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if self.is_stalled:
            await anyio.sleep_forever()
        if self.fails:
            raise RuntimeError("the client has gone")
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status = message["status"]
            headers = [(k.decode(), v.decode()) for k, v in message["headers"]]
            self.headers = dict(headers)
            assert len(headers) == len(self.headers)
        else:
            assert self.status is not None
            assert not self.is_over
            self.body += message.get("body", b"")
            self.is_over = not message.get("more_body", False)
        self._changed.set()
        self._changed = anyio.Event()

    async def wait(self) -> None:
        """Wait until more of the response has come."""
        with anyio.fail_after(PATIENCE_S):
            await self._changed.wait()

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer, to the end."""
        try:
            with anyio.fail_after(PATIENCE_S):
                await app(self.scope, self.receive, self.send)
        finally:
            self._to_app.close()
            self._for_app.close()


async def ask(app: ASGIApp, method: str, path: str, **options: Any) -> Answer:
    """Return what the application answers."""
    request = Request(method, path, **options)
    await request.run(app)
    assert request.is_over
    assert request.status is not None
    return Answer(request.status, request.headers, request.body)


class Listener:
    """A client whose response goes on.

    Attributes:
        request: that it has sent.
    """

    def __init__(self, app: ASGIApp, request: Request) -> None:
        self.request = request
        self._app = app
        self._taken = 0
        self._number = 1
        self.address: dict[str, str] = {}

    @property
    def lines(self) -> list[Any]:
        """All that has come, decoded."""
        text = self.request.body.decode()
        if not text:
            return []
        if self.request.headers.get("content-type", "").startswith("text/event-stream"):
            assert text.startswith("\r\n")
            *events, rest = text.removeprefix("\r\n").split("\n\n")
            assert all(event.startswith("data: ") for event in events)
            whole = [event.removeprefix("data: ") for event in events]
        else:
            *whole, rest = text.split("\n")
        assert rest == ""
        return [json.loads(line) for line in whole]

    async def next(self) -> Any:
        """Return the next line, decoded."""
        while len(self.lines) == self._taken:
            assert not self.request.is_over
            await self.request.wait()
        line = self.lines[self._taken]
        self._taken += 1
        return line

    async def post(self, *commands: Any, **changes: Any) -> int:
        """Post commands; return the status of the answer."""
        text = "\n".join(json.dumps(each) for each in commands)
        fields = {**self.address, "data": text, **changes}
        body = json.dumps(fields).encode()
        return (await ask(self._app, "POST", "/emulation", body=body)).status

    async def call(self, method: str, /, **fields: Any) -> Any:
        """Post a command; return its result, which comes next."""
        self._number += 1
        assert await self.post({"id": self._number, method: fields}) == 204
        line = await self.next()
        assert set(line) == {"id", method}, line
        assert line["id"] == self._number
        return line[method]


@asynccontextmanager
async def streaming(
    app: ASGIApp,
    path: str,
    first: str = '{"id":1,"connect":{}}',
    *,
    method: str = "POST",
    is_connected: bool = True,
    **options: Any,
) -> AsyncGenerator[Listener, None]:
    """Have a client listen for as long as the block runs; it leaves after it.

    Args:
        first: what it says in its request.
        is_connected: wait for the reply to it.
    """
    if method == "GET":
        options["query"] = {"cf_connect": first, **options.get("query", {})}
    else:
        options["body"] = first.encode()
    request = Request(method, path, **options)
    listener = Listener(app, request)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request.run, app)
        if is_connected:
            told = await listener.next()
            reply = told["connect"]
            listener.address = {k: reply[k] for k in ("session", "node") if k in reply}
        yield listener
        with suppress(anyio.ClosedResourceError):  # the application has finished
            request.leave()
