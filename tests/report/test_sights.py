"""What the models find on the same images: who is shown, and what stands there in words."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from report_cases import add_maps, run_folder

from kdet.errors import InputError
from kdet.report import read_run
from kdet.report.pictures import PALETTE
from kdet.report.sights import Gallery, gallery_of
from kdet.report.views import named


def gallery(*folders: Path) -> Gallery:
    found = gallery_of(named([read_run(folder) for folder in folders]))
    assert found is not None
    return found


def captions(found: Gallery) -> list[str]:
    return [seen.caption for seen in found.sights[0].seen]


def test_truth_teacher_and_student_of_one_run(tmp_path: Path) -> None:
    found = gallery(add_maps(run_folder(tmp_path / "one")))
    assert [sight.title for sight in found.sights] == ["a.jpg", "b.jpg", "c.jpg"]
    assert captions(found) == ["truth: 1 object", "teacher: 1 box", "student: 1 box"]
    assert [seen.alt for seen in found.sights[0].seen] == [
        "truth: circle",
        "teacher: circle 0.80",
        "student: circle 0.80",
    ]
    assert found.sights[1].seen[1].alt == "teacher: nothing"
    assert "student and teacher differ most" in found.why and "0.3" in found.why


def test_boxes_lie_where_the_smaller_picture_has_them(tmp_path: Path) -> None:
    seen = gallery(add_maps(run_folder(tmp_path / "one"))).sights[0].seen[2]
    picture = Image.open(io.BytesIO(base64.b64decode(seen.picture.partition(",")[2])))
    factor = picture.width / 120
    edge = picture.getpixel((round(30 * factor), round(50 * factor) - 1))
    inside = picture.getpixel((round(30 * factor), round(40 * factor)))
    assert isinstance(edge, tuple) and isinstance(inside, tuple)
    assert max(abs(a - b) for a, b in zip(edge, PALETTE[0], strict=True)) < 60
    assert min(inside) > 200


def test_runs_on_the_same_data_are_laid_side_by_side(tmp_path: Path) -> None:
    alone = add_maps(run_folder(tmp_path / "alone"), teacher=False)
    distilled = add_maps(run_folder(tmp_path / "distilled"))
    stranger = run_folder(tmp_path / "stranger", classes=["cat"])
    elsewhere = run_folder(tmp_path / "elsewhere")
    with (elsewhere / "recipe.yaml").open("a") as recipe:
        recipe.write("data: {format: voc}\n")
    found = gallery(alone, distilled, stranger, elsewhere)
    assert captions(found) == ["truth: 1 object", "teacher of distilled: 1 box", "alone: 1 box", "distilled: 1 box"]


def test_the_teacher_is_not_shown_twice(tmp_path: Path) -> None:
    distilled = add_maps(run_folder(tmp_path / "distilled"))
    teacher = run_folder(tmp_path / "teacher")
    (teacher / "predictions.json").write_text((distilled / "teacher-predictions.json").read_text())
    assert captions(gallery(teacher, distilled)) == ["truth: 1 object", "teacher: 1 box", "distilled: 1 box"]


def test_a_run_alone_is_held_against_the_truth(tmp_path: Path) -> None:
    found = gallery(add_maps(run_folder(tmp_path / "one"), teacher=False))
    assert captions(found) == ["truth: 1 object", "student: 1 box"]
    assert "student and truth differ most" in found.why


def test_no_difference_is_said(tmp_path: Path) -> None:
    folder = add_maps(run_folder(tmp_path / "one"))
    maps = folder / "maps" / "maps.json"
    content = json.loads(maps.read_text())
    maps.write_text(json.dumps(content | {"pictures": [p | {"difference": 0} for p in content["pictures"]]}))
    assert "differ on none" in gallery(folder).why


def test_a_run_without_images_has_no_gallery(tmp_path: Path) -> None:
    assert gallery_of({"one": read_run(run_folder(tmp_path / "one"))}) is None


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"compared_with": "teacher", "pictures": [{}]}',
        '{"compared_with": "teacher", "pictures": [{"image_id": 1, "file": "1.jpg", "width": 0, "truth": []}]}',
        '{"compared_with": "teacher", "pictures": [{"image_id": 1, "file": "../../metrics.json", "width": 9}]}',
    ],
)
def test_damaged_maps_are_one_clear_line(tmp_path: Path, content: str) -> None:
    folder = add_maps(run_folder(tmp_path / "one"))
    (folder / "maps" / "maps.json").write_text(content)
    with pytest.raises(InputError, match="maps") as raised:
        gallery(folder)
    assert "\n" not in str(raised.value)
