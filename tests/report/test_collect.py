"""Run folders, whole and damaged."""

from pathlib import Path

import pytest
from report_cases import look, metrics_of, run_folder, step

from kdet.errors import InputError
from kdet.report import read_run


def test_reads_everything(tmp_path: Path) -> None:
    run = read_run(run_folder(tmp_path / "one", ap=0.25, distil=["structural"], teacher_ap=0.5))
    assert run.name == "one"
    assert run.recipe["student"]["backbone"] == "resnet10"
    assert run.environment["commit"] == "abc1234"
    assert [record.step for record in run.steps] == list(range(1, 41))
    assert run.steps[0].parts == step(1)["parts"]
    assert [record.epoch for record in run.evaluations] == [0, 1, 2, 3]
    assert run.metrics == metrics_of(0.25)
    assert run.teacher_ap == 0.5
    assert run.curves is not None and len(run.curves["recall"]) == 101
    assert run.predictions is not None and run.predictions["image_ids"] == [1]
    assert run.notes == ()


def test_repeated_steps_keep_the_last_record(tmp_path: Path) -> None:
    records = [step(1), step(2, lr=0.5), step(3), look(1, 0.1), step(2, lr=0.25), step(3), look(1, 0.2), step(4)]
    run = read_run(run_folder(tmp_path / "one", records=records))
    assert [record.step for record in run.steps] == [1, 2, 3, 4]
    assert run.steps[1].lr == 0.25
    assert [record.metrics["AP"] for record in run.evaluations] == [0.2]


def test_other_records_are_left_alone(tmp_path: Path) -> None:
    run = read_run(run_folder(tmp_path / "one", records=[{"kind": "note", "text": "hello"}, step(1)]))
    assert len(run.steps) == 1 and run.notes == ()


def test_broken_last_line_is_left_out(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "st')
    run = read_run(folder)
    assert len(run.steps) == 40
    assert run.notes == ("log.jsonl: 1 broken line left out",)


def test_record_after_a_stump_on_the_same_line_is_kept(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", records=[step(1), step(2), step(3)])
    first, second, third = (folder / "log.jsonl").read_text().splitlines()
    (folder / "log.jsonl").write_text(f"{first}\n{second[:30]}{third}\n")
    run = read_run(folder)
    assert [record.step for record in run.steps] == [1, 3]


def test_run_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("student: {detector: retinanet}\n")
    run = read_run(tmp_path)
    assert run.steps == () and run.metrics is None and run.curves is None and run.teacher_ap is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", '{"AP": 0.', r"metrics\.json: not JSON \(line 1"),
        ("metrics.json", "[1]", r"metrics\.json: expected a JSON object, got list"),
        ("recipe.yaml", "a: [", r"recipe\.yaml:1: not YAML"),
        ("recipe.yaml", "- 1", r"recipe\.yaml: expected keys and values"),
        ("changes.json", '[{"step": 1}]', r"changes\.json: lacks or garbles 'key'"),
        ("changes.json", "5", r"changes\.json: lacks or garbles"),
        ("log.jsonl", "hello\nworld\n", r"log\.jsonl: not a run's log"),
        ("log.jsonl", '{"kind": "step", "step": 1}\n', r"log\.jsonl: a step record lacks or garbles 'epoch'"),
        ("log.jsonl", '{"kind": "eval", "step": 1}\n', r"log\.jsonl: an eval record lacks or garbles 'epoch'"),
    ],
)
def test_harmful_damage_is_one_clear_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = run_folder(tmp_path / "one")
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        read_run(folder)
    assert "\n" not in str(raised.value)


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_run(tmp_path / "none")
    with pytest.raises(InputError, match="not a run folder"):
        read_run(tmp_path)
