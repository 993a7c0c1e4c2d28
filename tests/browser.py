"""A person with a real browser, in front of the console."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from real import need
from wissel.errors import WorldError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement


def chromium() -> str:
    if (found := shutil.which("chromium")) is None or shutil.which("chromedriver") is None:
        raise WorldError("no chromium and chromedriver on the path")
    return found


needs_chromium = need(chromium, "chromium")


@contextmanager
def browsing(home: Path) -> "Iterator[Chrome]":
    """A Chromium without a window, with its profile in `home`."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium()
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1360,1000",
        f"user-data-dir={home}/chromium",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What a person does with the page; each call waits until it can be done."""

    def __init__(self, browser: "Chrome", url: str) -> None:
        self.browser = browser
        browser.get(url)

    def see(self, selector: str, *words: str) -> "WebElement":
        """The first of these elements in sight that says all the words."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.wait import WebDriverWait

        def found(browser: "Chrome") -> "WebElement | None":
            shown = [each for each in browser.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]
            return next((each for each in shown if all(word in each.text for word in words)), None)

        # What is drawn anew while it is looked at is looked at again.
        wait = WebDriverWait(self.browser, 90, poll_frequency=0.1, ignored_exceptions=[Exception])
        try:
            return wait.until(found)
        except TimeoutException:
            shown = self.browser.find_element(By.TAG_NAME, "body").text
            raise AssertionError(f'no "{selector}" says {words}, but the page: {shown}') from None

    def press(self, selector: str) -> None:
        self.see(selector).click()

    def type(self, selector: str, text: str) -> None:
        self.see(selector).send_keys(text)

    def problems(self) -> list[str]:
        """What the browser complained of; what the API does not have, and refuses, is no fault of the page."""
        lines = [str(line["message"]) for line in self.browser.get_log("browser")]
        return [line for line in lines if "Failed to load resource" not in line]


CONTRASTS = """
document.documentElement.dataset.theme = arguments[0];
const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  paint.clearRect(0, 0, 1, 1);
  paint.fillStyle = colour;
  paint.fillRect(0, 0, 1, 1);
  return [...paint.getImageData(0, 0, 1, 1).data];
};
const light = (colour) => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = colour.map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const backOf = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255];
};
const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
return [...document.querySelectorAll("body *")]
  .filter((each) => each.checkVisibility() && hasText(each) && !each.closest(":disabled, .unseen"))
  .map((each) => {
    const style = getComputedStyle(each);
    const front = light(rgba(each instanceof SVGElement ? style.fill : style.color));
    const back = light(backOf(each));
    return [(Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05), each.textContent];
  });
"""
"""[contrast, text] of every text in sight, by WCAG's formula, in the theme that is the argument."""


def contrasts(browser: "Chrome") -> list[tuple[float, str]]:
    return [tuple(each) for theme in ("dark", "light") for each in browser.execute_script(CONTRASTS, theme)]
