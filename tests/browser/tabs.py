"""Tabs of one Chromium, seen as the pages' users see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

__all__ = ("Browser", "Tab")

WAIT_S = 20.0


class Browser:
    """Opens tabs, and closes them all at the end."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._home = driver.current_window_handle
        self.complaints()  # those of other tests

    def open(self, url: str) -> Tab:
        """Open a page in a new tab."""
        self.driver.switch_to.window(self._home)
        self.driver.switch_to.new_window("tab")
        self.driver.get(url)
        return Tab(self.driver, self.driver.current_window_handle)

    def close_all(self) -> None:
        """Close every tab but the first, and forget the cookies."""
        for handle in self.driver.window_handles:
            if handle != self._home:
                self.driver.switch_to.window(handle)
                self.driver.delete_all_cookies()
                self.driver.close()
        self.driver.switch_to.window(self._home)

    def complaints(self) -> list[str]:
        """Return the errors in the console since the last call."""
        log: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call] # selenium
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


class Tab:
    """One page. Each of its methods shows the tab first."""

    def __init__(self, driver: webdriver.Chrome, handle: str) -> None:
        self._driver = driver
        self._handle = handle

    def find(self, element_id: str) -> WebElement:
        """Return an element."""
        self.show()
        return self._driver.find_element(By.ID, element_id)

    def show(self) -> None:
        """Bring the tab to the front."""
        self._driver.switch_to.window(self._handle)

    def close(self) -> None:
        """Close the tab."""
        self.show()
        self._driver.close()

    def resize(self, width: int, height: int) -> None:
        """Give the page a viewport of this size (CSS pixels)."""
        self.show()
        size = {"width": width, "height": height}
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {**size, "deviceScaleFactor": 1, "mobile": False},
        )

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page and return its value."""
        self.show()
        return self._driver.execute_script(script, *arguments)

    @property
    def status(self) -> str:
        """Name of the connection's state, as the style sheet sees it."""
        return self.find("status").get_attribute("data-state") or ""

    @property
    def messages(self) -> list[str]:
        """Texts of all items but the page's own notes about the connection."""
        texts: list[str] = self.run(
            "return [...document.querySelectorAll('#messages li')]"
            ".map(li => li.textContent)"
            ".filter(text => !text.startsWith('Connection ended: '))"
        )
        return texts

    def type(self, element_id: str, text: str) -> None:
        """Replace what a field holds."""
        field = self.find(element_id)
        field.clear()
        field.send_keys(text)

    def say(self, text: str) -> None:
        """Type a message and press Enter."""
        self.type("messageText", text)
        self.find("messageText").send_keys(Keys.ENTER)

    def choose(self, mode: str) -> None:
        """Choose how messages are sent: "text", "json" or "binary"."""
        self.show()
        radio = f"input[name=format][value={mode}]"
        self._driver.find_element(By.CSS_SELECTOR, radio).click()

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; fail with what the page shows instead."""
        self.show()
        wait = WebDriverWait(self._driver, WAIT_S, poll_frequency=0.05)
        try:
            wait.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(
                f"no {what}; there is status {self.find('status').text!r} "
                f"and messages {self.messages}"
            ) from None

    def wait_status(self, name: str) -> None:
        """Wait until the connection is in a state."""
        self.wait(lambda: self.status == name, f"status {name}")

    def wait_messages(self, expected: list[str]) -> None:
        """Wait until the page shows exactly these messages in this order."""
        self.wait(lambda: self.messages == expected, f"messages {expected}")

    def wait_last(self, *expected: str) -> None:
        """Wait until these are the last messages that the page shows."""
        self.wait(
            lambda: self.messages[-len(expected) :] == [*expected],
            f"last messages {expected}",
        )

    def wait_title(self, title: str) -> None:
        """Wait until the tab shows the page with this title."""
        self.wait(lambda: self._driver.title == title, f"page {title}")
