"""Kinds of trouble that files of every format share, each from inputs built here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_cases import annotation, coloured, xml, yolo_set
from PIL import Image

from kdet.data import concatenated, divided, leak, look, open_source, recognise
from kdet.data.formats.coco import reader as coco
from kdet.data.formats.voc import reader as voc
from kdet.data.formats.yolo import reader as yolo
from kdet.data.images import FORMATS, SUFFIXES
from kdet.errors import InputError

Make = Callable[..., Path]
Save = Callable[..., Path]


def test_the_record_s_own_name_wins_over_the_one_inside(tmp_path: Path, save_image: Save) -> None:
    for stem in ("a", "b"):
        save_image(tmp_path / f"{stem}.png")
        xml(tmp_path / f"{stem}.xml", "a.png", name=stem)
    index = voc.read(tmp_path)
    assert [index.file_names[i] for i in range(2)] == ["a.png", "b.png"]
    assert "1 file whose <filename> is not the image of their own name" in index.notes[0]
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match=r"image 'a.png' is claimed by a.xml and b.xml"):
        voc.read(tmp_path)


def test_a_split_that_is_not_there_is_not_the_whole_folder(tmp_path: Path, save_image: Save) -> None:
    """As labelImg leaves it: XML beside the images, in train/ and test/."""
    for split in ("train", "test"):
        save_image(tmp_path / split / f"{split}.png")
        xml(tmp_path / split / f"{split}.xml", f"{split}.png")
    assert recognise(tmp_path) == "voc" and len(voc.read(tmp_path)) == 1
    val = voc.read(tmp_path, split="val")
    assert val.file_names[0] == "test.png" and "'test' is taken for it" in val.notes[0]
    (tmp_path / "test").rename(tmp_path / "kept")
    with pytest.raises(InputError, match=r"no split 'val'; .* found 'train'"):
        voc.read(tmp_path, split="val")


def test_a_class_with_boxes_is_never_left_out(coco_file: Make) -> None:
    categories = [{"id": 3, "name": "all", "supercategory": "none"}, {"id": 7, "name": "cat", "supercategory": "all"}]
    both = [annotation(1), annotation(2, category_id=7)]
    assert coco.read(coco_file(categories=categories, annotations=both)).classes == ("all", "cat")
    index = coco.read(coco_file(categories=categories, annotations=both[1:]))
    assert index.classes == ("cat",) and index.class_ids == (7,) and "'all'" in index.notes[0]


@pytest.mark.parametrize(("name", "text"), [(5, "5"), (True, "true"), ("on", "on"), ("012", "012"), ("1e3", "1e3")])
def test_names_are_text_in_every_format(coco_file: Make, tmp_path: Path, name: Any, text: str) -> None:
    categories = [{"id": 3, "name": name}, {"id": 7, "name": "cat"}]
    index = coco.read(coco_file(categories=categories))
    assert index.classes == (text, "cat")
    for form, writer, reader in (("yolo", yolo.write, yolo.read), ("voc", voc.write, voc.read)):
        images = writer(index, tmp_path / form)
        for i in range(2):
            Path(images).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30)).save(Path(images) / index.file_names[i])
        assert set(reader(tmp_path / form).classes) == {text, "cat"}


@pytest.mark.parametrize("names", ["[on, 7, 1e3, 12:30, 2024-01-01, null]", "{0: on, 1: 7, 2: 1e3, 3: 12:30, 4: ~x}"])
def test_names_of_data_yaml_are_the_characters_there(tmp_path: Path, names: str) -> None:
    base = yolo_set(tmp_path, {"a.png": 1}, f"names: {names}\ntrain: images\n")
    assert yolo.read(base).classes[:4] == ("on", "7", "1e3", "12:30")


@pytest.mark.parametrize("image_id", ["ten", "10", 10.0])
def test_ids_are_keys(coco_file: Make, image_id: Any) -> None:
    image = {"id": image_id, "file_name": "a.png", "width": "40", "height": 30.0}
    boxes = [annotation("x", image_id=image_id), annotation("x", image_id=image_id, iscrowd=1)]
    index = coco.read(coco_file(images=[image], annotations=boxes))
    assert index.crowd.tolist() == [False, True] and index.image_ids.tolist() == [1 if image_id == "ten" else 10]


def test_what_else_lies_in_a_record_is_no_record(coco_file: Make) -> None:
    odd = annotation("x", attributes={"file_name": "x", "bbox": 1, "image_id": 5})
    assert len(coco.read(coco_file(annotations=[odd])).labels) == 1


def test_images_in_several_folders_below_the_data_set(coco_file: Make, tmp_path: Path) -> None:
    file = coco_file()
    for folder, name in (("first", "a.png"), ("second", "b.png")):
        (tmp_path / "deep" / folder).mkdir(parents=True)
        (tmp_path / "images" / name).rename(tmp_path / "deep" / folder / name)
    index = coco.read(file)
    assert index.image(0).is_file() and index.image(1).is_file() and index.root == tmp_path


def test_rows_are_what_kpt_shape_says(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1}, "names: [cat]\ntrain: images\nkpt_shape: [2, 2]\n")
    label = base / "labels" / "a.txt"
    label.write_text("0 0.5 0.5 0.5 0.5 0.1 0.1 0.9 0.9\n0 0.5 0.5 0.5 0.5\n")
    assert yolo.read(base).boxes_xyxy.tolist() == [[10, 7.5, 30, 22.5]] * 2
    label.write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    with pytest.raises(InputError, match=r"a.txt:1: expected 9 numbers .* kpt_shape \[2, 2\]\) or 5, got 7"):
        yolo.read(base)
    (base / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    assert "1 row of an outline" in yolo.read(base).notes[0]
    label.write_text("0 0.5 0.5 0.5 0.5 0.1 0.1 2\n")
    with pytest.raises(InputError, match=r"got 8; a box with 1 keypoints has so many: say `kpt_shape: \[1, 3\]`"):
        yolo.read(base)
    (base / "data.yaml").write_text("names: [cat]\ntrain: images\nkpt_shape: 17\n")
    with pytest.raises(InputError, match=r"data.yaml: kpt_shape: expected \[number of keypoints, 2 or 3\], got 17"):
        yolo.read(base)


def test_yolo_without_a_yaml(tmp_path: Path) -> None:
    """classes.txt alone, as labelImg and Label Studio write it."""
    base = yolo_set(tmp_path / "studio", {"a.png": 1})
    (base / "data.yaml").unlink()
    (base / "classes.txt").write_text("on\ncup with ears\n")
    (base / "notes.json").write_text('{"categories": [], "info": {}}')
    assert recognise(base) == "yolo" and yolo.read(base).classes == ("on", "cup with ears")
    assert "has no splits" in yolo.read(base, split="val").notes[0]


def test_yolo_under_another_name_of_its_yaml(tmp_path: Path) -> None:
    for name in ("config.yaml", "my-cups.yaml"):
        base = yolo_set(tmp_path / name, {"a.png": 1})
        (base / "data.yaml").rename(base / name)
        assert recognise(base) == "yolo" and len(yolo.read(base).labels) == 1


def test_darknet_as_cvat_writes_it(tmp_path: Path) -> None:
    """Lists and names that say data/… of what lies beside them."""
    image = coloured(tmp_path / "obj_train_data" / "frame 1.png", 1)
    image.with_suffix(".txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/frame 1.png\n")
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    assert recognise(tmp_path) == "yolo"
    index = yolo.read(tmp_path)
    assert index.classes == ("cat", "dog") and index.labels.tolist() == [1] and index.image(0) == image.resolve()


def test_a_path_of_another_machine_is_said(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1}, "path: /home/me/cups\nnames: [cat]\ntrain: images\n")
    assert "path: '/home/me/cups' is not there" in yolo.read(base).notes[0]


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1})
    for name in ("b.heic", "c.heic", "d.psd", ".hidden"):
        (base / "images" / name).write_bytes(b"x")
    assert "3 files skipped, no images that kdet reads: 2 .heic, 1 .psd" in yolo.read(base).notes[0]


def test_the_one_list_of_suffixes_is_pillows() -> None:
    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known == SUFFIXES


def test_csv_as_roboflow_writes_it(tmp_path: Path, save_image: Save) -> None:
    save_image(tmp_path / "train" / "a.png")
    save_image(tmp_path / "train" / "nothing on it.png")
    rows = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,30,on,5,6,20,25\n"
    file = tmp_path / "train" / "_annotations.csv"
    file.write_text(rows)
    assert recognise(tmp_path) == "csv"
    index = open_source("csv", tmp_path).index
    assert index.classes == ("on",) and index.boxes_xyxy.tolist() == [[5, 6, 20, 25]] and len(index) == 2
    assert "1 image that no row names" in index.notes[0]
    for bad, words in (
        (rows.replace("xmin", "left"), r"_annotations.csv:1: has no column 'xmin'"),
        (rows.replace(",5,", ",x,"), "_annotations.csv:2: expected whole width"),
        (rows.replace("a.png", "../a.png"), "leaves the data set's folder"),
        (rows.replace("a.png", "b.png"), "'b.png' is not in"),
        (rows.replace(",on,", ",,"), "_annotations.csv:2: expected a class"),
        ("", "has no column 'filename'"),
    ):
        file.write_text(bad)
        with pytest.raises(InputError, match=words):
            open_source("csv", tmp_path)


def test_several_sources_are_one_with_classes_by_name(tmp_path: Path, coco_file: Make) -> None:
    first = open_source("coco", coco_file())  # cat, dog
    second = open_source("yolo", yolo_set(tmp_path / "more", {"c.png": 3}, "names: [bird, dog]\ntrain: images\n"))
    both = concatenated([first, second]).index
    assert both.classes == ("cat", "dog", "bird") and len(both) == 3
    names = [both.classes[label] for label in both.labels]
    assert names == ["cat", "dog", "dog", "bird"] and len(set(both.image_ids.tolist())) == 3
    assert all(both.image(i).is_file() for i in range(3))
    pixels = concatenated([first, second])
    assert pixels.read(2).equal(second.read(0)) and pixels.read(1).equal(first.read(1))


def test_classes_that_two_sources_spell_in_two_ways_are_named(tmp_path: Path, coco_file: Make) -> None:
    first = open_source("coco", coco_file())  # cat, dog
    second = open_source("yolo", yolo_set(tmp_path / "more", {"c.png": 3}, "names: [bird, Dog]\ntrain: images\n"))
    with pytest.raises(
        InputError, match=r"^classes clash: \S+ has 'dog', \S+more/images has 'Dog'; .* spell them alike$"
    ):
        concatenated([first, second])
    with pytest.raises(InputError, match=r"'Dog', .* has 'dog'"):
        concatenated([second, first])
    apart = open_source("yolo", yolo_set(tmp_path / "both", {"d.png": 4}, "names: [dog, Dog]\ntrain: images\n"))
    whole = concatenated([first, second, apart]).index  # one source means two classes by them
    assert whole.classes == ("cat", "dog", "bird", "Dog")
    assert whole.notes[-1].startswith(f"{apart.index.root}: has no class 'cat', 'bird', which another source has")


def test_images_in_both_splits_are_found_by_path_and_by_content(tmp_path: Path) -> None:
    train = open_source("yolo", yolo_set(tmp_path / "train", {"a.png": 1, "b.png": 2}))
    other = open_source("yolo", yolo_set(tmp_path / "val", {"c.png": 3}))
    copied = open_source("yolo", yolo_set(tmp_path / "copied", {"other name.png": 2}))
    assert leak(train, other) is None
    assert "2 of the 2 validation images are training images too" in (leak(train, train) or "")
    line = leak(train, copied) or ""
    assert "1 of the 1 validation image are" in line and "other name.png has the content of" in line


def test_a_part_is_held_back_without_dividing_look_alikes(tmp_path: Path) -> None:
    """Twelve scenes, each three times, in another size and quality."""
    for scene in range(12):
        for copy, size in enumerate([(160, 120), (200, 150), (128, 96)]):
            coloured(tmp_path / "images" / f"{scene}-{copy}.jpg", scene, size)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0-0.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    source = open_source("yolo", tmp_path)
    chosen = set()
    for seed in (0, 1):
        train, val = (
            {part.index.file_names[i].partition("-")[0] for i in range(len(part.index))}
            for part in divided(source, 0.25, seed)
        )
        assert not train & val and train | val == {str(scene) for scene in range(12)} and 2 <= len(val) <= 4
        chosen.add(frozenset(val))
    assert len(chosen) == 2 and len(divided(source, 0.25)[0].index) + len(divided(source, 0.25)[1].index) == 36


def test_headers_and_ends_tell_damaged_images(tmp_path: Path) -> None:
    base = yolo_set(tmp_path, {"a.png": 1, "b.png": 2})
    source = open_source("yolo", base)
    assert look(source).faults == []
    whole = (base / "images" / "b.png").read_bytes()
    (base / "images" / "b.png").write_bytes(whole[: len(whole) * 2 // 3])
    (fault,) = look(source).faults
    assert fault.startswith("1 image that cannot be read (first: ") and "b.png" in fault
    coloured(base / "images" / "b.png", 2, (41, 30))
    (fault,) = look(source).faults
    assert "1 image of another size than stated" in fault and "41×30 px, its annotation says 40×30" in fault


def test_json_of_fiftyone_and_label_studio(coco_file: Make, tmp_path: Path) -> None:
    content = json.loads(coco_file().read_text())
    (tmp_path / "annotations_train.json").unlink()
    (tmp_path / "images").rename(tmp_path / "data")
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert recognise(tmp_path) == "coco" and len(coco.read(tmp_path)) == 2
    (tmp_path / "package.json").write_text('{"name": "x"}')
    assert len(coco.read(tmp_path)) == 2
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no COCO annotations in this folder"):
        coco.read(tmp_path)
