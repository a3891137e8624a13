"""Weights in and out: the round trip of a student's file, other classes, other architectures, nothing unpickled."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torchvision.models import get_weight
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from fakes import CLASSES, DETECTOR_NAMES, batch_for, same_state, state_of, tiny
from kdet.detectors import build, plain, read_weights, rebuild
from kdet.errors import InputError
from kdet.train.state.run_folder import save_student
from kdet.types import Detector

CLASS_LAYERS = ("cls_logits", "module_list", "box_predictor")


def saved(detector: Detector, folder: Path) -> Path:
    """The student file as training writes it."""
    path = folder / "student.safetensors"
    save_student(detector, detector.native_state(), path)
    return path


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_a_saved_student_comes_back_whole(name: str, tmp_path: Path) -> None:
    detector = tiny(name)
    path = saved(detector, tmp_path)
    again = rebuild(read_weights(path))
    assert same_state(state_of(detector.model), state_of(again.model))
    assert (again.class_names, again.levels) == (detector.class_names, detector.levels)
    assert again.image_size == detector.image_size
    detector.model.eval(), again.model.eval()
    with torch.no_grad():
        first, second = detector.predict(batch_for(detector)), again.predict(batch_for(again))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores)
        assert torch.equal(one.labels, other.labels)


def test_a_student_file_holds_the_librarys_names_and_how_it_was_built(tmp_path: Path) -> None:
    detector = tiny(norm="group", image_size=(64, 96))
    path = saved(detector, tmp_path)
    with safe_open(path, framework="pt") as handle:
        assert set(handle.keys()) == set(detector.model.state_dict())
        about = json.loads(handle.metadata()["kdet"])
    assert about["class_names"] == ["__background__", *CLASSES]
    assert about["build"]["norm"] == "group"
    assert rebuild(read_weights(path)).image_size == (64, 96)


def is_class_layer(key: str) -> bool:
    return any(part in key for part in CLASS_LAYERS)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
@pytest.mark.parametrize("classes", [("cat", "dog"), ("square", "circle", "triangle")])
def test_the_class_layer_starts_fresh_where_classes_differ(name: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    source = tiny(name)
    path = saved(source, tmp_path)
    notes: list[str] = []
    found = tiny(name, classes=classes, seed=1, weights=str(path), notes=notes.append)
    assert len(notes) == 1 and "class layer starts fresh" in notes[0] and str(path) in notes[0]
    own, before = state_of(found.model), state_of(source.model)
    kept = [k for k in own if not is_class_layer(k) and "running_" not in k and not k.endswith("bbox_reg.weight")]
    kept = [k for k in kept if not k.endswith("bbox_reg.bias")]  # changed by the shared fake after loading
    assert all(torch.equal(own[key], before[key]) for key in kept)
    fresh = [key for key in own if "classification_head.module_list" in key or key.endswith("cls_logits.weight")]
    fresh = [key for key in fresh if own[key].ndim == 4] or [key for key in own if key.endswith("cls_score.weight")]
    assert all(own[k].shape != before[k].shape or not torch.equal(own[k], before[k]) for k in fresh)


def test_the_same_classes_take_the_class_layer_along_without_a_note(tmp_path: Path) -> None:
    source = tiny()
    notes: list[str] = []
    arguments = {k: v for k, v in (source.build_arguments or {}).items() if k != "num_classes"}
    found = build(classes=CLASSES, weights=str(saved(source, tmp_path)), notes=notes.append, **arguments)
    assert not notes
    assert same_state(state_of(found.model), state_of(source.model))


def test_another_architecture_is_refused_with_the_tensor_and_both_shapes(tmp_path: Path) -> None:
    path = saved(tiny(), tmp_path)
    with pytest.raises(InputError, match=r"student\.safetensors: made for another architecture; expected \S+ of shape"):
        tiny(fpn_channels=64, weights=str(path))
    with pytest.raises(InputError, match="another architecture"):
        tiny("fcos", fpn_channels=32, weights=str(path))
    with pytest.raises(InputError, match=r"another architecture; expected a tensor backbone.*\(\d+ missing\)"):
        tiny(backbone="resnet18", weights=str(path))


class Payload:
    """What a malicious file would run on loading."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path("pwned").touch, ())


def test_a_pickled_payload_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"bad\.pt: not a file of plain tensors"):
        read_weights(tmp_path / "bad.pt")
    torch.save(tiny().model, tmp_path / "module.pth")
    with pytest.raises(InputError, match=r"state_dict\(\)") as caught:
        read_weights(tmp_path / "module.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02garbage" * 20])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_state_dict_inside_a_training_checkpoint_is_found(tmp_path: Path) -> None:
    state = tiny().model.state_dict()
    torch.save({"model": state, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert same_state(read_weights(tmp_path / "checkpoint.pth").state, state)


def test_a_plain_file_cannot_be_rebuilt_and_says_where_to_name_it(tmp_path: Path) -> None:
    torch.save(tiny().model.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(InputError, match="`weights:`"):
        rebuild(read_weights(tmp_path / "plain.pth"))


def cache(name: str, state: dict[str, torch.Tensor], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a state dict where torch's hub looks for the enum's file, so that nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / Path(get_weight(name).url).name)


def test_torchvisions_own_weights_load_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1"
    bare = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    cache(name, bare.state_dict(), tmp_path, monkeypatch)
    categories = get_weight(name).meta["categories"]
    detector = build("ssdlite", classes=categories, weights=name, image_size=320)
    assert same_state(state_of(detector.model), state_of(bare))
    again = rebuild(read_weights(saved(detector, tmp_path)))
    assert same_state(state_of(again.model), state_of(bare))
    alone, _ = plain.load_student(str(tmp_path / "student.safetensors"))
    assert same_state(state_of(alone), state_of(bare))
    with pytest.raises(InputError, match=r"SSD.*recipe says retinanet"):
        build("retinanet", classes=CLASSES, weights=name)


def test_torchvisions_weights_on_other_classes_keep_all_but_the_class_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1"
    bare = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    cache(name, bare.state_dict(), tmp_path, monkeypatch)
    notes: list[str] = []
    detector = build("ssdlite", classes=CLASSES, weights=name, image_size=320, notes=notes.append)
    assert len(notes) == 1
    own, before = state_of(detector.model), state_of(bare)
    differ = {key for key in own if not torch.equal(own[key], before[key])} if own.keys() == before.keys() else None
    assert differ is not None and differ
    assert all(key.startswith("head.classification_head.module_list") for key in differ)


@pytest.mark.slow
def test_torchvisions_retinanet_loads_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models.detection import retinanet_resnet50_fpn

    name = "RetinaNet_ResNet50_FPN_Weights.COCO_V1"
    bare = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    cache(name, bare.state_dict(), tmp_path, monkeypatch)
    library = retinanet_resnet50_fpn(weights=name).eval().double()
    classes = get_weight(name).meta["categories"]
    detector = build("retinanet", classes=classes, weights=name, image_size=128, norm="frozen")
    images = torch.rand(1, 3, 128, 128, dtype=torch.float64)
    detector.model.double().eval()
    with torch.no_grad():
        ours, theirs = detector.model.backbone(images)["0"], library.backbone(images)["0"]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_settings_that_library_weights_would_ignore_are_refused():
    with pytest.raises(InputError, match=r"the architecture is settled by weights .*; leave out width, anchor_scale"):
        build(
            "retinanet",
            classes=["a"],
            weights="RetinaNet_ResNet50_FPN_Weights.COCO_V1",
            width=0.5,
            anchor_scale=0.5,
        )
