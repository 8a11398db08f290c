"""The pages in a headless Chromium, driven over WebDriver's HTTP; skipped where there is none."""

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medvid.report.html import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium with its driver on this machine (Debian: chromium, chromium-driver)",
)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1200,900",
)

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name of a reference to an element
KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010"}
SECONDS = 60.0  # of one answer; a loaded machine starts a browser slowly


class Browser:
    """One session of WebDriver (W3C), as little of it as these tests need."""

    def __init__(self, port: int, profile: Path) -> None:
        self.root = f"http://127.0.0.1:{port}/session"
        # A proxy of the machine knows nothing of this port.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self.send("", {"capabilities": {"alwaysMatch": wanted}})
        self.root += "/" + answer["sessionId"]

    def send(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.root + path, data, method=method)
        with self.opener.open(request, timeout=SECONDS) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self.send("/url", {"url": page.as_uri()})
        self.run("return Promise.all(Array.from(document.images, (image) => image.decode()))")

    def run(self, script: str) -> Any:
        """Runs a script; a promise is waited for."""
        return self.send("/execute/sync", {"script": script, "args": []})

    def find(self, selector: str) -> str:
        found = self.send("/element", {"using": "css selector", "value": selector})
        name: str = found[ELEMENT]
        return f"/element/{name}"

    def click(self, selector: str) -> None:
        self.send(self.find(selector) + "/click")

    def press(self, selector: str, key: str) -> None:
        self.send(self.find(selector) + "/value", {"text": KEYS[key]})

    def read_log(self) -> list[str]:
        """Returns what stands in the console: errors, warnings and all else."""
        return [line["message"] for line in self.send("/se/log", {"type": "browser"})]

    def set_scheme(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self.send("/goog/cdp/execute", command)

    def read_slice(self) -> int:
        return int(self.run("return document.querySelector('.player').dataset.slice"))

    def read_picture(self) -> str:
        """Returns the pixels of the first player."""
        picture: str = self.run("return document.querySelector('.picture').toDataURL()")
        return picture


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert DRIVER is not None
    with subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            words = next(line for line in process.stdout if "successfully on port" in line)
            port = int(words.rstrip().rstrip(".").rsplit(" ", 1)[1])
            made = Browser(port, tmp_path_factory.mktemp("profile"))
            try:
                yield made
            finally:
                made.send("", method="DELETE")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def page(made_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study with pictures; its name has what names of folders may have."""
    folder = tmp_path_factory.mktemp("pages") / "study ü #1"
    shutil.copytree(made_study, folder, ignore=shutil.ignore_patterns("predictions"))
    return write_report(folder)


def test_a_page_opens_without_a_word_in_the_console_and_fetches_nothing(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    assert browser.read_log() == []
    fetched = browser.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith("data:") for name in fetched)
    assert browser.run("return Array.from(document.images).every((i) => i.naturalWidth > 0)")
    assert browser.run("return document.querySelectorAll('.player').length") == 6


def test_the_player_moves_on_a_click(browser: Browser, page: Path) -> None:
    browser.open(page)
    first, picture = browser.read_slice(), browser.read_picture()
    browser.click(".player .on")
    assert browser.read_slice() == first + 1
    assert browser.read_picture() != picture
    said = browser.run("return document.querySelector('.player output').textContent")
    assert said.startswith(f"slice {first + 1} ({first + 2} of 17), attention 0.")
    browser.click(".player .back")
    assert browser.read_slice() == first
    assert browser.read_picture() == picture
    browser.click(".player .strip")  # WebDriver clicks in the middle
    assert browser.read_slice() == 8
    assert browser.read_log() == []


def test_the_player_moves_on_arrow_keys_and_stops_at_the_ends(browser: Browser, page: Path) -> None:
    browser.open(page)
    first = browser.read_slice()
    browser.press(".player", "right")
    assert browser.read_slice() == first + 1
    browser.press(".player", "left")
    browser.press(".player", "left")
    assert browser.read_slice() == first - 1
    browser.press(".player", "end")
    browser.press(".player", "right")
    assert browser.read_slice() == 16
    browser.press(".player input", "home")  # the slider has the focus, and moves once
    browser.press(".player input", "right")
    assert browser.read_slice() == 1
    assert browser.run("return document.querySelector('.player input').value") == "1"
    said = browser.run(
        "return document.querySelector('.player input').getAttribute('aria-valuetext')"
    )
    assert said.startswith("slice 1 (2 of 17)")


def test_every_control_of_the_player_has_a_name(browser: Browser, page: Path) -> None:
    browser.open(page)
    for selector in (".player", ".player .picture", ".player .back", ".player input"):
        assert browser.send(browser.find(selector) + "/computedlabel", method="GET")


def test_the_heat_map_can_be_switched_off(browser: Browser, page: Path) -> None:
    browser.open(page)
    with_heat = browser.read_picture()
    browser.click("#heat")
    assert browser.read_picture() != with_heat
    browser.click("#heat")
    assert browser.read_picture() == with_heat


def test_a_page_is_light_or_dark_as_the_reader_likes_and_prints_light(
    browser: Browser, page: Path
) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    browser.open(page)
    try:
        browser.set_scheme("light")
        light = browser.run(ground)
        browser.set_scheme("dark")
        assert light == "rgb(255, 255, 255)"
        assert browser.run(ground) == "rgb(22, 22, 22)"
        assert base64.b64decode(browser.send("/print")).startswith(b"%PDF")
    finally:
        browser.set_scheme("light")
    assert browser.read_log() == []


def test_a_page_is_no_wider_than_a_narrow_window(browser: Browser, page: Path) -> None:
    browser.open(page)
    try:
        browser.send("/window/rect", {"width": 520, "height": 900})
        width = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
        assert width <= 0
    finally:
        browser.send("/window/rect", {"width": 1200, "height": 900})


def test_a_hostile_name_is_text_to_the_browser(
    browser: Browser, made_study: Path, tmp_path: Path
) -> None:
    evil = "</script><img class=evil src=x onerror=document.title='evil'>"
    folder = tmp_path / "study"
    shutil.copytree(made_study, folder, ignore=shutil.ignore_patterns("predictions"))
    index = folder / "cases" / "index.json"
    cases = json.loads(index.read_text(encoding="utf-8"))
    cases[0]["case_id"] = evil
    index.write_text(json.dumps(cases), encoding="utf-8")
    browser.open(write_report(folder))
    browser.click(".player .on")
    assert browser.run("return document.title") == "nodule"
    assert browser.run("return document.querySelectorAll('.evil').length") == 0
    assert browser.run("return document.querySelector('.player h4').textContent") == evil
    assert browser.read_log() == []
