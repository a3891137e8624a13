"""Boxes on images: sizes, colours, and names that are out to break something."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from report_cases import HOSTILE

from kdet.errors import InputError
from kdet.report import Mark, draw_marks, marks_of, png_bytes, side_by_side
from kdet.report.embed import data_uri
from kdet.report.pictures import PALETTE

Box = tuple[float, float, float, float]


def mark(box: Box = (10, 40, 60, 80), **values: object) -> Mark:
    return Mark(**{"box_xyxy": box, "name": "cat", "score": 0.5} | values)  # pyright: ignore


@pytest.mark.parametrize(
    ("size", "expected"), [((96, 96), (384, 384)), ((40, 100), (160, 400)), ((640, 480), (640, 480))]
)
def test_small_images_grow_by_a_whole_factor(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert draw_marks(Image.new("RGB", size), []).size == expected


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_any_mode_becomes_rgb_and_stays_itself(mode: str) -> None:
    image = Image.new(mode, (400, 300))
    before = image.tobytes()
    drawn = draw_marks(image, [mark()])
    assert (drawn.mode, image.mode, image.tobytes()) == ("RGB", mode, before)


def test_edges_bear_the_colour_of_the_class() -> None:
    drawn = draw_marks(Image.new("RGB", (400, 400), "white"), [mark((100, 100, 300, 300), colour=9)])
    assert drawn.getpixel((200, 101)) == PALETTE[2]
    assert drawn.getpixel((200, 200)) == (255, 255, 255)


def test_truth_is_dashed() -> None:
    drawn = draw_marks(Image.new("RGB", (400, 400), "white"), [mark((100, 100, 300, 300), score=None)])
    along = {drawn.getpixel((x, 300)) for x in range(110, 290)}
    assert along == {PALETTE[0], (0, 0, 0)}


def test_boxes_are_scaled_with_the_image() -> None:
    drawn = draw_marks(Image.new("RGB", (100, 100), "white"), [mark((25, 50, 75, 90))])
    assert drawn.size == (400, 400)
    assert drawn.getpixel((200, 201)) == PALETTE[0]


@pytest.mark.parametrize("name", [HOSTILE, "", "x" * 500, "two\nlines", "三角形", "\udcff", "‮ltr"])
def test_any_name_can_be_drawn(name: str) -> None:
    image = Image.new("RGB", (96, 96))
    for box in [(0, 0, 96, 96), (90, 90, 96, 96), (-5, -5, 200, 200), (50, 50, 50, 50)]:
        assert draw_marks(image, [mark(box, name=name), mark(box, name=name, score=None)]).size == (384, 384)
    assert side_by_side([(name, image)]).width > 96


def test_labels_make_room_for_each_other() -> None:
    marks = [mark((100, 200, 300, 380), name=f"n{i}", colour=i, score=0.9 - i / 10) for i in range(4)]
    drawn = draw_marks(Image.new("RGB", (400, 400), "white"), marks)
    # Each label has a field of its colour; on top of each other they would hide all but one.
    for i in range(4):
        wide = sum(drawn.getpixel((x, y)) == PALETTE[i] for x in range(0, 400, 3) for y in range(0, 400, 3))
        assert wide > 40, i


def test_marks_of_selects_by_score() -> None:
    boxes = [[0, 0, 5, 5], [1, 1, 9, 9]]
    found = marks_of(boxes, [1, 0], ["cat", "dog"], [0.2, 0.8], min_score=0.5)
    assert found == [Mark(box_xyxy=(1, 1, 9, 9), name="cat", score=0.8, colour=0)]
    assert [one.score for one in marks_of(boxes, [1, 0], ["cat", "dog"], min_score=0.5)] == [None, None]


def test_side_by_side_is_one_row_of_equal_height() -> None:
    row = side_by_side(
        [("a", Image.new("RGB", (100, 50), "red")), ("b", Image.new("L", (100, 100), 255))], height_px=200
    )
    # 400 + 200 px of pictures and three gaps of 13; captions above, a gap below.
    assert row.size == (400 + 200 + 3 * 13, 200 + 29 + 13)
    assert row.getpixel((13, 29)) == (255, 0, 0)
    assert row.getpixel((13 + 400 + 13, 29)) == (255, 255, 255)


def test_png_is_a_png_and_the_same_each_time(tmp_path: Path) -> None:
    drawn = draw_marks(Image.new("RGB", (96, 96), "green"), [mark()])
    content = png_bytes(drawn)
    assert content == png_bytes(drawn)
    assert list(Image.open(io.BytesIO(content)).get_flattened_data()) == list(drawn.get_flattened_data())
    (tmp_path / "a.png").write_bytes(content)
    kind, _, body = data_uri(tmp_path / "a.png").partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(body))).size == (384, 384)


def test_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    for name in ("a.png", "none.png"):
        with pytest.raises(InputError, match=name):
            data_uri(tmp_path / name)
