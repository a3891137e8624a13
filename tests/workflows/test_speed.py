"""Speed of detectors: counts that can be worked out, jobs that take turns, and one clear line on wrong input."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import CLASSES, tiny
from kdet.errors import InputError
from kdet.train.state.run_folder import save_student
from kdet.workflows import speed


def weights(folder: Path, name: str, **options: Any) -> Path:
    detector = tiny(**({"image_size": 64, "classes": CLASSES} | options))
    save_student(detector, detector.native_state(), folder / name)
    return folder / name


def test_each_model_is_measured_in_its_place(tmp_path: Path) -> None:
    small = weights(tmp_path, "small.safetensors", width=0.25, fpn_channels=32)
    large = weights(tmp_path, "large.safetensors", width=1.0, fpn_channels=128)
    found = speed.measure([large, small, large], batch=2, seconds=0.01, memory=False)
    assert [one.model for one in found] == [str(large), str(small), str(large)]
    assert found[0].parameters == found[2].parameters > 4 * found[1].parameters
    assert found[0].flops == found[2].flops > 4 * found[1].flops
    assert [one.file_bytes for one in found] == [path.stat().st_size for path in (large, small, large)]
    for one in found:
        assert 0 < one.latency_ms <= one.latency_p90_ms and one.images_per_second > 0
        assert one.peak_bytes is None
        assert one.family == "retinanet" and one.image_size == 64


def test_operations_grow_with_the_pixels(tmp_path: Path) -> None:
    path = weights(tmp_path, "a.safetensors")
    small, large = (
        speed.measure([path], image_size=size, batch=1, seconds=0.01, memory=False)[0] for size in (128, 256)
    )
    assert large.flops == pytest.approx(4 * small.flops, rel=0.03)
    assert (small.image_size, large.image_size) == (128, 256)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_is_that_of_a_process_that_opens_the_model_alone(tmp_path: Path) -> None:
    path = weights(tmp_path, "a.safetensors")
    (found,) = speed.measure([path], batch=1, seconds=0.01)
    assert found.peak_bytes is not None and found.peak_bytes >= path.stat().st_size


def test_operations_are_two_for_each_multiplication() -> None:
    class OneConvolution:
        def predict(self, batch: Any) -> None:
            torch.nn.functional.conv2d(batch, torch.zeros(8, 3, 3, 3), padding=1)

    found = speed.flops_of(OneConvolution(), torch.zeros(1, 3, 10, 12))  # pyright: ignore
    assert found == 2 * 10 * 12 * 8 * 3 * 9


def test_jobs_take_turns_and_the_first_turn_is_left_out() -> None:
    calls: list[str] = []
    taken = speed._in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 0.0)
    assert calls == ["a", "b"] * 6
    assert [len(one) for one in taken] == [5, 5]


@pytest.mark.parametrize(("options", "words"), [({"batch": 0}, "at least 1"), ({"seconds": 0.0}, "above 0")])
def test_nothing_to_measure_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        speed.measure([tmp_path / "none"], **options)


def test_ap_is_what_the_run_or_the_export_says(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"AP": 0.2, "best": {"AP": 0.3, "epoch": 4}}')
    assert speed._ap_of(tmp_path, "fp32") == 0.3
    file = tmp_path / "student.onnx"
    assert speed._ap_of(file, "fp32") is None
    (tmp_path / "student.onnx.json").write_text('{"AP": {"file": 0.25, "precision": "fp32"}}')
    assert speed._ap_of(file, "fp32") == 0.25
    assert speed._ap_of(file, "bf16") is None
    (tmp_path / "student.onnx.json").write_text("[]")
    assert speed._ap_of(file, "fp32") is None
