"""The pages: numbers as measured, names as text, nothing fetched, every region reachable."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from report_cases import HOSTILE, LABELS, add_maps, demo_result, run_folder, step

from kdet.errors import InputError
from kdet.report import demo_page, run_page, write_page

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text, the `value` of its numbers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], "elements left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)

    def numbers(self) -> list[float]:
        return [float(attributes["value"] or "") for attributes in self.all("data")]


def assert_self_contained(html: str) -> None:
    page = Page(html)
    assert "http://" not in html and "https://" not in html
    assert "script" not in {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


def assert_accessible(html: str) -> None:
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in page.elements].count("h1") == 1
    for attributes in page.all("div"):
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0" and attributes["aria-label"]
    assert all(attributes.get("alt") for attributes in page.all("img"))
    for attributes in page.all("a"):
        assert (attributes["href"] or "")[1:] in ids
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html


def test_numbers_are_those_of_metrics_json(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", ap=0.31234567)
    metrics = json.loads((folder / "metrics.json").read_text())
    page = Page(run_page([folder]))
    names = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
    expected = [metrics[name] for name in names]
    expected += [values[name] for values in metrics["per_class"].values() for name in names]
    assert page.numbers() == [value for value in expected if value is not None]
    assert "0.312" in page.text and "AP 0.322 after epoch 2" in page.text


def test_run_page_is_whole(tmp_path: Path) -> None:
    html = run_page([run_folder(tmp_path / "one", distil=["structural", "rank_mimicking"], teacher_ap=0.5)])
    assert_self_contained(html)
    assert_accessible(html)
    page = Page(html)
    assert "distilled with structural + rank_mimicking" in page.text
    assert "backbone: resnet10" in page.text and "abc1234" in page.text and "teacher 0.500" in page.text
    titles = ("Training loss by part", "AP while training", "recall, IoU 0.50", "recall by class", "AP over the IoU")
    assert len(list(page.all("figure"))) == 5 and all(title in page.text for title in titles)


def test_run_page_shows_how_terms_act_what_was_found_and_what_is_inside(tmp_path: Path) -> None:
    gradients = {"structural": {"ratio": 0.5, "cosine": 0.1}}
    folder = run_folder(tmp_path / "one", records=[step(n, gradients=gradients) for n in (1, 2)], distil=["structural"])
    html = run_page([add_maps(folder)])
    assert_self_contained(html)
    assert_accessible(html)
    page = Page(html)
    for words in ("Pull of each term", "Direction of each term", "its teacher", "teacher: 1 box", "a.jpg", "0.12…2.5"):
        assert words in page.text, words
    assert "student, stride 8: mean activation 0.12…2.5" in [image["alt"] for image in page.all("img")]
    assert "other channels, no adapter" in page.text  # of stride 16, in report_cases


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / name / "run", ap=ap) for name, ap in (("a", 0.2), ("b", 0.4))]
    html = run_page(folders)
    assert_self_contained(html)
    assert_accessible(html)
    page = Page(html)
    assert page.numbers()[0] == 0.2
    assert all(str(folder) in page.text for folder in folders)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "⁄")  # a folder may be called anything but this
    folder = run_folder(tmp_path / name, classes=[HOSTILE, "plain"], distil=["'" + HOSTILE.replace("'", "") + "'"][:0])
    (folder / "recipe.yaml").write_text(json.dumps({"student": {"detector": HOSTILE}, "note": HOSTILE}))
    (folder / "environment.json").write_text(json.dumps({HOSTILE: {HOSTILE: [HOSTILE]}}))
    other = run_folder(tmp_path / "other")
    for html in (run_page([folder]), run_page([folder, other])):
        assert_self_contained(html)
        page = Page(html)
        assert HOSTILE.replace("\x07", "") in page.text.replace("\x07", "")
        assert "49" not in re.findall(r"\{\{ (\d+) \}\}", page.text)
    labels = LABELS | {"l2": HOSTILE}
    html = demo_page(demo_result(alone=0.1, l2=0.2, distilled=0.3), labels=labels, runs={"l2": folder, "alone": other})
    assert_self_contained(html)
    assert HOSTILE in Page(html).text


def test_a_run_that_stopped_early_says_so(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text()) | {"stopped_early": "stopped early at step 12: <i>"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert "The run stopped early at step 12: <i>." in Page(run_page([folder])).text


def test_what_a_resume_took_anew_is_shown(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one")
    assert "train.lr is" not in Page(run_page([folder])).text
    changes = [
        {"step": 12, "key": "train.lr", "from": 0.01, "to": 0.002},
        {"step": 12, "key": "a", "from": 1, "to": "<b>"},
    ]
    (folder / "changes.json").write_text(json.dumps(changes))
    html = run_page([folder])
    assert_accessible(html)
    assert "From step 12 on train.lr is 0.002; it was 0.01." in Page(html).text and "<b>;" not in html


def test_run_without_results_yet(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("student: {detector: retinanet}\n")
    other = run_folder(tmp_path / "other")
    assert "has not been evaluated yet" in run_page([tmp_path])
    assert "not evaluated yet" in run_page([tmp_path, other])


def test_wrong_run_folders(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one")
    for folders, message in (
        ([], "no run folder"),
        ([folder, folder], "given twice"),
        ([tmp_path], "not a run folder"),
    ):
        with pytest.raises(InputError, match=message):
            run_page(folders)


def test_demo_page(tmp_path: Path) -> None:
    aps = {"teacher": 0.594, "alone": 0.161, "alone_same_time": 0.213, "l2": 0.334, "distilled": 0.4512}
    aps["alone_longer"] = 0.401
    runs = {name: run_folder(tmp_path / name, ap=ap) for name, ap in aps.items()}
    picture = tmp_path / "00.png"
    Image.new("RGB", (40, 20), "red").save(picture)
    html = demo_page(demo_result(**aps), labels=LABELS, pictures=[picture], runs=runs)
    assert_self_contained(html)
    assert_accessible(html)
    page = Page(html)
    assert set(aps.values()) <= set(page.numbers())
    assert 0.4512 - 0.161 in page.numbers() and "+0.290" in page.text
    assert "67% of the way to its teacher's 0.594" in page.text
    assert "a gain is one in speed" in page.text
    assert "one seed (0)" in page.text and "kdet demo --seed 0" in page.text
    assert "0.41 M" in page.text and "1 min 2 s" in page.text and "5 min 12 s" in page.text
    assert len(list(page.all("img"))) == 1


@pytest.mark.parametrize(
    ("aps", "words"),
    [
        ({"alone": 0.4, "distilled": 0.3}, "lowered the student by 0.100 AP on this seed"),
        ({"alone": 0.4, "distilled": 0.4001}, "made no difference on this seed"),
        ({"alone": 0.4, "distilled": 0.5, "l2": 0.5}, "Student, plain L2 did at least as well"),
        ({"alone": 0.4, "distilled": 0.5, "alone_longer": 0.6}, "four times as long did at least as well"),
        ({"alone": 0.4, "distilled": 0.5, "teacher": 0.3}, "no better than the student alone"),
    ],
)
def test_demo_verdict_is_honest(aps: dict[str, float], words: str) -> None:
    html = demo_page(demo_result(**aps), labels=LABELS)
    assert words in Page(html).text


def test_demo_without_its_arms() -> None:
    with pytest.raises(InputError, match="no AP of alone"):
        demo_page(demo_result(distilled=0.3), labels=LABELS)


def test_write_page_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.html"
    write_page(target, "one")
    write_page(target, "two \udcff")
    assert target.read_text() == "two ?"
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="cannot be written"):
        write_page(target / "below.html", "x")
