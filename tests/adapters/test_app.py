"""The standalone server's endpoints, in memory; the browser tests see the pages."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from adapters.app import create_app
from broker import Broker, Limits

with warnings.catch_warnings():
    # Starlette's test client wants httpx2 and says so on import; httpx serves as well.
    warnings.filterwarnings("ignore", "Using `httpx`", UserWarning)
    from starlette.testclient import TestClient, WebSocketDenialResponse

pytestmark = pytest.mark.usefixtures("restored_collector")


@pytest.fixture
def restored_collector() -> Iterator[None]:
    before = gc.get_threshold(), gc.get_freeze_count()
    yield
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


@pytest.fixture(params=["asyncio", "trio"])
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    app = create_app(Broker(limits=Limits(max_message_bytes=100)))
    with TestClient(app, backend=request.param) as client:
        yield client


def texts(websocket: Any, count: int) -> list[str]:
    return [websocket.receive_text() for _ in range(count)]


def test_chat(client: TestClient) -> None:
    with client.websocket_connect("/ws/1") as one:
        one.send_text("a")
        assert texts(one, 2) == ["You wrote: a", "Client #1 says: a"]
        with client.websocket_connect("/ws/-2") as two:
            two.send_text("b")
            assert texts(two, 2) == ["You wrote: b", "Client #-2 says: b"]
            assert texts(one, 1) == ["Client #-2 says: b"]
            two.close()
            assert texts(one, 1) == ["Client #-2 left the chat"]


def test_chat_takes_text_only(client: TestClient) -> None:
    with client.websocket_connect("/ws/1") as one:
        one.send_bytes(b"binary")
        with pytest.raises(WebSocketDisconnect) as closed:
            one.receive_text()
        assert (closed.value.code, closed.value.reason) == (
            1003,
            "this takes text frames, and a binary one came",
        )


def test_words_around_a_message_make_it_too_large(client: TestClient) -> None:
    with client.websocket_connect("/ws/1") as one:
        one.send_text("x" * 95)
        with pytest.raises(WebSocketDisconnect) as closed:
            one.receive_text()
        assert closed.value.code == 1009


def test_echo(client: TestClient) -> None:
    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("é")
        assert websocket.receive_text() == "Message text was: é"
        websocket.send_bytes(b"\x00\xff")
        assert websocket.receive_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("path", "cookie", "lines"),
    [
        (
            "/items/foo/ws?token=t",
            None,
            [
                "Session cookie or query token value is: t",
                "Message text was: m, for item ID: foo",
            ],
        ),
        (
            "/items/2/ws?q=3&token=t",
            "fakesession",
            [
                "Session cookie or query token value is: fakesession",
                "Query parameter q is: 3",
                "Message text was: m, for item ID: 2",
            ],
        ),
    ],
)
def test_items(
    client: TestClient, path: str, cookie: str | None, lines: list[str]
) -> None:
    headers = {} if cookie is None else {"cookie": f"session={cookie}"}
    with client.websocket_connect(path, headers=headers) as websocket:
        for _ in range(2):
            websocket.send_text("m")
            assert texts(websocket, len(lines)) == lines


def test_items_without_credentials_is_closed_with_a_reason(client: TestClient) -> None:
    with client.websocket_connect("/items/foo/ws") as websocket:
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
        assert closed.value.code == 1008
        assert closed.value.reason == (
            "send a 'session' cookie or a 'token' query parameter"
        )


@pytest.mark.parametrize(
    ("path", "field", "problem"),
    [
        ("/ws/abc", "client_id", "must be an integer, not 'abc'"),
        ("/ws/1.5", "client_id", "must be an integer, not '1.5'"),
        ("/ws/%D9%A1", "client_id", "must be an integer, not '\\u0661'"),
        ("/ws/" + "9" * 19, "client_id", "must be an integer of at most 18 digits"),
        ("/items/a/ws?token=t&q=bar", "q", "must be an integer, not 'bar'"),
        ("/items/a/ws?token=t&q=", "q", "must be an integer, not ''"),
        (
            "/ws/" + "a" * 1000,
            "client_id",
            f"must be an integer, not '{'a' * 40}…'",
        ),
    ],
)
def test_what_is_no_integer_is_refused_before_accept(
    client: TestClient, path: str, field: str, problem: str
) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied:
        with client.websocket_connect(path):
            pytest.fail("not reached")
    assert denied.value.status_code == 403
    assert denied.value.json() == {"detail": [{"field": field, "problem": problem}]}


@pytest.mark.parametrize("path", ["/", "/echo", "/items"])
def test_pages(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<!doctype html>" in page.text.lower()


@pytest.mark.parametrize("has_sdk", [True, False])
@pytest.mark.parametrize("path", ["/", "/echo", "/items", "/rooms"])
def test_rooms_are_linked_to_where_there_is_the_sdk(
    client: TestClient,
    path: str,
    has_sdk: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wheel may have been built without it; the page itself says what to do."""
    sdk = tmp_path / "package.json"
    monkeypatch.setattr("adapters.app.SDK", sdk)
    if has_sdk:
        sdk.touch()
    page = client.get(path).text
    assert ('<a href="rooms">' in page) is (has_sdk and path != "/rooms")
    assert '<a href="items"' in page
    if path == "/rooms":
        assert "run <code>scripts/vendor-sdk</code> in the checkout" in page


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    with client.websocket_connect("/ws"):
        assert client.get("/readyz").json() == {"status": "ready", "sessions": 1}


def test_not_ready_before_and_after() -> None:
    outside = TestClient(create_app())  # without `with`, its lifespan does not run
    answer = outside.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {"status": "not ready"}
    assert outside.get("/healthz").status_code == 200
