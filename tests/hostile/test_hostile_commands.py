"""The same by the command line, for cases out of every table: status 2, one line on standard error, nothing written."""

from collections.abc import Callable
from pathlib import Path

import coco_cases
import pytest
import voc_cases
import yolo_cases
from checkpoint_cases import TORCH
from hostile_cases import contents, put
from image_cases import BROKEN
from recipe_text_cases import GOOD, TEXTS
from recipe_value_cases import VALUES
from run_folder_cases import TEXTS as FILES
from run_folder_cases import run_folder

from cli.cli_cases import Command, in_own_process
from fakes import tiny_recipe, write_yaml

RECIPES = ["empty file", "python object", "billion laughs", "list as key", "the 99th of a month", "a PNG", "NUL byte"]
SETTINGS = ["train with NUL", "train with 5,000 letters", "size infinite", "seed of 70 bits", "teacher a device"]
COCO = ["0 bytes", "100,000 lists deep", "image name with terminal codes", "class id of 70 bits", "image name above"]
VOC = ["billion laughs", "external entity", "cut in the middle", "size of another image", "EBCDIC"]
YOLO = ["python object", "alias", "truth that is none", "train a device", "names a number"]
IMAGES = ["0 bytes", "PNG of 60,000 × 60,000", "JPEG, half", "PostScript"]
WEIGHTS = ["payload", "payload in the old form", "zip bomb", "0 bytes", "numbers as keys"]
RUNS = ["log 100,000 deep", "recipe of laughs", "step infinite", "metrics of 5,000 digits", "picture above"]

Arguments = list[str]


def for_recipe(name: str, folder: Path) -> Arguments:
    put(folder / "r.yaml", TEXTS[name][0])
    return ["train", "r.yaml"]


def for_setting(name: str, folder: Path) -> Arguments:
    put(folder / "r.yaml", GOOD)
    given = VALUES[name][0]
    overrides = [given] if isinstance(given, str) else list(given)
    return ["check" if "seed" in name else "distill" if len(overrides) > 1 else "train", "r.yaml"] + [
        word for override in overrides for word in ("-o", override)
    ]


def for_coco(name: str, folder: Path) -> Arguments:
    coco_cases.data_set(folder, coco_cases.CASES[name][0])
    return ["data", "inspect", "a.json"]


def for_voc(name: str, folder: Path) -> Arguments:
    voc_cases.data_set(folder, voc_cases.XML[name][0])
    return ["data", "convert", ".", "new", "--to", "coco", "--format", "voc"]


def for_yolo(name: str, folder: Path) -> Arguments:
    yolo_cases.data_set(folder, yolo_cases.SETTINGS[name][0])
    return ["data", "convert", "data.yaml", "new", "--to", "coco"]


def for_image(name: str, folder: Path) -> Arguments:
    coco_cases.data_set(folder, coco_cases.GOOD)
    put(folder / "images" / "a.png", BROKEN[name][0]())
    data = {"format": "coco", "train": "a.json", "val": "a.json", "image_size": 64}
    write_yaml(folder / "r.yaml", {**tiny_recipe(), "data": data})
    return ["train", "r.yaml", "--run", "run", "-o", "train.workers=1" if name == "JPEG, half" else "train.workers=0"]


def for_weights(name: str, folder: Path) -> Arguments:
    put(folder / "w.pt", TORCH[name][0](folder / "it-ran"))
    put(folder / "r.yaml", GOOD)
    return ["train", "r.yaml", "-o", "student.weights=w.pt"]


def for_run(name: str, folder: Path) -> Arguments:
    file, content, _ = FILES[name]
    put(run_folder(folder / "run") / file, content)
    return ["report", "run"]


CASES: dict[str, tuple[Callable[[str, Path], Arguments], list[str]]] = {
    "recipe": (for_recipe, RECIPES),
    "setting": (for_setting, SETTINGS),
    "COCO": (for_coco, COCO),
    "VOC": (for_voc, VOC),
    "YOLO": (for_yolo, YOLO),
    "image": (for_image, IMAGES),
    "weights": (for_weights, WEIGHTS),
    "run folder": (for_run, RUNS),
}
ALL = [(kind, name) for kind, (_, names) in CASES.items() for name in names]


def test_there_are_forty() -> None:
    assert len(ALL) >= 40


USUAL = ("data: ", "run: ", "canvas: ", "optimizer: ", "train.workers: ")
"""What a good run says first, too."""


@pytest.mark.parametrize(("kind", "name"), ALL, ids=lambda value: value)
def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    kdet = Command(tmp_path, monkeypatch, capsys)
    arguments = CASES[kind][0](name, tmp_path)
    before = contents(tmp_path)
    ended = kdet(*arguments)
    assert ended.status == 2, ended
    *notes, line = ended.err.splitlines()
    assert line.startswith("kdet: ") and line.isprintable() and "Traceback" not in ended.err
    assert ended.out == "" and all(note.startswith(USUAL) for note in notes)
    assert contents(tmp_path) == before


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name"), [("recipe", "python object"), ("VOC", "EBCDIC")])
def test_command_in_a_process_of_its_own(tmp_path: Path, kind: str, name: str) -> None:
    arguments = CASES[kind][0](name, tmp_path)
    before = contents(tmp_path)
    ended = in_own_process(*arguments, folder=tmp_path)
    assert ended.status == 2 and ended.out == "" and ended.err.count("\n") == 1, ended
    assert contents(tmp_path) == before
