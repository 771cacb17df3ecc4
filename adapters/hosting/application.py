"""The application that is served, and the broker in it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from starlette.types import ASGIApp

from adapters.app import ROOMS, create_app
from adapters.asgi.http_api import api_routes
from adapters.hosting.backplane import make_backplane
from adapters.hosting.hardening import Connections
from adapters.hosting.metrics import ConnectionCollector
from adapters.hosting.settings import ClientSettings, Settings, token_verifier
from broker import Broker
from broker.client_protocol import ClientProtocol

__all__ = (
    "Application",
    "LoadError",
    "client_protocol",
    "load_application",
    "own_application",
)


class LoadError(Exception):
    """What was asked for is not there; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Application:
    """What to serve.

    Attributes:
        app: for the server.
        broker: to be drained; None if it is not known.
    """

    app: ASGIApp
    broker: Broker | None


def own_application(settings: Settings, connections: Connections) -> Application:
    """Return the application that comes with the broker, as the settings want it.

    Args:
        connections: of the server; for ``/metrics``.

    Raises:
        LoadError: a key for tokens cannot be used any more.
    """
    backplane = make_backplane(settings.server)
    if settings.server.tracing:
        from adapters.observability.opentelemetry import traced

        backplane = traced(backplane)
    broker = Broker(
        backplane,
        rules=(*settings.topics, ROOMS),
        limits=settings.limits,
        origins=settings.access.origins,
    )
    key = settings.api.key
    app = create_app(
        broker,
        client=client_protocol(settings.client),
        routes=[]
        if key is None
        else api_routes(broker, key=key.text, path=settings.api.path),
        metrics_from=settings.server.metrics_from,
        collectors=[ConnectionCollector(connections)],
    )
    return Application(app, broker)


def client_protocol(client: ClientSettings) -> ClientProtocol:
    """Return how to speak the Centrifuge client protocol, as the settings want it.

    Raises:
        LoadError: a key for tokens cannot be used, or what checks tokens is missing.
    """
    try:
        tokens = token_verifier(client)
    except (ValueError, ModuleNotFoundError) as error:
        raise LoadError(f"keys for tokens: {error}") from error
    return ClientProtocol(
        clock=time.time,
        tokens=tokens,
        anonymous=client.anonymous,
        personal=client.personal,
        times=client.times,
        write_delay_s=client.write_delay_s,
        max_recovered=client.max_recovered,
        max_history=client.max_history,
        max_commands=client.max_commands,
        max_depth=client.max_depth,
    )


def load_application(path: str, broker_path: str | None) -> Application:
    """Import an application and its broker.

    Args:
        path: ``module:name``, looked for in the working directory first.
        broker_path: of the broker, likewise; None for ``app.state.broker``, or what is
            called ``broker`` in the application's module.

    Raises:
        LoadError: there is no such module or name, or it is no application or broker.
        Exception: whatever the module raises.
    """
    module, app = _import(path, "application")
    if not callable(app):
        raise LoadError(f"{path} is no ASGI application: it cannot be called")
    if broker_path is not None:
        _, broker = _import(broker_path, "broker")
        if not isinstance(broker, Broker):
            raise LoadError(f"{broker_path} is no Broker but {type(broker).__name__}")
    else:
        state = getattr(app, "state", None)
        broker = getattr(state, "broker", getattr(module, "broker", None))
    known = broker if isinstance(broker, Broker) else None
    return Application(cast("ASGIApp", app), known)


def _import(path: str, what: str) -> tuple[Any, Any]:
    module_name, _, name = path.partition(":")
    if not module_name or not name or module_name.startswith("."):
        raise LoadError(f"{what} {path!a}: write module:name, such as main:app")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not f"{module_name}.".startswith(f"{missing}."):
            raise  # the module is there, and what it imports is not
        problem = f"there is no module {missing!a} here"
        raise LoadError(f"{what} {path!a}: {problem}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise LoadError(f"{what} {path!a}: module {module_name!a} has no {name!a}")
        found = getattr(found, part)
    return module, found
