"""YOLO folders with anything in them: data.yaml, label files, and what else lies there."""

from collections.abc import Callable
from pathlib import Path

from hostile_cases import Words, pipe, put
from PIL import Image

GOOD = "path: .\ntrain: images\nnames: [cat, dog]\n"
LABELS = "0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n"
LABEL = Path("labels") / "a.txt"


def data_set(folder: Path, settings: str | bytes = GOOD, labels: str | bytes = LABELS) -> Path:
    """A YOLO folder of one image of 40×30 pixels."""
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
    put(folder / LABEL, labels)
    return put(folder / "data.yaml", settings)


def names(value: str) -> str:
    """data.yaml with other class names."""
    return f"train: images\nnames: {value}\n"


def train(value: str, path: str = ".") -> str:
    """data.yaml with other places."""
    return f"path: {path}\ntrain: {value}\nnames: [cat, dog]\n"


_LAUGHS = "a: &a [l, l, l, l, l, l, l, l]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"

SETTINGS: dict[str, tuple[str | bytes, Words]] = {
    "0 bytes": ("", "expected keys such as names"),
    "a word": ("images", "expected keys"),
    "a list": ("- images\n", "expected keys"),
    "bracket left open": ("names: [cat", "data.yaml:"),
    "tab": ("names:\n\t- cat\n", "data.yaml:2"),
    "NUL": (GOOD.encode() + b"\0", "data.yaml"),
    "Latin-1": (names("[Käfer]").encode("latin-1"), "UTF-8"),
    "an image": (b"\x89PNG\r\n\x1a\n", "data.yaml"),
    "XML": ("<annotation/>", "expected keys"),
    "two documents": (GOOD + "---\n" + GOOD, "data.yaml:"),
    "larger than any": ("# " + "x" * 2_000_000 + "\n" + GOOD, "larger than"),
    "python object": (names("!!python/object/apply:os.system ['touch pwned']"), "data.yaml:2"),
    "python name": (names("!!python/name:os.system"), "data.yaml:2"),
    "truth that is none": (names("[!!bool maybe]"), "data.yaml"),
    "date that is none": (names("[!!timestamp soon]"), "data.yaml"),
    "the 99th of a month": (names("[2001-13-99]"), "class 1 is none of 0…0"),
    "list as key": ("? [a]\n: 1\n" + GOOD, "data.yaml"),
    "alias": (_LAUGHS + GOOD, "aliases are refused"),
    "itself": (names("&a [*a]"), "aliases are refused"),
    "100,000 lists deep": (names("[" * 100_000), "nested far too deep"),
    # names
    "no names": ("train: images\n", "expected class names under 'names'"),
    "names a word": (names("cat"), "expected class names under 'names'"),
    "names a number": (names("2"), "expected class names under 'names'"),
    "names null": (names(""), "expected class names under 'names'"),
    "names of lists": (names("[[cat], [dog]]"), "expected class names under 'names'"),
    "names of nothing": (names("{0: , 1: dog}"), "expected class names under 'names'"),
    "nulls as names, both the same": (names("[~, ~]"), "'~' stands twice"),
    "names none": (names("[]"), "none of"),
    "names with a gap": (names("{0: cat, 2: dog}"), "without gaps"),
    "names from 1": (names("{1: cat, 2: dog}"), "without gaps"),
    "names by word": (names("{cat: 0, dog: 1}"), "without gaps"),
    "names negative": (names("{-1: cat, 0: dog}"), "without gaps"),
    "name twice": (names("[cat, cat]"), "'cat' stands twice"),
    "too few names": (names("[cat]"), "class 1 is none of 0…0"),
    "other count than names": (GOOD + "nc: 3\n", "nc: 3 classes, but 'names' has 2"),
    "keypoints a word": (GOOD + "kpt_shape: many\n", "kpt_shape: expected"),
    "keypoints an object": (GOOD + "kpt_shape: {a: 1}\n", "kpt_shape: expected"),
    "keypoints of four numbers": (GOOD + "kpt_shape: [17, 4]\n", "kpt_shape: expected"),
    "keypoints without end": (GOOD + "kpt_shape: [9999, 3]\n", "kpt_shape: expected"),
    "keypoints that are not there": (GOOD + "kpt_shape: [0, 3]\n", "kpt_shape: expected"),
    "keypoints below nothing": (GOOD + "kpt_shape: [-1, 3]\n", "kpt_shape: expected"),
    # places
    "no train": ("names: [cat, dog]\n", "names no images for 'train'"),
    "train null": (train("~"), "names no images"),
    "train none": (train("[]"), "names no images"),
    "train nowhere": (train("nowhere"), "'nowhere'"),
    "train a number": (train("5"), "'5'"),
    "train an object": (train("{a: images}"), "data.yaml names"),
    "train of nowhere": (train("[images, nowhere]"), "'nowhere'"),
    "train with NUL": (train('"a\\0b"'), "data.yaml names"),
    "train of 5,000 letters": (train("a" * 5000), "data.yaml names"),
    "train an address": (train("https://example.org/images.zip"), "data.yaml names"),
    "train an image": (train("images/a.png"), "expected a folder or a list of images"),
    "train a device": (train("/dev/zero"), "/dev/zero"),
    "train a binary file": (train("/bin/sh"), "/bin/sh"),
    "train the labels": (train("labels"), "no images for 'train'"),
    "train the passwords": (train("/etc/passwd"), "image"),
    "folders on both sides": (train("[images, /bin]"), "outside of it"),
}

LINES: dict[str, tuple[str | bytes, Words]] = {
    "a word": ("cat 0.5 0.5 0.2 0.2\n", "a.txt:1: expected numbers"),
    "commas": ("0, 0.5, 0.5, 0.2, 0.2\n", "a.txt:1: expected numbers"),
    "JSON": ('{"class": 0}\n', "a.txt:1: expected numbers"),
    "XML": ("<object/>\n", "a.txt:1: expected numbers"),
    "an image": (b"\x89PNG\r\n\x1a\n", "UTF-8"),
    "UTF-16": (LABELS.encode("utf-16"), "UTF-8"),
    "NUL bytes": (bytes(20), "a.txt:1: expected numbers"),
    "class alone": ("0\n", "a.txt:1: expected a class and four numbers"),
    "four numbers": ("0 0.5 0.5 0.2\n", "got 4"),
    "outline of three and a half": ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4\n", "got 8"),
    "second line cut": (LABELS + "1 0.5", "a.txt:3: expected a class"),
    "class 2 of two": ("2 0.5 0.5 0.2 0.2\n", "class 2 is none of 0…1"),
    "class negative": ("-1 0.5 0.5 0.2 0.2\n", "class -1 is none"),
    "class a half": ("0.5 0.5 0.5 0.2 0.2\n", "class 0.5 is none"),
    "class no number": ("nan 0.5 0.5 0.2 0.2\n", "class nan is none"),
    "class infinite": ("inf 0.5 0.5 0.2 0.2\n", "class inf is none"),
    "class of 400 digits": ("9" * 400 + " 0.5 0.5 0.2 0.2\n", "is none of"),
    "centre no number": ("0 nan 0.5 0.2 0.2\n", ("a.txt:1", "is not finite")),
    "centre infinite": ("0 0.5 inf 0.2 0.2\n", "is not finite"),
    "width beyond all numbers": ("0 0.5 0.5 1e400 0.2\n", "is not finite"),
    "width of 1e308": ("0 0.5 0.5 1e308 0.2\n", ("a.txt:1", "is not finite")),
    "negative width": ("0 0.5 0.5 -0.2 0.2\n", "negative size"),
    "pixels": ("0 20 15 8 6\n", "lies outside"),
    "corners": ("0 0.4 0.4 0.6 0.6\n0 0.9 0.9 0.99 0.99\n", ("a.txt:2", "lies outside")),
    "left of the image": ("0 -0.5 0.5 0.2 0.2\n", "lies outside"),
    "outline no number": ("0 0.1 0.1 nan 0.2 0.3 0.3\n", "is not finite"),
    "outline outside": ("0 0.1 0.1 5 0.2 0.3 0.3\n", "lies outside"),
    "larger than any": ("0 0.5 0.5 0.2 0.2\n" * 1_000_000, "larger than any such file"),
}


def listing(text: str) -> Callable[[Path], object]:
    """A good folder whose data.yaml names a list of images."""
    return lambda folder: (put(folder / "list.txt", text), put(folder / "data.yaml", train("list.txt")))


FOLDERS: dict[str, tuple[Callable[[Path], object], Words]] = {
    "no labels": (lambda folder: (folder / LABEL).unlink(), "no label files"),
    "no images": (lambda folder: (folder / "images/a.png").unlink(), "no images for 'train'"),
    "a pipe for labels": (lambda folder: pipe(folder / LABEL), "a.txt: not a plain file"),
    "a folder for labels": (lambda folder: ((folder / LABEL).unlink(), (folder / LABEL).mkdir()), "not a plain file"),
    "a device for labels": (
        lambda folder: ((folder / LABEL).unlink(), (folder / LABEL).symlink_to("/dev/zero")),
        "not a plain file",
    ),
    "a pipe for an image": (lambda folder: pipe(folder / "images/a.png"), "is not in"),
    "an image of 0 bytes": (lambda folder: put(folder / "images/a.png", b""), "cannot be read as an image"),
    "a pipe for a list": (
        lambda folder: (pipe(folder / "list.txt"), put(folder / "data.yaml", train("list.txt"))),
        "not a plain file",
    ),
    "list of nothing": (listing("\n\n"), "no images for 'train'"),
    "list of another image": (listing("images/b.png\n"), "is not in"),
    "list above": (listing("../a.png\n"), "lies outside"),
    "list far above": (listing("./../../../../etc/passwd\n"), "lies outside"),
    "list absolute": (listing("/etc/passwd\n"), "lies outside"),
    "list with NUL": (listing("images/a\0.png\n"), "image"),
    "list of 5,000 letters": (listing("a" * 5000), "is not in"),
    "list of loops": (listing("x/../x/../../../a.png\n"), "lies outside"),
    "list of bytes": (
        lambda folder: (put(folder / "list.txt", b"\xff\xfe\xff"), put(folder / "data.yaml", train("list.txt"))),
        "UTF-8",
    ),
}

HARMLESS: dict[str, tuple[str | bytes, str | bytes]] = {
    "byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), b"\xef\xbb\xbf" + LABELS.encode()),
    "path of another machine": (train("images", "/home/somebody/datasets/x"), LABELS),
    "path above": (train("images", "../../../.."), LABELS),
    "path with NUL": (train("images", '"a\\0b"'), LABELS),
    "path of 5,000 letters": (train("images", "a" * 5000), LABELS),
    "path a list": (train("images", "[a, b]"), LABELS),
    "train above, as exports say": (train("../images"), LABELS),
    "numbers as names": (names("[7, 8]"), LABELS),
    "truths as names": (names("[yes, no]"), LABELS),
    "halves and dates as names": (names("[1.5, 2001-13-99]"), LABELS),
    "digits without end as names": (names("[0x_, " + "9" * 5000 + "]"), LABELS),
    "a score behind the box": (GOOD, "0 0.5 0.5 0.2 0.2 0.9\n"),
    "a key of a download": (GOOD + "download: |\n  import os\n  os.system('touch pwned')\n", LABELS),
    "blank lines": (GOOD, "\n\n" + LABELS + "\n  \n"),
    "lines of Windows": (GOOD, LABELS.replace("\n", "\r\n")),
    "class as a float": (GOOD, "1.0 0.5 0.5 0.2 0.2\n"),
    "an outline": (GOOD, "0 0.1 0.1 0.5 0.1 0.5 0.5\n"),
}
