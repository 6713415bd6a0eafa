"""The page in a browser: headless Chromium draws it, and is asked what it drew."""

from __future__ import annotations

import base64
import json
import shutil
import time
from contextlib import contextmanager

import pytest

from onlinestack.report.dashboard import Dashboard
from onlinestack.report.recorder import Recorder
from onlinestack.terminal import QuietReport

BINARY = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (BINARY and DRIVER), reason="no Chromium with its driver is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

DRAWN = "document.querySelectorAll('#loss .plot .scatterlayer .trace path').length"
PIXELS = """
const done = arguments[arguments.length - 1], image = new Image();
image.onload = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, image.width, image.height).data, seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(data.slice(i, i + 3).join());
  done(seen.size);
};
image.src = "data:image/png;base64," + arguments[0];
"""


@contextmanager
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BINARY
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def chromium():
    with browser() as driver:
        yield driver


def look(driver, url, *, width=1200, height=900, dark=False):
    """Open a page, and wait until its charts are drawn."""
    driver.get_log("browser"), driver.get_log("performance")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
    driver.get(url)
    until(driver, "return document.querySelectorAll('.plot .main-svg').length > 0")


def until(driver, condition, seconds=60):
    end = time.monotonic() + seconds
    while not driver.execute_script(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def colour(driver, selector="body", what="backgroundColor"):
    code = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return driver.execute_script(code, selector, what)


def contrast(one, other):
    """Return the contrast of two colours as the Web Content Accessibility Guidelines define it."""

    def luminance(text):
        values = [int(v) / 255 for v in text[text.index("(") + 1 : -1].split(",")[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return sum(f * v for f, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture
def url(folder):
    return (folder / "learned.html").as_uri()


def test_every_chart_is_drawn_without_an_error_or_a_request(chromium, url):
    look(chromium, url)
    sections = chromium.execute_script(
        "return [...document.querySelectorAll('.plot')].map((plot) => ["
        "plot.dataset.chart, plot.querySelectorAll('.main-svg').length,"
        "plot.querySelectorAll('.trace path, .bars path').length])"
    )
    assert len(sections) >= 12
    for name, canvases, paths in sections:
        assert canvases, name
        assert paths, name
    assert chromium.title == "onlinestack: report of a run"
    assert chromium.get_log("browser") == []
    asked = {
        message["params"]["request"]["url"]
        for entry in chromium.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    }
    assert {each.partition(":")[0] for each in asked} <= {"file", "data", "blob"}


def test_the_screenshot_is_not_blank(chromium, url):
    look(chromium, url)
    picture = base64.b64encode(chromium.get_screenshot_as_png()).decode()
    look(chromium, "data:text/html,<div class=plot><svg class=main-svg></svg></div>")
    assert chromium.execute_async_script(PIXELS, picture) > 100


def test_legend_and_views_are_buttons_that_work_with_the_keyboard(chromium, url):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    look(chromium, url)

    def buttons(group):
        return chromium.find_elements(By.CSS_SELECTOR, f"#loss .{group} button")

    before = chromium.execute_script(f"return {DRAWN}")
    first = buttons("legend")[0]
    assert (first.text, first.get_attribute("aria-pressed")) == ("mixture", "true")
    first.click()
    assert buttons("legend")[0].get_attribute("aria-pressed") == "false"
    until(chromium, f"return {DRAWN} < {before}")
    # The focus stays where it was, so that the same key switches back.
    chromium.switch_to.active_element.send_keys(Keys.ENTER)
    until(chromium, f"return {DRAWN} === {before}")
    names = [button.text for button in buttons("views")]
    assert names[0] == "Log-loss, window"
    buttons("views")[names.index("Normalised entropy, so far")].click()
    axis = chromium.execute_script("return document.querySelector('#loss .ytitle').textContent")
    assert axis == "normalised entropy"
    assert len(buttons("legend")) == 9


def test_a_phone_needs_no_sideways_scrolling(chromium, url):
    look(chromium, url, width=360, height=740)
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = chromium.execute_script(widths)
    assert content <= window == 360
    for details in ("loss", "generations", "slice-0"):
        chromium.execute_script(f"document.querySelector('#{details} details').open = true")
    assert chromium.execute_script(widths)[0] == 360


def test_dark_and_light_differ_and_can_be_read(chromium, url):
    from selenium.webdriver.common.by import By

    seen = {}
    for dark in (False, True):
        look(chromium, url, dark=dark)
        seen[dark] = colour(chromium)
        for selector in ("body", ".lead", ".tiles .note", "nav a", ".card summary", "thead th"):
            back = ".verdict" if "verdict" in selector else ".card"
            ratio = contrast(colour(chromium, selector, "color"), colour(chromium, back))
            assert ratio >= 4.5, (selector, dark)
    assert seen[True] != seen[False]
    chromium.find_element(By.ID, "theme").click()
    assert colour(chromium) == seen[False]
    ink = chromium.execute_script(
        "return document.querySelector('#loss .plot').data.at(-1).line.color"
    )
    assert ink == "#1c2230"
    chromium.execute_script("localStorage.clear()")


def test_everything_has_a_name(chromium, url):
    look(chromium, url)
    nameless = chromium.execute_script(
        "return [...document.querySelectorAll('[role=img], [role=group], [role=region], button')]"
        ".filter((each) => !(each.getAttribute('aria-label') || each.textContent).trim())"
        ".map((each) => each.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    assert chromium.execute_script("return document.documentElement.lang") == "en"
    levels = chromium.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3')].map((each) => each.tagName)"
    )
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}


def test_the_dashboard_renews_itself_and_keeps_what_was_chosen(chromium, lines):
    from selenium.webdriver.common.by import By

    events = [json.loads(line) for line in lines]
    half = [event["event"] for event in events].index("generation")
    recorder = Recorder(QuietReport())
    with Dashboard(recorder, 0) as dashboard:
        for event in events[:half]:
            recorder.detail(event)
        look(chromium, dashboard.address)
        records = "document.querySelector('.tiles dd').textContent"
        early = chromium.execute_script(f"return {records}")
        chromium.find_elements(By.CSS_SELECTOR, "#loss .views button")[1].click()
        assert not chromium.find_elements(By.ID, "generations")
        for event in events[half:]:
            recorder.detail(event)
        until(chromium, f"return {records} === '4,000'")
        assert early != "4,000"
        until(chromium, "return document.getElementById('state').textContent.includes('finished')")
        until(chromium, "return document.querySelectorAll('#generations .main-svg').length > 0")
        pressed = chromium.find_elements(By.CSS_SELECTOR, "#loss .views button")[1]
        assert pressed.get_attribute("aria-pressed") == "true"
        order = [
            each.get_attribute("id")
            for each in chromium.find_elements(By.CSS_SELECTOR, "section.card")
        ]
        assert order[:3] == ["loss", "weights", "generations"]
        assert order[-1] == "league"
        assert [entry for entry in chromium.get_log("browser") if "304" not in str(entry)] == []
