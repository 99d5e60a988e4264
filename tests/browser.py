"""A browser to look at web pages with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver


@contextmanager
def chromium(profile: Path, *arguments: str) -> Iterator[WebDriver]:
    """Start Chromium without a window, with its profile in the folder `profile` and further `arguments`."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for switch in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "disable-background-networking"):
        options.add_argument(f"--{switch}")
    for argument in (f"--user-data-dir={profile}", *arguments):
        options.add_argument(argument)
    driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()
