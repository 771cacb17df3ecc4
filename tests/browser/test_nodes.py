"""The rooms in a real browser whose tabs are on different workers of one server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.nodes import Node, engine, two_workers

from .tabs import Browser, Tab
from .test_rooms import vendored, wait_people

pytestmark = pytest.mark.browser

__all__ = ("vendored",)  # a fixture, for each test


@pytest.fixture(scope="module", params=["serve-asyncio", "serve-trio"])
def workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Node, Node]]:
    with (
        engine(tmp_path_factory.mktemp("redis")) as redis,
        two_workers(request.param, redis) as (_, one, two),
    ):
        yield one, two


def enter(browser: Browser, worker: Node, name: str) -> Tab:
    """Enter the room by way of the address that only this worker has."""
    tab = browser.open(f"{worker.url}/rooms#nodes")
    tab.type("name", name)
    tab.find("enter").submit()
    tab.wait_status("connected")
    return tab


def test_two_tabs_on_two_workers_chat(
    workers: tuple[Node, Node], browser: Browser
) -> None:
    """Who is here, what is said and what was said are the same on both."""
    one, two = workers
    ada, ben = enter(browser, one, "Ada"), enter(browser, two, "Ben")
    wait_people(ada, "Ada (you)", "Ben")
    wait_people(ben, "Ada", "Ben (you)")
    assert [node.ready()["sessions"] for node in workers] == [1, 1]
    ada.say("Hello over there")
    ben.wait_messages(["Ada: Hello over there"])
    ben.say("Hello yourself")
    ada.wait_messages(["You: Hello over there", "Ben: Hello yourself"])
    cleo = enter(browser, two, "Cleo")
    cleo.wait_messages(["Ada: Hello over there", "Ben: Hello yourself"])
    wait_people(ada, "Ada (you)", "Ben", "Cleo")
    ben.close()
    wait_people(ada, "Ada (you)", "Cleo")
    assert browser.complaints() == []
