"""What is alike to the cases that people had: the same kinds of trouble in other formats and other spellings."""

import json
from pathlib import Path
from typing import Any

import pytest
from data_cases import coloured, xml, yolo_set
from PIL import Image

from kdet.data import FORMATS, ShapesSource, convert, inspect, leak, open_source, recognise
from kdet.data.shapes.generator import Shapes
from kdet.errors import InputError

NAMES = (
    *("yes", "on", "1e3", "12:30:00", "null", "~", "0x10", "0o7", "01", "1_000", "2024-01-01", ".5", "NaN", "a: b"),
    *("#x", "a,b", 'q"q', "=SUM(1)", "é", "{x}", "a b", "&amp;", "<i>", "'s", "-"),
)
"""What YAML 1.1, YAML 1.2, JSON, XML or a spreadsheet might read as something else."""
WRITTEN = [name for name, form in FORMATS.items() if form.write]


def coco(folder: Path, names: list[Any], **image: Any) -> Path:
    """A box of each class on one image of 64×48 px."""
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    box = {"image_id": 1, "bbox": [8, 10, 32, 28], "area": 896}
    boxes = [{"id": number, "category_id": number, **box} for number in range(1, len(names) + 1)]
    own = {"id": 1, "file_name": "a.png", "width": 64, "height": 48} | image
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.json"
    file.write_text(json.dumps({"images": [own], "annotations": boxes, "categories": categories}))
    coloured(folder / "images" / own["file_name"], 1, (64, 48))
    return file


@pytest.mark.parametrize("to", WRITTEN)
def test_names_survive_every_conversion_and_the_next(tmp_path: Path, to: str) -> None:
    convert({"train": open_source("coco", coco(tmp_path / "own", [*NAMES, " lead "]))}, to, tmp_path / to)
    first = open_source(to, tmp_path / to)
    assert set(first.index.classes) == {*NAMES, "lead"}
    for again in WRITTEN:
        convert({"train": first}, again, tmp_path / f"{to}-{again}")
        assert open_source(again, tmp_path / f"{to}-{again}").index.class_counts() == dict.fromkeys(
            first.index.classes if again in ("coco", "yolo") else sorted(first.index.classes), 1
        )


def test_numbers_as_names_are_the_characters_in_the_file(tmp_path: Path) -> None:
    file = coco(tmp_path, ["x", "y", "z", None])
    file.write_text(file.read_text().replace('"x"', "1e3").replace('"y"', "1.50").replace('"z"', "true"))
    assert open_source("coco", file).index.classes == ("1e3", "1.50", "true", "null")


@pytest.mark.parametrize("between", [";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, between: str) -> None:
    coloured(tmp_path / "a.png", 1)
    row = ["a.png", "40.0", "30", "01", "5,5" if between == ";" else "5.5", "6", "20", "25"]
    header = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
    lines = [header, row, [""] * 8]
    (tmp_path / "_annotations.csv").write_text("".join(between.join(line) + "\r\n" for line in lines))
    index = open_source("csv", tmp_path).index
    assert index.classes == ("01",) and index.boxes_xyxy.tolist() == [[5.5, 6, 20, 25]]


def test_a_file_s_own_name_chooses_among_images_of_the_same_names(tmp_path: Path) -> None:
    """val.json beside images/train/1.png and images/val/1.png, read as training data."""
    coloured(tmp_path / "images" / "train" / "1.png", 1)
    coloured(tmp_path / "images" / "val" / "1.png", 2)
    for split in ("train", "val"):
        file = coco(tmp_path, ["cup"], file_name="1.png", width=40, height=30)
        (tmp_path / "images" / "1.png").unlink()
        content = file.read_text().replace("[8, 10, 32, 28]", "[8, 10, 20, 15]")
        file.rename(tmp_path / f"{split}.json").write_text(content)
        index = open_source("coco", tmp_path / f"{split}.json").index
        assert index.image(0) == tmp_path / "images" / split / "1.png"
        assert ("images of these names lie in" in str(index.notes)) == (split == "val")


def test_names_of_other_folders_are_looked_up_where_the_user_says(tmp_path: Path) -> None:
    file = coco(tmp_path / "own", ["cup"], file_name="a.png")
    file.write_text(file.read_text().replace('"a.png"', '"2024/photos/a.png"'))
    with pytest.raises(InputError, match="name another folder with --images"):
        open_source("coco", file)
    index = open_source("coco", file, images=tmp_path / "own" / "images").index
    assert index.file_names[0] == "a.png" and "1 image name outside of it, looked up" in index.notes[0]


def test_what_belongs_to_no_image_and_what_disagrees_is_counted(tmp_path: Path) -> None:
    base = yolo_set(tmp_path / "yolo", {"a.png": 1})
    (base / "labels" / "A (1).txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert "1 label file without an image, left out (first: " in open_source("yolo", base).index.notes[0]
    (base / "labels" / "a.txt").write_text("0 200 150 40 30\n")
    with pytest.raises(InputError, match="shares of the image, 0…1, and these look like pixels"):
        open_source("yolo", base)
    coloured(tmp_path / "csv" / "a.png", 1)
    rows = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,30,x,5,6,20,25\na.png,20,30,x,5,6,20,25\n"
    (tmp_path / "csv" / "_annotations.csv").write_text(rows)
    index = open_source("csv", tmp_path / "csv").index
    assert index.size_hw(0) == (30, 40) and "1 image with several sizes" in index.notes[0]


def test_labelimg_s_yolo_lies_in_one_folder(tmp_path: Path) -> None:
    coloured(tmp_path / "a.png", 1)
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert recognise(tmp_path) == "yolo"
    index = open_source("yolo", tmp_path).index
    assert index.classes == ("cat", "dog") and index.labels.tolist() == [1] and index.notes == ()


def test_a_stated_name_without_its_suffix_agrees(tmp_path: Path) -> None:
    coloured(tmp_path / "a.png", 1)
    xml(tmp_path / "a.xml", "a")
    assert open_source("voc", tmp_path).index.notes == ()


def test_a_list_may_name_image_and_annotation(tmp_path: Path) -> None:
    coloured(tmp_path / "JPEGImages" / "a b.png", 1)
    xml(tmp_path / "Annotations" / "c.xml", "a b.png")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("JPEGImages/c.png Annotations/c.xml\n")
    assert open_source("voc", tmp_path).index.file_names[0] == "a b.png"


def test_a_path_that_is_not_there_is_named_where_its_folders_are_missed(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1}, "path: ~/nowhere at all\nnames: [cat]\ntrain: photos\n")
    with pytest.raises(InputError, match=r"names 'photos', .* \(its path: '~/nowhere at all' is not there\)"):
        open_source("yolo", base)


def test_xml_without_splits_is_said_to_have_none(tmp_path: Path) -> None:
    coloured(tmp_path / "a.png", 1)
    xml(tmp_path / "a.xml", "a.png")
    assert (
        "has no splits, so that all of it is read as 'val'" in open_source("voc", tmp_path, split="val").index.notes[0]
    )
    with pytest.raises(InputError, match="no split 'nowhere'"):
        open_source("voc", tmp_path, split="nowhere")


def test_damaged_images_are_counted_where_their_sizes_are_needed(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1, "b.png": 2, "c.png": 3})
    for name in ("b.png", "c.png"):
        (base / "images" / name).write_bytes((base / "images" / name).read_bytes()[:20])
    with pytest.raises(InputError, match=r"b.png: cannot be read .* replace it, or leave it out \(1 more like it\)"):
        open_source("yolo", base)


def test_boxes_of_the_background_are_named_before_training_refuses_them(tmp_path: Path) -> None:
    source = open_source("coco", coco(tmp_path, ["background", "cup"]))
    assert "boxes of class 'background', which stands for no object, are refused in training (1)" in str(
        inspect(source)
    )


def test_classes_without_a_box_are_said_to_be_lost(tmp_path: Path) -> None:
    source = ShapesSource(Shapes(images=1, image_size=64, classes=9, objects=[1, 1]))
    notes = convert({"train": source}, "csv", tmp_path / "new")
    (lost,) = [note for note in notes if "those without a box are lost" in note]
    assert len(lost.rpartition(": ")[2].split(", ")) == 8


def test_cvat_s_own_format_says_what_to_export(tmp_path: Path) -> None:
    coloured(tmp_path / "images" / "a.png", 1)
    box = '<box label="cup" occluded="0" xtl="8" ytl="10" xbr="40" ybr="38"/>'
    image = f'<image id="0" name="a.png" width="64" height="48">{box}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    for path in (tmp_path, tmp_path / "annotations.xml"):
        with pytest.raises(InputError, match=r"export the task from CVAT as COCO 1\.0, Pascal VOC 1\.1 or"):
            open_source(recognise(path), path)


def test_a_copy_under_another_name_is_a_leak(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1, "b.png": 2}, "names: [cat]\ntrain: images\nval: other\n")
    Image.open(base / "images" / "a.png").save(base / "a.png")
    (base / "other").mkdir()
    (base / "other" / "x.png").write_bytes((base / "images" / "b.png").read_bytes())
    (base / "other" / "x.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    shared = leak(*(open_source("yolo", base, split=split) for split in ("train", "val")))
    assert shared is not None and "x.png has the content of" in shared and shared.startswith("1 of the 1 validation")
