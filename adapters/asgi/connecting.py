"""What a client says when it asks to connect, and how it is refused over HTTP."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from broker import BrokerError, ConnectRequest, EndKind, NotAllowed
from broker.ending import ending_for

__all__ = ("RETRY_AFTER_S", "connect_request", "denial")

RETRY_AFTER_S = 1  # guess: a node that restarts is back or replaced within seconds
# Limits that a client reaches by itself: 429. Others are the server's state: 503.
_OWN_DOING = (EndKind.SESSIONS_OF_HOST, EndKind.SESSIONS_OF_USER)


def connect_request(connection: HTTPConnection) -> ConnectRequest:
    """Return what the client said when it asked to connect."""
    return ConnectRequest(
        path=connection.url.path,
        headers=dict(connection.headers),
        query=dict(connection.query_params),
        cookies=connection.cookies,
        client_host=None if connection.client is None else connection.client.host,
    )


def denial(error: BrokerError) -> JSONResponse:
    """Return the answer to a client that is refused: 401, 403, 429 or 503, and why."""
    headers = {}
    if isinstance(error, NotAllowed):
        status = 403 if error.authenticated else 401
    else:
        status = 429 if ending_for(error).kind in _OWN_DOING else 503
        headers["retry-after"] = str(RETRY_AFTER_S)
    return JSONResponse({"detail": str(error)}, status, headers)
