"""The pages in a real browser: what a reader, a phone, a dark room and a keyboard make of them."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find_chromium
from report_cases import HOSTILE, LABELS, add_maps, demo_result, run_folder, step
from test_comparison import HELPED, NONE, comparison

from kdet.report import comparison_page, demo_page, run_page, write_page

NAMES = [HOSTILE, '" onmouseover="alert(1)" x="', "</style></title><b>", "三角形" * 40, "W" * 120]
FOCUSABLE = 'a[href], summary, button, input, select, [tabindex="0"]'
AP_NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on the PATH; `.ci/run` installs the Debian package `chromium`")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled run with all that a page shows, whose classes and files have names that are out to break it."""
    gradients = {"structural": {"ratio": 0.5, "cosine": 0.1}, HOSTILE: {"ratio": 0.2, "cosine": -0.1}}
    records = [step(n, gradients=gradients, weights={HOSTILE: 0.5}) for n in range(1, 9)]
    folder = tmp_path_factory.mktemp("runs") / HOSTILE.replace("/", "⁄")
    run_folder(folder, classes=NAMES, records=records, distil=["structural"], teacher_ap=0.5)
    return add_maps(folder, [f"{name}.jpg" for name in NAMES])


@pytest.fixture(scope="module")
def pages(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind of page."""
    out = tmp_path_factory.mktemp("pages")
    other = run_folder(out / "other", classes=NAMES)
    aps = {"teacher": 0.59, "alone": 0.16, "alone_same_time": 0.2, "alone_longer": 0.4, "l2": 0.3, "distilled": 0.45}
    pictures = [run / "maps" / "1.jpg"]
    labels = LABELS | {"l2": HOSTILE}
    arm = HOSTILE.replace("/", "⁄")
    compared = comparison(out / "compared", [NONE, HELPED | {"name": arm}], classes=NAMES, notes=[HOSTILE])
    add_maps(compared / arm / "seed-0", [f"{name}.jpg" for name in NAMES])
    content = {
        "run": run_page([run]),
        "runs": run_page([run, other]),
        "comparison": comparison_page(compared),
        "demo": demo_page(demo_result(**aps), labels=labels, pictures=pictures, runs={"distilled": run, "l2": other}),
    }
    for name, page in content.items():
        write_page(out / f"{name}.html", page)
    return {name: out / f"{name}.html" for name in content}


KINDS = pytest.mark.parametrize("kind", ["run", "runs", "comparison", "demo"])


@KINDS
def test_loads_in_silence_and_asks_nobody(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind])
    said = browser.events("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert said == []
    assert browser.events("Network.loadingFailed", "Page.javascriptDialogOpening") == []
    asked = {event["request"]["url"] for event in browser.events("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {pages[kind].resolve().as_uri()}
    broken = "[...document.images].filter(image => !image.complete || image.naturalWidth === 0).length"
    assert browser.run(broken) == 0


def test_a_console_message_would_have_been_heard(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "noisy.html"
    page.write_text('<script>console.log("hello")</script><img src="missing.png" alt="">')
    browser.open(page)
    assert browser.events("Runtime.consoleAPICalled") and browser.events("Network.loadingFailed")


def test_numbers_are_those_of_metrics_json(browser: Browser, pages: dict[str, Path], run: Path) -> None:
    browser.open(pages["run"])
    metrics = json.loads((run / "metrics.json").read_text())
    tiles: dict[str, Any] = browser.run("""Object.fromEntries([...document.querySelectorAll(".tile")].map(tile =>
        [tile.querySelector("dt").textContent, tile.querySelector("dd > data")?.value ?? null]))""")
    assert {name: value and float(value) for name, value in tiles.items()} == {name: metrics[name] for name in AP_NAMES}
    rows: dict[str, Any] = browser.run("""Object.fromEntries(
        [...document.querySelectorAll('[aria-label="Metrics by class"] tbody tr')].map(row =>
        [row.querySelector("th").textContent, [...row.querySelectorAll("td.number")].map(cell =>
        [cell.querySelector("data")?.value ?? null, cell.textContent])]))""")
    for name, values in metrics["per_class"].items():
        for (value, shown), metric in zip(rows.pop(name), AP_NAMES, strict=True):
            assert (value and float(value)) == values[metric]
            assert shown == ("–" if value is None else f"{values[metric]:.3f}")
    assert rows == {}


@KINDS
def test_hostile_names_stay_text(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind])
    assert browser.run('document.querySelectorAll("script, b, iframe, [onmouseover]").length') == 0
    assert browser.run("document.styleSheets.length") == 1
    assert browser.events("Page.javascriptDialogOpening") == []
    texts: list[str] = browser.run(
        '[...document.querySelectorAll("th, h1, h2, h4, .legend li, caption")].map(part => part.textContent)'
    )
    files = [f"{name}.jpg" for name in NAMES]
    shown = {"run": NAMES + files, "runs": NAMES + files, "comparison": NAMES + files, "demo": [HOSTILE]}[kind]
    assert set(shown) <= set(texts)
    assert browser.run("document.querySelector('main') !== null && document.querySelector('footer') !== null")


@KINDS
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_is_never_wider_than_the_window(
    browser: Browser, pages: dict[str, Path], kind: str, width: int
) -> None:
    browser.open(pages[kind], width=width)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    needed, there = browser.run("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert there == width and needed <= there


@KINDS
def test_dark_rooms_get_a_dark_page_and_text_can_be_read_in_both(
    browser: Browser, pages: dict[str, Path], kind: str
) -> None:
    paper: dict[bool, str] = {}
    for dark in (False, True):
        browser.open(pages[kind], dark=dark)
        paper[dark] = browser.run("getComputedStyle(document.body).backgroundColor")
        for selector, least in (("body", 7.0), (".muted", 4.5), (".chart svg text", 4.5), ("summary", 7.0)):
            ink = browser.run(f"getComputedStyle(document.querySelector('{selector}')).color")
            assert contrast(ink, paper[dark]) >= least, (selector, dark)
    assert luminance(paper[True]) < 0.05 < 0.8 < luminance(paper[False])


@KINDS
def test_every_control_is_reached_by_the_keyboard_and_seen(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind])
    reached: set[int] = set()
    for turn in range(200):
        browser.press("Tab", 9)
        place, seen, closed = browser.run(f"""(() => {{
            const part = document.activeElement, style = getComputedStyle(part), box = part.getBoundingClientRect();
            const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.left >= 0;
            const closed = part.tagName === "SUMMARY" && !part.parentElement.open;
            return [[...document.querySelectorAll('{FOCUSABLE}')].indexOf(part), seen, closed];
        }})()""")
        if turn == 0:
            assert browser.run("document.activeElement.className") == "skip"
        if place == -1 or place in reached:
            break
        reached.add(place)
        assert seen, f"control {place} does not show that it has the focus"
        if closed:
            browser.press("Enter", 13, "\r")
            assert browser.run("document.activeElement.parentElement.open")
    assert reached == set(range(browser.run(f"document.querySelectorAll('{FOCUSABLE}').length")))


@KINDS
def test_the_screen_readers_outline_is_whole(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind])
    assert browser.run("[...document.images].every(image => image.alt.length > 0)")
    assert browser.run("[...document.querySelectorAll('table')].every(table => table.querySelector('th[scope]'))")
    levels: list[int] = browser.run("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def luminance(colour: str) -> float:
    """Of a computed `rgb(…)`, as WCAG has it."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG's ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
