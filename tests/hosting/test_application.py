"""The application to serve: found where it was said, and made as settings want it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.hosting.application import (
    Application,
    LoadError,
    load_application,
    own_application,
)
from adapters.hosting.hardening import Connections
from adapters.hosting.settings import ClientSettings, Settings, load_settings
from adapters.observability.opentelemetry import TracedBackplane
from adapters.redis import RedisBackplane
from broker import (
    MemoryBackplane,
    MessageTooLarge,
)

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A function that writes a module into the working directory."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write_module(name: str, text: str) -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write_module
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


async def respond(
    app: Any,
    path: str,
    headers: tuple[Any, ...] = (),
    *,
    method: str = "GET",
    body: bytes = b"",
) -> int:
    """Return the status of a page, or of a refused WebSocket; 101 if it is accepted."""
    is_page = not path.startswith("/ws")
    scope: dict[str, Any] = {
        "type": "http" if is_page else "websocket",
        "path": path,
        "method": method,
        "query_string": b"",
        "headers": [(b"host", b"chat.example"), *headers],
        "client": ("127.0.0.1", 5_000),
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
    incoming = (
        [{"type": "http.request", "body": body}]
        if is_page
        else [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]
    )
    statuses: list[int] = []

    async def receive() -> Any:
        await anyio.lowlevel.checkpoint()
        return incoming.pop(0) if incoming else await anyio.sleep_forever()

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"] == "websocket.accept":
            statuses.append(101)
        elif message["type"].endswith("response.start"):
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0]


def own(**flags: object) -> Application:
    settings = load_settings(flags={k.replace("__", "."): v for k, v in flags.items()})
    return own_application(settings.settings, Connections())


async def test_limits_are_in_force() -> None:
    application = own(limits__max_message_bytes=10)
    assert application.broker is not None
    async with application.broker as broker:
        with pytest.raises(MessageTooLarge):
            await broker.publish("t", "x" * 11)
        await broker.publish("t", "x" * 10)


async def test_rules_are_in_force(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('[[topics]]\npattern = "kept.*"\nhistory_size = 2\n')
    application = own_application(load_settings(file=file).settings, Connections())
    assert application.broker is not None
    async with application.broker as broker:
        for number in range(3):
            await broker.publish("kept.a", f"{number}")
            await broker.publish("other", f"{number}")
        page = await broker.history("kept.a")
        assert [message.payload for message in page.messages] == ["1", "2"]
        assert not (await broker.history("other")).messages


async def test_origins_are_in_force() -> None:
    application = own(access__origins=("https://shop.example",))
    assert application.broker is not None
    async with application.broker:
        for origin, status in [
            (b"https://shop.example", 101),
            (b"http://chat.example", 101),  # its own host
            (b"https://evil.example", 403),
        ]:
            headers = ((b"origin", origin),)
            assert await respond(application.app, "/ws", headers) == status


@pytest.mark.parametrize(
    ("metrics_from", "status"),
    [((), 404), (("127.0.0.0/8",), 200), (("192.0.2.0/24",), 403)],
)
async def test_metrics_are_there_for_whom_the_settings_say(
    metrics_from: tuple[str, ...], status: int
) -> None:
    application = own(server__metrics_from=metrics_from)
    assert application.broker is not None
    async with application.broker:
        assert await respond(application.app, "/metrics") == status


async def test_the_server_api_is_there_where_there_is_a_key() -> None:
    off, on = own(), own(api__key="k", api__path="/v1/api")
    asked: dict[str, Any] = {"method": "POST", "body": b'{"channel":"t","data":1}'}
    key = ((b"x-api-key", b"k"),)
    assert on.broker is not None
    async with on.broker:
        assert await respond(on.app, "/v1/api/publish", key, **asked) == 200
        assert await respond(on.app, "/v1/api/publish", **asked) == 401
        for headers in ((), key):
            assert await respond(on.app, "/api/publish", headers, **asked) == 404
            assert await respond(off.app, "/api/publish", headers, **asked) == 404


def test_a_key_that_cannot_be_used_any_more(tmp_path: Path) -> None:
    """It was tried when the settings were loaded, and the file has changed since."""
    settings = Settings(client=ClientSettings(jwks_file=str(tmp_path / "gone")))
    with pytest.raises(LoadError, match=r"^keys for tokens: the file "):
        own_application(settings, Connections())


def test_tracing_wraps_the_backplane() -> None:
    plain, traced = own().broker, own(server__tracing=True).broker
    assert plain is not None
    assert traced is not None
    assert isinstance(plain.backplane, MemoryBackplane)
    assert isinstance(traced.backplane, TracedBackplane)


def test_the_backplane_is_that_of_the_settings() -> None:
    broker = own(server__backplane="redis://h").broker
    assert broker is not None
    assert isinstance(broker.backplane, RedisBackplane)


def test_each_application_has_a_broker_of_its_own() -> None:
    one, two = own(), own()
    assert one.broker is not two.broker
    assert getattr(one.app, "state").broker is one.broker  # noqa: B009 # an ASGIApp


MAIN = """
from broker import Broker
from types import SimpleNamespace

async def app(scope, receive, send): ...
async def bare(scope, receive, send): ...
broker = Broker()
other = Broker()
bare.state = SimpleNamespace(broker=other)
nested = SimpleNamespace(app=app, broker=other)
number = 1
"""


@pytest.mark.parametrize(
    ("path", "broker_path", "expected"),
    [
        ("main_a:app", None, "broker"),
        ("main_a:bare", None, "other"),  # what the application has comes first
        ("main_a:app", "main_a:other", "other"),
        ("main_a:nested.app", "main_a:nested.broker", "other"),
    ],
)
def test_application_and_broker(
    write: Write, path: str, broker_path: str | None, expected: str
) -> None:
    write("main_a", MAIN)
    application = load_application(path, broker_path)
    module = sys.modules["main_a"]
    assert application.app in (module.app, module.bare)
    assert application.broker is getattr(module, expected)


def test_modules_of_a_package(write: Write) -> None:
    write("pkg_b/__init__", "")
    write("pkg_b/web", MAIN)
    application = load_application("pkg_b.web:app", "pkg_b.web:broker")
    assert application.broker is sys.modules["pkg_b.web"].broker


@pytest.mark.parametrize("text", ["", "broker = None\n", "broker = 'redis'\n"])
def test_an_application_without_a_broker(write: Write, text: str) -> None:
    write("main_c", f"async def app(scope, receive, send): ...\n{text}")
    assert load_application("main_c:app", None).broker is None


@pytest.mark.parametrize(
    ("path", "broker_path", "problem"),
    [
        ("main_d", None, "application 'main_d': write module:name, such as main:app"),
        (":app", None, "application ':app': write module:name, such as main:app"),
        ("main_d:", None, "application 'main_d:': write module:name, such as main:app"),
        (
            "nosuch:app",
            None,
            "application 'nosuch:app': there is no module 'nosuch' he",
        ),
        (
            "main_d.x:app",
            None,
            "application 'main_d.x:app': there is no module 'main_d.x' here",
        ),
        ("a.b.c:app", None, "application 'a.b.c:app': there is no module 'a' here"),
        (
            "main_d:nosuch",
            None,
            "application 'main_d:nosuch': module 'main_d' has no 'nosuch'",
        ),
        (
            "main_d:app.x.y",
            None,
            "application 'main_d:app.x.y': module 'main_d' has no 'app.x.y'",
        ),
        ("main_d:number", None, "main_d:number is no ASGI application: it cannot be c"),
        ("main_d:app", "main_d:app", "main_d:app is no Broker but function"),
        ("main_d:app", "main_d:b", "broker 'main_d:b': module 'main_d' has no 'b'"),
        ("main_d:app", "main_d", "broker 'main_d': write module:name, such as main:a"),
        ("main_d:app", "no:b", "broker 'no:b': there is no module 'no' here"),
        (".main_d:app", None, "application '.main_d:app': write module:name"),
        ("..:app", None, "application '..:app': write module:name"),
        ("a..b:app", None, "application 'a..b:app': there is no module 'a' here"),
        ("\0:app", None, "application '\\x00:app': "),
    ],
)
def test_what_is_not_there(
    write: Write, path: str, broker_path: str | None, problem: str
) -> None:
    write("main_d", MAIN)
    with pytest.raises(LoadError) as caught:
        load_application(path, broker_path)
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("import nosuch_package", ModuleNotFoundError),  # not the user's path is wrong
        ("from broker import Nothing", ImportError),
        ("def", SyntaxError),
    ],
)
def test_what_a_module_raises_is_raised(
    write: Write, text: str, error: type[Exception]
) -> None:
    write("main_e", text)
    with pytest.raises(error):
        load_application("main_e:app", None)


def test_the_working_directory_comes_first(write: Write) -> None:
    """Before installed modules of the same name, as with ``python -m``."""
    write("colorsys", MAIN)
    before = sys.modules.pop("colorsys", None)
    try:
        assert load_application("colorsys:app", None).broker is not None
    finally:
        sys.modules.pop("colorsys", None)
        if before is not None:
            sys.modules["colorsys"] = before
