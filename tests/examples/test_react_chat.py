"""The React example, react_chat.server: built, served, and used in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser import conftest as browsers
from tests.browser.tabs import Browser, Tab
from tests.fault_proxy import FaultProxy
from tests.npm import installed
from tests.serving import Server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    # Plain hypercorn prints tracebacks when it is stopped while clients are there.
    pytest.mark.parametrize("server", ["serve-asyncio", "serve-trio"], indirect=True),
]

EXAMPLE = Path(__file__).parents[2] / "examples" / "react_chat"
BUILD_S = 60
# Of a checkout in which somebody has followed the README.
NOT_COPIED = shutil.ignore_patterns("node_modules", "dist", "__pycache__")

driver, browser = browsers.driver, browsers.browser

Enter = Callable[[str, int], Tab]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, made from a copy: the checkout stays as it is."""
    modules = installed(EXAMPLE) / "node_modules"
    copy = tmp_path_factory.mktemp("react") / "chat"
    shutil.copytree(EXAMPLE, copy, ignore=NOT_COPIED)
    (copy / "node_modules").symlink_to(modules)
    run = subprocess.run(
        ["npm", "run", "build"],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return copy / "dist"


@pytest.fixture
def server(request: pytest.FixtureRequest, built: Path) -> Iterator[Server]:
    page = {"CHAT_PAGE": str(built)}
    with Server("examples.react_chat.server:app", request.param, variables=page) as it:
        yield it


@pytest.fixture
def enter(browser: Browser) -> Iterator[Enter]:
    """Log in with a name, at a port."""

    def enter(name: str, port: int) -> Tab:
        tab = browser.open(f"http://127.0.0.1:{port}")
        tab.type("name", f"{name}\n")
        tab.wait(lambda: tab.run("return !!document.getElementById('status')"), "chat")
        tab.wait_status("connected")
        return tab

    yield enter
    browser.close_all()  # while there is a server: they say goodbye


def say(tab: Tab, text: str) -> None:
    tab.find("text").send_keys(text + "\n")


def wait_shown(tab: Tab, *expected: str) -> None:
    """Wait until these are all the messages."""
    # The last item is there to scroll to.
    tab.wait(lambda: tab.messages == [*expected, ""], f"messages {expected}")


def wait_people(tab: Tab, *expected: str) -> None:
    def people() -> list[str]:
        found: list[str] = tab.run(
            "return [...document.querySelectorAll('#people li')].map(e => e.innerText)"
        )
        return found

    tab.wait(lambda: people() == [*expected], f"people {expected}")


def test_two_people_chat_and_see_each_other(
    server: Server, browser: Browser, enter: Enter
) -> None:
    """Who says what is the server's word; who comes later reads it too."""
    ada = enter("ada", server.port)
    wait_people(ada, "ada")
    ben = enter("ben", server.port)
    wait_people(ada, "ada", "ben")
    wait_people(ben, "ada", "ben")
    say(ada, "Hello <b>you</b>")
    wait_shown(ben, "ada: Hello <b>you</b>")  # else they may come in any order
    say(ben, "Hi")
    for tab in (ada, ben):
        wait_shown(tab, "ada: Hello <b>you</b>", "ben: Hi")
    ada.find("text").send_keys("Good\nWhat comes next")
    wait_shown(ben, "ada: Hello <b>you</b>", "ben: Hi", "ada: Good")
    assert ada.find("text").get_attribute("value") == "What comes next"
    cleo = enter("cleo", server.port)
    wait_shown(cleo, "ada: Hello <b>you</b>", "ben: Hi", "ada: Good")
    ben.close()
    wait_people(ada, "ada", "cleo")
    assert browser.complaints() == []


def test_it_resumes_after_a_cut_and_says_when_it_cannot(
    server: Server, enter: Enter
) -> None:
    """A connection that breaks costs nothing; a restart costs the history."""
    with FaultProxy(server.port) as proxy:
        ada = enter("ada", proxy.port)
        ben = enter("ben", server.port)
        say(ben, "one")
        wait_shown(ada, "ben: one")
        for link in (links := proxy.links()):
            link.pause()  # what is said now is lost on its way
        say(ben, "two")
        say(ben, "three")
        wait_shown(ben, "ben: one", "ben: two", "ben: three")
        assert ada.messages == ["ben: one", ""]
        for link in links:
            link.reset()
        wait_shown(ada, "ben: one", "ben: two", "ben: three")
        assert ada.find("news").text == "Resumed: 2 missed"
        wait_people(ada, "ada", "ben")

        server.stop()
        ada.wait_status("connecting")
        server.start()
        ada.wait(
            lambda: ada.find("news").text == "Not resumed: history was reloaded",
            "news of the restart",
        )
        wait_shown(ada)
        say(ada, "anew")
        wait_shown(ben, "ada: anew")
