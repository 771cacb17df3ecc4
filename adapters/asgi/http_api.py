"""The server API over HTTP: ``POST /api/<method>``, as Centrifugo's clients ask it."""

from __future__ import annotations

import hmac
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker import Broker, UsageError
from broker.protocol.api import STATUSES, encode_error
from broker.server_api import ApiRpc, ServerApi

from .body import Unreadable, read_body

__all__ = ("MAX_BODY_BYTES", "api_routes")

MAX_BODY_BYTES = 1_048_576  # guess: sixteen of the largest messages
ERROR_MODE = "x-centrifugo-error-mode"


def api_routes(
    broker: Broker,
    *,
    key: str,
    rpc: ApiRpc | None = None,
    path: str = "/api",
    name: str = "",
    max_body_bytes: int = MAX_BODY_BYTES,
) -> list[Route]:
    """Return the routes of the server API for Starlette or FastAPI.

    Whoever has the key may do anything with the broker, so it is for your own servers;
    better still, keep the path from the outside. It comes as ``X-API-Key: KEY`` or
    ``Authorization: apikey KEY``. In the query it is not taken, where Centrifugo takes
    it too: URLs end up in logs.

    The answer is HTTP 200 with ``{"result":…}`` or, with a code and a message,
    ``{"error":…}``. With ``X-Centrifugo-Error-Mode: transport`` an error has a status
    of its own, and is the whole body. Besides: 401 for a wrong key, 408 for a body that
    comes too slowly, 413 for one that is too large, all empty. What each method does:
    docs/server-api.md.

    Args:
        key: the secret; make it long and random.
        rpc: answers ``rpc(method, params)``, with JSON text both ways; None: error 108.
        path: before the method's name.
        name: of this node, for ``info``; "" for a random one.
        max_body_bytes: largest body (bytes, > 0).

    Raises:
        UsageError: an empty key, or one that no header can carry.
    """
    if not key.isascii() or not key.isprintable() or key != key.strip() or not key:
        raise UsageError("the server API needs a key of printable ASCII characters")
    secret = key.encode()
    api = ServerApi(broker, name=name, version=_version(), rpc=rpc)

    async def endpoint(request: Request) -> Response:
        if not hmac.compare_digest(_key_of(request), secret):
            return Response(status_code=401)
        try:
            body = await read_body(
                request, max_bytes=max_body_bytes, within_s=broker.limits.stall_s
            )
        except Unreadable as error:
            return Response(status_code=error.status)
        answer = await api.answer(request.path_params["method"], body)
        if answer.error is None or request.headers.get(ERROR_MODE) != "transport":
            return _json(answer.body)
        status = STATUSES.get(answer.error.code, 500)
        return _json(encode_error(answer.error), status)

    return [Route(f"{path}/{{method}}", endpoint, methods=["POST"])]


def _version() -> str:
    """Return what ``info`` says that this is; Centrifugo says a bare number."""
    try:
        return f"asgi-broker {version('asgi-broker')}"
    except PackageNotFoundError:  # run from its folder, without having been installed
        return "asgi-broker"


def _key_of(request: Request) -> bytes:
    """Return the key that was given; empty if none was."""
    given = request.headers.get("x-api-key", "")
    if not given:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        given = rest.strip() if scheme.lower() == "apikey" else ""
    return given.encode("latin-1")  # as Starlette has decoded it


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
