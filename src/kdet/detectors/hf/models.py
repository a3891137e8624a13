"""Hugging Face's detectors from a config, a folder, the hub or a user's module: the one door for transformers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdet.detectors.hf.config import checked, known_type, labelled, one_line
from kdet.detectors.hf.detr import DetrDetector, Pixels
from kdet.detectors.hf.families import FAMILIES
from kdet.detectors.weights import StoredWeights, load, read_weights
from kdet.errors import InputError
from kdet.ops.classes import BACKGROUND, real_classes
from kdet.types import Canvas, ImageSize

Notes = Callable[[str], None]
_THAWED = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
"""Types whose config says whether the norms of the backbone are frozen."""


def is_detr(model: nn.Module) -> bool:
    """Whether it is a detection model of transformers of a known type; transformers is not imported for it."""
    theirs = any(c.__module__.startswith("transformers.models.") for c in type(model).__mro__)
    config: Any = getattr(model, "config", None)
    heads = any(c.__name__.endswith("ForObjectDetection") for c in type(model).__mro__)
    return theirs and heads and config.model_type in FAMILIES


def build_detr(
    classes: Sequence[str],
    *,
    config: Mapping[str, Any] | None,
    weights: str | None,
    image_size: ImageSize | None,
    notes: Notes,
) -> DetrDetector:
    """Build a detector from a config with random weights, or from a folder or the hub.

    Args:
        classes: names of the objects.
        config: `model_type` and the keys of its config that are not to be transformers' defaults.
        weights: a folder, a name on the hub, or a file that kdet wrote. The class layer starts fresh where the
            classes are others.
        image_size: long side, or short side and limit; None = that of its family's image processor.
        notes: receives what the user should know.

    Raises:
        InputError: neither or both of config and weights, or what is wrong with the one that is given.
    """
    names = tuple(real_classes(classes))
    if not names:
        raise InputError("the class list is empty; a detector needs at least one class")
    if (config is None) == (weights is None):
        given = "neither" if config is None else "both"
        raise InputError(
            f"detector hf: expected `weights:` (a folder, or a name on the hub) or `config:` (such as "
            f"{{model_type: rt_detr}}, random weights), got {given}"
        )
    library = _library()
    if config is not None:
        return _random(library, checked(library, config, names), image_size, notes)
    assert weights is not None
    if weights.endswith(".safetensors"):
        return _from_file(library, read_weights(Path(weights)), names, image_size, notes)
    model = _from_pretrained(library, weights, names, notes)
    pixels, canvas = _as_processed(library, weights)
    return _described(DetrDetector(model, _columns(model), image_size=image_size, pixels=pixels, canvas=canvas))


def rebuild_detr(stored: StoredWeights) -> DetrDetector:
    """Rebuild the detector of a file that kdet wrote."""
    assert stored.build is not None and stored.class_names is not None
    library, build = _library(), stored.build
    model = _from_config(library, library.CONFIG_MAPPING[build["config"]["model_type"]].from_dict(build["config"]))
    load(model, stored, stored.class_names)
    size = build["image_size"]
    detector = DetrDetector(
        model,
        stored.class_names,
        image_size=size if isinstance(size, int) else (size[0], size[1]),
        pixels=(build["pixels"][0], build["pixels"][1]),
    )
    return _described(detector)


def wrap_detr(model: Any, classes: Sequence[str]) -> DetrDetector:
    """Wrap a model that the user built.

    Raises:
        InputError: the number of names does not fit the class layer.
    """
    columns = [None] * model.config.num_labels
    softmax = FAMILIES[model.config.model_type].activation == "softmax"
    names = tuple(classes)
    if softmax and len(names) == len(columns) + 1 and real_classes(names[-1:]) == {}:
        names = names[:-1]
    if len(names) != len(columns):
        raise InputError(f"expected {len(columns)} class names, one per label of the model, got {len(classes)}")
    real_classes(names)
    return _described(DetrDetector(model, (*names, BACKGROUND) if softmax else names))


def classes_of(weights: str) -> tuple[str, ...] | None:
    """Return the class names by column that a folder or a model on the hub comes with; None where it has made-up ones.

    Raises:
        InputError: no such weights.
    """
    if weights.endswith(".safetensors"):
        return read_weights(Path(weights)).class_names
    labels = _read_config(_library(), weights).id2label
    made_up = all(name == f"LABEL_{label}" for label, name in labels.items())
    return None if made_up else tuple(labels[label] for label in sorted(labels))


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("detector hf needs Hugging Face transformers: pip install 'kdet[hf]'") from None
    return transformers


def _random(library: Any, config: Any, image_size: ImageSize | None, notes: Notes) -> DetrDetector:
    """A detector with random weights."""
    model = _from_config(library, config)
    _free_backbone(model, notes)
    try:
        return _described(DetrDetector(model, _columns(model), image_size=image_size))
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"config: the {config.model_type} does not run, its sizes do not go together ({one_line(error)})"
        ) from None


def _described(detector: DetrDetector) -> DetrDetector:
    """Add to the detector what rebuilds it."""
    config = detector.model.config
    names = detector.class_names[: config.num_labels]
    detector.build_arguments = {
        "detector": "hf",
        "config": json.loads(config.to_json_string(use_diff=False)) | json.loads(json.dumps(labelled(names))),
        "image_size": detector.image_size,
        "pixels": detector.pixels,
    }
    return detector


def _columns(model: Any) -> tuple[str, ...]:
    labels = model.config.id2label
    names = tuple(labels[label] for label in sorted(labels))
    return (*names, BACKGROUND) if FAMILIES[model.config.model_type].activation == "softmax" else names


def _from_config(library: Any, config: Any) -> Any:
    try:
        return library.AutoModelForObjectDetection.from_config(config)
    except Exception as error:  # whatever its constructors stumble over
        raise InputError(f"config: transformers cannot build this {config.model_type} ({one_line(error)})") from None


def _free_backbone(model: Any, notes: Notes) -> None:
    """Random weights that never learn serve nobody; transformers freezes (parts of) some backbones."""
    backbone = getattr(model.model, "backbone", None)
    if backbone is None:
        return
    backbone.requires_grad_(True)
    frozen = sum("FrozenBatchNorm" in type(module).__name__ for module in backbone.modules())
    if frozen:
        remedy = (
            "set `freeze_backbone_batch_norms: false`" if model.config.model_type in _THAWED else "prefer `weights:`"
        )
        notes(f"config: {frozen} frozen norms of the backbone normalise nothing on random weights; {remedy}")


def _read_config(library: Any, weights: str) -> Any:
    try:
        config = library.AutoConfig.from_pretrained(weights)
    except (OSError, ValueError) as error:
        raise InputError(
            f"weights {weights}: neither a folder with a config.json nor a model of the hub within reach "
            f"({one_line(error)})"
        ) from None
    known_type(f"weights {weights}: model_type", config.model_type)
    return config


def _from_pretrained(library: Any, weights: str, names: Sequence[str], notes: Notes) -> Any:
    """The model; its own class layer where it has these classes, in its own order."""
    config = _read_config(library, weights)
    if set(real_classes(tuple(config.id2label.values()))) != set(names):
        for key, value in labelled(names).items():
            setattr(config, key, value)
        notes(f"{weights}: other classes, so the class layer starts fresh")
    try:
        model, about = library.AutoModelForObjectDetection.from_pretrained(
            weights, config=config, ignore_mismatched_sizes=True, output_loading_info=True, dtype="float32"
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise InputError(
            f"weights {weights}: cannot be loaded ({one_line(error)}); save them anew with save_pretrained"
        ) from None
    if about["missing_keys"]:
        missing = sorted(about["missing_keys"])
        raise InputError(
            f"weights {weights}: no tensor {missing[0]} for its own config.json ({len(missing)} missing); the two do "
            "not "
            "belong together, save both anew with save_pretrained"
        )
    return model


def _from_file(
    library: Any, stored: StoredWeights, names: Sequence[str], image_size: ImageSize | None, notes: Notes
) -> DetrDetector:
    """The detector of a file that kdet wrote, for these classes."""
    if stored.build is None or "config" not in stored.build:
        raise InputError(f"{stored.origin}: no config in it; name the folder that holds it with its config.json")
    config = library.CONFIG_MAPPING[stored.build["config"]["model_type"]].from_dict(stored.build["config"])
    if set(real_classes(stored.class_names or ())) != set(names):
        for key, value in labelled(names).items():
            setattr(config, key, value)
    model = _from_config(library, config)
    if fresh := load(model, stored, _columns(model)):
        notes(f"{stored.origin}: other classes, so the class layer starts fresh ({len(fresh)} tensors)")
    pixels = stored.build["pixels"]
    return _described(DetrDetector(model, _columns(model), image_size=image_size, pixels=(pixels[0], pixels[1])))


def _as_processed(library: Any, weights: str) -> tuple[Pixels | None, Canvas | None]:
    """What the image processor beside the weights does to pixels and shapes; None where it does not say."""
    try:
        about, _ = library.ImageProcessingMixin.get_image_processor_dict(weights)
    except (OSError, ValueError):
        return None, None
    pixels: Pixels | None = None
    if "do_normalize" in about:
        pixels = (about["image_mean"], about["image_std"]) if about["do_normalize"] else ((0.0,) * 3, (1.0,) * 3)
    size: Any = about.get("size")
    if not isinstance(size, dict):
        return pixels, None
    if size.keys() >= {"height", "width"}:
        return pixels, "stretch"
    return pixels, "letterbox" if about.get("do_pad") and about.get("pad_size") else "pad"
