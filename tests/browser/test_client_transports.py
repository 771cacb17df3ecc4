"""The transports of the protocol in a real browser, from pages of several sites."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.serving import Server, wait_until

from .tabs import Browser, Tab

pytestmark = pytest.mark.browser

APP = "tests.browser.transports_app:app"
TRANSPORTS = ["websocket", "http_stream", "sse"]

# In every page: what the SDK hears is in `heard`.
LISTEN = """
const [transport, base, topic] = arguments;
globalThis.heard = [];
const url = transport === "websocket" ? base.replace("http", "ws") : base;
globalThis.client = new Centrifuge(
  [{ transport, endpoint: `${url}/connection/${transport}` }],
  { emulationEndpoint: `${base}/emulation`, minReconnectDelay: 50 },
);
client.on("connected", ({ transport }) => heard.push(["connected", transport]));
client.on("disconnected", ({ code, reason }) => heard.push(["left", code, reason]));
client.on("error", () => heard.push(["error"]));
globalThis.sub = client.newSubscription(topic);
sub.on("subscribed", () => heard.push(["subscribed"]));
sub.on("publication", ({ data }) => heard.push(data));
sub.subscribe();
client.connect();
"""

# An EventSource of the browser's own, without the SDK.
LISTEN_PLAINLY = """
const [base, topic] = arguments;
globalThis.heard = [];
const request = JSON.stringify({ subs: { [topic]: {} } });
const query = encodeURIComponent(request);
globalThis.source = new EventSource(`${base}/connection/uni_sse?cf_connect=${query}`);
source.onmessage = ({ data }) => heard.push(...Object.keys(JSON.parse(data)));
source.onerror = () => heard.push("error");
"""


class Site(Server):
    """A server whose pages come from three origins; it lists one besides its own."""

    def __init__(self, host: str) -> None:
        super().__init__(APP, host)
        self.variables = {"ORIGINS": self.listed}

    @property
    def listed(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def foreign(self) -> str:
        return f"http://elsewhere.localhost:{self.port}"


@pytest.fixture(scope="module", params=["serve-asyncio", "serve-uvloop", "serve-trio"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(request.param) as site:
        yield site


@pytest.fixture(autouse=True)
def left_clean(site: Site, browser: Browser) -> Iterator[None]:
    """Nobody stays connected into the next test."""
    yield
    browser.close_all()
    wait_until(lambda: site.get().json()["sessions"] == 0)


def publish(site: Site, topic: str, data: Any) -> None:
    query = urlencode({"topic": topic, "data": json.dumps(data)})
    site.post(f"/publish?{query}").raise_for_status()


def wait_heard(tab: Tab, *expected: Any) -> None:
    """Wait until a page has heard exactly this."""
    heard: Any = None

    def is_heard() -> bool:
        nonlocal heard
        heard = tab.run("return heard")
        return bool(heard == [*expected])

    try:
        wait_until(is_heard, 20)
    except TimeoutError:
        raise AssertionError(heard) from None


@pytest.mark.parametrize("is_foreign", [False, True])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_conversation(
    site: Site, browser: Browser, transport: str, is_foreign: bool
) -> None:
    """The same from the server's own pages and from those of a listed origin."""
    topic = f"chat.{transport}.{is_foreign}"
    tab = browser.open(f"{site.listed if is_foreign else site.url}/page")
    tab.run(LISTEN, transport, site.url, topic)
    wait_heard(tab, ["connected", transport], ["subscribed"])
    publish(site, topic, "from the server")
    before = [["connected", transport], ["subscribed"], "from the server"]
    wait_heard(tab, *before)
    tab.run("sub.publish('from the page, “ö”')")
    wait_heard(tab, *before, "from the page, “ö”")
    tab.run("client.disconnect()")
    wait_until(lambda: site.get().json()["sessions"] == 0)


@pytest.mark.parametrize("is_foreign", [False, True])
def test_a_plain_event_source(site: Site, browser: Browser, is_foreign: bool) -> None:
    topic = f"news.{is_foreign}"
    tab = browser.open(f"{site.listed if is_foreign else site.url}/page")
    tab.run(LISTEN_PLAINLY, site.url, topic)
    wait_heard(tab, "connect")
    publish(site, topic, 1)
    wait_heard(tab, "connect", "channel", "pub")


def test_pages_of_other_sites(site: Site, browser: Browser) -> None:
    """They cannot connect, nor say anything by the links and images that any has."""
    topic = "chat.secret"
    tab = browser.open(f"{site.foreign}/page")
    for transport in TRANSPORTS:
        tab.run(LISTEN, transport, site.url, topic)
        wait_until(lambda: tab.run("return heard.length > 1"))
        heard = tab.run("client.disconnect(); return heard")
        assert {event[0] for event in heard} == {"error", "left"}  # never connected
    tab.run(LISTEN_PLAINLY, site.url, topic)
    wait_heard(tab, "error")

    commands = (
        '{"id":1,"connect":{}}\n'
        f'{{"id":2,"publish":{{"channel":"{topic}","data":"forged"}}}}'
    )
    address = f"{site.url}/connection/sse?cf_connect={quote(commands)}"
    tab.run(
        "globalThis.heard = [];"
        "const image = new Image();"
        "image.onerror = () => heard.push('error');"
        "image.src = arguments[0];",
        address,
    )
    wait_heard(tab, "error")
    tab.run("location.href = arguments[0]", address)
    wait_until(lambda: "for scripts only" in tab.run("return document.body.innerText"))
    assert site.get(f"/history?topic={topic}").json() == []
