"""kdet label: what each kind of model finds becomes a data set that is read back box for box, and that a run takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fakes import CLASSES, coco_of, tiny, tiny_recipe, write_yaml
from kdet.data import is_labelled_by_a_model, open_source, read_image
from kdet.detectors.hf.zero_shot import open_zero_shot, read_prompts
from kdet.errors import InputError
from kdet.evaluate import predict_loader
from kdet.train import Recipe, fit, write_recipe
from kdet.train.state.run_folder import BEST, RECIPE, save_student
from kdet.workflows.label import label
from kdet.workflows.predict import _batch_of
from zero_shot_fakes import KINDS, zero_shot_folder

PROMPT = "circle: a red circle; square: a square; circle: the circle"
SIZES_HW = [(64, 96), (80, 64), (48, 96), (96, 96)]


def say(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images below a folder."""
    folder = tmp_path_factory.mktemp("photos")
    coco_of(folder, SIZES_HW)
    return folder / "images"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file whose detector finds something everywhere."""
    detector = tiny(image_size=64, classes=CLASSES)
    file = tmp_path_factory.mktemp("trained") / BEST
    save_student(detector, detector.native_state(), file)
    return file


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_what_a_detector_finds_is_read_back_with_its_scores(
    photos: Path, trained: Path, tmp_path: Path, to: str
) -> None:
    record = label(str(trained), photos, tmp_path / "labels", to=to, score=0.1, prompt=None, say=say)
    again = open_source(to, tmp_path / "labels").index
    assert again.classes == CLASSES and len(again) == 4 and is_labelled_by_a_model(tmp_path / "labels")
    assert again.image(0).is_symlink() and again.class_counts() == record["boxes"]
    detector, checked = tiny(image_size=64, classes=CLASSES), 0
    for i in range(4):
        batch = _batch_of(read_image(again.image(i)), detector, i)
        found = predict_loader(detector, [batch], CLASSES, device="cpu")[0]
        sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        kept, own = (found.scores >= 0.1) & (sides >= 1).all(1), again.objects(i)
        np.testing.assert_allclose(own.boxes_xyxy, found.boxes_xyxy[kept], atol=1e-4)
        assert own.labels.tolist() == found.labels[kept].tolist()
        assert own.scores is not None and own.scores.tolist() == found.scores[kept].tolist()
        checked += len(own.labels)
    assert checked > 20 and set(json.loads((tmp_path / "labels" / "label.json").read_text())) >= {"model", "score"}


def test_a_run_trains_on_the_labels_as_data_and_beside_others(photos: Path, trained: Path, tmp_path: Path) -> None:
    label(str(trained), photos, tmp_path / "labels", to="coco", score=0.1, prompt=None, say=say)
    own = {"images": str(tmp_path / "labels"), "per_batch": 1, "score": 0.3}
    data = {"images": 4, "soft_targets": True, "unlabelled": own}
    beside = Recipe.model_validate(tiny_recipe(data=data, train={"epochs": 1, "batch_size": 2}))
    fit(beside, tmp_path / "beside")  # without a teacher: the boxes are there
    log = (tmp_path / "beside" / "log.jsonl").read_text()
    assert "unlabelled: 4 images, 1 a batch, with" in log and "boxes from score 0.3 on that a model gave them" in log
    plain = tiny_recipe(train={"epochs": 1, "batch_size": 2})
    paths = {"train": str(tmp_path / "labels"), "val": str(tmp_path / "labels" / "annotations_train.json")}
    plain["data"] = {"format": "coco", **paths, "image_size": 64, "soft_targets": True}
    assert fit(Recipe.model_validate(plain), tmp_path / "alone").steps == 2


def test_scores_of_labels_are_cut_by_a_number_alone(photos: Path, trained: Path, tmp_path: Path) -> None:
    label(str(trained), photos, tmp_path / "labels", to="coco", score=0.1, prompt=None, say=say)
    data = {"unlabelled": {"images": str(tmp_path / "labels"), "score": "auto"}}
    with pytest.raises(InputError, match="has boxes of its own"):
        fit(Recipe.model_validate(tiny_recipe(data=data)), tmp_path / "run")


def test_a_recipe_labels_with_its_teacher_in_the_words_of_the_data(photos: Path, tmp_path: Path) -> None:
    detector = tiny(image_size=64, classes=("ring", "square", "star"))
    save_student(detector, detector.native_state(), tmp_path / BEST)
    teacher = {"run": str(tmp_path / BEST), "class_map": {"ring": "circle"}}
    recipe = tiny_recipe(teacher=teacher, distill=[{"method": "structural"}])
    record = label(
        str(write_yaml(tmp_path / "recipe.yaml", recipe)),
        photos,
        tmp_path / "o",
        to="coco",
        score=0.05,
        prompt=None,
        say=say,
    )
    assert list(record["boxes"]) == ["circle", "square", "triangle"] and record["boxes"]["triangle"] == 0
    assert record["boxes"]["circle"] and record["boxes"]["square"]


def test_auto_chooses_on_the_labelled_images_of_a_run(photos: Path, trained: Path, tmp_path: Path) -> None:
    run, said = tmp_path / "run", list[str]()
    run.mkdir()
    (run / BEST).write_bytes(trained.read_bytes())
    write_recipe(
        Recipe.model_validate(tiny_recipe(data={"hold_out": 0.5, "images": 20, "objects": [2, 3]})), run / RECIPE
    )
    record = label(str(run), photos, tmp_path / "out", to="yolo", score="auto", prompt=None, say=said.append)
    assert set(record["score"]) == set(CLASSES)
    assert any("by 10 labelled training images that the teacher was not trained on" in line for line in said)
    index = open_source("yolo", tmp_path / "out").index
    if index.scores is not None:
        least = np.array([record["score"][name]["score"] for name in CLASSES])
        assert (index.scores >= least[index.labels]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_prompt_says_is_found(photos: Path, tmp_path: Path, kind: str) -> None:
    folder = zero_shot_folder(tmp_path / kind, kind)
    record = label(str(folder), photos, tmp_path / "labels", to="coco", score=0.01, prompt=PROMPT, say=say)
    index = open_source("coco", tmp_path / "labels").index
    assert index.classes == ("circle", "square") and record["images"] == 4
    assert len(index.labels) == sum(record["boxes"].values()) > 0
    assert index.scores is not None and (index.scores >= 0.01).all()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_boxes_are_those_of_transformers_own_reading(tmp_path: Path, kind: str) -> None:
    """One prompt a class, and thresholds at nothing: the library's own post-processing finds each of ours."""
    folder = zero_shot_folder(tmp_path / kind, kind, seed=3)
    detector = open_zero_shot(str(folder), read_prompts("circle: a circle; square: a square"), "cpu")
    image = torch.randint(0, 255, (3, 50, 90), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    texts = [["a circle", "a square"]]
    grounding = "grounding" in kind
    inputs = detector.processor(images=picture, text=texts[0] if grounding else texts, return_tensors="pt")
    with torch.no_grad():
        output = detector.model(**inputs)
    options: dict[str, Any] = {"threshold": 0.0, "target_sizes": [(50, 90)]}
    options |= {"text_threshold": 0.0, "input_ids": inputs["input_ids"]} if grounding else {"text_labels": texts}
    options |= {"nms_threshold": 1.0, "max_num_det": 24} if kind == "omdet-turbo" else {}
    theirs = detector.processor.post_process_grounded_object_detection(output, **options)[0]
    boxes = theirs["boxes"].clamp_min(0).minimum(torch.tensor([90.0, 50.0, 90.0, 50.0]))
    ours = detector.find(image, 0.0)
    assert len(ours.scores) > 2
    for box, score, chosen in zip(ours.boxes, ours.scores, ours.labels, strict=True):
        same = (boxes - box).abs().amax(1) < 1e-3
        assert same.any()
        if grounding:  # theirs is the best of all tokens, full stops among them
            assert (theirs["scores"][same] >= score - 1e-5).any()
        else:
            assert ((theirs["scores"][same] - score).abs() < 1e-5).any()
            assert chosen in torch.as_tensor(theirs["labels"])[same]


def test_a_class_has_the_score_of_its_best_prompt_and_grounding_dinos_of_its_best_token(tmp_path: Path) -> None:
    folder = zero_shot_folder(tmp_path / "model", "grounding-dino")
    image = torch.randint(0, 255, (3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    both = open_zero_shot(str(folder), read_prompts("x: a red car; x: bus"), "cpu")
    inputs = both.processor(
        images=Image.fromarray(image.permute(1, 2, 0).numpy()), text="a red car. bus.", return_tensors="pt"
    )
    assert inputs["input_ids"][0].tolist() == [101, 200, 202, 203, 1012, 204, 1012, 102]
    with torch.no_grad():
        scores = both.model(**inputs).logits[0].sigmoid()[:, [1, 2, 3, 5]].amax(1)
    assert both.find(image, 0.0).scores[0] == pytest.approx(float(scores.max()), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no class in it"),
        (" ; ", "no class in it"),
        ("car", "'car' has no class or no text"),
        ("car:", "has no class or no text"),
        (": a car", "has no class or no text"),
        ("car: a car; bus: ", "'bus:' has no class or no text"),
        ("car: a car; car: a car", "stands twice"),
    ],
)
def test_prompts_that_say_nothing(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(text)


def test_a_class_may_have_several_prompts() -> None:
    assert read_prompts("car: a car; bus: a bus;bus: a coach: red") == (
        ("car", "a car"),
        ("bus", "a bus"),
        ("bus", "a coach: red"),
    )


@pytest.mark.parametrize(
    ("kind", "prompt", "message"),
    [
        ("owlv2", "x: abcdefghijklmnopqrstuvwxyz", "has 28 tokens, and the model reads 16"),
        ("grounding-dino", "x: a car. a bus", "takes . and [?] for the end of a prompt"),
        ("grounding-dino", "; ".join(f"c{i}: a red car" for i in range(9)), "38 tokens, and the model reads 32"),
    ],
)
def test_prompts_that_would_be_cut_off_are_refused(tmp_path: Path, kind: str, prompt: str, message: str) -> None:
    folder = zero_shot_folder(tmp_path / kind, kind)
    with pytest.raises(InputError, match=message):
        open_zero_shot(str(folder), read_prompts(prompt), "cpu")


def test_wrong_input_is_one_line_and_leaves_nothing(photos: Path, trained: Path, tmp_path: Path) -> None:
    zero = zero_shot_folder(tmp_path / "owl", "owlv2")
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text('{"model_type": "detr"}')
    recipe = write_yaml(tmp_path / "alone.yaml", tiny_recipe())
    given: list[tuple[dict[str, Any], str]] = [
        ({"model": zero}, "a zero-shot detector needs `--prompt`"),
        ({"model": trained, "prompt": "circle: a circle"}, "leave the prompt out"),
        ({"model": tmp_path / "empty"}, "neither a run folder"),
        ({"model": tmp_path / "plain"}, "neither a run folder"),
        ({"model": tmp_path / "plain", "prompt": PROMPT}, "a detr finds the classes that it was trained on"),
        ({"model": "nobody/nothing"}, "of the hub needs `--prompt`"),
        ({"model": recipe}, "no teacher that finds objects"),
        ({"model": trained, "images": tmp_path / "empty"}, "no image in it"),
        ({"model": trained, "images": tmp_path / "nowhere"}, "no such folder"),
        ({"model": trained, "to": "voc"}, "expected coco or yolo"),
        ({"model": trained, "score": "auto"}, "name a recipe or a run"),
        ({"model": zero, "prompt": PROMPT, "score": "auto"}, "name a recipe or a run"),
    ]
    for options, message in given:
        named = {"images": photos, "to": "coco", "score": 0.3, "prompt": None} | options
        with pytest.raises(InputError, match=message) as caught:
            label(str(named.pop("model")), named.pop("images"), tmp_path / "out", **named, say=say)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
