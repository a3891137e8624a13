"""The commands of README and docs are run as they stand there, page by page, in a folder with tiny data.

All are run but these, which other tests run or nobody can: whole studies (demo, compare, search), what is named only
by a WORD in capitals, COCO and its downloads, several processes, and the replay of a step that broke.
DATA stands for the data set of the guide to own data. Run folders that a page takes for granted are copies of one tiny
run, on the page about export of one that finds something, and every training is two steps long. That page's Python
reads the files which its commands have written.
"""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from cli_cases import Command, Ended
from PIL import Image

from doc_snippets import PAGES, ROOT, blocks, command_lines, of, run_python
from export_fakes import require, run_that_finds
from fakes import write_yaml

STUDIES = {"demo", "compare", "search"}
TRAINING = {"train", "distill", "check"}
TWO_STEPS = ("max_steps=2", "batch_size=2", "evaluate_every=0", "workers=0", "precision=fp32")
FEW_IMAGES = ("images=6", "val_images=3")
SETS = ("my-data", "shared/data/bccd")
"""Data sets that pages name, relative to the folder above the checkout."""


def is_run(words: list[str]) -> bool:
    """Whether it is run; all others are read by tests/test_docs.py."""
    text = " ".join(words).replace("DATA", "")
    spoken_of = re.search(r"\b[A-Z]{3,}\b", text) or "|" in text
    return words[0] == "kdet" and not (
        words[1] in STUDIES or spoken_of or "recipes/coco" in text or "--replay" in words
    )


def commands(page: Path) -> list[list[str]]:
    return [words for script in of(page, "bash") for words in command_lines(script) if is_run(words)]


RUN = [page for page in PAGES if commands(page)]


@pytest.fixture
def checkout(job: dict[str, Ended | Path], kdet: Command) -> Path:
    """A folder with our recipes, the recipes that the guide has the reader write, and the data beside it."""
    made = job["folder"]
    assert isinstance(made, Path)
    root = kdet.folder / "checkout"
    root.mkdir()
    kdet.patch.chdir(root)
    (root / "recipes").symlink_to(ROOT / "recipes")
    for name in SETS:
        shutil.copytree(made / "shapes", kdet.folder / name)
    shutil.copytree(made / "shapes" / "images", root / "photos")
    guide = blocks(ROOT / "docs" / "guides" / "own-data.md")
    (data,) = (yaml.safe_load(snippet.text) for snippet in guide if snippet.kind == "yaml")
    for name, like in (("teacher", "retinanet_teacher"), ("student", "retinanet_structural")):
        recipe = yaml.safe_load((ROOT / "recipes" / "bccd" / f"{like}.yaml").read_text(encoding="utf-8")) | data
        if name == "student":
            recipe |= {"teacher": {"run": "runs/my-teacher"}}
        write_yaml(root / f"my-{name}.yaml", recipe)
    return root


def tiny_options(words: list[str]) -> list[str]:
    """What makes a command short, and its recipe small."""
    if words[1] == "speed":
        return ["--seconds", "0.1", "--no-memory"]
    if words[1] not in TRAINING:
        return []
    recipe = yaml.safe_load(Path(words[2]).read_text(encoding="utf-8"))
    few = FEW_IMAGES if recipe["data"]["format"] == "shapes" else ()
    settings = [*(f"train.{one}" for one in TWO_STEPS), *(f"data.{one}" for one in ("image_size=64", *few))]
    return [part for setting in settings for part in ("-o", setting)]


def provide_runs(words: list[str], tiny_run: Path) -> None:
    """Run folders that the command reads and no command before it has made."""
    named = [word for word in words if word.startswith("runs/")] if words[1] not in TRAINING else []
    if words[1] in ("distill", "check"):
        named.append(yaml.safe_load(Path(words[2]).read_text(encoding="utf-8"))["teacher"]["run"])
    for folder in named:
        if not Path(folder).exists():
            shutil.copytree(tiny_run, folder)


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_that_finds(tmp_path_factory.mktemp("finding"))


@pytest.mark.long
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(
    page: Path, checkout: Path, job: dict[str, Ended | Path], kdet: Command, finding: Path
) -> None:
    made = job["folder"]
    assert isinstance(made, Path)
    if page.stem == "export":
        require("onnx")
    for words in commands(page):
        provide_runs(words, finding if page.stem in ("export", "any-pair") else made / "runs" / "teacher")
        ended = kdet(*("../my-data" if word == "DATA" else word for word in words[1:]), *tiny_options(words))
        # What a check finds in a student of no training may be worth a warning, which --strict does not let pass.
        assert ended.status in ({0, 1} if "--strict" in words else {0}), f"{' '.join(words)}: {ended.err}"
        if "--run" in words:
            assert (checkout / words[words.index("--run") + 1] / "student.safetensors").is_file()
        if "--out" in words:
            assert (checkout / words[words.index("--out") + 1]).exists()
    if page.stem == "export":
        Image.effect_noise((120, 90), 40).save("photo.jpg")
        run_python(page)


def test_most_pages_with_commands_are_among_them() -> None:
    assert {"README", "own-data", "any-pair", "checking", "long-runs", "reading-the-report"} <= {p.stem for p in RUN}
