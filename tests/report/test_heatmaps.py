"""Feature maps on the page: colours by value, the scale in words."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from report_cases import add_maps, run_folder

from kdet.errors import InputError
from kdet.report import read_run
from kdet.report.heatmaps import ACTIVATION, SIMILARITY, insides_of, scale_picture


def pixels(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def light(colour: object) -> float:
    assert isinstance(colour, tuple)
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def test_rows_say_what_they_show(tmp_path: Path) -> None:
    first, second = insides_of(read_run(add_maps(run_folder(tmp_path / "one"))))
    assert (first.title, second.title) == ("a.jpg", "b.jpg")
    finest, coarse = first.rows
    assert (finest.stride, coarse.stride, coarse.similarity) == (8, 16, None)
    assert finest.teacher.alt == "teacher, stride 8: mean activation 0.12…2.5"
    assert finest.similarity is not None and finest.similarity.words == "0.62"


def test_a_cell_is_a_pixel_in_the_colours_of_the_scale(tmp_path: Path) -> None:
    row = insides_of(read_run(add_maps(run_folder(tmp_path / "one"))))[0].rows[0]
    assert row.similarity is not None
    for map_, scale in ((row.student, ACTIVATION), (row.similarity, SIMILARITY)):
        shown, colours = pixels(map_.picture), pixels(scale_picture(scale))
        assert shown.size == (12, 8) == (map_.width, map_.height) and colours.size == (256, 1)
        assert shown.getpixel((0, 0)) == colours.getpixel((0, 0))
        assert shown.getpixel((11, 7)) == colours.getpixel((255, 0))


@pytest.mark.parametrize("name", [ACTIVATION, SIMILARITY])
def test_scales_grow_in_lightness_so_that_nobody_needs_the_hue(name: str) -> None:
    colours = pixels(scale_picture(name))
    lights = [light(colours.getpixel((x, 0))) for x in range(0, 256, 5)]
    assert lights == sorted(lights) and lights[-1] - lights[0] > 150


def test_a_run_alone_has_nothing_inside_to_compare(tmp_path: Path) -> None:
    assert insides_of(read_run(add_maps(run_folder(tmp_path / "one"), teacher=False))) == ()
    assert insides_of(read_run(run_folder(tmp_path / "two"))) == ()


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    folder = add_maps(run_folder(tmp_path / "one"))
    content = json.loads((folder / "maps" / "maps.json").read_text())
    del content["pictures"][0]["levels"][0]["student"]["low"]
    (folder / "maps" / "maps.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"maps\.json: lacks or garbles 'low'"):
        insides_of(read_run(folder))
    (folder / "maps" / "1-map.png").unlink()
    with pytest.raises(InputError, match=r"1-map\.png: not an image"):
        insides_of(read_run(folder))
