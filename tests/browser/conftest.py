"""Headless Chromium, and the server it talks to, once per worker class."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.serving import Server

from .tabs import Browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--lang=en-GB",
    "--window-size=1000,700",
)


@pytest.fixture(scope="session", params=["serve-asyncio", "serve-uvloop", "serve-trio"])
def server(
    request: pytest.FixtureRequest,
) -> Iterator[Server]:
    """What ``make serve`` runs, for all tests that leave it running.

    No traceback may be in its log.
    """
    # One test has a page send what no person types.
    fast = {"BROKER_LIMITS_MESSAGES_PER_S": "none"}
    with Server("", request.param, variables=fast) as server:
        yield server


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One Chromium, with a profile of its own; nothing is downloaded."""
    binary = next(filter(None, map(shutil.which, CHROMIUM)), None)
    chromedriver = shutil.which("chromedriver")
    if binary is None or chromedriver is None:
        missing = "chromium" if binary is None else "chromedriver"
        pytest.skip(f"{missing} is not installed")
    options = Options()
    options.binary_location = binary
    for argument in QUIET:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_AVOID_STATS", "true")
        patch.setenv("SE_OFFLINE", "true")
        service = Service(executable_path=chromedriver)
        driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[Browser]:
    """Opens tabs; they are closed after the test."""
    browser = Browser(driver)
    yield browser
    browser.close_all()


@pytest.fixture
def own_server(server: Server) -> Iterator[Server]:
    """A server of the same kind that the test may stop, with its clients connected."""
    with Server(server.app, server.host) as own:
        yield own
