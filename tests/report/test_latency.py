"""AP against latency: a point a model, and one clear line on anything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from kdet.errors import InputError
from kdet.report.latency import latency_chart


def _speed(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "speed.json"
    path.write_text(
        json.dumps(
            {"models": [row | {"device": "CPU", "precision": "bf16"} for row in rows], "threads": 2, "torch": "2.14"}
        )
    )
    return path


def test_each_model_with_an_ap_is_a_point(tmp_path):
    rows = [
        {"model": "runs/teacher", "latency_ms": 60.0, "ap": 0.5},
        {"model": "runs/student", "latency_ms": 20.0, "ap": 0.4},
        {"model": "student-int8.onnx", "latency_ms": 8.0, "ap": None},
    ]
    chart = latency_chart(_speed(tmp_path, *rows))
    assert [entry.name for entry in chart.legend] == ["runs/teacher", "runs/student"]
    assert "Without a known AP: student-int8.onnx" in chart.note
    assert "CPU in bf16, 2 threads" in chart.note


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": [{"model": "a"}]}', '{"models": 3}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "speed.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"speed\.json"):
        latency_chart(path)


def test_no_ap_at_all_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model in it has an AP"):
        latency_chart(_speed(tmp_path, {"model": "a", "latency_ms": 1.0, "ap": None}))
