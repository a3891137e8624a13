"""Detectors of transformers from a config, a folder, a file of kdet's and a user's module; refusals in one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from detr_fakes import config_of, every_type, shared_batch, tiny_detr
from fakes import CLASSES, same_state, state_of
from kdet.detectors import build, classes_in, inherit, read_weights, rebuild, wrap
from kdet.errors import InputError
from kdet.ops.classes import BACKGROUND
from kdet.train.state.run_folder import CONFIG, save_student
from kdet.types import Detections, Detector
from patience import PATIENCE_S

FILE = "student.safetensors"


def made(**arguments: Any) -> Detector:
    return build("hf", **({"classes": CLASSES, "image_size": 96} | arguments))


def predicted(detector: Detector) -> list[Detections]:
    detector.model.eval()
    with torch.no_grad():
        return detector.predict(shared_batch(detector))


@every_type
def test_a_student_file_is_rebuilt_by_kdet_and_loaded_by_the_bare_library(kind: str, tmp_path: Path):
    from transformers import AutoConfig, AutoModelForObjectDetection

    detector = tiny_detr(kind)
    save_student(detector, detector.native_state(), tmp_path / FILE)
    again = rebuild(read_weights(tmp_path / FILE))
    assert (again.class_names, again.image_size, again.levels) == (detector.class_names, 96, detector.levels)
    assert again.build_arguments is not None and again.build_arguments["detector"] == "hf"
    assert same_state(state_of(again.model), state_of(detector.model))
    folder = AutoModelForObjectDetection.from_pretrained(tmp_path)
    by_hand = AutoModelForObjectDetection.from_config(AutoConfig.from_pretrained(tmp_path))
    by_hand.load_state_dict(load_file(tmp_path / FILE))
    assert tuple(folder.config.id2label.values()) == CLASSES
    expected = predicted(detector)
    for found in (again, wrap(folder, CLASSES), wrap(by_hand, CLASSES)):
        found.image_size = 96
        found.transform = detector.transform  # type: ignore[attr-defined]
        for one, other in zip(predicted(found), expected, strict=True):
            torch.testing.assert_close(one.scores, other.scores)
            torch.testing.assert_close(one.boxes, other.boxes)
            assert torch.equal(one.labels, other.labels)


def test_the_config_beside_a_student_names_its_weights(tmp_path: Path):
    detector = tiny_detr()
    save_student(detector, detector.native_state(), tmp_path / FILE)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["model_type"], config["transformers_weights"]) == ("rt_detr", FILE)


@pytest.mark.parametrize(("kind", "columns"), [("rt_detr", CLASSES), ("detr", (*CLASSES, BACKGROUND))])
def test_classes_stand_where_the_class_layer_has_them(kind: str, columns: tuple[str, ...]):
    for classes in (CLASSES, (BACKGROUND, *CLASSES)):
        detector = made(classes=classes, config=config_of(kind))
        assert detector.class_names == columns
        assert wrap(detector.model, CLASSES).class_names == columns
    assert detector.observe(shared_batch(detector), frozenset(detector.provides), shared_batch(detector).targets)


def test_a_wrapped_model_is_recognised_and_can_be_rebuilt(tmp_path: Path):
    from transformers import AutoConfig, AutoModelForObjectDetection

    config = config_of("rt_detr", num_labels=4)
    model = AutoModelForObjectDetection.from_config(AutoConfig.for_model(**config))
    detector = wrap(model, ("N/A", *CLASSES))
    assert (detector.family, detector.model, detector.image_size) == ("hf", model, 640)
    assert (detector.class_names, [level.stride for level in detector.levels]) == (("N/A", *CLASSES), [8, 16, 32])
    save_student(detector, detector.native_state(), tmp_path / FILE)
    assert rebuild(read_weights(tmp_path / FILE)).class_names == ("N/A", *CLASSES)
    assert classes_in(str(tmp_path), "hf") == ("N/A", *CLASSES)
    assert model.config.id2label[1] == "LABEL_1"  # the user's module is left as it was


@pytest.mark.parametrize(("kind", "names"), [("rt_detr", CLASSES[:2]), ("detr", (*CLASSES, "star")), ("rt_detr", ())])
def test_a_wrong_number_of_classes_is_refused(kind: str, names: tuple[str, ...]):
    with pytest.raises(InputError, match=f"expected 3 class names, one per label of the model, got {len(names)}"):
        wrap(tiny_detr(kind).model, names)


def test_other_modules_of_transformers_are_refused():
    from transformers import AutoConfig, AutoModel

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    for model in (
        AutoModel.from_config(AutoConfig.for_model("vit", **small)),
        tiny_detr().model.model,
        nn.Linear(2, 2),
    ):
        with pytest.raises(InputError, match=r"no adapter for a .*transformers of type rt_detr, "):
            wrap(model, CLASSES)


def from_the_library(folder: Path) -> None:
    """A folder as `save_pretrained` leaves it."""
    from transformers import AutoConfig, AutoModelForObjectDetection

    names = dict(enumerate(("square", "N/A", "circle", "triangle")))
    torch.manual_seed(4)
    config = AutoConfig.for_model(**config_of("rt_detr"), id2label=names, label2id={n: i for i, n in names.items()})
    AutoModelForObjectDetection.from_config(config).save_pretrained(folder)


def in_the_library(folder: Path) -> dict[str, Tensor]:
    """What the bare library reads there; its files may have older names for some tensors."""
    from transformers import AutoModelForObjectDetection

    return state_of(AutoModelForObjectDetection.from_pretrained(folder))


def test_a_folder_with_these_classes_keeps_its_class_layer_and_its_order(tmp_path: Path):
    from_the_library(tmp_path)
    said: list[str] = []
    detector = made(weights=str(tmp_path), notes=said.append)
    assert detector.class_names == ("square", "N/A", "circle", "triangle") == classes_in(str(tmp_path), "hf")
    assert said == []
    assert same_state(state_of(detector.model), in_the_library(tmp_path))


def test_a_folder_with_other_classes_gives_all_but_the_class_layer(tmp_path: Path):
    from_the_library(tmp_path)
    said: list[str] = []
    detector = made(weights=str(tmp_path), classes=("cat", "dog"), notes=said.append)
    assert detector.class_names == ("cat", "dog")
    assert said == [f"{tmp_path}: other classes, so the class layer starts fresh"]
    stored, state = in_the_library(tmp_path), state_of(detector.model)
    differ = {name for name, tensor in stored.items() if state[name].shape != tensor.shape}
    assert {name.split(".")[-2] if "embed" not in name else "embed" for name in differ} == {"embed", "enc_score_head"}
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items() if name not in differ)


def test_pixels_are_normalised_as_the_processor_beside_the_weights_says(tmp_path: Path):
    from_the_library(tmp_path)
    assert made(weights=str(tmp_path)).pixels[0] == (0, 0, 0)  # type: ignore[attr-defined]
    about = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "X", **about}))
    detector = made(weights=str(tmp_path))
    assert detector.build_arguments is not None
    assert detector.build_arguments["pixels"] == ([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    save_student(detector, detector.native_state(), tmp_path / FILE)
    assert rebuild(read_weights(tmp_path / FILE)).transform.image_mean == [0.5, 0.4, 0.3]  # type: ignore[attr-defined]


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_of_kdets_starts_a_student(whole: bool, tmp_path: Path):
    source = tiny_detr()
    save_student(source, source.native_state(), tmp_path / FILE)
    said: list[str] = []
    weights = str(tmp_path if whole else tmp_path / FILE)
    assert same_state(state_of(made(weights=weights).model), state_of(source.model))
    other = made(weights=weights, classes=("cat", "dog"), notes=said.append)
    assert other.class_names == ("cat", "dog") and "class layer starts fresh" in said[0]
    layer = "model.encoder_input_proj.0.0.weight"
    assert torch.equal(other.model.get_parameter(layer), source.model.get_parameter(layer))


@every_type
def test_a_backbone_with_random_weights_learns(kind: str):
    """transformers freezes all of a `resnet` backbone of DETR and its kin."""
    named = [(name, p) for name, p in tiny_detr(kind).model.named_parameters() if "backbone" in name]
    assert all(p.requires_grad for _, p in named)


def test_frozen_norms_on_random_weights_are_told():
    said: list[str] = []
    made(config=config_of(), notes=said.append)
    made(config=config_of("detr"), notes=said.append)
    assert "frozen norms" in said[0] and "freeze_backbone_batch_norms: false" in said[0] and "weights:" in said[1]
    said.clear()
    made(config=config_of(freeze_backbone_batch_norms=False), notes=said.append)
    assert said == []


def test_a_student_inherits_by_part():
    student, teacher = tiny_detr(seed=1), tiny_detr(seed=2)
    before = state_of(student.model)
    taken = inherit(student, teacher, "neck").taken
    assert any(name.startswith("model.encoder.") for name in taken)
    assert not any(name.startswith(("model.backbone.", "model.decoder.")) for name in taken)
    after, theirs = state_of(student.model), state_of(teacher.model)
    assert all(torch.equal(after[name], (theirs if name in taken else before)[name]) for name in after)
    renamed = tiny_detr(seed=3, classes=("cat", "dog", "cow"))
    assert not any("class_embed" in name or "enc_score" in name for name in inherit(student, renamed, "all").taken)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"expected `weights:` .* or `config:` .*, got neither"),
        ({"config": {"model_type": "rt_detr"}, "weights": "x"}, r"expected `weights:` .* or `config:` .*, got both"),
        ({"config": {"model_type": "rtdetr"}}, "config.model_type: 'rtdetr' is no detector .*did you mean 'rt_detr'?"),
        ({"config": {"model_type": "yolos"}}, "config.model_type: 'yolos' is no detector .*known: rt_detr, rt_detr_v2"),
        ({"config": {"num_queries": 5}}, "config.model_type: None is no detector"),
        ({"config": config_of(num_querys=5)}, "config: rt_detr has no key 'num_querys'; did you mean 'num_queries'?"),
        ({"config": config_of(num_labels=5)}, "config.num_labels: the classes come from the data; leave it out"),
        ({"config": config_of(num_queries="x")}, "config: .*num_queries.*expected int, got str"),
        ({"config": config_of(backbone_config={"depths": [1]})}, "config.backbone_config.model_type: expected .* None"),
        (
            {"config": config_of(backbone_config={"model_type": "resnet", "dephts": [1]})},
            "config.backbone_config: resnet has no key 'dephts'; did you mean 'depths'?",
        ),
        ({"config": config_of(d_model=31)}, "config: transformers cannot build this rt_detr"),
        (
            {"config": config_of(encoder_hidden_dim=33)},
            "config: the rt_detr does not run, its sizes do not go together",
        ),
        ({"config": config_of(), "backbone": "resnet18"}, "settled by the config or weights of hf; leave out backbone"),
        ({"config": config_of(), "norm": "group", "width": 0.5}, "leave out width, norm"),
        ({"config": config_of(), "classes": []}, "class list is empty"),
        ({"weights": "nowhere/at/all"}, "weights nowhere/at/all: neither a folder with a config.json nor a model of"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors: no such weights file"),
        ({"detector": "fcos", "config": config_of()}, "config: belongs to detector hf or libreyolo, got detector fcos"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message) as caught:
        build(**({"detector": "hf", "classes": CLASSES, "image_size": 96} | arguments))
    assert "\n" not in str(caught.value)


def test_weights_without_all_tensors_are_refused(tmp_path: Path):
    from safetensors.torch import save_file

    from_the_library(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        {n: t for n, t in state.items() if "enc_output" not in n}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(InputError, match=r"no tensor model.enc_output.* for its own config.json \(4 missing\)"):
        made(weights=str(tmp_path))


def test_without_transformers_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for arguments in ({"config": config_of()}, {"weights": "PekingU/rtdetr_r18vd"}):
        with pytest.raises(
            InputError, match=r"^detector hf needs Hugging Face transformers: pip install 'kdet\[hf\]'$"
        ):
            made(**arguments)


@pytest.mark.long
def test_torchvisions_detectors_need_no_transformers():
    code = """
import sys
sys.modules["transformers"] = None
import torch, kdet
student = kdet.build("retinanet", backbone="resnet10", classes=["a"], image_size=64)
kdet.wrap(student.model, ["a"])
try:
    kdet.wrap(torch.nn.Linear(1, 1), ["a"])
except kdet.InputError:
    pass
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)
