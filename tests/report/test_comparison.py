"""The page of a comparison: its numbers, its words, and names that stay text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from report_cases import HOSTILE, run_folder
from test_page import Page, assert_accessible, assert_self_contained

from kdet.errors import InputError
from kdet.report import comparison_page
from kdet.report.gain_charts import GainBar, gain_chart
from kdet.report.training_time import time_chart

NOTHING = dict.fromkeys(("gain", "interval", "image_interval", "gap_closed", "verdict", "p", "holm"))


def arm(name: str, aps: Sequence[float], **values: Any) -> dict[str, Any]:
    """A row of compare.json."""
    cost = {"time": 1.25, "memory": 1.5, "step_seconds": 0.25, "step_bytes": 2**30}
    common = {"name": name, "AP": list(aps), "cost": cost, "training_seconds": 61.5, "terms": {}}
    return common | NOTHING | values


def comparison(folder: Path, arms: Sequence[dict[str, Any]], classes: Sequence[str] = ("cat",), **more: Any) -> Path:
    """compare.json with its runs, as `kdet compare` leaves them."""
    names = [one["name"] for one in arms]
    runs: dict[str, list[dict[str, Any]]] = {}
    for one in arms:
        for seed, ap in enumerate(one["AP"]):
            run_folder(folder / one["name"] / f"seed-{seed}", ap=ap, classes=classes, distil=["structural"])
            row = {"folder": f"{one['name']}/seed-{seed}", "AP": ap, "best": {"epoch": 3, "AP": ap + 0.01}}
            runs.setdefault(one["name"], []).append(row | {"seconds": 61.5, "memory_bytes": None})
    values = {name: 0.1 + i / 8 for i, name in enumerate(names)}
    breakdown = {
        "classes": dict.fromkeys(classes, values),
        "sizes": {"AP_S": values, "AP_M": values, "AP_L": dict.fromkeys(names)},
        "ious": {f"{0.5 + t / 20:.2f}": {name: v * (1 - t / 12) for name, v in values.items()} for t in range(10)},
        "errors": {"missed": {name: 0.3 - v / 4 for name, v in values.items()}},
    }
    seeds = list(range(len(arms[0]["AP"])))
    result = {"arms": list(arms), "teacher": {"AP": 0.5}, "seeds": seeds, "runs": runs, "breakdown": breakdown}
    (folder / "compare.json").write_text(json.dumps(result | {"notes": [], "left_out": [], "seconds": 1.0} | more))
    return folder


HELPED = arm(
    "structural",
    (0.231, 0.259),
    gain=0.0312345,
    interval=[0.0123, 0.0501],
    image_interval=[-0.0102, 0.0709],
    gap_closed=0.105,
    verdict="helped",
    p=0.012345,
    holm="not shown",
    terms={
        "structural": {
            "weight": "auto",
            "ratio": 3.0,
            "placebo": False,
            "weights": {"structural/8": 0.71234, "structural/16": 12.5},
            "pull": 2.98765,
        }
    },
)
HURT = arm(
    "rm+pfi",
    (0.1, 0.11),
    gain=-0.1,
    interval=[-0.12, -0.08],
    image_interval=[-0.2, -0.05],
    verdict="hurt",
    p=0.001,
    holm="hurt",
)
OPEN = arm(
    "l2",
    (0.2, 0.3),
    gain=0.02,
    interval=[-0.1, 0.14],
    image_interval=[0.01, 0.03],
    verdict="not shown",
    p=0.3,
    holm="not shown",
    terms={"l2": {"weight": 1.0, "ratio": None, "placebo": False, "weights": {}, "pull": 174.3}},
)
NONE = arm("none", (0.2, 0.2276543))


@pytest.fixture
def page(tmp_path: Path) -> str:
    return comparison_page(comparison(tmp_path, [NONE, HELPED, HURT, OPEN], left_out=["not run: seeds 2, 3"]))


def test_verdicts_in_words(page: str) -> None:
    text = Page(page).text
    assert "structural helped: +0.031 AP (95 % interval +0.012 … +0.050, 2 seeds)" in text
    assert "rm+pfi hurt: −0.100 AP (95 % interval −0.120 … −0.080, 2 seeds)." in text
    assert "l2 is not shown to help or to hurt: +0.020 AP" in text
    assert "structural helped: +0.031 AP, not after Holm's correction\n" in text  # the headline
    assert "Not run: seeds 2, 3." in text


def test_numbers_are_those_of_the_result(page: str) -> None:
    numbers = Page(page).numbers()
    for one in (HELPED, HURT, OPEN):
        assert {one["gain"], *one["interval"], *one["image_interval"], *one["AP"]} <= set(numbers)
    assert {0.105, 1.25, 1.5, 0.5} <= set(numbers)


def test_page_is_whole_and_readable_without_colour(page: str) -> None:
    assert_self_contained(page)
    assert_accessible(page)
    text = Page(page).text
    assert "helped  +0.031" in text and "hurt  −0.100" in text  # the chart has the verdict in words
    assert all(title in text for title in ("By class", "By size", "By the IoU", "By kind of error"))
    assert "structural/seed-1" in text and "backbone: resnet10" in text and "abc1234" in text
    assert "AP 0.2" not in text and "0.269 (epoch 3)" in text  # the best epoch stands apart


def test_terms_stand_there_with_weight_and_pull(page: str) -> None:
    """So that a reader sees a straw man."""
    text = Page(page).text
    assert "What was distilled" in text and "auto (ratio 3) came to 8: 0.712, 16: 12.5" in text
    assert {2.98765, 174.3} <= set(Page(page).numbers())


def test_warnings_come_first(tmp_path: Path) -> None:
    warning = "arm l2: l2 pulled 174 times as hard as the task at weight 1"
    html = comparison_page(comparison(tmp_path, [NONE, OPEN], warnings=[warning]))
    text = Page(html).text
    assert f"Arm {warning[4:]}." in text and text.index("Arm l2: l2 pulled") < text.index("The arms")
    assert_accessible(html)


def test_among_several_arms_the_verdict_for_all_of_them_stands_beside_the_single_ones(
    page: str, tmp_path: Path
) -> None:
    text = Page(page).text
    assert "After Holm" in text and {0.012345, 0.001, 0.3} <= set(Page(page).numbers())
    assert (
        "structural helped: +0.031 AP (95 % interval +0.012 … +0.050, 2 seeds); after Holm's correction: not shown."
        in text
    )
    alone = Page(comparison_page(comparison(tmp_path / "alone", [NONE, HELPED]))).text
    assert "structural helped: +0.031 AP\n" in alone and "Holm" not in alone


def test_results_of_an_earlier_kdet_are_still_read(tmp_path: Path) -> None:
    new = ("p", "holm", "terms", "training_seconds")
    old = [{key: value for key, value in one.items() if key not in new} for one in (NONE, HELPED)]
    for one in old:
        one["cost"] = {"seconds": 61.5, "time": 1.25, "memory_bytes": 2.0**30, "memory": 1.5}
    text = Page(comparison_page(comparison(tmp_path, old))).text
    assert "structural helped: +0.031 AP" in text and "What was distilled" not in text


def line(times: Sequence[float], aps: Sequence[float]) -> dict[str, Any]:
    return {"step": list(range(1, len(times) + 1)), "seconds": list(times), "AP": list(aps)}


def trained_longer(folder: Path, **best: Any) -> Path:
    """A comparison with the student alone for twice as long; `best` is the method's comparison with it."""
    against = {"arm": "none-x2", "time": 150.0, "gain": 0.0123, "interval": [-0.0456, 0.0789], "p": 0.4}
    beside = {"same_time": None, "best": against | {"verdict": "not shown"} | best}
    arms = [NONE | {"times": 1}, HELPED | {"times": 1, "time": 125.0, "against_longer": beside}]
    arms.append(OPEN | {"name": "none-x2", "times": 2, "time": 150.0, "terms": {}, "p": 0.01, "gain": 0.087})
    ends = {"none": 75.0, "structural": 125.0, "none-x2": 150.0}
    over_time = {
        name: {"mean": line([t / 2, t], [0.1, 0.2]), "seeds": [line([t / 2, t], [0.1 + d, 0.2 + d]) for d in (0, 0.05)]}
        for name, t in ends.items()
    }
    return comparison(folder, arms, ap_over_time=over_time)


def test_training_longer_is_answered(tmp_path: Path) -> None:
    html = comparison_page(trained_longer(tmp_path))
    assert_self_contained(html)
    assert_accessible(html)
    text = Page(html).text
    assert "structural helped: +0.031 AP; not shown to be more than the student alone for longer (none-x2)\n" in text
    assert {0.0123, -0.0456, 0.0789} <= set(Page(html).numbers()) and "none-x2 2 min 30 s" in text
    assert "Holm's correction does not count them" in text and "After Holm" not in text  # a single method
    assert "none-x2 baseline" in text and "none-x2 is not shown" not in text


@pytest.mark.parametrize(("verdict", "words"), [("helped", "; more than the"), ("hurt", "; less than the")])
def test_the_headline_says_whether_training_longer_does_as_well(tmp_path: Path, verdict: str, words: str) -> None:
    assert (
        f"+0.031 AP{words} student alone for longer"
        in Page(comparison_page(trained_longer(tmp_path, verdict=verdict))).text
    )


def test_ap_over_time_has_a_line_an_arm_and_a_thin_one_a_seed(tmp_path: Path) -> None:
    result = json.loads((trained_longer(tmp_path) / "compare.json").read_text())
    chart = time_chart(result["ap_over_time"])
    assert chart is not None and [entry.name for entry in chart.legend] == ["none", "structural", "none-x2"]
    svg = ElementTree.fromstring(chart.svg)
    assert "minutes" in "".join(svg.itertext())  # the longest takes 150 s
    drawn = [path.get("style", "") for path in svg.iter("path") if "fill: none" in path.get("style", "")]
    assert sum("stroke-opacity: 0.5" in style for style in drawn) == 6 and sum("1.8" in style for style in drawn) == 3


def test_without_a_measured_step_there_is_no_chart_over_time() -> None:
    unknown = {"step": [1], "seconds": None, "AP": [0.1]}
    assert time_chart({"none": {"mean": unknown, "seeds": [unknown]}}) is None and time_chart({}) is None


def test_one_seed(tmp_path: Path) -> None:
    one = arm("l2", (0.3,), gain=0.1, image_interval=[0.05, 0.15], verdict="not shown")
    text = Page(comparison_page(comparison(tmp_path, [arm("none", (0.2,)), one]))).text
    assert "Nothing is shown to help or to hurt" in text and "+0.100 AP on one seed, which proves nothing." in text


def test_nothing_helped_and_something_hurt(tmp_path: Path) -> None:
    text = Page(comparison_page(comparison(tmp_path, [NONE, HURT]))).text
    assert "Nothing is shown to help; rm+pfi hurt" in text


def test_error_types_may_be_missing(tmp_path: Path) -> None:
    folder = comparison(tmp_path, [NONE, OPEN], notes=["error types need hotcoco; install it with `pip install x`"])
    result = json.loads((folder / "compare.json").read_text())
    result["breakdown"]["errors"] = None
    (folder / "compare.json").write_text(json.dumps(result))
    text = Page(comparison_page(folder)).text
    assert "By kind of error" not in text and "Error types need hotcoco" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = HOSTILE.replace("/", "⁄")
    folder = comparison(tmp_path, [NONE, HELPED | {"name": hostile}], classes=[HOSTILE, "plain"], notes=[HOSTILE])
    html = comparison_page(folder)
    assert_self_contained(html)
    assert HOSTILE.replace("\x07", "") in Page(html).text.replace("\x07", "")


@pytest.mark.parametrize(
    ("content", "line"), [("{", "not JSON"), ("[]", "expected a JSON object"), ("{}", "not a result of `kdet compare`")]
)
def test_wrong_files(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "compare.json").write_text(content)
    with pytest.raises(InputError, match=line):
        comparison_page(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        comparison_page(tmp_path)


def test_gain_chart_has_zero_bars_and_both_intervals_in_scale() -> None:
    bar = GainBar(name="a & b", gain=0.1, verdict="helped", slot=9, over_seeds=(0.05, 0.15), over_images=(-0.1, 0.3))
    chart = gain_chart("Gain", [bar])
    svg = ElementTree.fromstring(chart.svg)
    rectangle = next(svg.iter("rect"))
    # From -0.1 to 0.3 over 380 units: 95 units for 0.1; zero is at 10 + 95.
    assert [float(rectangle.get(name, "")) for name in ("x", "width")] == [105, 95]
    level = [(float(line.get("x1", "")), float(line.get("x2", ""))) for line in svg.iter("line")]
    assert level[0] == (105, 105) and (152.5, 247.5) in level and (10, 390) in level
    assert [text.text for text in svg.iter("text")] == ["0", "a & b", "helped  +0.100"]
    assert "var(--s2)" in rectangle.get("style", "")


def test_gain_chart_without_intervals_or_gains() -> None:
    bar = GainBar(name="a", gain=0.0, verdict="not shown", slot=0, over_seeds=None, over_images=None)
    assert len(list(ElementTree.fromstring(gain_chart("Gain", [bar]).svg).iter("line"))) == 1


def test_a_long_name_leaves_room_for_the_verdict() -> None:
    name = "structural+rank_mimicking+prediction_guided"
    bar = GainBar(name=name, gain=0.0, verdict="not shown", slot=0, over_seeds=None, over_images=None)
    texts = [text.text or "" for text in ElementTree.fromstring(gain_chart("Gain", [bar]).svg).iter("text")]
    assert len(texts[1]) == 28 and texts[1].endswith("…")
