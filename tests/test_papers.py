"""The papers' tables: every row trains, tiny, on a COCO or VOC tree of the real layout, beside the published number."""

import hashlib
import importlib.util
import json
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from fakes import tiny
from kdet.cli.options import metrics_table
from kdet.errors import InputError
from kdet.evaluate import VOC_NAMES
from kdet.report import run_page
from kdet.train import Recipe, fit, open_data, read_recipe
from kdet.train.state.run_folder import save_student
from kdet.workflows.compare import arms as study_arms
from kdet.workflows.compare.arms import recipe_for, require_buildable, usual_arms
from kdet.workflows.compare.run import compare, table
from workflows.compare_cases import Here

FOLDER = Path(__file__).resolve().parents[1] / "recipes" / "papers"
TABLES = sorted(FOLDER.glob("*.yaml"))
OTHER_DEPTHS = re.compile(r"_r(18|50)_r(101|152)$")
DIFFERENT = [path for path in TABLES if not OTHER_DEPTHS.search(path.stem)]
"""The other tables are these with other ResNets, and so the same when they are small."""
FIRST = ("structural_faster_rcnn", "structural_components", "rm_pfi_gfl", "rm_pfi_imitation", "rm_pfi_voc_fcos")
"""One of each kind; the long suite trains the rows of all that differ."""
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
CLASSES = ("person", "tvmonitor")
BOXES = ((10, 15, 60, 50), (50, 20, 64, 64))
"""x y width height of an object of either class, on images of 120×90."""


def picture(file: Path, generator: torch.Generator) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8, generator=generator)
    Image.fromarray(pixels.numpy()).save(file)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO 2017's own layout: annotations/instances_*.json beside train2017/ and val2017/, classes with gaps."""
    root = tmp_path_factory.mktemp("coco")
    generator = torch.Generator().manual_seed(5)
    (root / "annotations").mkdir()
    for split, count in (("train2017", 4), ("val2017", 2)):
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [{"id": 1, "name": CLASSES[0]}, {"id": 13, "name": CLASSES[1]}]
        for i in range(count):
            name, number = f"{i:012}.jpg", 100 + i
            picture(root / split / name, generator)
            content["images"].append({"id": number, "file_name": name, "height": 90, "width": 120})
            for box, kind in zip(BOXES, (1, 13), strict=True):
                note = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": kind, "iscrowd": 0}
                content["annotations"].append({**note, "bbox": box, "area": box[2] * box[3]})
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def voc_year(folder: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """A year of VOC's own layout, with the list of one class beside those of all, as it has them."""
    generator = torch.Generator().manual_seed(7)
    for name in sorted({name for names in lists.values() for name in names}):
        picture(folder / "JPEGImages" / f"{name}.jpg", generator)
        objects = "".join(
            f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>"
            for kind, (x, y, width, height) in zip(CLASSES, BOXES, strict=True)
        )
        size = "<size><width>120</width><height>90</height><depth>3</depth></size>"
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        )
    for split, names in lists.items():
        for file, text in ((f"{split}.txt", "{}\n"), (f"{CLASSES[0]}_{split}.txt", "{}  1\n")):
            (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
            (folder / "ImageSets" / "Main" / file).write_text("".join(text.format(name) for name in names))


YEARS = {
    "VOC2007": {"train": ["000005"], "val": ["000007"], "trainval": ["000005", "000007"], "test": ["000001"]},
    "VOC2012": {"train": ["2008_000008"], "val": ["2008_000015"], "trainval": ["2008_000008", "2008_000015"]},
}
"""The images of VOC's years, of which the list `train` is a part that the tables do not mean."""


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voc") / "VOCdevkit"
    for year, lists in YEARS.items():
        voc_year(root / year, lists)
    return root


def voc_data(root: Path) -> tuple[str, ...]:
    trainval = [str(root / year / "ImageSets" / "Main" / "trainval.txt") for year in YEARS]
    return (
        f"data.train={json.dumps(trainval)}",
        f"data.val={root / 'VOC2007' / 'ImageSets' / 'Main' / 'test.txt'}",
    )


@pytest.fixture(scope="module")
def small(coco: Path, voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A table at a tiny size: two steps, narrow networks, the same data layout, arms and everything else."""

    @cache
    def teacher(detector: str, p6: str) -> Path:
        folder = tmp_path_factory.mktemp("teacher")
        made = tiny(detector, classes=CLASSES, seed=2, width=0.5, fpn_channels=64, anchor_scale=1.0, p6=p6)
        save_student(made, made.native_state(), folder / "teacher.safetensors")
        return folder / "teacher.safetensors"

    def made(path: Path) -> Recipe:
        whole = read_recipe(path)
        detector = "cascade_rcnn" if "cascade" in str(whole.teachers[0].run) else whole.student.detector  # type: ignore[union-attr]
        files = voc_data(voc)
        if whole.data.format == "coco":
            splits = ("train", "val")
            files = tuple(f"data.{split}={coco / 'annotations' / f'instances_{split}2017.json'}" for split in splits)
        return read_recipe(
            path,
            (
                *files,
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
    header = " ".join(line.removeprefix("# ").strip() for line in text.splitlines() if line.startswith("#"))
    assert text.startswith(f"# kdet compare recipes/papers/{path.name} ") and len(text.splitlines()) <= 48
    assert {name: one.AP for name, one in recipe.expected.items()} == PUBLISHED.get(path.stem, {})
    assert all(one.source.startswith("arXiv 2") for one in recipe.expected.values())
    for one in recipe.expected.values():
        assert f"{100 * one.AP:.1f}" in header
    assert ("[S]" in header) if recipe.expected else "Expected AP: not known to us" in header
    assert "Memory" in header and "not measured" in header
    voc = recipe.data.format == "voc"
    assert recipe.data.image_size == ((600, 1000) if voc else (800, 1333)) and recipe.data.augment.flip == 0.5
    assert (recipe.student.norm, recipe.student.trainable_layers, recipe.student.inherit) == ("eval", 3, None)
    assert recipe.student.p6 == ("c5" if recipe.student.detector == "retinanet" else "p5")
    assert (recipe.train.lr_schedule, recipe.train.batch_size, recipe.train.warmup_steps) == ("step", 16, 500)
    assert recipe.train.epochs == (24 if path.stem.endswith("2x") else 12)
    assert recipe.train.lr == (0.02 if recipe.student.detector == "faster_rcnn" else 0.01)
    assert f"python recipes/papers/prepare.py {'voc' if voc else 'coco'}" in header
    assert f"kdet train recipes/papers/{path.name}" in header and f"--run {recipe.teachers[0].run}" in header  # type: ignore[union-attr]
    depths = OTHER_DEPTHS.search(path.stem)
    student, teacher = depths.groups() if depths else (recipe.student.backbone.removeprefix("resnet"), "101")  # type: ignore[union-attr]
    unlike = path.stem == "structural_faster_rcnn"
    assert recipe.student.backbone == f"resnet{student}" and recipe.student.backbone_weights == (
        f"ResNet{student}_Weights.IMAGENET1K_V1"
    )
    assert f"student.backbone={'resnext101_64x4d' if unlike else f'resnet{teacher}'}" in header


def test_the_tables_of_both_papers_are_there():
    detectors, depths = ("retinanet", "fcos", "atss", "gfl"), ("", "_r50_r152", "_r18_r101", "_r18_r152")
    structural = ("retinanet", "retinanet_r18", "retinanet_2x", "faster_rcnn", "components", "choices")
    assert {path.stem for path in TABLES} == {
        *(f"structural_{name}" for name in structural),
        *(f"rm_pfi_{data}{name}{pair}" for data in ("", "voc_") for name in detectors for pair in depths),
        *("rm_pfi_imitation", "rm_pfi_ranks"),
    }
    arms = {path.stem: read_recipe(path).arms for path in TABLES}
    components = [
        tuple(getattr(t, k) for k in ("alpha", "beta", "gamma")) for (t,) in arms["structural_components"].values()
    ]
    assert sorted(components) == [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1) if a or b or c]
    unlike = arms["structural_faster_rcnn"]
    assert [term.adapter for (term,) in unlike.values()] == [*["identity-start"] * 3, "never"]  # type: ignore[attr-defined]


@pytest.mark.long
@pytest.mark.parametrize("path", [path for path in TABLES if path.stem in FIRST], ids=lambda path: path.stem)
def test_every_row_can_be_built(path: Path, small: Any):
    recipe = small(path)
    arms = arms_of(recipe)
    assert [arm.name for arm in arms] == ["none", *recipe.arms]
    require_buildable(recipe, arms)


@pytest.mark.long
@pytest.mark.parametrize("path", DIFFERENT, ids=lambda path: path.stem)
def test_every_row_trains_two_steps(path: Path, small: Any, tmp_path: Path):
    recipe = small(path)
    for arm in arms_of(recipe):
        outcome = fit(recipe_for(recipe, arm, 0), tmp_path / arm.name)
        assert outcome.steps == 2 and 0 <= outcome.metrics["AP"] <= 1
        own = [outcome.metrics[name] for name in VOC_NAMES if name in outcome.metrics]
        assert len(own) == (2 if recipe.data.format == "voc" else 0) and all(0 <= ap <= 1 for ap in own)


@pytest.mark.parametrize(
    "path", [path for path in TABLES if OTHER_DEPTHS.search(path.stem)], ids=lambda path: path.stem
)
def test_other_depths_are_the_same_table(path: Path):
    """So that the rows of one speak for all."""
    first = read_recipe(FOLDER / f"{OTHER_DEPTHS.sub('', path.stem)}.yaml")
    own = read_recipe(path)
    student = {"backbone": first.student.backbone, "backbone_weights": first.student.backbone_weights}
    assert own.student.model_copy(update=student) == first.student
    assert (own.data, own.arms, own.train) == (first.data, first.arms, first.train) and not own.expected


def test_voc_trains_on_both_years_and_is_judged_by_its_own_metric_too(small: Any, tmp_path: Path):
    recipe = small(FOLDER / "rm_pfi_voc_retinanet.yaml")
    splits = open_data(recipe)
    train, val = splits.train, splits.val
    assert train.index.classes == val.index.classes == CLASSES
    names = [train.index.file_names[i] for i in range(4)]
    assert names == [f"{year}/JPEGImages/{name}.jpg" for year in YEARS for name in YEARS[year]["trainval"]]
    assert val.index.boxes_xyxy.tolist() == [[10, 15, 70, 65], [50, 20, 114, 84]]  # counted from 1 in the files
    assert val.index.file_names[0] == "000001.jpg"
    result = compare(recipe, ["rm"], num_seeds=1, out=tmp_path / "out", pool=Here())
    measured = result["breakdown"]["voc"]
    assert list(measured) == list(VOC_NAMES) and measured["AP50_VOC2007"].keys() == {"none", "rm"}
    lines = table(result).splitlines()
    assert (
        f"AP50_VOC2007: none {measured['AP50_VOC2007']['none']:.3f}, rm {measured['AP50_VOC2007']['rm']:.3f}" in lines
    )
    assert "Pascal VOC&#39;s own AP" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    folder = tmp_path / "out" / result["runs"]["rm"][0]["folder"]
    assert "AP50_VOC2007" in run_page([folder]) and "AP50_VOC2007" in metrics_table(
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    )


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
        ({"none": {"AP": 0.3}}, r"r.yaml:\d+: expected.none.source: needed, and not given"),
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
        f"python recipes/papers/prepare.py {recipe.data.format}"
    )


def test_one_year_that_is_missing_is_named(voc: Path, tmp_path: Path):
    lists = [str(voc / "VOC2007" / "ImageSets" / "Main" / "trainval.txt"), str(tmp_path / "trainval.txt")]
    recipe = read_recipe(FOLDER / "rm_pfi_voc_fcos.yaml", (*voc_data(voc), f"data.train={json.dumps(lists)}"))
    with pytest.raises(
        InputError, match=f"^data.train: {lists[1]} does not exist yet; make it first: .*papers/prepare.py voc$"
    ):
        require_buildable(recipe, arms_of(recipe))


def test_years_that_spell_a_class_in_two_ways_are_named(voc: Path, tmp_path: Path):
    other = tmp_path / "VOC2012"
    voc_year(other, {"trainval": ["1"]})
    file = other / "Annotations" / "1.xml"
    file.write_text(file.read_text().replace("tvmonitor", "TV monitor"))
    lists = [str(one / "ImageSets" / "Main" / "trainval.txt") for one in (voc / "VOC2007", other)]
    recipe = read_recipe(FOLDER / "rm_pfi_voc_fcos.yaml", (*voc_data(voc), f"data.train={json.dumps(lists)}"))
    with pytest.raises(InputError, match=r"^classes clash: .*VOC2007/JPEGImages has 'tvmonitor', .* has 'TV monitor'"):
        open_data(recipe)


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
    data = read_recipe(FOLDER / "rm_pfi_voc_retinanet.yaml").data
    lists = {path.relative_to("../data/voc").as_posix() for split in ("train", "val") for path in data.paths(split)}  # type: ignore[union-attr]
    assert lists == {one.unpacked for one in script.DATA_SETS["voc"]}


def test_voc_is_unpacked_to_where_the_recipes_look(
    script: ModuleType, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Three archives that share a folder, put there by hand; images of 2007 come in two of them."""
    folder = tmp_path / "voc"
    folder.mkdir()
    archives: list[Any] = []
    for known, splits in zip(script.DATA_SETS["voc"], (("train", "val"), ("test",), ("train", "val")), strict=True):
        year = Path(known.unpacked).parts[1]
        own = {name for split in splits for name in YEARS[year][split]}
        files = [file for file in sorted((voc / year).rglob("*.*")) if file.stem in own or file.parent.name == "Main"]
        if splits == ("test",):
            files = [file for file in files if file.parent.name != "Main" or "test" in file.stem]
        else:
            files = [file for file in files if "test" not in file.stem]
        with tarfile.open(folder / known.name, "w") as made:
            for file in files:
                made.add(file, Path("VOCdevkit") / file.relative_to(voc))
        md5 = hashlib.md5((folder / known.name).read_bytes(), usedforsecurity=False).hexdigest()
        archives.append(script.Archive(known.url, md5, known.unpacked))
    monkeypatch.setitem(script.DATA_SETS, "voc", tuple(archives))
    for _ in range(2):  # the second time all is there
        assert script.main(["voc", "--to", str(tmp_path)]) == 0
    recipe = read_recipe(FOLDER / "rm_pfi_voc_atss.yaml", voc_data(folder / "VOCdevkit"))
    splits = open_data(recipe)
    train, val = splits.train, splits.val
    assert (len(train.index), len(val.index)) == (4, 1)
    assert [len(source.index.labels) for source in (train, val)] == [8, 2]
