"""The rooms of a server with a key: the page takes a token from its address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosting.commands import Running, invoke, serving

from .tabs import Browser

SECRET = "long enough, and not to be seen by anybody"


@pytest.fixture
def closed() -> Iterator[Running]:
    with serving(BROKER_CLIENT_HMAC_SECRET=SECRET) as server:
        yield server


def test_a_token_from_the_address(closed: Running, browser: Browser) -> None:
    made = invoke("token", "make", "--user", "42", BROKER_CLIENT_HMAC_SECRET=SECRET)
    page = f"http://127.0.0.1:{closed.port}/rooms"
    tab = browser.open(f"{page}#lobby")
    refused = "3501: bad request; does it want a token? Add #token=…"
    tab.wait(lambda: tab.find("detail").text == refused, refused)
    tab.run(f"location.hash = 'kitchen&token={made.stdout.strip()}'")
    tab.wait_status("connected")
    assert tab.run("return location.hash") == "#kitchen", "nobody is sent the token"
    tab.find("messageText").send_keys("hello")
    tab.find("composer").submit()
    tab.wait(lambda: tab.messages[-1:] == ["You: hello"], "own message")
    browser.driver.get(f"{page}#lobby")
    browser.driver.refresh()
    tab.wait_status("connected")
    again = browser.open(f"{page}#token={made.stdout.strip()}")
    again.wait_status("connected")
