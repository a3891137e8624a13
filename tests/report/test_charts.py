"""Charts: the same bytes each time, the page's colours, text that stays text."""

from xml.etree import ElementTree

import pytest
from report_cases import HOSTILE

from kdet.report.charts import NUM_SLOTS, Bar, Chart, Series, bar_chart, line_chart


def lines(*names: str, points: int = 5) -> list[Series]:
    return [
        Series(name=name, x=list(range(points)), y=[1 / (x + 1) for x in range(points)], slot=slot)
        for slot, name in enumerate(names)
    ]


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart.svg).iter("text")]


def test_deterministic() -> None:
    assert line_chart("Loss", lines("a"), x_label="step") == line_chart("Loss", lines("a"), x_label="step")
    assert bar_chart("AP", [Bar(name="a", value=0.5)]) == bar_chart("AP", [Bar(name="a", value=0.5)])


def test_colours_are_the_pages() -> None:
    chart = line_chart("Loss", lines(*"abcdefghi"), x_label="step")
    assert all(f"var(--s{slot})" in chart.svg for slot in range(NUM_SLOTS))
    assert "currentColor" in chart.svg and "#0000" not in chart.svg
    looks = {(entry.colour, entry.dash) for entry in chart.legend}
    assert len(looks) == 9
    assert all(one.dash != other.dash for one, other in zip(chart.legend, chart.legend[1:], strict=False))


def test_nothing_to_fetch_and_nothing_page_wide() -> None:
    svg = line_chart("Loss", lines("a"), x_label="step").svg
    assert "http" not in svg and "<style" not in svg and "font-family" not in svg
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label") == "Loss"
    assert root.get("width") is None and root.get("viewBox") is not None


def test_no_ids_that_could_clash_on_a_page() -> None:
    point = Series(name="a", x=[1], y=[0.5], slot=0)
    for svg in (
        line_chart("one", [point], x_label="x").svg,
        bar_chart("b", [Bar(name="a", value=1, interval=(0, 2))]).svg,
    ):
        elements = list(ElementTree.fromstring(svg).iter())
        assert {"use", "defs", "clipPath"}.isdisjoint({element.tag for element in elements})
        assert not any({"id", "href", "clip-path"} & set(element.attrib) for element in elements)
        assert any("translate" in element.get("transform", "") for element in elements)


@pytest.mark.parametrize("name", [HOSTILE, "$x$", "$", "_hidden", "三角", "\udcff", 'id="figure_1" #000001'])
def test_names_stay_text(name: str) -> None:
    chart = bar_chart(name, [Bar(name=name, value=0.5), Bar(name="other", value=0.25)])
    assert "<script" not in chart.svg and "</style" not in chart.svg
    shown = "".join(character if character.isprintable() else "·" for character in name)
    assert shown[:60] in texts(chart)
    assert line_chart(name, lines(name), x_label="step").legend[0].name == name


def test_bars_print_their_value_and_interval() -> None:
    chart = bar_chart("Gain", [Bar(name="a", value=0.125, interval=(-0.05, 0.3)), Bar(name="b", value=-0.5)])
    assert {"a", "0.125", "b", "-0.500"} <= set(texts(chart))
    assert chart.svg.count("translate") == 2


def test_long_lines_are_thinned() -> None:
    assert len(line_chart("Loss", lines("a", points=50_000), x_label="step").svg) < 30_000


def test_odd_values_are_survived() -> None:
    odd = [Series(name="a", x=[1, 2, 3], y=[float("nan"), float("inf"), 2.0], slot=0)]
    one = [Series(name="a", x=[1], y=[0.5], slot=0)]
    for series in (odd, one):
        assert line_chart("Loss", series, x_label="step").svg.startswith("<svg")
    assert bar_chart("AP", [Bar(name="a", value=0.0)]).svg.startswith("<svg")


def test_wide_range_gets_a_logarithmic_axis() -> None:
    wide = Series(name="a", x=list(range(4)), y=[0.01, 0.1, 1, 10], slot=0)
    assert {"0.01", "0.1", "1", "10"} <= set(texts(line_chart("Loss", [wide], x_label="step")))
