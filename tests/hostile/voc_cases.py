"""VOC annotations with anything in them. Name → one XML file's content, or what else lies in the folder; words."""

from collections.abc import Callable
from pathlib import Path

from hostile_cases import Words, pipe, put
from PIL import Image

GOOD = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>"
    "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>"
    "</annotation>"
)
FILE = Path("Annotations") / "a.xml"


def data_set(folder: Path, content: str | bytes) -> Path:
    """A VOC folder of one image of 40×30 pixels."""
    (folder / "JPEGImages").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / "a.png")
    put(folder / FILE, content)
    return folder


def named(name: str) -> str:
    """With another image name."""
    return GOOD.replace("a.png", name)


def side(name: str, value: str) -> str:
    """With another value for one side of the box."""
    old = {"xmin": "5", "ymin": "5", "xmax": "20", "ymax": "20"}[name]
    return GOOD.replace(f"<{name}>{old}<", f"<{name}>{value}<")


NOT_XML, ENTITIES, LEAVES = "not XML", "document type or entities is refused", "leaves the data set's folder"
_LAUGHS = "<!DOCTYPE a [<!ENTITY l0 'lol'>" + "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 12))

XML: dict[str, tuple[str | bytes, Words]] = {
    "0 bytes": ("", NOT_XML),
    "text": ("cat 5 5 20 20", NOT_XML),
    "JSON": ('{"images": []}', NOT_XML),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(40), NOT_XML),
    "NUL bytes": (bytes(100), NOT_XML),
    "cut in the middle": (GOOD[: len(GOOD) // 2], NOT_XML),
    "all but the last tag": (GOOD.removesuffix("</annotation>"), NOT_XML),
    "two roots": (GOOD + GOOD, NOT_XML),
    "wrong nesting": (GOOD.replace("</name><bndbox>", "<bndbox></name>"), NOT_XML),
    "attribute without quotes": (GOOD.replace("<object>", "<object id=1>"), NOT_XML),
    "attribute twice": (GOOD.replace("<object>", "<object a='1' a='2'>"), NOT_XML),
    "ampersand": (GOOD.replace("cat", "cat & dog"), NOT_XML),
    "entity of nobody": (GOOD.replace("cat", "&cat;"), NOT_XML),
    "control character": (GOOD.replace("cat", "c\x01t"), NOT_XML),
    "reference to NUL": (GOOD.replace("cat", "&#0;"), NOT_XML),
    "namespace of nobody": (GOOD.replace("<name>cat</name>", "<x:name>cat</x:name>"), NOT_XML),
    "Latin-1 that says UTF-8": (GOOD.replace("cat", "Käfer").encode("latin-1"), NOT_XML),
    "encoding of nobody": (f"<?xml version='1.0' encoding='klingon'?>{GOOD}", NOT_XML),
    "encoding that is none": (f"<?xml version='1.0' encoding='zlib'?>{GOOD}", NOT_XML),
    "UTF-7": (b"<?xml version='1.0' encoding='utf-7'?>+ADwAIQ-DOCTYPE a+AD4-<annotation/>", NOT_XML),
    "EBCDIC": (b"<?xml version='1.0' encoding='cp037'?>" + GOOD.encode("cp037"), NOT_XML),
    "declaration in the middle": (GOOD + "<?xml version='1.0'?>", NOT_XML),
    "billion laughs": (f"{_LAUGHS}]>{GOOD.replace('cat', '&l11;')}", ENTITIES),
    "quadratic blow-up": (f"<!DOCTYPE a [<!ENTITY a '{'a' * 9999}'>]>{GOOD.replace('cat', '&a;' * 9999)}", ENTITIES),
    "external entity": (
        f"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>{GOOD.replace('cat', '&x;')}",
        ENTITIES,
    ),
    "external address": (f"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'>{GOOD}", ENTITIES),
    "parameter entity": (f"<!DOCTYPE a [<!ENTITY % x SYSTEM 'file:///dev/zero'> %x;]>{GOOD}", ENTITIES),
    "document type alone": (f"<!DOCTYPE annotation>{GOOD}", ENTITIES),
    "document type in UTF-16": (f"<!DOCTYPE a [<!ENTITY a 'a'>]>{GOOD}".encode("utf-16"), ENTITIES),
    "document type in small letters": (f"<!doctype a>{GOOD}", ENTITIES),
    "another root": (GOOD.replace("annotation>", "annotations>"), "its root is <annotations>"),
    "a page of the web": ("<html><body>404</body></html>", "its root is <html>"),
    "an SVG": ("<svg/>", "its root is <svg>"),
    "larger than any": (GOOD.replace("cat", "c" * 17_000_000), "larger than any such file"),
    # what is in it
    "object without a name": (GOOD.replace("<name>cat</name>", ""), "object 1 has no name"),
    "object with an empty name": (GOOD.replace("cat", "  "), "object 1 has no name"),
    "object without a box": (GOOD.replace("bndbox>", "box>"), "needs four numbers"),
    "box without a side": (GOOD.replace("<xmax>20</xmax>", ""), "needs four numbers"),
    "box of words": (side("xmin", "left"), "needs four numbers"),
    "box of nothing": (side("ymin", ""), "needs four numbers"),
    "box in hexadecimal": (side("ymin", "0x5"), "needs four numbers"),
    "box with a comma": (side("xmax", "20,5"), "needs four numbers"),
    "box no number": (side("xmax", "nan"), "is not finite"),
    "box infinite": (side("ymax", "inf"), "is not finite"),
    "box of 400 digits": (side("ymax", "9" * 400), "is not finite"),
    "box reversed": (side("xmin", "30"), "negative size"),
    "box outside": (side("xmax", "60"), "lies outside its image of 40×30"),
    "box far left": (side("xmin", "-9"), "lies outside"),
    "class of the background alone": (GOOD.replace("cat", "__background__"), "stands for no object"),
    "no objects at all": (GOOD[: GOOD.index("<object>")] + "</annotation>", "no categories"),
    "size of another image": (GOOD.replace("<width>40", "<width>41"), "its annotation says 41×30"),
    # names
}


def listed(text: str) -> Callable[[Path], object]:
    """With a list of the training images."""
    return lambda folder: put(folder / "ImageSets" / "Main" / "train.txt", text)


FOLDERS: dict[str, tuple[Callable[[Path], object], Words]] = {
    "no images": (lambda folder: (folder / "JPEGImages" / "a.png").unlink(), "'a.png' of a.xml is not in"),
    "no XML": (lambda folder: (folder / FILE).unlink(), "no XML files"),
    "a pipe for XML": (lambda folder: pipe(folder / FILE), "a.xml: not a plain file"),
    "a folder for XML": (lambda folder: ((folder / FILE).unlink(), (folder / FILE).mkdir()), "not a plain file"),
    "a device for XML": (
        lambda folder: ((folder / FILE).unlink(), (folder / FILE).symlink_to("/dev/zero")),
        "not a plain file",
    ),
    "an image of 0 bytes": (lambda folder: put(folder / "JPEGImages" / "a.png", b""), "cannot be read as an image"),
    "list of nothing": (listed(""), "no"),
    "list of another": (listed("b\n"), "b.xml: cannot be read"),
    "list above": (listed("../a\n"), LEAVES),
    "list absolute": (listed("/etc/passwd\n"), LEAVES),
    "list with NUL": (listed("a\0b\n"), LEAVES),
    "list of 5,000 letters": (listed("a" * 5000), "cannot be read"),
    "list of bytes": (lambda folder: put(folder / "ImageSets/Main/train.txt", b"\xff\xfe\xff"), "cannot be read"),
    "a pipe for a list": (lambda folder: pipe(folder / "ImageSets/Main/train.txt"), "no split 'train'"),
    "only a list to validate": (lambda folder: put(folder / "ImageSets/Main/val.txt", "a\n"), "no split 'train'"),
    "an image above, and none of its own": (
        lambda folder: (put(folder / FILE, named("../a.png")), (folder / "JPEGImages/a.png").rename(folder / "a.png")),
        LEAVES,
    ),
    "an image of two files": (lambda folder: put(folder / "Annotations" / "b.xml", GOOD), "claimed by a.xml and b.xml"),
}

HARMLESS: dict[str, str | bytes] = {
    "UTF-16": GOOD.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "comments and instructions": f"<?xml version='1.0'?><!-- ]]> --><?php echo 1; ?>{GOOD}",
    "raw text": GOOD.replace("cat", "<![CDATA[<cat>&]]>"),
    "20,000 tags deep": GOOD.replace("<object>", "<x>" * 20_000 + "</x>" * 20_000 + "<object>"),
    "a name of another image": named("b.png"),
    "name above": named("../a.png"),
    "name far above": named("x/../../../etc/passwd"),
    "name absolute": named("/etc/passwd"),
    "name of Windows": named("C:\\photos\\a.png"),
    "name above, backwards": named("..\\..\\a.png"),
    "name the folder above": named(".."),
    "no name": GOOD.replace("<filename>a.png</filename>", ""),
    "no size": GOOD.replace("<width>40</width>", ""),
    "size no number": GOOD.replace("<width>40", "<width>nan"),
    "size of 40 digits": GOOD.replace("<width>40", "<width>" + "4" * 40),
    "halves of pixels": side("xmin", "5.5"),
    "difficult a word": GOOD.replace("<bndbox>", "<difficult>very</difficult><bndbox>"),
    "class with a line break": GOOD.replace("cat", "c\nat"),
    "a million spaces": GOOD.replace("<object>", " " * 1_000_000 + "<object>"),
}
