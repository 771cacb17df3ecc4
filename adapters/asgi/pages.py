"""Which web pages may ask over HTTP, and what their browsers are told about it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from broker import (
    Broker,
    BrokerClosed,
    ConnectRequest,
    NotAllowed,
    OriginNotAllowed,
)

from .connecting import connect_request, denial

__all__ = ("check_mode", "page_headers", "preflight")

# Of `Sec-Fetch-Mode`, where there is one: scripts say who they are by an `Origin`,
# where it matters. Images and links of other sites do not, and bring along cookies.
SCRIPTS = ("cors", "same-origin")
MAX_AGE_S = 3_600  # guess; Chromium takes no more than two hours


def check_mode(request: Request) -> None:
    """Refuse what no script has asked for, but a link, a form or an image of any site.

    Old browsers do not say, nor does any over plain HTTP: cookies that tell who a user
    is need ``SameSite``.

    Raises:
        NotAllowed: it is none.

    Source: Fetch Metadata Request Headers, section 2.3.
    """
    if request.headers.get("sec-fetch-mode", "cors") not in SCRIPTS:
        raise NotAllowed("for scripts only")


def page_headers(broker: Broker, asked: ConnectRequest) -> dict[str, str]:
    """Return the headers by which a browser lets a page see the answer.

    Cookies are for origins that are listed one by one: where ``*`` lets everybody in,
    browsers keep them back unless told otherwise, and they are not.

    Source: Fetch, section 3.2 (CORS protocol).
    """
    headers = {"vary": "Origin"}
    origin = asked.headers.get("origin")
    if origin is None:
        return headers
    if broker.origins.lists(origin):
        headers["access-control-allow-origin"] = origin
        headers["access-control-allow-credentials"] = "true"
    elif broker.origins.allow(origin, None):
        headers["access-control-allow-origin"] = "*"
    return headers


def preflight(broker: Broker, request: Request) -> Response:
    """Return the answer to a browser that asks whether a page may ask."""
    asked = connect_request(request)
    try:
        broker.check_origin(asked)
    except (OriginNotAllowed, BrokerClosed) as error:
        return denial(error)
    headers = {
        **page_headers(broker, asked),
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": str(MAX_AGE_S),
    }
    return Response(status_code=204, headers=headers)
