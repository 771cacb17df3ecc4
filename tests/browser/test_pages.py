"""The pages in a real browser, against a real server on each worker class."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from selenium.webdriver.common.by import By

from tests.serving import Server, wait_until

from .tabs import Browser, Tab

pytestmark = pytest.mark.browser

SCREENSHOT = Path(__file__).parents[2] / "docs" / "chat.png"


@pytest.fixture(autouse=True)
def left_clean(server: Server, browser: Browser) -> Iterator[None]:
    """Nobody stays connected into the next test; nothing is complained about."""
    yield
    browser.close_all()
    wait_until(lambda: server.get("/readyz").json()["sessions"] == 0)


@pytest.fixture
def open_chat(server: Server, browser: Browser) -> Callable[[], tuple[Tab, str]]:
    def open_chat() -> tuple[Tab, str]:
        return connected_chat(browser, server)

    return open_chat


def connected_chat(browser: Browser, server: Server) -> tuple[Tab, str]:
    tab = browser.open(server.url)
    tab.wait_status("connected")
    return tab, tab.find("ws-id").text


def test_two_tabs_chat(
    open_chat: Callable[[], tuple[Tab, str]], browser: Browser
) -> None:
    """Both see the tutorial's exact strings, in order, and that one has left."""
    ada, ada_id = open_chat()
    ben, ben_id = open_chat()
    assert ada_id != ben_id

    ada.say("Hello")
    ben.wait_messages([f"Client #{ada_id} says: Hello"])
    ben.say("Hi there")
    from_both = [f"Client #{ada_id} says: Hello", f"Client #{ben_id} says: Hi there"]
    ada.wait_messages(["You wrote: Hello", *from_both])
    ben.wait_messages([from_both[0], "You wrote: Hi there", from_both[1]])

    ben.close()
    left = f"Client #{ben_id} left the chat"
    ada.wait_messages(["You wrote: Hello", *from_both, left])
    assert browser.complaints() == []


def test_chat_shows_html_as_text(open_chat: Callable[[], tuple[Tab, str]]) -> None:
    ada, ada_id = open_chat()
    ben, _ = open_chat()
    markup = "<img src=x onerror=\"document.title='owned'\"><b>bold</b> &amp;"
    ada.say(markup)
    ben.wait_messages([f"Client #{ada_id} says: {markup}"])
    for tab in (ada, ben):
        assert tab.run("return document.querySelectorAll('#messages li *').length") == 0
        assert tab.run("return document.title") == "WebSocket Chat"


def test_chat_takes_json_objects_only_in_json_mode(
    open_chat: Callable[[], tuple[Tab, str]],
) -> None:
    """What is not a JSON object is not sent, and the page says why."""
    tab, its_id = open_chat()
    tab.choose("json")
    for wrong in ("{oops", "[1]", "null", '"text"'):
        tab.say(wrong)
        tab.wait(lambda: tab.find("problem").text.startswith("Not "), "complaint")
        assert "nothing was sent" in tab.find("problem").text
        assert tab.find("messageText").get_attribute("value") == wrong
    tab.say('{"n": 1.0}')
    tab.wait_messages(['You wrote: {"n": 1.0}', f'Client #{its_id} says: {{"n": 1.0}}'])
    assert tab.find("problem").text == ""


def test_binary_in_the_chat_is_refused_for_good(
    open_chat: Callable[[], tuple[Tab, str]],
) -> None:
    """The page shows code and reason, stays away, and comes back when told to."""
    tab, its_id = open_chat()
    tab.run(  # no control of the page sends binary here
        "const send = WebSocket.prototype.send;"
        "WebSocket.prototype.send = function (data) {"
        "  WebSocket.prototype.send = send;"
        "  send.call(this, new TextEncoder().encode(data));"
        "};"
    )
    tab.say("as bytes")
    tab.wait_status("refused")
    expected = "1003: this takes text frames, and a binary one came"
    assert tab.find("status").text == f"Refused {expected}"
    assert not tab.find("send").is_enabled()

    tab.find("retry").click()
    tab.wait_status("connected")
    tab.say("as text")
    tab.wait_messages(["You wrote: as text", f"Client #{its_id} says: as text"])


def test_a_message_too_large_ends_the_connection_with_its_reason(
    open_chat: Callable[[], tuple[Tab, str]],
) -> None:
    """The page says why, and connects anew."""
    tab, _ = open_chat()
    tab.run("document.getElementById('messageText').value = 'x'.repeat(100000)")
    tab.find("send").click()
    tab.wait(lambda: "Connection ended: 1009" in tab.find("messages").text, "1009")
    assert "message of 100000 bytes; the limit is 65536" in tab.find("messages").text
    tab.wait_status("connected")


def test_echo_of_text_json_and_binary(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    tab = browser.open(f"{server.url}/echo")
    tab.wait_status("connected")
    tab.say("café")
    expected = ["Message text was: café"]
    tab.wait_messages(expected)

    tab.choose("json")
    tab.say('{"a": [1, null]}')
    expected.append('Message text was: {"a": [1, null]}')
    tab.wait_messages(expected)

    tab.choose("binary")
    tab.say("café")
    expected.append("5 bytes: 63 61 66 c3 a9")
    tab.wait_messages(expected)

    (tmp_path / "all.bin").write_bytes(bytes(range(256)))
    tab.find("file").send_keys(str(tmp_path / "all.bin"))
    tab.find("send").click()
    start = " ".join(f"{byte:02x}" for byte in range(32))
    tab.wait_messages([*expected, f"256 bytes: {start} …"])
    assert browser.complaints() == []


def test_items_with_a_token(server: Server, browser: Browser) -> None:
    """Three lines per message with q, two without."""
    tab = browser.open(f"{server.url}/items")
    assert tab.find("state").text == "Not connected"
    tab.type("itemId", "a b?c")
    tab.type("token", "t&1")
    tab.find("connect").submit()
    tab.wait_status("connected")
    tab.say("one")
    lines = [
        "Session cookie or query token value is: t&1",
        "Message text was: one, for item ID: a b?c",
    ]
    tab.wait_messages(lines)

    tab.type("q", "-3")
    tab.find("connect").submit()
    tab.wait_status("connected")
    tab.say("two")
    lines += [
        "Session cookie or query token value is: t&1",
        "Query parameter q is: -3",
        "Message text was: two, for item ID: a b?c",
    ]
    tab.wait_messages(lines)


def test_items_cookie_wins_over_the_token(server: Server, browser: Browser) -> None:
    tab = browser.open(f"{server.url}/items")
    browser.driver.add_cookie({"name": "session", "value": "crumb"})
    tab.find("connect").submit()
    tab.wait_status("connected")
    tab.say("hi")
    tab.wait_messages(
        [
            "Session cookie or query token value is: crumb",
            "Message text was: hi, for item ID: foo",
        ]
    )


def test_items_without_a_token_shows_why(server: Server, browser: Browser) -> None:
    """1008 with its reason, and no further attempts until there is a token."""
    tab = browser.open(f"{server.url}/items")
    tab.type("token", "")
    tab.find("connect").submit()
    tab.wait_status("refused")
    reason = "send a 'session' cookie or a 'token' query parameter"
    assert tab.find("status").text == f"Refused 1008: {reason}"

    tab.type("token", "some")
    tab.find("connect").submit()
    tab.wait_status("connected")


def shows_when(detail: str) -> bool:
    """Whether it says in how many seconds it tries again, and the code of the end."""
    return detail.startswith("in ") and " s (1" in detail


def test_the_page_comes_back_after_a_restart(
    own_server: Server, browser: Browser
) -> None:
    """It says that it reconnects, does so by itself, and chats again."""
    tab, its_id = connected_chat(browser, own_server)
    own_server.stop()
    tab.wait_status("reconnecting")
    # Each time that it tries there is none for a moment.
    tab.wait(lambda: shows_when(tab.find("detail").text), "time of the next try")
    assert tab.find("retry").is_displayed()

    own_server.start()
    tab.wait_status("connected")
    tab.say("still me")
    tab.wait_last("You wrote: still me", f"Client #{its_id} says: still me")


@pytest.mark.parametrize("path", ["", "echo", "items"])
def test_pages_fit_small_screens_and_lead_to_each_other(
    server: Server, browser: Browser, path: str
) -> None:
    """No horizontal scrolling, every control in view, and navigation works."""
    tab = browser.open(f"{server.url}/{path}")
    for width, height in ((360, 740), (1000, 700)):
        tab.resize(width, height)
        overflow = tab.run(
            "const root = document.documentElement;"
            "return [root.scrollWidth - innerWidth, root.scrollHeight - innerHeight]"
        )
        assert max(overflow) <= 0, f"at {width}x{height}"
    for name in ("Echo", "Items", "Chat"):
        browser.driver.find_element(By.LINK_TEXT, name).click()
        tab.wait_title(f"WebSocket {name}")
    browser.driver.find_element(By.LINK_TEXT, "Rooms").click()
    tab.wait_title("Rooms")
    assert browser.complaints() == []


def test_only_the_newest_messages_are_kept(server: Server, browser: Browser) -> None:
    """The list is bounded, and stays at its end."""
    tab = browser.open(f"{server.url}/echo")
    tab.wait_status("connected")
    tab.run(
        "const input = document.getElementById('messageText');"
        "const form = document.getElementById('composer');"
        "for (let n = 0; n < 520; n++) { input.value = n; form.requestSubmit(); }"
    )
    tab.wait_last("Message text was: 519")
    assert tab.messages == [f"Message text was: {n}" for n in range(20, 520)]
    assert tab.run(
        "const log = document.getElementById('log');"
        "return log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    )


def test_three_in_a_conversation(server: Server, browser: Browser) -> None:
    """Everyone's words in the order they were said.

    UPDATE_SCREENSHOT=1 has it write docs/chat.png.
    """
    ada, ada_id = connected_chat(browser, server)
    cleo, cleo_id = connected_chat(browser, server)
    ben, ben_id = connected_chat(browser, server)
    expected = []
    for tab, its_id, text in (
        (ada, ada_id, "Good morning! Is the build up?"),
        (ben, ben_id, "Yes, and nobody was cut off."),
        (cleo, cleo_id, "Same here, on trio."),
        (ben, ben_id, '{"build": 214, "sessions": 3}'),
    ):
        tab.say(text)
        expected += [f"You wrote: {text}"] if tab is ben else []
        expected += [f"Client #{its_id} says: {text}"]
        ben.wait_messages(expected)
    cleo.close()
    ben.wait_messages([*expected, f"Client #{cleo_id} left the chat"])
    if "UPDATE_SCREENSHOT" in os.environ:
        ben.run("document.activeElement.blur()")
        ben.resize(1000, 700)
        SCREENSHOT.parent.mkdir(exist_ok=True)
        browser.driver.save_screenshot(str(SCREENSHOT))


@contextmanager
def other_site() -> Generator[str, None, None]:
    """Serve an empty page from an origin of its own; yields its URL."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another site</title>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as httpd:
        thread = Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def try_to_connect(tab: Tab, url: str) -> str:
    """Open a WebSocket from a page; return what became of it."""
    tab.run(
        "const socket = new WebSocket(arguments[0]);"
        "socket.onopen = () => { document.title = 'open'; socket.close(); };"
        "socket.onclose = ({code}) => {"
        " if (document.title !== 'open') document.title = String(code); };",
        url,
    )
    wait_until(lambda: tab.run("return document.title") != "another site")
    title: str = tab.run("return document.title")
    return title


def test_a_page_of_another_site_cannot_connect(
    server: Server, browser: Browser
) -> None:
    """Unless it is listed. The same server, the same browser, another origin."""
    with other_site() as site:
        tab = browser.open(site)
        url = server.url.replace("http", "ws", 1) + "/ws/1"
        assert try_to_connect(tab, url) == "1006"
        browser.complaints()  # the browser's own about the 403
        refused = 'broker_clients_refused_total{reason="origin_not_allowed"} 1.0'
        assert refused in server.get("/metrics").text
        assert f"add '{site}' to the broker's origins" in server.log()
        allowed = {"BROKER_ACCESS_ORIGINS": site}
        with Server(server.app, server.host, variables=allowed) as open_to_it:
            tab = browser.open(site)
            url = open_to_it.url.replace("http", "ws", 1) + "/ws/1"
            assert try_to_connect(tab, url) == "open"
