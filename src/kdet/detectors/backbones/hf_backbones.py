"""A door to transformers: its backbones by name, folder or kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdet.detectors.weights import read_weights
from kdet.errors import InputError, one_line

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, with which DINOv2, DINOv3 and ConvNeXt were trained; for models that do not say."""
_STAGES_OF_STRIDE_8_UP = (2, 3, 4)
"""Indices into the stem and the four stages, as transformers counts them."""


def transformers_backbone(name: str, weights: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Backbone; arguments as of `foundation`.

    Raises:
        InputError: transformers is missing, has no such backbone, or its weights cannot be had.
    """
    library = _library()
    try:
        config = _config(library, name, weights, dict(options))
        if weights == "pretrained":
            # Not AutoBackbone's, which asks the hub even for a folder or a model in the cache.
            model = library.MODEL_FOR_BACKBONE_MAPPING[type(config)].from_pretrained(name, config=config)
        else:
            model = library.AutoBackbone.from_config(config)
    except OSError as error:
        raise InputError(
            f"{name} could not be had from transformers' hub or its cache ({one_line(error)[:300]}); fetch it on "
            "another machine and name its folder, or a file as `weights:` with a kind such as dinov2"
        ) from None
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} is no backbone of transformers ({reason}); timm may have it") from None
    if weights not in (None, "pretrained"):
        _load(model, Path(weights))
    said = _processor(library, name) if weights == "pretrained" else {}
    return {
        "model": model,
        "maps": _maps,
        "channels": tuple(int(channels) for channels in model.channels),
        "strides": _strides(model),
        "mean": said.get("image_mean", _MEAN),
        "std": said.get("image_std", _STD),
    }


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("transformers is not installed; install kdet[hf], or transformers alone") from None
    return transformers


def _config(library: Any, name: str, weights: str | None, options: dict[str, Any]) -> Any:
    """The configuration of a kind, a folder or a model on the hub, with its levels chosen."""
    out_indices = options.pop("out_indices", None)
    if name in library.CONFIG_MAPPING:
        if weights == "pretrained":
            raise InputError(f"{name} is a kind of model; pretrained weights need a name such as facebook/dinov2-small")
        config = library.AutoConfig.for_model(name, **options)
    else:
        config = library.AutoConfig.from_pretrained(name, **options)
    if not hasattr(config, "out_indices") or not hasattr(config, "patch_size"):
        raise ValueError(f"{type(config).__name__} names no levels, or no patches")
    if out_indices is None:
        out_indices = [len(config.stage_names) - 1] if _is_flat(config) else list(_STAGES_OF_STRIDE_8_UP)
    config.out_indices = list(out_indices)
    return config


def _is_flat(config: Any) -> bool:
    """Whether every layer has one stride, that of the patches."""
    return not hasattr(config, "depths")


def _strides(model: Any) -> tuple[int, ...]:
    config = model.config
    patch = config.patch_size if isinstance(config.patch_size, int) else max(config.patch_size)
    if _is_flat(config):
        return tuple(patch for _ in model.out_features)
    stages = [max(1, config.stage_names.index(name)) for name in model.out_features]
    return tuple(patch * 2 ** (stage - 1) for stage in stages)


def _maps(module: Any, images: Tensor) -> Sequence[Tensor]:
    """Backbones interpolate their position embeddings, and hand out patch tokens as maps."""
    return module(images).feature_maps


def _load(model: Any, path: Path) -> None:
    state = read_weights(path).state
    own = model.state_dict()
    missing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if missing:
        raise InputError(
            f"{path}: made for another backbone; expected {missing[0]} of shape {tuple(own[missing[0]].shape)} "
            f"({len(missing)} tensors are missing or of another shape)"
        )
    model.load_state_dict({key: state[key] for key in own})


def _processor(library: Any, name: str) -> dict[str, Any]:
    """What the model's own image processor says, as far as its file is there."""
    return library.models.auto.image_processing_auto.get_image_processor_config(name)
