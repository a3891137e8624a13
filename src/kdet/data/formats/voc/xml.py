"""One Pascal VOC XML file: parse it safely, render it."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdet.errors import InputError
from kdet.files import read_bytes

_MAX_BYTES = 16 * 2**20
_FORBIDDEN = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True)
class Thing:
    """One `<object>`."""

    name: str
    corners: tuple[float, float, float, float]
    """xmin ymin xmax ymax as in the file: counted from 1, last pixel included."""
    difficult: bool


@dataclass(frozen=True)
class Annotation:
    """One file."""

    file_name: str | None
    """File name of the image, as stated."""
    size_hw: tuple[int, int] | None
    """Image size as stated; None where it is missing or 0, as some tools leave it."""
    things: tuple[Thing, ...]


def parse(file: Path) -> Annotation:
    """Read one XML file.

    Raises:
        InputError: missing, no XML, with a document type or entities, or an object without name or numbers.
    """
    root = _root(file)
    size = root.find("size")
    width, height = (_whole(size.findtext(side)) if size is not None else 0 for side in ("width", "height"))
    return Annotation(
        file_name=(root.findtext("filename") or "").strip().replace("\\", "/") or None,
        size_hw=(height, width) if width > 0 and height > 0 else None,
        things=tuple(_thing(file, number, node) for number, node in enumerate(root.iter("object"), 1)),
    )


def render(file_name: str, size_hw: tuple[int, int], things: Sequence[Thing]) -> ET.Element:
    """Return the XML of one image."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = file_name.rpartition("/")[2]
    size = ET.SubElement(root, "size")
    for name, value in (("width", size_hw[1]), ("height", size_hw[0]), ("depth", 3)):
        ET.SubElement(size, name).text = str(value)
    for thing in things:
        node = ET.SubElement(root, "object")
        ET.SubElement(node, "name").text = thing.name
        ET.SubElement(node, "difficult").text = str(int(thing.difficult))
        box = ET.SubElement(node, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), thing.corners, strict=True):
            ET.SubElement(box, side).text = repr(int(value) if value == int(value) else value)
    ET.indent(root)
    return root


def _root(file: Path) -> ET.Element:
    content = read_bytes(file, _MAX_BYTES)
    if content is None:
        raise InputError(f"{file}: cannot be read (no such file)")
    # In UTF-16 and the like every character has NUL bytes; the check must see the letters.
    if _FORBIDDEN.search(content.replace(b"\0", b"")):
        raise InputError(f"{file}: XML with a document type or entities is refused; annotations need neither")
    try:
        root = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as problem:
        raise InputError(f"{file}: not XML ({problem}){_encoding(content) or '; mend it, or write it anew'}") from None
    if root.tag == "annotations" and root.find("image") is not None:
        raise InputError(
            f"{file}: CVAT's own format (CVAT for images), which kdet does not read; export the task from CVAT as "
            "COCO 1.0, "
            "Pascal VOC 1.1 or Ultralytics YOLO Detection 1.0"
        )
    if root.tag != "annotation":
        raise InputError(f"{file}: not a VOC annotation; its root is <{root.tag[:40]}>, expected <annotation>")
    return root


def _encoding(content: bytes) -> str:
    """What to do about text that is not UTF-8 and does not say what it is."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        if b"encoding=" not in content[:200]:
            return (
                "; it is not UTF-8 text and does not say what it is: begin it with "
                '<?xml version="1.0" encoding="gbk"?> (or latin-1, whichever it is), or save it as UTF-8'
            )
    return ""


def _thing(file: Path, number: int, node: ET.Element) -> Thing:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{file}: object {number} has no name; give it one, or take it out")
    texts = [node.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(text or "") for text in texts)
    except ValueError:
        raise InputError(
            f"{file}: object {number} ({name!r}) needs four numbers in bndbox, got {texts}; mend it, or take it out"
        ) from None
    return Thing(name, (x1, y1, x2, y2), (node.findtext("difficult") or "0").strip() == "1")


def _whole(text: str | None) -> int:
    """A pixel count, 0 where there is none."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and 0 < value < 2**31 else 0
