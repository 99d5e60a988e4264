"""The page as readers use it: in Chromium, from the disk."""

import base64
import datetime
import json
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from autoflow.notebooks.redaction import Redaction
from autoflow.page.banner import banner_html
from autoflow.runs.attention import Condition, Need
from tests.browser import chromium
from tests.page.sample import Entry, hostile, many_labels, ten_years_of_twenty, typical, write_sample
from tests.waiting import wait_for

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
TRY_OUT = {
    "name": "mobility",
    "parameters": "region=west",
    "period": "2016-01-05",
    "status": "failed",
    "note": "1 day missing",
    "links": [["PDF", "report", "reports/a.pdf"], ["ipynb", "query", "notebooks/b.ipynb"]],
}
CONDITION = Condition(
    need=Need.DISK,
    reason="the disk is nearly full",
    what_to_do="make room",
    details=("/outputs has 1 % left",),
    since=datetime.datetime(2016, 1, 9, 7),
)
BANNER = banner_html([CONDITION], datetime.datetime(2016, 1, 10), Redaction([]))
COUNT_SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => list.getEntries().forEach((each) => { window.shifts += each.value; }))
  .observe({ type: "layout-shift", buffered: true });
"""
"""Counts layout shifts, also those within half a second of an input: nothing may jump then, either."""


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        driver.set_script_timeout(120)
        yield driver


@pytest.fixture
def browser(one_browser: WebDriver) -> Iterator[WebDriver]:
    """Return a browser with a wide window. Nothing may have gone wrong in it at the end of the test."""
    resize(one_browser, 1400)
    emulate(one_browser, "light")
    yield one_browser
    assert [entry["message"] for entry in one_browser.get_log("browser")] == []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a page with entries of each kind."""
    folder = tmp_path_factory.mktemp("typical")
    return write_sample(folder, typical(), banner=BANNER, try_outs=[TRY_OUT], more_try_outs=3).as_uri()


def resize(browser: WebDriver, width: int, height: int = 900) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def emulate(browser: WebDriver, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def visit(browser: WebDriver, address: str) -> None:
    """Open a page anew, although only its fragment may differ, and wait until its calendars on the screen are drawn."""
    browser.get("about:blank")
    browser.get(address)
    shown(browser, "h1")
    wait_for_calendars(browser)


def wait_for_calendars(browser: WebDriver) -> None:
    """Wait until all calendars that are on the screen are drawn."""
    script = """return [...document.querySelectorAll(".calendar[aria-busy]")].every((each) => {
      const { top, bottom } = each.getBoundingClientRect();
      return bottom < 0 || top > innerHeight;
    })"""
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(script))


def show_calendars(browser: WebDriver) -> None:
    """Scroll to the first calendar."""
    browser.execute_script("document.querySelector('.calendar').scrollIntoView()")
    wait_for_calendars(browser)


def shown(browser: WebDriver, selector: str) -> WebElement:
    return WebDriverWait(browser, 60).until(visibility_of_element_located((By.CSS_SELECTOR, selector)))


def all_of(browser: WebDriver, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def texts(browser: WebDriver, selector: str) -> list[str]:
    return [each.text for each in all_of(browser, selector)]


def focused(browser: WebDriver) -> str:
    return browser.switch_to.active_element.get_attribute("aria-label") or ""


def violations(browser: WebDriver) -> list[str]:
    """Return what axe-core finds fault with on the page as it is shown now."""
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found: list[Any] = browser.execute_async_script(
        "axe.run(document, { resultTypes: ['violations'] }).then((result) => arguments[0](result.violations))"
    )
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


def test_axe_finds_no_fault_in_any_view(browser: WebDriver, page: str) -> None:
    views = ("", "#mobility", "#mobility:north/2016-12-26", "#quota/2016-10-31", "#?search=nothing-like-it")
    found = {}
    for (scheme, width), view in product((("light", 1400), ("dark", 360)), views):
        emulate(browser, scheme)
        resize(browser, width)
        visit(browser, page + view)
        found[scheme, width, view] = violations(browser)
    assert {key: faults for key, faults in found.items() if faults} == {}


def test_the_newest_reports_come_first_as_cards(browser: WebDriver, page: str) -> None:
    visit(browser, page)

    titles = texts(browser, ".card .title")
    assert titles[0] == "A week in the east"
    assert titles[-1] == "Mobility in the north"
    assert "incomplete" in all_of(browser, ".card")[0].text
    assert "Week of 26 December 2016 \N{EN DASH} 1 January 2017" in all_of(browser, ".card")[0].text
    assert [each.text for each in all_of(browser, ".card")[0].find_elements(By.CLASS_NAME, "file")] == [
        "PDF",
        "HTML",
        "Notebook",
    ]
    picture = shown(browser, ".thumbnail img")
    assert picture.get_property("naturalWidth")
    assert str(shown(browser, ".thumbnail").get_attribute("href")).endswith("reports/report__2017-01-01.pdf")


def test_a_link_to_a_date_opens_its_entry_with_its_files_and_why_it_failed(browser: WebDriver, page: str) -> None:
    visit(browser, f"{page}#mobility:north/2016-12-26")

    details = shown(browser, ".details")
    assert browser.execute_script("return arguments[0].getBoundingClientRect().bottom <= innerHeight", details)
    assert "Monday, 26 December 2016" in details.text
    assert "TimeoutError: FlowAPI did not answer" in details.text
    (link,) = details.find_elements(By.LINK_TEXT, "Show cell 3 of query")
    assert str(link.get_attribute("href")).endswith(
        f"notebooks/query__2016-12-26__{'20261123T040000.000Z'}.html#cell-3"
    )
    assert [each.text for each in details.find_elements(By.CLASS_NAME, "file")] == [
        "Notebook",
        "ipynb",
        "PDF",
        "Notebook",
        "ipynb",
    ]
    assert browser.title == "Mobility in the north, Monday, 26 December 2016 \N{EN DASH} AutoFlow reports"
    assert shown(browser, '[data-date="2016-12-26"]').get_attribute("aria-current") == "date"
    details.find_element(By.LINK_TEXT, "← Earlier").click()
    shown(browser, '[data-date="2016-12-25"][aria-current]')
    assert "Waits until 2016-12-28 for 2016-12-25" in shown(browser, ".details").text


def test_the_back_button_returns_to_where_the_reader_was(browser: WebDriver, page: str) -> None:
    visit(browser, page)
    browser.execute_script("document.querySelectorAll('.entry')[1].scrollIntoView()")
    wait_for_calendars(browser)
    scrolled = "return history.state && history.state.scroll === scrollY && scrollY"
    before = WebDriverWait(browser, 60).until(lambda _: browser.execute_script(scrolled))
    shown(browser, '.entry [href="#mobility:south/2016-06-01"]').click()
    assert "Wednesday, 1 June 2016" in shown(browser, ".details").text
    shown(browser, '[data-date="2016-06-02"]').click()
    WebDriverWait(browser, 60).until(lambda _: "2 June 2016" in shown(browser, ".details").text)

    browser.back()
    WebDriverWait(browser, 60).until(lambda _: "1 June 2016" in shown(browser, ".details").text)
    browser.back()
    shown(browser, ".cards")
    assert WebDriverWait(browser, 60).until(lambda _: browser.execute_script("return scrollY")) == before
    browser.forward()
    assert "Wednesday, 1 June 2016" in shown(browser, ".details").text


def test_addresses_lead_to_a_workflow_an_entry_or_at_least_to_everything(browser: WebDriver, page: str) -> None:
    for fragment, heading in (
        ("#mobility", "mobility"),
        ("#week", "A week in the east"),
        ("#week:east", "A week in the east"),
        ("#mobility:south", "Mobility in the south"),
        ("#mobility%3Asouth/2016-01-10", "Mobility in the south"),
        ("#nothing:of/the/kind", "Latest reports"),
        ("#%E0%A4%A", "Latest reports"),
        ("#mobility:south/2016-99-99", "Mobility in the south"),
        ("#mobility:south/1816-01-10", "Mobility in the south"),
    ):
        visit(browser, page + fragment)
        assert shown(browser, "h1").text.startswith(heading), fragment
    for fragment, date in (
        ("#quota/2016-10-15", "October 2016"),  # any day of a period leads to it
        ("#week/2016-12-23", "Week of 19\N{EN DASH}25 December 2016"),
        ("#mobility:south/2030-01-01", "Tuesday, 1 January 2030"),
    ):
        visit(browser, page + fragment)
        assert shown(browser, ".details h3").text == date
    visit(browser, f"{page}#mobility")
    assert texts(browser, ".entry .title a") == ["Mobility in the north", "Mobility in the south"]


def test_the_arrow_keys_move_through_a_calendar_as_it_is_laid_out(browser: WebDriver, page: str) -> None:
    visit(browser, f"{page}#mobility:south")
    assert len(all_of(browser, ".calendar [tabindex='0']")) == 1
    browser.execute_script("document.querySelector('.calendar [tabindex=\"0\"]').focus()")
    for keys, label in (
        (Keys.HOME, "Friday, 1 January 2016"),
        (Keys.ARROW_UP, "Friday, 1 January 2016"),
        (Keys.ARROW_DOWN, "Saturday, 2 January 2016"),
        (Keys.ARROW_RIGHT, "Saturday, 9 January 2016"),
        (Keys.ARROW_LEFT, "Saturday, 2 January 2016"),
        (Keys.END, "Saturday, 31 December 2016"),
    ):
        browser.switch_to.active_element.send_keys(keys)
        assert focused(browser).startswith(label), keys
        assert shown(browser, ".tooltip").text.startswith(label)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not all_of(browser, ".tooltip")[0].is_displayed()
    browser.switch_to.active_element.send_keys(Keys.HOME, Keys.ENTER)
    assert "Friday, 1 January 2016" in shown(browser, ".details").text
    assert focused(browser).startswith("Friday, 1 January 2016")  # so that the next key moves on from there

    visit(browser, f"{page}#quota")
    browser.execute_script("document.querySelector('.calendar [tabindex=\"0\"]').focus()")
    for keys, label in (
        (Keys.ARROW_DOWN, "December 2015"),
        (Keys.ARROW_LEFT, "November 2015"),
        (Keys.ARROW_RIGHT, "December 2015"),
        (Keys.ARROW_RIGHT, "January 2016"),
        (Keys.HOME, "January 2007"),
    ):
        browser.switch_to.active_element.send_keys(keys)
        assert focused(browser).startswith(label), keys


def test_a_date_that_has_not_run_says_why_to_the_pointer_and_to_a_finger(browser: WebDriver, page: str) -> None:
    visit(browser, f"{page}#mobility:north")
    for date, why in (
        ("2016-01-01", "Before earliest_date\nIt is before 2016-01-05"),
        ("2016-01-08", "Dates missing\n2016-01-08 is missing"),
        ("2016-12-25", "Waiting for data\nWaits until 2016-12-28 for 2016-12-25"),
        ("2016-12-24", "Due"),
        ("2016-12-31", "Not run"),
    ):
        cell = shown(browser, f'[data-date="{date}"]')
        ActionChains(browser).move_to_element(cell).perform()
        assert shown(browser, ".tooltip").text.endswith(why)
        assert str(cell.get_attribute("aria-label")).endswith(why.replace("\n", ": "))

    visit(browser, page)
    show_calendars(browser)
    cell = shown(browser, '.entry [data-date="2016-12-25"]')
    for _ in range(2):  # the second touch follows the link
        assert not all_of(browser, ".details")
        browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", cell)
        touch(browser, cell)
    assert "Waits until" in shown(browser, ".details").text


def touch(browser: WebDriver, element: WebElement) -> None:
    place = browser.execute_script(
        "const { x, y, width, height } = arguments[0].getBoundingClientRect(); return [x + width / 2, y + height / 2]",
        element,
    )
    point = {"x": place[0], "y": place[1]}
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_search_and_filters_narrow_the_list_and_stay_in_the_address(browser: WebDriver, page: str) -> None:
    visit(browser, page)
    field = shown(browser, "input[type=search]")
    field.send_keys("SOUTH mobil")
    assert texts(browser, ".card .title") == ["Mobility in the south"]
    assert texts(browser, ".entry .title a") == ["Mobility in the south"]
    assert shown(browser, "#news").text == "1 match"
    assert browser.current_url.endswith("#?search=SOUTH+mobil")
    assert browser.switch_to.active_element == field
    visit(browser, browser.current_url)
    assert shown(browser, "input[type=search]").get_attribute("value") == "SOUTH mobil"
    field = shown(browser, "input[type=search]")
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys("calls")  # a value of a parameter
    assert texts(browser, ".entry .title a") == ["Mobility in the south"]
    field.clear()
    browser.execute_script("arguments[0].dispatchEvent(new Event('input', { bubbles: true }))", field)

    choose(browser, "label", "east")
    WebDriverWait(browser, 60).until(lambda _: texts(browser, ".entry .title a") == ["A week in the east"])
    choose(browser, "workflow", "mobility")
    WebDriverWait(browser, 60).until(lambda _: len(all_of(browser, ".entry")) == 2)
    assert [each.text for each in all_of(browser, "[name=label] option")] == ["All labels", "north", "south"]
    choose(browser, "label", "north")
    WebDriverWait(browser, 60).until(lambda _: texts(browser, ".entry .title a") == ["Mobility in the north"])
    assert browser.current_url.endswith("#mobility?label=north")
    browser.back()
    WebDriverWait(browser, 60).until(lambda _: len(all_of(browser, ".entry")) == 2)


def choose(browser: WebDriver, name: str, value: str) -> None:
    shown(browser, f'[name={name}] option[value="{value}"]').click()


def test_parameters_are_a_table_without_json(browser: WebDriver, page: str) -> None:
    visit(browser, f"{page}#mobility:south")
    rows = [each.split("\n") for each in texts(browser, ".parameters tr")]
    assert [" ".join(row) for row in rows] == [
        "region south",
        "types calls, sms",
        "limits \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} low 5",
        "limits \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} high none",
        "map yes",
    ]


def test_nothing_moves_while_ten_years_load(browser: WebDriver, tmp_path: Path) -> None:
    ten_years = write_sample(tmp_path / "years", ten_years_of_twenty(), banner=BANNER).as_uri()
    labels = write_sample(tmp_path / "labels", many_labels(500)).as_uri()
    pages = (ten_years, f"{ten_years}#flow-3/2012-03-01", f"{ten_years}#flow-3/2016-12-01", labels)
    script = {"source": COUNT_SHIFTS}
    identifier = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)["identifier"]
    try:
        for width, address in product((360, 1400), pages):
            resize(browser, width)
            visit(browser, address)
            shown(browser, ".details" if "#" in address else ".entries")
            scroll_to_the_end(browser)
            assert browser.execute_script("return window.shifts") < 0.05, (width, address)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": identifier})


def scroll_to_the_end(browser: WebDriver) -> None:
    """Scroll a screen at a time, and wait for what is drawn there."""
    while browser.execute_script("const before = scrollY; scrollBy(0, innerHeight); return scrollY > before"):
        wait_for_calendars(browser)
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def test_only_what_is_near_the_screen_is_drawn(browser: WebDriver, tmp_path: Path) -> None:
    page = write_sample(tmp_path, ten_years_of_twenty()).as_uri()
    visit(browser, f"{page}#flow-3")
    drawn = [each for each in all_of(browser, ".calendar") if not each.get_attribute("aria-busy")]
    assert (len(all_of(browser, ".calendar")), len(drawn) < 10) == (10, True)


def test_500_labels_are_found_by_search_and_shown_a_few_at_a_time(browser: WebDriver, tmp_path: Path) -> None:
    page = write_sample(tmp_path, many_labels(500)).as_uri()
    visit(browser, page)
    assert (len(all_of(browser, ".card")), len(all_of(browser, ".entry"))) == (12, 20)
    assert len(all_of(browser, "[name=label] option")) == 501
    button = all_of(browser, ".more")[1]
    assert button.text == "Show 60 more of 500 calendars"
    button.click()
    assert len(all_of(browser, ".entry")) == 80
    assert browser.switch_to.active_element.text == "mobility: place-20"
    shown(browser, "input[type=search]").send_keys("place-499")
    assert texts(browser, ".entry .title a") == ["mobility: place-499"]
    visit(browser, f"{page}#mobility:place-321/2016-12-01")
    assert "1 December 2016" in shown(browser, ".details").text


def test_hostile_names_are_shown_as_text_and_break_nothing(browser: WebDriver, tmp_path: Path) -> None:
    entries = hostile()
    titles = [" ".join(each.title.replace("\u2067", "").split()) for each in entries]
    page = write_sample(tmp_path, entries).as_uri()
    for width in (360, 1400):
        resize(browser, width)
        visit(browser, page)
        assert texts(browser, ".entry .title a") == titles
        assert not all_of(browser, "main script, main img[src=x]")
        assert ends_before_its_badges(browser, ".entry .title")
        addresses = [str(each.get_attribute("href")) for each in all_of(browser, ".entry .title a")]
        for address, title in zip(addresses, titles, strict=True):
            visit(browser, address)
            assert shown(browser, "h1").text.startswith(title)
            show_calendars(browser)
            assert shown(browser, ".cell")
            assert width_of_content(browser) <= width
    assert violations(browser) == []


def ends_before_its_badges(browser: WebDriver, selector: str) -> bool:
    """Return whether the direction of a title leaves its badges behind it."""
    script = f"""const [link, badge] = document.querySelectorAll("{selector} a, {selector} .badge");
    const end = [...link.getClientRects()].at(-1), start = badge.getBoundingClientRect();
    return start.left >= end.right || start.top >= end.bottom;"""
    return bool(browser.execute_script(script))


def width_of_content(browser: WebDriver) -> int:
    return int(browser.execute_script("return document.documentElement.scrollWidth"))


def test_the_page_fits_into_windows_from_320_pixels_on(browser: WebDriver, page: str) -> None:
    for width, view in product(
        (320, 360, 480, 680, 800, 1050, 1400, 2560), ("", "#mobility:north/2016-12-26", "#years")
    ):
        resize(browser, width)
        visit(browser, page + view)
        assert width_of_content(browser) <= width, (width, view)
        # Calendars have their size before they are drawn.
        grown = browser.execute_script(
            """return [...document.querySelectorAll(".calendar:not([aria-busy])")].map((each) =>
              each.getBoundingClientRect().height - parseFloat(getComputedStyle(each).minHeight))"""
        )
        assert all(abs(each) <= 1 for each in grown), (width, view, grown)


def test_the_page_prints_with_its_calendars_and_without_its_controls(
    browser: WebDriver, page: str, tmp_path: Path
) -> None:
    visit(browser, page)
    browser.execute_async_script("requestIdleCallback(() => requestIdleCallback(arguments[0]))")
    WebDriverWait(browser, 60).until(lambda _: not all_of(browser, "head script"))
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    file = tmp_path / "page.pdf"
    file.write_bytes(base64.b64decode(printed["data"]))
    text = subprocess.run(["pdftotext", file, "-"], check=True, capture_output=True, text=True).stdout
    assert "Each quarter" in text
    assert "2007" in text  # a column of the last calendar
    assert "All labels" not in text


def test_the_page_does_without_files_that_are_missing(one_browser: WebDriver, tmp_path: Path) -> None:
    page = write_sample(tmp_path, typical()[:1])
    (tmp_path / "page" / "mobility--north" / "2016.js").unlink()
    (tmp_path / "thumbnails" / "page.png").unlink()
    one_browser.get(page.as_uri())
    assert "21 Dec" in shown(one_browser, ".cover").text
    show_calendars(one_browser)
    assert "page/mobility--north/2016.js" in shown(one_browser, ".problem").text
    one_browser.get_log("browser")


def test_the_page_runs_no_script_but_its_own_and_loads_nothing_from_elsewhere(browser: WebDriver, page: str) -> None:
    visit(browser, page)
    browser.execute_cdp_cmd("Page.enable", {})

    def loaded() -> list[dict[str, str]]:
        found: list[dict[str, str]] = browser.execute_cdp_cmd("Page.getResourceTree", {})["frameTree"]["resources"]
        return found

    # The data files come after the page itself.
    wait_for(lambda: {"Image", "Script"} <= {each["type"] for each in loaded()})
    assert {each["type"] for each in loaded()} == {"Image", "Script"}
    assert all(each["url"].startswith("file://") for each in loaded())
    policy = shown_policy(browser)
    assert "unsafe" not in policy
    browser.execute_script("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.evil = 1\">')")
    said: list[str] = []

    def has_said(*texts: str) -> bool:
        said.extend(str(entry["message"]) for entry in browser.get_log("browser"))
        return all(any(text in each for each in said) for text in texts)

    wait_for(lambda: has_said("Content Security Policy", "ERR_FILE_NOT_FOUND"))
    assert browser.execute_script("return window.evil") is None


def shown_policy(browser: WebDriver) -> str:
    (found,) = all_of(browser, "meta[http-equiv=Content-Security-Policy]")
    return str(found.get_attribute("content"))


def test_a_page_without_runs_says_so(browser: WebDriver, tmp_path: Path) -> None:
    visit(browser, write_sample(tmp_path, []).as_uri())
    assert shown(browser, "main").text.endswith("No run has ended yet.")
    nothing_done = Entry(first=datetime.date(2016, 1, 1), last=datetime.date(2015, 1, 1))
    visit(browser, write_sample(tmp_path, [nothing_done]).as_uri())
    assert "No run has succeeded yet." in shown(browser, "main").text
    visit(browser, write_sample(tmp_path, [nothing_done]).as_uri() + "#mobility/2016-01-01")
    assert "No date yet." in shown(browser, "main").text
    assert "there is no data for it, or it is before earliest_date" in shown(browser, ".details").text
    assert json.dumps({}) not in shown(browser, "main").text


def test_skipped_dates_and_warnings_have_signs_and_say_why(browser: WebDriver, page: str) -> None:
    for date, status, reason in (
        ("2016-12-20", "Skipped", "Nobody moved on this day"),
        ("2016-12-21", "Done, 1 warning", "Warning: few outliers: 7 % of the flows"),
    ):
        browser.get(f"{page}#mobility:north/{date}")
        shown(browser, ".details")
        assert texts(browser, ".details .status, .details .reason") == [status, reason]
    legend = texts(browser, ".legend li")
    assert {"skipped", "done, with warnings"} <= set(legend)
    signs = browser.execute_script(
        "return ['2016-12-19', '2016-12-20', '2016-12-21'].map((date) =>"
        " getComputedStyle(document.querySelector(`.cell[data-date='${date}']`), '::before').background)"
    )
    assert len(set(signs)) == 3
