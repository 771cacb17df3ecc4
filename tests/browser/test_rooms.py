"""The rooms in a real browser: the official SDK against a real server on each loop."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from tests.serving import PATIENCE_S, Server, wait_until

from .tabs import Browser, Tab

pytestmark = pytest.mark.browser

# uvloop has the same server code as asyncio: test_pages.py shows that it works. What is
# the page's own business is looked at on one loop, to save the time.
on_both_loops = pytest.mark.parametrize(
    "server", ["serve-asyncio", "serve-trio"], indirect=True
)
on_one_loop = pytest.mark.parametrize("server", ["serve-asyncio"], indirect=True)

ROOT = Path(__file__).parents[2]
SDK = ROOT / "adapters" / "pages" / "sdk"
PINNED = ROOT / "tests" / "e2e" / "sdk" / "package.json"
SCREENSHOT = ROOT / "docs" / "images" / "rooms.png"
HISTORY = 100  # what the server keeps of a room

# Runs before the page's own scripts: what asks for history is sent once letGo() is
# called, and all that came is in `seen`.
HOLD = """
const send = WebSocket.prototype.send;
const held = [];
globalThis.seen = "";
WebSocket.prototype.send = function (data) {
  if (!this.isSeen) this.addEventListener("message", ({ data }) => { seen += data; });
  this.isSeen = true;
  if (data.includes('"history"')) held.push(() => send.call(this, data));
  else send.call(this, data);
};
globalThis.letGo = () => held.splice(0).forEach((each) => each());
"""

Enter = Callable[[str], Tab]


@pytest.fixture(autouse=True)
def vendored() -> None:
    if not (SDK / "package.json").exists():
        pytest.skip("the browser SDK is missing: run scripts/vendor-sdk")


@pytest.fixture(autouse=True)
def left_clean(server: Server, browser: Browser) -> Iterator[None]:
    """Nobody stays connected into the next test."""
    yield
    browser.close_all()
    wait_until(lambda: server.get("/readyz").json()["sessions"] == 0)


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def room(numbers: Iterator[int]) -> str:
    """A room that nobody has been in."""
    return f"test-{next(numbers)}"


@pytest.fixture
def enter(server: Server, browser: Browser, room: str) -> Enter:
    """Open the room in a new tab, under a name."""
    return lambda name: entered(browser, server, room, name)


def entered(browser: Browser, server: Server, room: str, name: str) -> Tab:
    tab = browser.open(f"{server.url}/rooms#{room}")
    tab.type("name", name)
    tab.find("enter").submit()
    tab.wait(lambda: f"{name} (you)" in people(tab), f"{name} in the room")
    return tab


def people(tab: Tab) -> list[str]:
    """Who is said to be here."""
    found: list[str] = tab.run(
        "return [...document.querySelectorAll('#people li')].map(li => li.textContent)"
    )
    return sorted(found)


def wait_people(tab: Tab, *expected: str) -> None:
    tab.wait(lambda: people(tab) == [*expected], f"people {expected}")


def wait_typing(tab: Tab, expected: str) -> None:
    tab.wait(lambda: tab.find("typing").text == expected, f"typing {expected!r}")


@on_both_loops
def test_two_tabs_chat_and_a_third_reads_it_later(
    enter: Enter, browser: Browser
) -> None:
    """Names, order, and history for who comes later."""
    ada, ben = enter("Ada"), enter("Ben")
    ada.say("Hello")
    ben.wait_messages(["Ada: Hello"])
    ben.say("Hi there")
    ada.wait_messages(["You: Hello", "Ben: Hi there"])
    ben.wait_messages(["Ada: Hello", "You: Hi there"])
    cleo = enter("Cleo")
    cleo.wait_messages(["Ada: Hello", "Ben: Hi there"])
    assert browser.complaints() == []


@on_one_loop
def test_what_is_said_while_history_is_on_its_way_is_shown_once(
    enter: Enter, server: Server, room: str, browser: Browser
) -> None:
    ada = enter("Ada")
    ada.say("before")
    late = browser.open("about:blank")
    script = "Page.addScriptToEvaluateOnNewDocument"
    browser.driver.execute_cdp_cmd(script, {"source": HOLD})
    browser.driver.get(f"{server.url}/rooms#{room}")
    late.wait_status("connected")
    ada.wait(lambda: len(people(ada)) == 2, "second tab")
    ada.say("meanwhile")
    late.wait(lambda: late.run("return seen.includes('meanwhile')"), "publication")
    assert late.messages == []
    late.run("letGo()")
    late.wait_messages(["Ada: before", "Ada: meanwhile"])
    ada.say("after")
    late.wait_messages(["Ada: before", "Ada: meanwhile", "Ada: after"])
    assert browser.complaints() == []


@on_both_loops
def test_presence_follows_who_comes_renames_and_goes(
    enter: Enter, browser: Browser
) -> None:
    ada = enter("Ada")
    wait_people(ada, "Ada (you)")
    ben = enter("Ben")
    wait_people(ada, "Ada (you)", "Ben")
    wait_people(ben, "Ada", "Ben (you)")
    ben.type("name", "Benjamin")
    ben.find("enter").submit()
    wait_people(ada, "Ada (you)", "Benjamin")
    assert ada.find("count").text == "2"
    ben.close()
    wait_people(ada, "Ada (you)")
    assert browser.complaints() == []


@on_one_loop
def test_rooms_are_apart(enter: Enter, room: str, browser: Browser) -> None:
    ada, ben = enter("Ada"), enter("Ben")
    ada.say("In the first")
    ben.wait_messages(["Ada: In the first"])
    ben.type("room", f"{room}-b")
    ben.find("enter").submit()
    wait_people(ada, "Ada (you)")
    wait_people(ben, "Ben (you)")
    assert ben.messages == []
    assert ben.run("return location.hash") == f"#{room}-b"
    ben.say("In the second")
    ben.wait_messages(["You: In the second"])
    ada.say("Still here")
    ada.wait_messages(["You: In the first", "You: Still here"])
    ben.type("room", room)
    ben.find("enter").submit()
    ben.wait_messages(["Ada: In the first", "Ada: Still here"])
    assert browser.complaints() == []


@on_one_loop
def test_typing_is_seen_by_others_alone_and_ends(
    enter: Enter, browser: Browser
) -> None:
    ada, ben = enter("Ada"), enter("Ben")
    ada.type("messageText", "I thi")
    wait_typing(ben, "Ada is typing…")
    assert ada.find("typing").text == ""
    ada.find("send").click()
    ben.wait_messages(["Ada: I thi"])
    assert ben.find("typing").text == ""
    ada.type("messageText", "But")  # and never sends it
    wait_typing(ben, "Ada is typing…")
    wait_typing(ben, "")
    assert browser.complaints() == []


@on_both_loops
def test_a_dropped_connection_comes_back_and_resumes(
    enter: Enter, browser: Browser
) -> None:
    """What was said meanwhile is there once, in order, behind a note that counts it."""
    ada, ben = enter("Ada"), enter("Ben")
    ben.say("before")
    ada.wait_messages(["Ben: before"])
    ben.find("drop").click()
    ben.wait_status("reconnecting")
    assert "dropped by you" in ben.find("detail").text
    assert not ben.find("send").is_enabled()
    wait_people(ada, "Ada (you)")
    for text in ("one", "two", "three"):
        ada.say(text)
    missed = ["Ada: one", "Ada: two", "Ada: three"]
    ben.wait_messages(["You: before", "Resumed: 3 missed messages", *missed])
    assert ben.status == "connected"
    wait_people(ada, "Ada (you)", "Ben")
    ada.say("four")
    ben.wait_last("Ada: four")
    ben.say("five")
    ben.wait_last("Ada: three", "Ada: four", "You: five")
    assert len(ben.messages) == 7
    assert browser.complaints() == []


@on_both_loops
def test_who_was_away_too_long_is_told_so(enter: Enter, browser: Browser) -> None:
    """More was said than the server keeps: the list begins anew."""
    ada, ben = enter("Ada"), enter("Ben")
    ada.say("before")
    ben.wait_messages(["Ada: before"])
    ben.find("drop").click()
    wait_people(ada, "Ada (you)")
    ada.run(
        "const input = document.getElementById('messageText');"
        "const form = document.getElementById('composer');"
        "for (let n = 0; n < 101; n++) { input.value = n; form.requestSubmit(); }"
    )
    ada.wait_last("You: 100")
    ben.find("retry").click()
    kept = [f"Ada: {n}" for n in range(101 - HISTORY, 101)]
    ben.wait_messages([*kept, "Not resumed: history was too old, reloaded"])
    assert browser.complaints() == []


@on_one_loop
def test_after_a_restart_the_page_says_that_history_is_new(
    own_server: Server, browser: Browser
) -> None:
    tab = entered(browser, own_server, "lobby", "Ada")
    tab.say("before")
    tab.wait_messages(["You: before"])
    own_server.stop()
    tab.wait_status("reconnecting")
    own_server.start()
    tab.wait_messages(["Not resumed: the server began a new history, reloaded"])
    tab.say("after")
    tab.wait_last("You: after")


@on_one_loop
def test_markup_is_shown_as_text(enter: Enter) -> None:
    """In messages, in names, and in who is typing."""
    markup = "<img src=x onerror=\"document.title='owned'\">"
    name = "<b>Ada</b>"
    ada, ben = enter(name), enter("Ben")
    ada.type("messageText", "x")
    wait_typing(ben, f"{name} is typing…")
    ada.say(markup)
    ben.wait_messages([f"{name}: {markup}"])
    wait_people(ben, name, "Ben (you)")
    for tab in (ada, ben):
        assert tab.run("return document.querySelectorAll('main img').length") == 0
        assert tab.run("return document.querySelectorAll('b b').length") == 0
        assert tab.run("return document.title") == "Rooms"


@on_one_loop
def test_whatever_others_publish_is_shown(
    enter: Enter, server: Server, room: str, browser: Browser
) -> None:
    """Any client may publish any JSON: it is shown as such, and breaks nothing."""
    ada = enter("Ada")
    odd: list[Any] = [1, None, "a text", {"text": 5, "name": {}, "at": "no"}, [[]]]
    with server.connect("/connection/websocket") as client:
        client.send(json.dumps({"id": 1, "connect": {}}))
        its_id = json.loads(client.recv(PATIENCE_S))["connect"]["client"]
        for number, data in enumerate(odd, 2):
            for channel in (f"rooms:{room}", f"typing.{room}"):
                command = {"channel": channel, "data": data}
                client.send(json.dumps({"id": number, "publish": command}))
        author = f"client {its_id[:8]}"
        shown = [json.dumps(data, separators=(",", ":")) for data in odd]
        ada.wait_messages([f"{author}: {each}" for each in shown])
    ada.say("still here")
    ada.wait_last("You: still here")
    assert browser.complaints() == []


@on_one_loop
def test_the_page_names_the_sdk(enter: Enter, server: Server) -> None:
    """The version that is pinned, under a licence that one can read."""
    tab = enter("Ada")
    version = json.loads(PINNED.read_text())["dependencies"]["centrifuge"]
    expected = f"SDK: centrifuge {version}, licence: MIT"
    tab.wait(lambda: tab.find("sdk").text == expected, expected)
    licence = server.get("/sdk/LICENSE.txt")
    assert licence.headers["content-type"].startswith("text/plain")
    assert "MIT License" in licence.text


@on_one_loop
def test_without_the_sdk_the_page_says_what_to_run(
    server: Server, browser: Browser
) -> None:
    tab = browser.open("about:blank")
    blocked = {"urls": ["*/sdk/*"]}  # for this tab alone
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", blocked)
    browser.driver.get(f"{server.url}/rooms")
    hint = tab.find("missing")
    tab.wait(hint.is_displayed, "hint")
    assert "run scripts/vendor-sdk" in hint.text
    assert not tab.find("send").is_enabled()
    assert not tab.find("name").is_enabled()
    assert server.get("/sdk/nothing.js").status_code == 404
    assert all("/sdk/" in each for each in browser.complaints())


@on_one_loop
def test_the_page_fits_small_screens(enter: Enter, browser: Browser) -> None:
    """No scrolling but that of the lists, with a long name and a long message too."""
    tab = enter("A" * 40)
    tab.say("x" * 300)
    tab.wait_messages([f"You: {'x' * 300}"])
    for width, height in ((360, 740), (1000, 700)):
        tab.resize(width, height)
        overflow = tab.run(
            "const root = document.documentElement;"
            "return [root.scrollWidth - innerWidth, root.scrollHeight - innerHeight]"
        )
        assert max(overflow) <= 0, f"at {width}x{height}"
        for control in ("name", "room", "drop", "messageText", "send"):
            assert tab.find(control).is_displayed()
    browser.driver.find_element(By.LINK_TEXT, "Chat").click()
    tab.wait_title("WebSocket Chat")
    assert browser.complaints() == []


@on_one_loop
def test_three_in_a_room(server: Server, browser: Browser) -> None:
    """One of them was away for a while, and all end up with the same.

    UPDATE_SCREENSHOT=1 has it write docs/images/rooms.png.
    """
    ada, ben, cleo = (
        entered(browser, server, "lobby", name) for name in ("Ada", "Ben", "Cleo")
    )
    said: list[tuple[str, str]] = []
    for tab, name, text in (
        (ada, "Ada", "Good morning! Is the build up?"),
        (cleo, "Cleo", "It is. My train leaves now."),
        (ada, "Ada", "Deploying: nobody will be cut off."),
        (ben, "Ben", "Half of the trains have no signal."),
    ):
        if name == "Ada" and said:
            cleo.find("drop").click()
            wait_people(ada, "Ada (you)", "Ben")
        tab.say(text)
        said.append((name, text))
        expected = [f"{'You' if who == name else who}: {what}" for who, what in said]
        tab.wait_messages(expected)
    cleo.find("retry").click()
    seen = [f"{'You' if who == 'Cleo' else who}: {what}" for who, what in said]
    cleo.wait_messages([*seen[:2], "Resumed: 2 missed messages", *seen[2:]])
    wait_people(cleo, "Ada", "Ben", "Cleo (you)")
    ben.type("messageText", "Back al")
    wait_typing(cleo, "Ben is typing…")
    if "UPDATE_SCREENSHOT" in os.environ:
        cleo.run("document.activeElement.blur()")
        cleo.resize(1000, 760)
        SCREENSHOT.parent.mkdir(exist_ok=True)
        browser.driver.save_screenshot(str(SCREENSHOT))
