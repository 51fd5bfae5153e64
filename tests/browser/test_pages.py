"""The pages of a small run in a real browser: wide and narrow, light and dark, mailed alone, without scripts.

    .ci/browser          installs Chromium and Selenium and runs this

TAYLORSCOPE is the program to make the pages with. SCREENSHOTS, if set, is a folder for pictures of what was tested.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PROGRAM = os.environ.get("TAYLORSCOPE", "target/release/taylorscope")
WIDE, NARROW = (1280, 800), (390, 844)
# A run of seconds that has every table and figure, at two comparators.
RUN = ["run", "digits-autoencoder", "--optimizer", "sgd:1", "--optimizer", "adam", "--epochs", "2"]
SETTINGS = [
    "regret.prefixes=5",
    "regret.max_products=12",
    'regret.comparators=["ball", "unconstrained"]',
    "exploration.probe=200",
]
BROWSER = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


def number(text):
    """The first number of a cell, read independently of the page's script."""
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    found = re.search(r"([−-]?)(\d[\d,]*(?:\.\d+)?)(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    if not found:
        return None
    value = float(found[2].replace(",", "")) * 10.0 ** int((found[3] or "⁰").translate(powers))
    return -value if found[1] else value


def luminance(color):
    """From 0 (black) to 1 (white) of a computed `rgb(...)`."""
    red, green, blue = (float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.run_folder = cls.folder / "run"
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        cls.taylorscope(*RUN, *settings, "--out", cls.run_folder)
        shutil.copytree(cls.run_folder, cls.folder / "again")
        cls.taylorscope("report", cls.run_folder, cls.folder / "again", "--out", cls.folder / "both")
        cls.taylorscope("landscape", cls.run_folder, "--along", "update", "5", "--out", cls.folder / "landscape")
        # As if the page were mailed: nothing lies beside it.
        (cls.folder / "alone").mkdir()
        cls.alone = cls.folder / "alone/report.html"
        shutil.copy(cls.run_folder / "report.html", cls.alone)

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
        for argument in BROWSER:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver") or "/usr/bin/chromedriver")
        cls.browser = webdriver.Chrome(options=options, service=service)
        cls.addClassCleanup(cls.browser.quit)

    @staticmethod
    def taylorscope(*arguments):
        subprocess.run([PROGRAM, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def open(self, page, size=WIDE, dark=False):
        """Opens a page and forgets what the one before it logged."""
        command = self.browser.execute_cdp_cmd
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
        command("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.browser.get("about:blank")
        self.browser.get_log("browser"), self.browser.get_log("performance")
        self.browser.get(page.as_uri())
        if pictures := os.environ.get("SCREENSHOTS"):
            name = f"{page.parent.name}-{size[0]}-{'dark' if dark else 'light'}.png"
            self.browser.save_screenshot(str(pathlib.Path(pictures) / name))

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def pages(self):
        return [self.folder / name / "report.html" for name in ["run", "both", "landscape"]]

    def test_nothing_is_loaded_and_nothing_goes_wrong(self):
        for page in self.pages():
            for dark in [False, True]:
                with self.subTest(page=page.parent.name, dark=dark):
                    self.open(page, dark=dark)
                    logged = self.browser.get_log("browser")
                    wrong = [entry for entry in logged if entry["level"] in ("SEVERE", "WARNING")]
                    self.assertEqual(wrong, [])
                    events = [entry["message"] for entry in self.browser.get_log("performance")]
                    requests = [event for event in events if '"Network.requestWillBeSent"' in event]
                    urls = [re.search(r'"url":"([^"]*)"', request)[1] for request in requests]
                    self.assertIn(page.as_uri(), urls)
                    others = [url for url in urls if url != page.as_uri() and not url.startswith("data:font/")]
                    self.assertEqual(others, [])

    def test_nothing_is_wider_than_a_phone(self):
        for page in self.pages():
            with self.subTest(page=page.parent.name):
                self.open(page, NARROW)
                self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), NARROW[0])
                self.assertEqual(self.js("return innerWidth"), NARROW[0])
                # A figure that is wider scrolls by itself, and says so.
                wide = self.all("figure .scroll.wide")
                self.assertTrue(wide)
                hint = self.js("return getComputedStyle(arguments[0], '::before').content", wide[0])
                self.assertIn("Scroll sideways", hint)

    def test_colours_follow_the_reader(self):
        for page in self.pages():
            for dark in [False, True]:
                with self.subTest(page=page.parent.name, dark=dark):
                    self.open(page, dark=dark)
                    style = "return getComputedStyle(arguments[0])[arguments[1]]"
                    paper = luminance(self.js(style, self.find("body"), "backgroundColor"))
                    ink = luminance(self.js(style, self.find("body"), "color"))
                    figure = luminance(self.js(style, self.find("figure svg > rect"), "fill"))
                    label = luminance(self.js(style, self.find("figure svg text"), "fill"))
                    if dark:
                        self.assertLess(max(paper, figure), 0.15)
                        self.assertGreater(min(ink, label), 0.5)
                    else:
                        self.assertGreater(min(paper, figure), 0.95)
                        self.assertLess(max(ink, label), 0.5)

    def test_the_summary_is_on_the_first_screen(self):
        self.open(self.run_folder / "report.html")
        box = "const box = document.querySelector(arguments[0]).getBoundingClientRect(); return box[arguments[1]]"
        for selector in [".lead", ".tally", "#split svg > :nth-child(10)"]:
            with self.subTest(selector):
                self.assertLessEqual(self.js(box, selector, "bottom"), WIDE[1])
        self.assertLessEqual(self.js(box, "#split svg", "right"), WIDE[0])

    def column(self, table, heading):
        names = [cell.text.replace("?", "").strip(" ↑↓\n") for cell in self.all(f"{table} th")]
        place = names.index(heading)
        return place, [row.find_elements(By.TAG_NAME, "td")[place].text for row in self.all(f"{table} tbody tr")]

    def test_a_click_on_a_heading_sorts(self):
        self.open(self.run_folder / "report.html")
        table = "#table-layers"
        place, before = self.column(table, "regret")
        self.assertGreater(len(set(before)), 5)
        heading = self.all(f"{table} th")[place]
        for order, reverse in [("ascending", False), ("descending", True)]:
            heading.find_element(By.TAG_NAME, "button").click()
            self.assertEqual(heading.get_attribute("aria-sort"), order)
            values = [number(text) for text in self.column(table, "regret")[1]]
            self.assertEqual(values, sorted(values, reverse=reverse))
        # By the keyboard, as text; equal rows keep their order, so the regrets still fall for each optimizer.
        place, _ = self.column(table, "optimizer")
        self.all(f"{table} th")[place].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        optimizers = self.column(table, "optimizer")[1]
        self.assertEqual(optimizers, sorted(optimizers))
        values = [number(text) for text in self.column(table, "regret")[1]]
        for name in set(optimizers):
            mine = [value for value, optimizer in zip(values, optimizers) if optimizer == name]
            self.assertEqual(mine, sorted(mine, reverse=True))
        self.assertIsNone(heading.get_attribute("aria-sort"))

    def test_a_click_on_a_legend_entry_hides_its_series(self):
        self.open(self.run_folder / "report.html")

        def drawn(series):
            return self.js(
                """return [...document.querySelectorAll('svg .series')]
                    .filter(group => group.dataset.series === arguments[0])
                    .map(group => getComputedStyle(group).display !== 'none')""",
                series,
            )

        entry = self.find("#training .legend-entry")
        name = entry.get_attribute("data-series")
        others = [entry.get_attribute("data-series") for entry in self.all(".legend-entry")]
        other = next(series for series in others if series != name)
        self.assertGreater(len(drawn(name)), 1, "the series stands in several figures")
        self.assertTrue(all(drawn(name)))
        entry.click()
        self.assertFalse(any(drawn(name)))
        self.assertTrue(all(drawn(other)))
        self.assertEqual(entry.get_attribute("aria-pressed"), "false")
        label = next(label for label in self.all(".switches label") if label.text == name)
        box = label.find_element(By.TAG_NAME, "input")
        self.assertFalse(box.is_selected())
        box.click()
        self.assertTrue(all(drawn(name)))
        self.assertEqual(entry.get_attribute("aria-pressed"), "true")

    def test_marks_say_what_they_are(self):
        self.open(self.run_folder / "report.html")
        figures = self.js(
            """return [...document.querySelectorAll('figure[id]')]
                .filter(f => f.querySelector('svg *:not(svg) > title'))
                .map(f => f.id)"""
        )
        self.assertTrue({"split", "training", "regret-layers"} <= set(figures), figures)
        for figure in figures:
            with self.subTest(figure):
                text, x, y = self.js(
                    """const titles = document.querySelectorAll('#' + arguments[0] + ' svg *:not(svg) > title');
                    const mark = titles[titles.length - 1].parentNode;
                    mark.scrollIntoView({ block: 'center' });
                    const box = mark.getBoundingClientRect();
                    return [mark.querySelector('title').textContent, box.x + box.width / 2, box.y + box.height / 2]""",
                    figure,
                )
                # The page hides the text while it scrolls.
                time.sleep(0.2)
                move = {"type": "mouseMoved", "x": x, "y": y}
                self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", move)
                tip = self.find(".tip")
                self.assertTrue(tip.is_displayed())
                self.assertEqual(tip.get_attribute("textContent"), text)
                inside = self.js(
                    """const box = arguments[0].getBoundingClientRect();
                    return box.x >= 0 && box.right <= innerWidth && box.y >= 0""",
                    tip,
                )
                self.assertTrue(inside)

    def test_tables_are_saved_from_a_page_that_is_alone(self):
        self.open(self.alone)
        saved = self.folder / "saved"
        saved.mkdir()
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved)})
        for table in ["sgd/rounds.csv", "adam/units.csv"]:
            with self.subTest(table):
                link = self.find(f'.files a[href="{table}"]')
                self.js("arguments[0].scrollIntoView({ block: 'center' }); arguments[0].click()", link)
                path = saved / table.replace("/", "-")
                for _ in range(50):
                    if path.exists():
                        break
                    time.sleep(0.1)
                self.assertEqual(path.read_bytes(), (self.run_folder / table).read_bytes())

    def test_links_within_the_page_lead_somewhere(self):
        for page in self.pages():
            with self.subTest(page=page.parent.name):
                self.open(page)
                dangling = self.js(
                    """return [...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute('href').slice(1))
                        .filter(id => !document.getElementById(id))"""
                )
                self.assertEqual(dangling, [])

    def test_everything_can_be_read_without_scripts(self):
        disable = lambda off: self.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": off})
        disable(True)
        self.addCleanup(disable, False)
        self.open(self.run_folder / "report.html")
        self.assertFalse(self.all(".switches") or self.all("th button"))
        text = self.find("body").text
        for part in ["ended lowest", "Table 1. Optimizers", "Glossary", "Taylor optimum"]:
            self.assertIn(part, text)
        self.assertTrue(all(figure.is_displayed() for figure in self.all("figure svg")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
