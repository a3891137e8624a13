"""The papers' tables: every row trains, tiny, on a COCO tree of the real layout, beside the published number."""

import hashlib
import importlib.util
import json
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from fakes import tiny
from kdet.errors import InputError
from kdet.train import Recipe, fit, read_recipe
from kdet.train.state.run_folder import save_student
from kdet.workflows.compare import arms as study_arms
from kdet.workflows.compare.arms import recipe_for, require_buildable, usual_arms
from kdet.workflows.compare.run import compare, table
from workflows.compare_cases import Here

FOLDER = Path(__file__).resolve().parents[1] / "recipes" / "papers"
TABLES = sorted(FOLDER.glob("*.yaml"))
FIRST = ("structural_faster_rcnn", "structural_components", "rm_pfi_gfl", "rm_pfi_imitation")
"""One of each kind; the long suite trains the rows of all."""
every_table = pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)

PUBLISHED = {
    "structural_retinanet": {"none": 0.364, "l1": 0.387, "ssim": 0.401},
    "structural_faster_rcnn": {"none": 0.374, "l1": 0.386, "ssim": 0.409, "ssim-without-adapter": 0.398},
    "structural_retinanet_r18": {"none": 0.326, "ssim": 0.361},
    "structural_retinanet_2x": {"none": 0.374, "ssim": 0.406},
    "structural_components": {"none": 0.364, "structure": 0.396, "contrast-structure": 0.400, "ssim": 0.401},
    "structural_choices": {"none": 0.364, "weight-4": 0.401},
    "rm_pfi_retinanet": {"none": 0.369, "rm-pfi": 0.404},
}
"""Of all that was published what is known to us."""


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO 2017's own layout: annotations/instances_*.json beside train2017/ and val2017/, classes with gaps."""
    root = tmp_path_factory.mktemp("coco")
    generator = torch.Generator().manual_seed(5)
    (root / "annotations").mkdir()
    for split, count in (("train2017", 4), ("val2017", 2)):
        (root / split).mkdir()
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
        for i in range(count):
            name, number = f"{i:012}.jpg", 100 + i
            pixels = torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(root / split / name)
            content["images"].append({"id": number, "file_name": name, "height": 90, "width": 120})
            for box, kind in (([10, 15, 60, 50], 1), ([50, 20, 64, 64], 13)):
                note = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": kind, "iscrowd": 0}
                content["annotations"].append({**note, "bbox": box, "area": box[2] * box[3]})
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def small(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A table at a tiny size: two steps, narrow networks, the same data layout, arms and everything else."""

    @cache
    def teacher(detector: str, p6: str) -> Path:
        folder = tmp_path_factory.mktemp("teacher")
        classes = ("person", "stop sign")
        made = tiny(detector, classes=classes, seed=2, width=0.5, fpn_channels=64, anchor_scale=1.0, p6=p6)
        save_student(made, made.native_state(), folder / "teacher.safetensors")
        return folder / "teacher.safetensors"

    def made(path: Path) -> Recipe:
        whole = read_recipe(path)
        detector = "cascade_rcnn" if "cascade" in str(whole.teachers[0].run) else whole.student.detector  # type: ignore[union-attr]
        annotations = coco / "annotations"
        return read_recipe(
            path,
            (
                f"data.train={annotations / 'instances_train2017.json'}",
                f"data.val={annotations / 'instances_val2017.json'}",
                "data.image_size=96",
                *("student.backbone=resnet10", "student.width=0.25", "student.backbone_weights=null"),
                *("student.norm=batch", "student.trainable_layers=5", "student.fpn_channels=64"),
                f"teacher.run={teacher(detector, whole.student.p6)}",
                *("train.max_steps=2", "train.batch_size=2", "train.workers=0", "train.evaluate_every=0"),
            ),
        )

    return made


def arms_of(recipe: Recipe) -> Any:
    return study_arms.arms_of(recipe, usual_arms(recipe))


@every_table
def test_a_table_states_the_set_up_of_its_paper(path: Path):
    recipe = read_recipe(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# kdet compare recipes/papers/{path.name} ") and len(text.splitlines()) <= 40
    assert {name: one.AP for name, one in recipe.expected.items()} == PUBLISHED.get(path.stem, {})
    assert all(one.source.startswith("arXiv 2") for one in recipe.expected.values())
    assert recipe.data.image_size == (800, 1333) and recipe.data.augment.flip == 0.5
    assert (recipe.student.norm, recipe.student.trainable_layers) == ("eval", 3)
    assert recipe.student.p6 == ("c5" if recipe.student.detector == "retinanet" else "p5")
    assert (recipe.train.lr_schedule, recipe.train.batch_size) == ("step", 16)
    assert recipe.train.epochs == (24 if path.stem.endswith("2x") else 12)
    assert recipe.train.lr == (0.02 if recipe.student.detector == "faster_rcnn" else 0.01)
    assert "python recipes/papers/prepare.py coco" in text and "kdet train recipes/papers/" in text


@pytest.mark.parametrize("path", [path for path in TABLES if path.stem in FIRST], ids=lambda path: path.stem)
def test_every_row_can_be_built(path: Path, small: Any):
    recipe = small(path)
    arms = arms_of(recipe)
    assert [arm.name for arm in arms] == ["none", *recipe.arms]
    require_buildable(recipe, arms)


@pytest.mark.long
@every_table
def test_every_row_trains_two_steps(path: Path, small: Any, tmp_path: Path):
    recipe = small(path)
    for arm in arms_of(recipe):
        outcome = fit(recipe_for(recipe, arm, 0), tmp_path / arm.name)
        assert outcome.steps == 2 and 0 <= outcome.metrics["AP"] <= 1


def test_a_table_prints_the_published_number_beside_each_row(small: Any, tmp_path: Path):
    recipe = small(FOLDER / "structural_retinanet_r18.yaml")
    result = compare(recipe, usual_arms(recipe), num_seeds=1, out=tmp_path / "out", pool=Here())
    assert [row["name"] for row in result["arms"]] == ["none", "ssim"]
    assert [row["expected"]["AP"] for row in result["arms"]] == [0.326, 0.361]
    lines = table(result).splitlines()
    for name, published in (("none", "0.326"), ("ssim", "0.361")):
        (row,) = (line for line in lines if line.startswith(f"{name} ") and "published" in line)
        assert row.endswith(f"published {published}")
    source = recipe.expected["none"].source
    assert f"published, none, ssim: {source}" in lines
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("published <data") == 2 and source in page
    kept = read_recipe(tmp_path / "out" / result["runs"]["ssim"][0]["folder"] / "recipe.yaml")
    assert not kept.arms and not kept.expected
    bare = {**result, "arms": [{**row, "expected": None} for row in result["arms"]]}
    assert "published" not in table(bare)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"none": {"AP": 0.3}}, r"r.yaml:\d+: expected.none.source: Field required"),
        ({"none": {"AP": 0.3, "source": ""}}, r"r.yaml:\d+: expected.none.source"),
        ({"none": {"AP": 30.0, "source": "a paper"}}, r"r.yaml:\d+: expected.none.AP"),
        ({"ssmi": {"AP": 0.3, "source": "a paper"}}, r"expected: ssmi: is neither `none` nor under `arms:`"),
    ],
)
def test_a_number_needs_a_source_and_an_arm(expected: dict[str, Any], message: str, tmp_path: Path):
    lines = (FOLDER / "structural_retinanet_r18.yaml").read_text(encoding="utf-8").splitlines()
    cut = lines.index("expected:")
    kept = [line for line in lines[cut:] if not line.startswith(("expected:", "  none:", "  ssim:"))]
    text = "\n".join([*lines[:cut], f"expected: {json.dumps(expected)}", *kept])
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(caught.value)


@every_table
def test_without_its_data_a_table_names_the_script_that_prepares_them(path: Path, tmp_path: Path):
    recipe = read_recipe(path, (f"data.train={tmp_path / 'nowhere.json'}",))
    with pytest.raises(InputError) as caught:
        require_buildable(recipe, arms_of(recipe))
    assert str(caught.value) == (
        f"data.train: {tmp_path / 'nowhere.json'} does not exist yet; make it first: "
        "python recipes/papers/prepare.py coco"
    )


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", FOLDER / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module
    spec.loader.exec_module(module)
    return module


class Served(BaseHTTPRequestHandler):
    """One archive, from a byte on where that is asked for."""

    content: ClassVar[bytes] = b""
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        start = self.headers.get("Range")
        self.asked.append(start)
        first = int(start.removeprefix("bytes=").rstrip("-")) if start else 0
        if first >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - first))
        self.end_headers()
        self.wfile.write(self.content[first:])

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as made:
        made.writestr("val2017/1.jpg", b"pixels" * 1000)
    Served.content, Served.asked = (tmp_path / "made.zip").read_bytes(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/zips/val2017.zip"
    server.shutdown()
    server.server_close()


def archive(script: ModuleType, url: str, md5: str | None = None) -> Any:
    return script.Archive(url, md5 or hashlib.md5(Served.content).hexdigest(), "val2017")


def test_an_archive_is_fetched_checked_unpacked_and_then_left_alone(script: ModuleType, served: str, tmp_path: Path):
    for _ in range(2):
        script.prepare((archive(script, served),), tmp_path / "coco")
    assert (tmp_path / "coco" / "val2017" / "1.jpg").read_bytes() == b"pixels" * 1000
    assert Served.asked == [None]


def test_a_broken_download_goes_on_where_it_ended(script: ModuleType, served: str, tmp_path: Path):
    folder = tmp_path / "coco"
    folder.mkdir()
    (folder / "val2017.zip.part").write_bytes(Served.content[:50])
    script.prepare((archive(script, served),), folder)
    assert Served.asked == ["bytes=50-"] and (folder / "val2017.zip").read_bytes() == Served.content
    (folder / "val2017.zip").rename(folder / "val2017.zip.part")
    (folder / ".val2017.zip.unpacked").unlink()
    script.prepare((archive(script, served),), folder)  # all of it is there, but for its name
    assert Served.asked[-1] == f"bytes={len(Served.content)}-" and (folder / "val2017.zip").exists()


def test_what_is_not_the_archive_is_refused_in_one_line(
    script: ModuleType, served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(script.DATA_SETS, "coco", (archive(script, served, "0" * 32),))
    assert script.main(["coco", "--to", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"expected {'0' * 32}; delete the file and start again" in said
    assert not (tmp_path / "coco" / "val2017").exists()


def test_no_connection_is_one_line(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    nobody = script.Archive("http://127.0.0.1:9/zips/val2017.zip", "0" * 32, "val2017")
    monkeypatch.setitem(script.DATA_SETS, "coco", (nobody,))
    assert script.main(["coco", "--to", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "start again later, or put the file there by hand" in said


def test_the_archives_are_those_of_the_recipes(script: ModuleType):
    wanted = read_recipe(FOLDER / "structural_retinanet.yaml").data
    for split in ("train", "val"):
        path: Path = getattr(wanted, split)
        assert path.is_relative_to("../data/coco") and (path.parent.name, path.name) == (
            "annotations",
            f"instances_{split}2017.json",
        )
    unpacked = [one.unpacked for one in script.DATA_SETS["coco"]]
    assert unpacked == ["annotations/instances_train2017.json", "val2017", "train2017"]
