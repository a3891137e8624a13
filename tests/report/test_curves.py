"""Which lines a page draws of a run."""

from pathlib import Path

import pytest
from report_cases import add_maps, run_folder, step

from kdet.errors import InputError
from kdet.report import read_run
from kdet.report.charts import Chart
from kdet.report.collect import GradientRecord
from kdet.report.curves import (
    MOST_CLASSES,
    auto_weights,
    precision_by_class,
    precision_recall,
    term_cosines,
    term_shares,
    with_teacher,
)


def legend(chart: Chart | None) -> list[str]:
    assert chart is not None
    return [entry.name for entry in chart.legend]


def pulled(number: int, share: float, **values: object) -> dict[str, object]:
    gradients = {"structural": {"ratio": share, "cosine": 0.5}, "pkd": {"ratio": share / 2, "cosine": -0.25}}
    return step(number, gradients=gradients, **values)


def test_pulls_are_read_and_drawn_for_each_term(tmp_path: Path) -> None:
    records = [step(1), pulled(2, 0.4), step(3), pulled(4, 0.8, weights={"pkd": 3.5})]
    run = read_run(run_folder(tmp_path / "one", records=records))
    assert run.steps[0].gradients == {} and run.steps[1].gradients["pkd"] == GradientRecord(0.2, -0.25)
    for chart in (term_shares(run), term_cosines(run)):
        assert legend(chart) == ["structural", "pkd"]
        assert chart is not None and "gradient" in chart.note
    assert legend(auto_weights(run)) == ["pkd"]


def test_no_pulls_no_chart(tmp_path: Path) -> None:
    run = read_run(run_folder(tmp_path / "one"))
    assert term_shares(run) is term_cosines(run) is auto_weights(run) is None


def test_terms_that_differ_by_powers_of_ten_are_all_seen(tmp_path: Path) -> None:
    def y_ticks(shares: list[float]) -> str:
        records = [pulled(number, share) for number, share in enumerate(shares, 1)]
        chart = term_shares(read_run(run_folder(tmp_path / str(shares[0]), records=records)))
        assert chart is not None
        return chart.svg

    assert ">0.01<" in y_ticks([0.01, 100.0])  # logarithmic
    assert ">0<" in y_ticks([0.3, 0.5])  # from 0, so that no share looks bigger than it is


def test_a_garbled_pull_is_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", records=[step(1, gradients={"structural": {"ratio": 1.0}})])
    with pytest.raises(InputError, match="lacks or garbles 'cosine'"):
        read_run(folder)


def test_the_teacher_stands_beside_the_student(tmp_path: Path) -> None:
    run = read_run(add_maps(run_folder(tmp_path / "one")))
    assert legend(precision_recall(with_teacher("one", run), "50")) == ["one", "its teacher"]
    alone = read_run(run_folder(tmp_path / "two"))
    assert legend(precision_recall(with_teacher("two", alone), "50")) == ["two"]


@pytest.mark.parametrize(("number", "drawn"), [(1, False), (MOST_CLASSES, True), (MOST_CLASSES + 1, False)])
def test_classes_are_drawn_while_they_can_be_told_apart(tmp_path: Path, number: int, drawn: bool) -> None:
    names = [f"class {i}" for i in range(number)]
    chart = precision_by_class(read_run(run_folder(tmp_path / "one", classes=names)))
    assert (chart is not None) == drawn
    if drawn:
        assert legend(chart) == names
