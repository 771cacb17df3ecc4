"""One process that serves: from its sockets until all clients have been sent away."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import sniffio
from hypercorn.config import Config
from hypercorn.utils import LifespanFailureError

from adapters.hosting.application import (
    Application,
    LoadError,
    load_application,
    own_application,
)
from adapters.hosting.backplane import joins_processes, make_backplane
from adapters.hosting.collector import tuned_collector
from adapters.hosting.deadline import ExitDeadline
from adapters.hosting.files import raise_file_limit
from adapters.hosting.hardening import Connections, harden
from adapters.hosting.listeners import BACKLOG
from adapters.hosting.proxies import ForwardedFor
from adapters.hosting.settings import ServerSettings, Settings
from adapters.hosting.signals import signalled, supervised
from adapters.observability.logs import configure_logging, use_root_logger
from broker import BackplaneError, BrokerError, Limits, drain

__all__ = (
    "EXIT_FAILURE",
    "EXIT_OK",
    "EXIT_USAGE",
    "Job",
    "look_at",
    "run_on",
    "run_worker",
)

logger = logging.getLogger("broker.hosting")

EXIT_OK, EXIT_FAILURE, EXIT_USAGE = 0, 1, 2

# Of the time from the signal to the exit, for sending clients away; the rest is for
# requests under way and the application's own shutdown (guess).
DRAIN_SHARE = 0.7
# For HTTP requests under way when the clients have gone (s; guess).
LAST_REQUESTS_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is to do; it travels to another process.

    Attributes:
        hypercorn_file: hypercorn's own settings.
        app: ``module:name``; None for the application that comes with the broker.
        broker: of that application, likewise; None to look for it.
        allow_split: serve with several workers that do not reach each other.
    """

    settings: Settings
    hypercorn_file: Path | None = None
    app: str | None = None
    broker: str | None = None
    allow_split: bool = False


def run_worker(
    job: Job, sockets: list[socket.socket], stop: Connection | None = None
) -> int:
    """Serve until told to stop; return the exit code.

    Args:
        sockets: that listen; they are closed.
        stop: from a supervisor: becomes readable, or ends, when it is time to stop.
            None to stop on SIGTERM and SIGINT; the second of these ends the process
            at once.
    """
    server = job.settings.server
    configure_logging(format=server.log_format, level=server.log_level)
    if server.loop == "uvloop" and find_spec("uvloop") is None:
        logger.error("uvloop is not installed: pip install 'asgi-broker[server]'")
        return EXIT_USAGE
    config = hypercorn_config(job, sockets)
    with harden(
        max_message_bytes=config.websocket_max_message_size,
        compression=server.compression,
    ) as connections:
        try:
            application = _load(job, connections)
        except LoadError as error:
            logger.error("%s", error)  # noqa: TRY400 # the user's mistake, not a bug
            return EXIT_USAGE
        if application.broker is not None:
            look_at(application.broker.limits, server)
        worker = _Worker(job, application, config, connections, stop)
        try:
            with tuned_collector():
                run_on(server.loop, worker.run)
        except Exception as error:
            unreached = _unreached(error)
            if unreached is None:
                logger.exception("the server has failed")
            else:
                logger.error("the application did not start: %s", unreached)  # noqa: TRY400 # no bug
            return EXIT_FAILURE
    return EXIT_OK


def run_on(loop: str, function: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run a function on the event loop of a name; see ``ServerSettings.loop``."""
    is_trio = loop == "trio"
    anyio.run(
        function,
        *args,
        backend="trio" if is_trio else "asyncio",
        backend_options={} if is_trio else {"use_uvloop": loop == "uvloop"},
    )


def look_at(limits: Limits, server: ServerSettings) -> None:
    """Say what in the broker's limits does not go with this server."""
    raise_file_limit(limits.max_sessions)
    if server.user_timeout_s < limits.stall_s + limits.grace_s:
        logger.warning(
            "server.user_timeout_s is %g, below stall_s + grace_s (%g): the kernel "
            "cuts clients that do not read before the broker does, and they count as "
            "client_left, not as stalled",
            server.user_timeout_s,
            limits.stall_s + limits.grace_s,
        )


def hypercorn_config(job: Job, sockets: list[socket.socket]) -> Config:
    """Return hypercorn's settings: its file's, with ours over them."""
    config = Config()
    if job.hypercorn_file is not None:
        config = Config.from_toml(job.hypercorn_file)
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    if config.backlog == Config.backlog:
        # It listens once more, with 100 of its own: in a storm of reconnects all others
        # would wait for the kernel to try again, 1, 2, 4, … s later.
        config.backlog = BACKLOG
    config.insecure_bind = []
    config.quic_bind = []
    config.workers = 1
    config.debug = False
    config.use_reloader = False
    config.alpn_protocols = ["http/1.1"]  # whatever the file says: docs/hardening.md
    config.graceful_timeout = LAST_REQUESTS_S + 1  # what is left by then has been cut
    use_root_logger(config, access=config.accesslog is not None)
    return config


def _load(job: Job, connections: Connections) -> Application:
    if job.app is None:
        return own_application(job.settings, connections)
    application = load_application(job.app, job.broker)
    broker, server = application.broker, job.settings.server
    is_alone = broker is not None and not joins_processes(broker.backplane)
    if broker is None:
        logger.warning(
            "no broker found in %s: at shutdown its clients are cut, not sent away; "
            "call it `broker` there, or say where it is with --broker module:name",
            job.app,
        )
    elif is_alone and joins_processes(make_backplane(server)):
        raise LoadError(
            f"the backplane is set, and the broker of {job.app} does not use it: make "
            'it with Broker("redis://…"), or of load_settings(…).settings.server'
        )
    elif is_alone and server.workers > 1 and not job.allow_split:
        raise LoadError(
            f"{server.workers} workers, and the broker of {job.app} has no backplane: "
            "clients of one would not see those of another. Make it with "
            'Broker("redis://…"), or serve with --workers 1, or with --allow-split if '
            "that is what you want"
        )
    return application


def _unreached(error: BaseException | None) -> BackplaneError | None:
    """Return what kept the application's broker from starting, if that was it.

    The server wraps what the application's lifespan raises, and a group may be around.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, LifespanFailureError):
        return None
    cause = error.__context__
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause if isinstance(cause, BackplaneError) else None


class _Worker:
    def __init__(
        self,
        job: Job,
        application: Application,
        config: Config,
        connections: Connections,
        stop: Connection | None,
    ) -> None:
        self._settings = job.settings.server
        self._application = application
        self._config = config
        self._connections = connections
        self._stop = stop
        self._deadline = ExitDeadline(self._settings.drain_s, EXIT_FAILURE)

    async def run(self) -> None:
        """Serve until the shutdown is over."""
        serve: Callable[..., Awaitable[None]]
        if sniffio.current_async_library() == "trio":
            from hypercorn.trio import serve
        else:
            from hypercorn.asyncio import serve

            _ignore_failed_handshakes()
        cutting = anyio.CancelScope()
        # hypercorn's own types of ASGI differ from everybody else's.
        app: Any = self._application.app
        if self._settings.trusted_proxies:
            app = ForwardedFor(app, self._settings.trusted_proxies)
        stopping = (
            signalled(self._deadline.start)
            if self._stop is None
            else supervised(self._stop)
        )
        async with anyio.create_task_group() as tasks, stopping as told:

            async def shutdown() -> None:
                await told()
                await self._send_away()
                tasks.start_soon(
                    self._cut_what_is_left, cutting, name="broker: last cut"
                )

            try:
                await serve(app, self._config, shutdown_trigger=shutdown, mode="asgi")
            finally:
                self._deadline.cancel()
                # Its own scope, not the group's: on asyncio hypercorn leaves this task
                # in a state in which a cancelled group raises CancelledError.
                cutting.cancel()
        logger.info("stopped")

    async def _send_away(self) -> None:
        self._deadline.start()
        broker = self._application.broker
        if broker is None:
            return
        try:
            left = await drain(broker, self._settings.drain_s * DRAIN_SHARE)
        except BrokerError as error:
            logger.warning("not drained: %s", error)
        else:
            logger.info("drained, %d clients had not gone", left)

    async def _cut_what_is_left(self, cutting: anyio.CancelScope) -> None:
        with cutting:
            await anyio.sleep(min(LAST_REQUESTS_S, self._settings.drain_s * 0.1))
            cut = self._connections.abort_all()
            if cut:
                logger.info("cut %d connections", cut)


def _ignore_failed_handshakes() -> None:
    """Do not log a traceback for everybody who speaks no TLS."""
    import asyncio

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ssl.SSLError):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)
