"""The pages of docs/ as a site: all are there, all links lead somewhere, nothing is fetched from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

import kdet
from patience import PATIENCE_S

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "zensical.toml"


class Page(HTMLParser):
    """Ids, links, and what the browser loads by itself."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.headings = 0
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        if "id" in found:
            self.ids.add(found["id"])
        self.headings += tag == "h1"
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag != "a":
            self.loaded += [found[name] for name in ("src", "href", "srcset", "data", "action") if name in found]


def pages_of(nav: list[Any]) -> list[str]:
    """Files that the navigation names, in its order."""
    found: list[str] = []
    for entry in nav:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages_of(target)
    return found


NAV = pages_of(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"])


def test_the_navigation_has_every_page_once() -> None:
    docs = ROOT / "docs"
    assert sorted(NAV) == sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is written beside the sources."""
    if find_spec("zensical") is None:
        pytest.skip("no zensical: pip install 'kdet[docs]'")
    folder = tmp_path_factory.mktemp("site")
    (folder / CONFIG.name).write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / "src").symlink_to(Path(kdet.__file__).parents[1])
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.mark.long
def test_every_page_is_built(site: Path, pages: dict[Path, Page]) -> None:
    assert {site / name.replace(".md", ".html") for name in NAV} == set(pages) - {site / "404.html"}
    assert all(page.headings == 1 for page in pages.values())


@pytest.mark.long
def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.loaded and not [address for address in page.loaded if re.match(r"(\w+:)?//", address)], path
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\([\"']?(https?:)?//|@import", text), sheet


@pytest.mark.long
def test_links_between_pages_lead_to_a_page_and_a_heading(site: Path, pages: dict[Path, Page]) -> None:
    followed = 0
    for path, page in pages.items():
        if path.name == "404.html":  # served under any address; its links count from the root
            continue
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            target, heading = urldefrag(unquote(link))
            file = (path.parent / target).resolve() if target else path
            assert file.is_file(), f"{path.name}: {link}"
            assert not heading or file not in pages or heading in pages[file].ids, f"{path.name}: {link}"
            followed += 1
    assert followed > 100


@pytest.mark.long
def test_the_api_page_has_every_public_name(pages: dict[Path, Page], site: Path) -> None:
    ids = pages[site / "api.html"].ids
    assert {f"kdet.{name}" for name in kdet.__all__} <= ids
    for module in ("losses", "methods"):
        names = {name for name in getattr(kdet, module).__all__ if not name.isupper()}
        assert {f"kdet.{module}.{name}" for name in names} <= ids
