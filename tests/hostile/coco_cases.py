"""COCO files with anything in them. Name → the file's content, words of the message."""

import json
from pathlib import Path
from typing import Any

from hostile_cases import Words, put
from PIL import Image

IMAGE: dict[str, Any] = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
BOX: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
CAT: dict[str, Any] = {"id": 1, "name": "cat"}


def data_set(folder: Path, content: str | bytes) -> Path:
    """An annotation file beside its image of 40×30 pixels."""
    (folder / "images").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
    return put(folder / "a.json", content)


def whole(**lists: Any) -> str:
    """A file of one image, one box and one class, with lists replaced."""
    return json.dumps({"images": [IMAGE], "annotations": [BOX], "categories": [CAT]} | lists)


def image(**values: Any) -> str:
    """With something else said about the image."""
    return whole(images=[IMAGE | values])


def box(**values: Any) -> str:
    """With something else said about the box."""
    return whole(annotations=[BOX | values])


def category(**values: Any) -> str:
    """With something else said about the class."""
    return whole(categories=[CAT | values])


def without(record: dict[str, Any], key: str) -> dict[str, Any]:
    """A record that lacks a key."""
    return {name: value for name, value in record.items() if name != key}


NUMBER = "needs a whole number"
BOXES = "needs four numbers (x, y, width, height) for bbox"
LEAVES = "leaves the data set's folder"
GOOD = whole()

CASES: dict[str, tuple[str | bytes, Words]] = {
    # no JSON
    "0 bytes": (b"", "not JSON"),
    "spaces": ("  \n", "not JSON"),
    "text": ("images", "not JSON"),
    "cut in the middle": (GOOD[: len(GOOD) // 2], "not JSON"),
    "all but the last brace": (GOOD[:-1], "not JSON"),
    "something behind it": (GOOD + "}", "not JSON"),
    "two files in one": (GOOD + GOOD, "not JSON"),
    "single quotes": (GOOD.replace('"', "'"), "not JSON"),
    "comma too many": (GOOD[:-1] + ",}", "not JSON"),
    "comment": ("// boxes\n" + GOOD, "not JSON"),
    "NUL bytes": (bytes(200), "not JSON"),
    "Latin-1": (category(name="K").replace("K", "Käfer").encode("latin-1"), "not JSON"),
    "control character": (GOOD.replace("cat", "c\x01t"), "not JSON"),
    "lines of JSON": (json.dumps(IMAGE) + "\n" + json.dumps(BOX), "not JSON"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(50), "not JSON"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "not JSON"),
    "5,000 digits": (GOOD.replace('"area": 400', '"area": ' + "4" * 5000), "not JSON"),
    "100,000 lists deep": ("[" * 100_000 + "]" * 100_000, "nested far too deep"),
    "100,000 objects deep": ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested far too deep"),
    "100,000 deep inside a box": (GOOD.replace('"area": 400', '"area": ' + "[" * 100_000 + "]" * 100_000), "too deep"),
    # no COCO
    "null": ("null", "not COCO"),
    "number": ("42", "not COCO"),
    "NaN": ("NaN", "not COCO"),
    "word": ('"images"', "not COCO"),
    "empty list": ("[]", "not COCO"),
    "list of boxes": (json.dumps([BOX]), "not COCO"),
    "empty object": ("{}", "no list 'images'"),
    "predictions": (json.dumps({"classes": [], "results": []}), "no list 'images'"),
    "no images": (whole(images=None), "no list 'images'"),
    "images an object": (whole(images={"1": IMAGE}), "no list 'images'"),
    "images by name": (whole(images=["a.png"]), "entry 0 has no 'file_name'"),
    "images of null": (whole(images=[None]), "entry 0 has no 'file_name'"),
    "no boxes": (whole(annotations=None), "no list 'annotations'"),
    "boxes a word": (whole(annotations="none"), "no list 'annotations'"),
    "boxes of numbers": (whole(annotations=[[5, 5, 20, 20]]), "entry 0 has no 'bbox'"),
    "no classes": (whole(categories=None), "no list 'categories'"),
    "boxes and images exchanged": (whole(images=[BOX], annotations=[IMAGE]), "entry 0 has no"),
    "lists twice": (GOOD[:-1] + ', "annotations": [' + json.dumps(BOX) + "]}", "stand outside their list"),
    "images elsewhere, too": (whole(info={"more": [IMAGE | {"id": 2}]}), "stand outside their list"),
    "all lists empty": (whole(images=[], annotations=[], categories=[]), "no categories"),
    "no image at all": (whole(images=[], annotations=[]), "no images"),
    # images
    "image id missing": (whole(images=[without(IMAGE, "id")]), "has no id"),
    "image id a word": (image(id="one"), "is of image 1, which the file does not have"),
    "image id null": (image(id=None), NUMBER),
    "image id a half": (image(id=1.5), NUMBER),
    "image id of 70 bits": (image(id=2**70), NUMBER),
    "image id infinite": (image(id=float("inf")), NUMBER),
    "image id a list": (image(id=[1]), NUMBER),
    "image id twice": (whole(images=[IMAGE, IMAGE]), "image id 1 stands twice"),
    "image name a number": (image(file_name=5), "no text as its file_name"),
    "image name null": (image(file_name=None), "no text as its file_name"),
    "image name a list": (image(file_name=["a.png"]), "no text as its file_name"),
    "image name empty": (image(file_name=""), LEAVES),
    "image not there": (image(file_name="b.png"), "'b.png' is not in"),
    "image name above": (image(file_name="../a.png"), LEAVES),
    "image name far above": (image(file_name="x/../../../../etc/passwd"), LEAVES),
    "image name absolute": (image(file_name="/etc/passwd"), LEAVES),
    "image name of Windows": (image(file_name="C:\\photos\\a.png"), LEAVES),
    "image name of a share": (image(file_name="\\\\host\\a.png"), LEAVES),
    "image name above, backwards": (image(file_name="..\\..\\a.png"), LEAVES),
    "image name the folder above": (image(file_name=".."), LEAVES),
    "image name the folder": (image(file_name="."), "is not in"),
    "image name with NUL": (image(file_name="a\0.png"), LEAVES),
    "image name an address": (image(file_name="http://example.org/a.png"), "is not in"),
    "image name of a file scheme": (image(file_name="file:///etc/passwd"), "is not in"),
    "image name with a line break": (image(file_name="a\nb.png"), "is not in"),
    "image name with terminal codes": (image(file_name="\x1b[2J\x1b]0;x\x07.png"), "is not in"),
    "image name of half a character": (image(file_name="\ud800.png"), "is not in"),
    "image name of 5,000 letters": (image(file_name="a" * 5000), "is not in"),
    "image the annotations": (image(file_name="../a.json"), LEAVES),
    "width a word": (image(width="wide"), NUMBER),
    "width a half": (image(width=40.5), NUMBER),
    "width 0": (image(width=0), "has the size 0×30"),
    "width of 33 bits": (image(width=2**33), NUMBER),
    "width of another image": (image(width=41), "its annotation says 41×30"),
    "height infinite": (image(height=float("inf")), NUMBER),
    "sides exchanged": (image(width=30, height=40), "its annotation says 30×40"),
    # boxes
    "box of no image": (box(image_id=7), "is of image 7"),
    "box of image null": (box(image_id=None), NUMBER),
    "box of no class": (box(category_id=7), "is of category 7"),
    "box of class cat": (box(category_id="cat"), "is of category 'cat'"),
    "class id missing": (whole(annotations=[without(BOX, "category_id")]), "has no 'category_id'"),
    "class of a box null": (box(category_id=None), NUMBER),
    "class of a box infinite": (box(category_id=float("inf")), NUMBER),
    "box of three": (box(bbox=[1, 2, 3]), BOXES),
    "box of five": (box(bbox=[1, 2, 3, 4, 5]), BOXES),
    "box of none": (box(bbox=[]), ("its 'bbox' is missing", "--on-bad-box drop")),
    "box null": (box(bbox=None), ("its 'bbox' is missing", "--on-bad-box drop")),
    "box a number": (box(bbox=5), BOXES),
    "box a word": (box(bbox="1234"), BOXES),
    "box an object": (box(bbox={"x": 1, "y": 2, "w": 3, "h": 4}), BOXES),
    "box of words": (box(bbox=["5", "5", "20", "20"]), BOXES),
    "box of nulls": (box(bbox=[None] * 4), BOXES),
    "box of lists": (box(bbox=[[5], [5], [20], [20]]), BOXES),
    "box of 400 digits": (box(bbox=[5, 5, 10**400, 20]), BOXES),
    "box no number": (box(bbox=[float("nan"), 5, 20, 20]), "is not finite"),
    "box infinite": (box(bbox=[5, 5, float("inf"), 20]), "is not finite"),
    "box beyond all numbers": (box(bbox=[1e308, 5, 1e308, 20]), "is not finite"),
    "box of negative width": (box(bbox=[5, 5, -20, 20]), "negative size"),
    "box outside": (box(bbox=[35, 5, 20, 20]), ("lies outside its image of 40×30", "--on-bad-box drop")),
    "box far left": (box(bbox=[-9, 5, 20, 20]), "lies outside"),
    "box of corners": (box(bbox=[20, 20, 39, 29]), "lies outside"),
    "crowd a word": (box(iscrowd="no"), "needs 0 or 1 for iscrowd"),
    "crowd a list": (box(iscrowd=[1]), "needs 0 or 1 for iscrowd"),
    "crowd of 300": (box(iscrowd=300), "needs 0 or 1 for iscrowd"),
    # classes
    "class id a word": (category(id="one"), "is of category 1"),
    "class id a truth": (category(id=True), "categories entry 0"),
    "class id of 70 bits": (category(id=2**70), "categories entry 0"),
    "class name missing": (whole(categories=[{"id": 1}]), "categories entry 0"),
    "class a word": (whole(categories=["cat"]), "categories entry 0"),
    "class a list": (whole(categories=[[1, "cat"]]), "categories entry 0"),
    "class id twice": (whole(categories=[CAT, CAT]), "category id 1 stands twice"),
    "class of the background": (category(name="__background__"), "stands for no object"),
    "class with an image's name": (whole(categories=[CAT | {"file_name": "a.png"}]), "stand outside their list"),
}

HARMLESS: dict[str, str | bytes] = {
    "box id a word": box(id="x"),
    "box id of 70 bits": box(id=2**70),
    "box of image one": box(image_id="1"),
    "area a word": box(area="large"),
    "area a list": box(area=[400]),
    "class name a number": category(name=5),
    "class name twice": whole(categories=[CAT, {"id": 2, "name": "cat"}]),
    "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "UTF-16": GOOD.encode("utf-16"),
    "a key twice, the last counts": GOOD.replace('"area": 400', '"area": 1, "area": 400'),
    "keys of nobody": whole(info={"a": 1}, licenses=None, __proto__={"x": 1}),
    "null as area": box(area=float("nan")),
    "area beyond all numbers": box(area=1e300),
    "area infinite": box(area=float("inf")),
    "no area": whole(annotations=[without(BOX, "area")]),
    "crowd null": box(iscrowd=None),
    "no size": whole(images=[without(without(IMAGE, "width"), "height")]),
    "negative size, as if none": image(width=-1, height=-1),
    "negative ids": whole(images=[IMAGE | {"id": -5}], annotations=[BOX | {"image_id": -5}]),
    "ids of 62 bits": whole(images=[IMAGE | {"id": 2**62}], annotations=[BOX | {"image_id": 2**62}]),
    "name through the folder itself": image(file_name="./a.png"),
    "name with doubled slashes": image(file_name=".//a.png"),
    "name with a slash behind": image(file_name="a.png/"),
    "class with terminal codes": category(name="\x1b[2Jcat"),
    "class name empty": category(name=""),
    "an outline of any kind": box(segmentation=[[1, 2], "x", {"counts": []}]),
}
