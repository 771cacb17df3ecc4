"""The application that is served, and the broker in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from starlette.types import ASGIApp

from adapters.app import ROOMS, create_app
from adapters.hosting.hardening import Connections
from adapters.hosting.metrics import ConnectionCollector
from adapters.hosting.settings import Settings
from broker import Backplane, Broker, MemoryBackplane

__all__ = ("Application", "LoadError", "load_application", "own_application")


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
    """
    backplane: Backplane = MemoryBackplane()
    if settings.server.tracing:
        from adapters.observability.opentelemetry import traced

        backplane = traced(backplane)
    broker = Broker(
        backplane,
        rules=(*settings.topics, ROOMS),
        limits=settings.limits,
        origins=settings.access.origins,
    )
    app = create_app(
        broker,
        metrics_from=settings.server.metrics_from,
        collectors=[ConnectionCollector(connections)],
    )
    return Application(app, broker)


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
