"""The three policies for bad boxes, on every kind of bad box."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_cases import annotation

from kdet.data import OnBadBox
from kdet.data.formats.coco import reader as coco
from kdet.data.formats.naming import check_names
from kdet.data.formats.validate import _clipped, _sound, rows_of
from kdet.errors import InputError

Make = Callable[..., Path]

GOOD = [2, 3, 4, 5]
KINDS = {
    "rounding": [-0.004, 3, 4, 5],
    "slightly outside": [35, 25, 5.9, 5.5],
    "slightly left": [-1, -1, 4, 5],
    "far outside": [35, 5, 10, 5],
    "no width": [5, 5, 0, 5],
    "nothing at all": [0, 0, 0, 0],
    "no area after clipping": [40, 5, 0.5, 5],
    "negative": [5, 5, 5, -1],
    "not finite": [float("nan"), 5, 5, 1],
}
DROPPED, CLIPPED, REFUSED, KEPT = "dropped", "clipped", "refused", "kept"
OUTCOMES: dict[str, tuple[str, str, str]] = {
    "rounding": (KEPT, KEPT, KEPT),
    "slightly outside": (CLIPPED, DROPPED, REFUSED),
    "slightly left": (CLIPPED, DROPPED, REFUSED),
    "far outside": (REFUSED, DROPPED, REFUSED),
    "no width": (DROPPED, DROPPED, REFUSED),
    "nothing at all": (DROPPED, DROPPED, REFUSED),
    "no area after clipping": (DROPPED, DROPPED, REFUSED),
    "negative": (REFUSED, DROPPED, REFUSED),
    "not finite": (REFUSED, DROPPED, REFUSED),
}


@pytest.mark.parametrize(("column", "policy"), [(0, "fix"), (1, "drop"), (2, "error")])
@pytest.mark.parametrize("kind", KINDS)
def test_policy(coco_file: Make, kind: str, column: int, policy: OnBadBox):
    file = coco_file(annotations=[annotation(1, bbox=GOOD), annotation(2, bbox=KINDS[kind])])
    outcome = OUTCOMES[kind][column]
    if outcome == REFUSED:
        with pytest.raises(InputError, match=r"annotation 2 \(image 'a.png'\).*--on-bad-box"):
            coco.read(file, on_bad_box=policy)
        return
    index = coco.read(file, on_bad_box=policy)
    assert len(index.boxes_xyxy) == (1 if outcome == DROPPED else 2)
    assert (index.boxes_xyxy >= 0).all()
    assert (index.boxes_xyxy <= [40, 30, 40, 30]).all()
    assert (index.boxes_xyxy[:, 2:] > index.boxes_xyxy[:, :2]).all()
    if outcome == KEPT:
        assert index.notes == ()
    else:
        assert len(index.notes) == 1
        assert f"1 box {outcome}" in index.notes[0]
        assert "annotation 2" in index.notes[0]


def test_boxes_told_to_be_sound_are_those_that_clipping_leaves_as_they_are():
    """On and beside the borders, and so close together that float32 makes no area of it."""
    corners = [-np.inf, -1.5, -0.004, 0.0, 1e-50, 5.0, 5 + 1e-12, 39.999, 40.0, 40.004, 41.5, 1e300, np.inf, np.nan]
    raw = (
        np.array(np.meshgrid(corners, [0.0, 3.0, np.nan], corners, [3.0, 4.0, 30.0, 30.5]), np.float64).reshape(4, -1).T
    )
    limits = np.tile(np.array([[40, 30]], np.int32), (len(raw), 1))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = raw.astype(np.float32)
        clipped, faults = _clipped(raw, limits)
    unchanged = (faults == 0) & (raw >= 0).all(1) & (raw <= [40, 30, 40, 30]).all(1)
    sound = _sound(raw, rounded, limits)
    assert sound.any() and not sound.all()
    assert (sound == unchanged).all()
    assert np.array_equal(clipped[sound], rounded[sound])


def test_many_dropped_boxes_are_one_note(coco_file: Make):
    index = coco.read(coco_file(annotations=[annotation(i, bbox=[1, 1, 0, 0]) for i in range(1, 60)]))
    assert index.boxes_xyxy.shape == (0, 4)
    assert len(index.notes) == 1
    assert "59 boxes dropped: no area (first: " in index.notes[0]


def test_many_bad_boxes_are_one_line(coco_file: Make):
    file = coco_file(annotations=[annotation(i, bbox=[90, 1, 5, 5]) for i in range(1, 60)])
    with pytest.raises(InputError, match=r"annotation 1 .*\(58 more like it\)"):
        coco.read(file)


@pytest.mark.parametrize("name", ["a.jpg", "x/y.jpg", "..jpg", "a..b/c.jpg", "x/..y/z.jpg", "ab:c.jpg"])
def test_names_inside_the_folder_pass(name: str):
    check_names(Path("file"), [name])


@pytest.mark.parametrize("name", ["", "/a", "\\a", "..", "../a", "x/../../a", "x\\..\\a", "c:a", "a\0b", "x/.."])
def test_names_outside_the_folder_are_refused(name: str):
    with pytest.raises(InputError, match="file: image name"):
        check_names(Path("file"), ["fine.jpg", name])


def test_rows_of_finds_positions():
    ids = np.array([30, 10, 20])
    assert rows_of(ids, np.array([10, 20, 30, 40, 5])).tolist() == [1, 2, 0, -1, -1]
    assert rows_of(np.array([], np.int64), np.array([1])).tolist() == [-1]
    assert rows_of(ids, np.array([], np.int64)).tolist() == []
