"""One connection to NATS, and its JetStream as requests. Runs beside nats-py."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

__all__ = ("Ack", "Address", "Stored", "Wire", "WrongSequence")

CLOSE_S = 1.0  # to send what is left and close (guess)
# The same where nothing was sent: asyncio waits for ever for a TLS that was refused.
ABORT_S = 0.1
# One subscription holds so much before nats-py drops, and then the link is made anew
# and catches up (guesses).
MAX_PENDING = 65_536
MAX_PENDING_BYTES = 67_108_864
PAGE_BYTES = 4_194_304  # of one answer to a read (guess)

# JetStream's codes of errors.
_WRONG_SEQUENCE = (10071, 10164)
_NOT_FOUND = 404
_NO_STREAM = 10059


class WrongSequence(Exception):
    """The last message under the subject is another one; nothing was published."""


class _ApiError(Exception):
    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("description", "unknown error")))
        self.status = error.get("code")
        self.code = error.get("err_code")


LINK_ERRORS = (nats.errors.Error, OSError, ValueError, _ApiError, EOFError)
# What an answer that is not JetStream's leads to: others may answer in its place.
STRANGE_ERRORS = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where NATS is, and who we are.

    Attributes:
        servers: URLs without secrets; each try takes one of them.
        login: ``user``, ``password`` or ``token``. Never shown.
        credentials: name of a file with a JWT and its key; None for none.
        ssl_context: None for no TLS unless the server insists.
        timeout_s: longest wait for a connection or an answer (s, > 0).
    """

    servers: tuple[str, ...]
    login: Mapping[str, str]
    credentials: str | None
    ssl_context: ssl.SSLContext | None
    timeout_s: float


class Stored(NamedTuple):
    """A message of a stream; ``time`` is the server's (s, since 1970)."""

    subject: str
    sequence: int
    time: float
    data: bytes


class Ack(NamedTuple):
    """What the server answers to a publish."""

    sequence: int
    duplicate: bool


class Wire:
    """One connection. Its methods run on the loop of nats-py.

    All raise ``BackplaneError`` when it fails, and then ``failed`` is called once.

    Args:
        address: where to.
        failed: gets the reason; must not wait.
    """

    def __init__(self, address: Address, failed: Callable[[str], None]) -> None:
        self._address = address
        self._failed = failed
        self._client = Client()
        self._problem: str | None = None  # why it has failed
        self._scopes: set[anyio.CancelScope] = set()  # of who waits for an answer
        self._handshakes = 0
        self._skew_s = 0.0  # from the loop's clock to the server's
        self._last_error = ""

    @property
    def max_payload(self) -> int:
        """The largest message, with its headers, that the server takes (bytes)."""
        return self._client.max_payload

    @property
    def server_version(self) -> tuple[int, int]:
        """Of the server: major and minor."""
        version = self._client.connected_server_version
        return version.major, version.minor

    async def open(self) -> None:
        """Connect.

        Raises:
            BackplaneError: it could not be done; nothing is left open.
        """
        address = self._address
        options: dict[str, Any] = {
            name: partial(self._show, secret) for name, secret in address.login.items()
        }
        if address.credentials is not None:
            options["user_credentials"] = address.credentials
        if address.ssl_context is not None:
            options["tls"] = address.ssl_context
            self._handshakes = _handshakes(address.ssl_context)
        try:
            with self._translating(), anyio.fail_after(address.timeout_s):
                await self._client.connect(
                    servers=list(address.servers),
                    name="asgi-broker",
                    allow_reconnect=False,  # the uplink makes connections anew
                    connect_timeout=address.timeout_s,  # type: ignore[arg-type] # floats do
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                    **options,
                )
                self._show("")
        except BaseException:
            await self.close(ABORT_S)
            raise

    def _show(self, secret: str) -> str:
        """Return a secret for a server that has proved itself, if it has to."""
        # nats-py 2.16 goes on without TLS where the server offers none.
        context = self._address.ssl_context
        if context is not None and _handshakes(context) == self._handshakes:
            raise BackplaneError("the server does not speak TLS")
        return secret

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Close it, within so many seconds (> 0)."""
        self._problem = self._problem or "closed"
        with anyio.move_on_after(within_s, shield=True), self._quiet():
            await self._client.close()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with suppress(*LINK_ERRORS):  # it is gone already
            yield

    async def _on_error(self, error: Exception) -> None:
        self._last_error = reason_of(error)
        if isinstance(error, nats.errors.SlowConsumerError):
            self.fail("this node does not keep up with what is published")

    async def _on_closed(self) -> None:
        self.fail(self._last_error or "the connection was closed")

    def fail(self, problem: str) -> None:
        """Give the connection up. Who waits for an answer gets an error."""
        if self._problem is not None:
            return
        self._problem = problem
        for scope in self._scopes:
            scope.cancel()
        self._failed(problem)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (BackplaneError, WrongSequence):
            raise
        except LINK_ERRORS as error:
            if isinstance(error, TimeoutError):
                reason = "no answer in time"
            elif isinstance(error, nats.errors.NoRespondersError):
                reason = "JetStream is not enabled, or its stream is gone"
            else:
                reason = reason_of(error)
            if not isinstance(error, _ApiError):
                self.fail(reason)  # half open, or not what it was: made anew
            raise BackplaneError(reason) from error

    async def _wait(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for an answer, and no longer than there is a connection."""
        self._check()
        answer: Any = None
        with self._translating(), anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                with anyio.fail_after(self._address.timeout_s):
                    answer = await call()
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            self._check()
        return answer

    def _check(self) -> None:
        if self._problem is not None:
            raise BackplaneError(self._problem)

    async def request(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None
    ) -> Any:
        """Return the answer, which is JSON, as a dictionary.

        Raises:
            WrongSequence: an expectation in the headers was not met.
            BackplaneError: there is none, or it is another error.
        """
        timeout_s = self._address.timeout_s

        async def ask() -> Any:
            message = await self._client.request(
                subject, data, timeout=timeout_s, headers=headers
            )
            with _parsing():
                answer = json.loads(message.data)
                problem = dict(answer).get("error")
                if problem is not None:
                    is_wrong = problem.get("err_code") in _WRONG_SEQUENCE
                    raise WrongSequence if is_wrong else _ApiError(problem)
            return answer

        return await self._wait(ask)

    async def api(self, what: str, **body: Any) -> Any:
        """Return the answer of JetStream's API; see ``request``."""
        return await self.request(f"$JS.API.{what}", json.dumps(body).encode())

    async def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> Ack:
        """Have a stream keep a message; see ``request``."""
        answer = await self.request(subject, data, headers)
        with self._translating(), _parsing():
            return Ack(int(answer["seq"]), bool(answer.get("duplicate")))

    async def find(self, stream: str, **what: object) -> Stored | None:
        """Return one message by ``seq`` or ``last_by_subj``; asks the leader."""
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", **what)
        except BackplaneError as error:
            if not _is_missing(error):
                raise
            if _is_missing(error, _NO_STREAM):
                self.fail("the stream is gone")
                raise
            return None
        with self._translating(), _parsing():
            found = answer["message"]
            data = base64.b64decode(found.get("data", ""))
            time, sequence = _seconds(found["time"]), int(found["seq"])
            return Stored(str(found["subject"]), sequence, time, data)

    async def info(self, stream: str) -> Any:
        """Return a stream's settings and state; None if there is none."""
        try:
            answer = await self.request(f"$JS.API.STREAM.INFO.{stream}", b"")
        except BackplaneError as error:
            if not _is_missing(error, _NO_STREAM):
                raise
            return None
        with self._translating(), _parsing():
            self._skew_s = _seconds(answer["ts"]) - anyio.current_time()
            dict(answer["config"])
            int(answer["state"]["last_seq"])
        return answer

    def server_time(self) -> float:
        """Return the time by the server's clock (s, since 1970), as last compared."""
        return anyio.current_time() + self._skew_s

    async def page(
        self, stream: str, subject: str, start: int, count: int
    ) -> list[Stored]:
        """Return up to ``count`` messages under a subject, from a sequence on.

        None are there when it is empty. Replicas may be behind: then so is this.
        """
        found: list[Stored] = []
        done = anyio.Event()

        async def take(message: Msg) -> None:
            headers = message.headers or {}
            if "Nats-Sequence" not in headers:  # the end, or nothing there
                done.set()
                return
            found.append(
                Stored(
                    headers["Nats-Subject"],
                    int(headers["Nats-Sequence"]),
                    _seconds(headers["Nats-Time-Stamp"]),
                    message.data,
                )
            )

        inbox = self._client.new_inbox()
        body = {"seq": start, "next_by_subj": subject, "batch": count}
        body["max_bytes"] = PAGE_BYTES
        subscription = await self.subscribe(inbox, take)

        async def read() -> None:
            await self._client.publish(
                f"$JS.API.DIRECT.GET.{stream}", json.dumps(body).encode(), reply=inbox
            )
            await done.wait()

        try:
            await self._wait(read)
        finally:
            await self.unsubscribe(subscription)
        return found

    async def subscribe(
        self, subject: str, take: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        """Have messages of a subject taken, in their order."""

        async def ask() -> Subscription:
            return await self._client.subscribe(
                subject,
                cb=take,
                pending_msgs_limit=MAX_PENDING,
                pending_bytes_limit=MAX_PENDING_BYTES,
            )

        subscription: Subscription = await self._wait(ask)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; what is down has none."""
        with anyio.move_on_after(CLOSE_S, shield=True), self._quiet():
            await subscription.unsubscribe()

    async def tell(self, subject: str, data: bytes, stream: str) -> None:
        """Tell who is subscribed, once at most."""
        await self._wait(partial(self._client.publish, subject, data))
        await self.info(stream)  # not Client.flush, see settle

    async def settle(self, subscription: Subscription, stream: str) -> None:
        """Wait until what the server has sent to a subscription has been taken.

        Args:
            stream: any; it is asked for something.
        """
        # Client.flush of nats-py 2.16 will not do: cancelled, it ends the connection
        # when the answer comes, and it overtakes what is still to be sent.
        await self.info(stream)

        async def wait() -> None:
            while subscription.pending_msgs:  # nobody is told
                await anyio.lowlevel.checkpoint()

        await self._wait(wait)


@contextmanager
def _parsing() -> Iterator[None]:
    try:
        yield
    except STRANGE_ERRORS as error:
        raise ValueError("an answer is none of JetStream's") from error


def _is_missing(error: BackplaneError, code: int | None = None) -> bool:
    """Return whether the answer was that there is no such thing."""
    cause = error.__cause__
    is_missing = isinstance(cause, _ApiError) and cause.status == _NOT_FOUND
    return is_missing and (code is None or getattr(cause, "code", None) == code)


def _seconds(text: str) -> float:
    """Return a time of RFC 3339 as seconds since 1970. NATS writes nanoseconds."""
    return datetime.fromisoformat(text).timestamp()


def _handshakes(context: ssl.SSLContext) -> int:
    """Return how many servers have proved themselves so far."""
    return context.session_stats()["connect_good"]
