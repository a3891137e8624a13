"""Pascal VOC: 1-based pixels, lists, plain folders, difficult objects, and XML that is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from data_cases import assert_same

from kdet.data import ShapesSource, recognise
from kdet.data.formats.coco import reader as coco
from kdet.data.formats.voc import reader as voc
from kdet.errors import InputError

Save = Callable[..., Path]


def thing(name: str = "cat", box: tuple[object, ...] = (1, 1, 10, 20), extra: str = "") -> str:
    """One object."""
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def annotation_xml(*things: str, name: str = "a.png", size: str | None = None) -> str:
    """One file."""
    size = "<size><width>40</width><height>30</height><depth>3</depth></size>" if size is None else size
    return f"<annotation><filename>{name}</filename>{size}{''.join(things)}</annotation>"


@pytest.fixture
def folder(tmp_path: Path, save_image: Save) -> Callable[[str | bytes], Path]:
    """A VOC folder with the image a.png and the given XML."""

    def make(content: str | bytes) -> Path:
        base = tmp_path / "voc"
        save_image(base / "JPEGImages" / "a.png")
        (base / "Annotations").mkdir()
        (base / "ImageSets" / "Main").mkdir(parents=True)
        (base / "ImageSets" / "Main" / "train.txt").write_text("a\n")
        data = content.encode() if isinstance(content, str) else content
        (base / "Annotations" / "a.xml").write_bytes(data)
        return base

    return make


def test_first_pixel_is_number_one_and_the_last_is_included(folder: Callable[[str], Path]):
    index = voc.read(folder(annotation_xml(thing(box=(1, 1, 40, 30)), thing("ant", (3, 4, 3, 4)))))
    assert index.boxes_xyxy.tolist() == [[0, 0, 40, 30], [2, 3, 3, 4]]
    assert index.classes == ("ant", "cat")
    assert index.labels.tolist() == [1, 0]


def test_a_list_names_the_split_by_itself(folder: Callable[[str], Path], save_image: Save):
    """As VOC's own folders need it: train.txt is beside trainval.txt, and the test images lie in the same folder."""
    base = folder(annotation_xml(thing()))
    for stem in ("b", "c"):
        save_image(base / "JPEGImages" / f"{stem}.png")
        (base / "Annotations" / f"{stem}.xml").write_text(annotation_xml(thing("ant"), name=f"{stem}.png"))
    lists = base / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text("a\nb\n")
    (lists / "ant_trainval.txt").write_text("a -1\nb  1\n")
    (lists / "test.txt").write_text("c\n")
    found = {name: voc.read(lists / f"{name}.txt", split="val") for name in ("train", "trainval", "test")}
    assert {name: len(index) for name, index in found.items()} == {"train": 1, "trainval": 2, "test": 1}
    assert {index.classes for index in found.values()} == {("ant", "cat")}
    assert found["test"].image(0) == base / "JPEGImages" / "c.png"
    assert recognise(lists / "test.txt") == "voc" and voc.read(base).file_names[0] == "a.png"
    (base / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n")  # CVAT's, for lists of its folder too
    assert voc.read(lists / "test.txt").first_pixel == 0
    with pytest.raises(InputError, match=r"dev\.txt: no such folder"):
        voc.read(lists / "dev.txt")


def test_difficult_objects_are_crowd(folder: Callable[[str], Path]):
    xml = annotation_xml(thing(extra="<difficult>1</difficult>"), thing(extra="<difficult>0</difficult>"), thing())
    assert voc.read(folder(xml)).crowd.tolist() == [True, False, False]


def test_a_coordinate_of_zero_proves_that_pixels_are_counted_from_it(folder: Callable[[str], Path], save_image: Save):
    base = folder(annotation_xml(thing(box=(0, 0, 10, 10)), thing(box=(5, 6, 7, 8))))
    save_image(base / "JPEGImages" / "b.png")
    (base / "Annotations" / "b.xml").write_text(annotation_xml(thing(box=(5, 6, 7, 8)), name="b.png"))
    (base / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    index = voc.read(base)
    assert index.boxes_xyxy.tolist() == [[0, 0, 10, 10], [5, 6, 7, 8]]
    assert index.first_pixel == 0 and "object 1 of a.xml begins at pixel 0" in index.notes[0]
    assert voc.read(base, split="val").boxes_xyxy.tolist() == [[5, 6, 7, 8]]  # of the whole set, and not of one split
    forced = voc.read(base, first_pixel=1)
    assert forced.boxes_xyxy.tolist() == [[0, 0, 10, 10], [4, 5, 7, 8]] and forced.first_pixel == 1


def test_given_classes_decide_the_order(folder: Callable[[str], Path]):
    base = folder(annotation_xml(thing("cat"), thing("ant")))
    assert voc.read(base, classes=["cat", "dog", "ant"]).labels.tolist() == [0, 2]
    with pytest.raises(InputError, match=r"a.xml: object 2 is of class 'ant', not one of \['cat'\]"):
        voc.read(base, classes=["cat"])


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
)
def test_sizes_come_from_the_header_where_the_file_has_none(folder: Callable[[str], Path], size: str):
    assert voc.read(folder(annotation_xml(thing(), size=size))).sizes_hw.tolist() == [[30, 40]]


@pytest.mark.parametrize("stated", ["wrong.jpg", "a.jpg", "", "C/elsewhere/a.png", "../../a.png", "C:\\me\\a.png"])
def test_wrong_file_names_fall_back_to_the_stem(folder: Callable[[str], Path], stated: str):
    assert voc.read(folder(annotation_xml(thing(), name=stated))).file_names[0] == "a.png"


def test_both_splits_have_the_same_classes(folder: Callable[[str], Path], save_image: Save):
    base = folder(annotation_xml(thing("zebra")))
    save_image(base / "JPEGImages" / "b.png")
    (base / "Annotations" / "b.xml").write_text(annotation_xml(thing("ant"), name="b.png"))
    (base / "ImageSets" / "Main" / "test.txt").write_text("b 1\n\n")
    assert voc.read(base, split="val").classes == voc.read(base).classes == ("ant", "zebra")


def test_plain_folder_and_split_folders(tmp_path: Path, save_image: Save):
    for split in ("train", "valid"):
        save_image(tmp_path / split / "a.png")
        (tmp_path / split / "a.xml").write_text(annotation_xml(thing()))
    assert len(voc.read(tmp_path / "train")) == 1
    assert voc.read(tmp_path).root == tmp_path / "train"
    assert voc.read(tmp_path, split="val").root == tmp_path / "valid"


def test_write_then_read_is_the_identity(shapes: ShapesSource, tmp_path: Path, save_image: Save):
    images = voc.write(shapes.index, tmp_path)
    for i in range(len(shapes.index)):
        save_image(images / shapes.index.file_names[i], 48, 48)
    assert_same(shapes.index, voc.read(tmp_path))


def test_write_keeps_crowd_as_difficult(coco_file: Callable[..., Path], tmp_path: Path):
    index = coco.read(coco_file())
    voc.write(index, tmp_path / "voc")
    assert_same(index, voc.read(tmp_path / "voc", images=tmp_path / "images", classes=index.classes))


def test_names_that_differ_in_the_suffix_alone_are_refused(
    coco_file: Callable[..., Path], tmp_path: Path, save_image: Save
):
    save_image(tmp_path / "images" / "a.jpg")
    images = [{"id": 10, "file_name": "a.png"}, {"id": 20, "file_name": "a.jpg"}]
    index = coco.read(coco_file(images=images))
    with pytest.raises(InputError, match="two images are called 'a'"):
        voc.write(index, tmp_path / "voc")


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "not XML"),
    "cut off": ("<annotation><object>", "not XML"),
    "binary": (bytes(range(256)), "not XML"),
    "another document": ("<html></html>", r"root is <html>, expected <annotation>"),
    "entities": (BOMB, "refused"),
    "entities in UTF-16": (BOMB.encode("utf-16"), "refused"),
    "external entity": ('<!doctype a SYSTEM "file:///etc/passwd"><annotation/>', "refused"),
    "unknown encoding": ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not XML"),
    "no name": (annotation_xml(thing(" ")), "object 1 has no name"),
    "no box": (annotation_xml(thing(), "<object><name>cat</name></object>"), r"object 2 \('cat'\) needs four numbers"),
    "text for a number": (annotation_xml(thing(box=(1, "x", 3, 4))), "needs four numbers"),
    "three numbers": (annotation_xml(thing(box=(1, 2, 3))), "needs four numbers"),
    "not finite": (annotation_xml(thing(box=(1, 1, "inf", 4))), r"a.xml: object 1 .*is not finite"),
    "outside": (annotation_xml(thing(), thing(box=(30, 1, 45, 4))), r"a.xml: object 2 .*lies outside"),
    "reversed": (annotation_xml(thing(box=(30, 1, 20, 4))), "has a negative size"),
    "no classes": (annotation_xml(), "no categories"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_in_one_line(folder: Callable[[str | bytes], Path], name: str):
    content, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        voc.read(folder(content))
    assert "\n" not in str(caught.value)


def test_missing_parts(tmp_path: Path, folder: Callable[[str], Path]):
    with pytest.raises(InputError, match="no such folder"):
        voc.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no XML files"):
        voc.read(tmp_path)
    base = folder(annotation_xml(thing()))
    with pytest.raises(InputError, match=r"Main: no split 'val'; .* found 'train'"):
        voc.read(base, split="val")
    (base / "JPEGImages" / "a.png").unlink()
    with pytest.raises(InputError, match=r"image 'a.png' of a.xml is not in .*JPEGImages"):
        voc.read(base)
    (base / "ImageSets" / "Main" / "train.txt").write_text("gone\n")
    with pytest.raises(InputError, match=r"gone.xml: cannot be read"):
        voc.read(base)
    (base / "ImageSets" / "Main" / "train.txt").write_text("../../x\n")
    with pytest.raises(InputError, match="leaves the data set's folder"):
        voc.read(base)
    (base / "ImageSets" / "Main" / "train.txt").write_text("\n")
    with pytest.raises(InputError, match="no "):
        voc.read(base)
