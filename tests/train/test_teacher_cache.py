"""A teacher whose answers are kept: the same run bit for bit where they are exact, and no cache of something else."""

from pathlib import Path
from typing import Any

import pytest
from test_resume import assert_bit_for_bit
from train_cases import distilled, records, run, teacher_file

from kdet.data import Augmentation
from kdet.distill.cache.teacher_cache import TeacherCache
from kdet.distill.teacher import FrozenTeacher
from kdet.errors import InputError, WorkError
from kdet.train import Recipe
from kdet.train.teaching import teacher_cache
from kdet.types import Need
from suites import quick

FLIPS: dict[str, Any] = {"flip": 0.5, "vertical_flip": 0.5}
CROPS: dict[str, Any] = {"flip": 0.5, "crop": 0.5, "scale": (0.7, 1.4), "photometric": 0.3}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that a teacher was really shown, a number a call."""
    calls: list[int] = []
    original = FrozenTeacher.observe

    def observe(self: FrozenTeacher, batch: Any, needs: frozenset[Need]) -> Any:
        inner = self.detector.observe

        def counted(own: Any, wanted: frozenset[Need], *rest: Any) -> Any:
            calls.append(len(own.image_ids))
            return inner(own, wanted, *rest)

        self.detector.observe = counted  # pyright: ignore
        try:
            return original(self, batch, needs)
        finally:
            self.detector.observe = inner  # pyright: ignore

    monkeypatch.setattr(FrozenTeacher, "observe", observe)
    return calls


def cached(
    folder: Path, augment: dict[str, Any], methods: tuple[str, ...], *, cache: bool = True, **train: Any
) -> Recipe:
    recipe = distilled(folder, methods, train={"batch_size": 1, "epochs": 2, **train})
    data = recipe.data.model_copy(update={"augment": Augmentation(**augment)})
    recipe = recipe.model_copy(update={"data": data})
    if not cache:
        return recipe
    teacher = recipe.teachers[0].model_copy(update={"cache": folder / "cache"})
    return recipe.model_copy(update={"teacher": teacher})


def test_flipped_views_are_exact_and_nobody_is_asked_twice(
    tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("structural", "rank_mimicking")
    run(cached(tmp_path, FLIPS, both, cache=False), tmp_path / "without")
    run(cached(tmp_path, FLIPS, both), tmp_path / "first")
    assert_bit_for_bit(tmp_path / "without", tmp_path / "first")
    asked.clear()
    run(cached(tmp_path, FLIPS, both), tmp_path / "second")
    assert_bit_for_bit(tmp_path / "without", tmp_path / "second")
    of_the_estimate_the_adapters_start_and_the_proof = 12
    assert sum(asked) <= of_the_estimate_the_adapters_start_and_the_proof
    words = capsys.readouterr().err
    assert "teacher cache: about" in words and "minutes of the teacher" in words
    assert "teacher cache: 16 of 16 answers came from" in words


def test_crops_are_served_by_the_whole_image_for_class_scores(
    tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = cached(tmp_path, CROPS, ("rank_mimicking",))
    run(recipe, tmp_path / "first")
    assert "moved; the teacher does not see each crop" in capsys.readouterr().err
    asked.clear()
    run(recipe, tmp_path / "second")
    assert sum(asked) <= 4
    assert_bit_for_bit(tmp_path / "first", tmp_path / "second")


def test_features_of_crops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features would be new in every epoch.*flips alone"):
        run(cached(tmp_path, CROPS, ("structural",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cache_of_another_teacher_is_refused(tmp_path: Path) -> None:
    run(cached(tmp_path, FLIPS, ("structural",)), tmp_path / "first")
    recipe = cached(tmp_path, FLIPS, ("structural",))
    teacher_file(tmp_path, seed=3)
    with pytest.raises(InputError, match=r"a cache of something else, made with teacher .*another folder, or delete"):
        run(recipe, tmp_path / "second")


def test_a_cache_of_the_same_weights_on_other_anchors_is_refused(tmp_path: Path) -> None:
    """No weight says where the anchors are, and boxes are decoded from them."""
    run(cached(tmp_path, FLIPS, ("rank_mimicking",)), tmp_path / "first")
    recipe = cached(tmp_path, FLIPS, ("rank_mimicking",))
    teacher_file(tmp_path, anchor_scale=1.0)
    with pytest.raises(InputError, match=r"a cache of something else, made with anchors"):
        run(recipe, tmp_path / "second")


@pytest.mark.parametrize(("key", "change"), [("images", {"images": 5}), ("image_size", {"image_size": 128})])
def test_a_cache_of_other_images_is_refused(tmp_path: Path, key: str, change: dict[str, Any]) -> None:
    recipe = cached(tmp_path, FLIPS, ("structural",))
    run(recipe, tmp_path / "first")
    with pytest.raises(InputError, match=f"made with {key} "):
        run(recipe.model_copy(update={"data": recipe.data.model_copy(update=change)}), tmp_path / "second")


@pytest.mark.long
def test_arms_that_read_other_things_share_a_folder(tmp_path: Path) -> None:
    for method in ("structural", "rank_mimicking"):
        run(cached(tmp_path, FLIPS, (method,)), tmp_path / method)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["class_logits", "features"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "features"
    folder.mkdir(parents=True)
    (folder / "holiday.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="no teacher cache; give `cache:` a folder of its own"):
        run(cached(tmp_path, FLIPS, ("structural",)), tmp_path / "run")
    assert [path.name for path in folder.iterdir()] == ["holiday.txt"]


def test_too_little_room_is_said_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(InputError, match=r"of 1 kB that are free; choose another disk"):
        run(cached(tmp_path, FLIPS, ("structural",)), tmp_path / "run")


def test_a_full_disk_ends_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = cached(tmp_path, FLIPS, ("structural",))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdet.distill.cache.tensor_folder.save_tensors", full)
    with pytest.raises(WorkError, match=r"cannot be written .*No space left on device.*leave `cache:` out"):
        run(recipe, tmp_path / "run")


def test_what_a_crash_left_is_no_answer(tmp_path: Path, asked: list[int]) -> None:
    recipe = cached(tmp_path, FLIPS, ("structural",))
    run(recipe, tmp_path / "first")
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:-7])
    files[1].write_bytes(b"")
    run(recipe, tmp_path / "second")
    assert_bit_for_bit(tmp_path / "first", tmp_path / "second")


def test_a_look_at_all_images_goes_on_after_a_kill(
    tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = cached(tmp_path, CROPS, ("rank_mimicking",))
    original = TeacherCache.keep
    calls = 0

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherCache, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "run")
    kept = len(list((tmp_path / "cache").rglob("*.safetensors")))
    asked.clear()
    run(recipe, tmp_path / "run", resume=True)
    after = len(list((tmp_path / "cache").rglob("*.safetensors")))
    assert 0 < kept < after


@pytest.mark.parametrize(
    "method",
    quick(
        ["structural", "rank_mimicking", "soft_labels", "prediction_guided"],
        lambda method: method in ("structural", "soft_labels"),
    ),
)
def test_answers_come_back_as_they_were(tmp_path: Path, method: str) -> None:
    """With several images a batch, of which some are there."""
    recipe = cached(tmp_path, FLIPS, (method,), batch_size=2)
    run(recipe, tmp_path / "first")
    run(recipe, tmp_path / "second")
    steps = zip(records(tmp_path / "first", "step"), records(tmp_path / "second", "step"), strict=True)
    for one, other in steps:
        assert other["parts"] == pytest.approx(one["parts"], rel=1e-3) and one["parts"][method] > 0
