"""The one door to timm: its backbones by name."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor

from kdet.detectors.weights import read_weights
from kdet.errors import InputError, one_line

FINEST_STRIDE = 8
"""Smallest stride of the levels that are taken from a backbone with several strides."""
_NEAR = 3


def timm_backbone(name: str, weights: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Backbone; arguments as of `foundation`.

    Raises:
        InputError: timm is missing, has no such backbone, or its weights cannot be had.
    """
    timm = _library()
    if not timm.is_model(name):
        near = get_close_matches(name.split(".")[0], timm.list_models(), n=_NEAR)
        raise InputError(f"timm has no model {name!r}; near: {', '.join(near) or 'none, see timm.list_models()'}")
    arguments: dict[str, Any] = {"num_classes": 0, **options}
    out_indices = arguments.pop("out_indices", None)
    try:
        model = _created(timm, name, weights, arguments)
    except OSError as error:
        raise InputError(
            f"timm's weights of {name} could not be had ({one_line(error)[:300]}); fetch them on another machine "
            "and name the file as `weights:`, or put them into the hub's cache"
        ) from None
    except (RuntimeError, TypeError, ValueError, KeyError, AssertionError) as error:
        raise InputError(f"timm's {name}: {' '.join(str(error).split())[:300]}") from None
    if not hasattr(model, "forward_intermediates"):
        raise InputError(f"timm's {name} does not reveal its levels (no forward_intermediates); take a ViT or ConvNeXt")
    strides = [int(info["reduction"]) for info in model.feature_info]
    chosen = _chosen(strides, out_indices, name)
    # A ViT's tokens mean something after its last norm; stages of a ConvNeXt are taken as they are.
    is_flat = len(set(strides)) == 1

    def maps(module: Any, images: Tensor) -> Sequence[Tensor]:
        return module.forward_intermediates(
            images, indices=chosen, norm=is_flat, output_fmt="NCHW", intermediates_only=True
        )

    return {
        "model": model,
        "maps": maps,
        "channels": tuple(int(model.feature_info[index]["num_chs"]) for index in chosen),
        "strides": tuple(strides[index] for index in chosen),
        "mean": model.pretrained_cfg["mean"],
        "std": model.pretrained_cfg["std"],
    }


def timm_weights(name: str) -> dict[str, Tensor]:
    """Fetch timm's own weights of a network, or take them from the hub's cache.

    Raises:
        InputError: timm is missing, has no such network, or its weights cannot be had.
    """
    timm = _library()
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"timm's weights of {name} could not be had ({str(error).splitlines()[0]}); name a file as "
            "`backbone_weights:`, or put them into the hub's cache"
        ) from None


def _library() -> Any:
    try:
        import timm
    except ImportError:
        raise InputError("timm is not installed; install kdet[hf], or timm alone") from None
    return timm


def _created(timm: Any, name: str, weights: str | None, options: dict[str, Any]) -> Any:
    """Create the model so that a ViT's position embeddings allow any input size."""
    source: dict[str, Any] = {"pretrained": weights is not None}
    if weights not in (None, "pretrained"):
        source["pretrained_cfg_overlay"] = {"state_dict": read_weights(Path(weights)).state, "source": "timm"}
    try:
        return timm.create_model(name, dynamic_img_size=True, **source, **options)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
    return timm.create_model(name, **source, **options)


def _chosen(strides: Sequence[int], wanted: Sequence[int] | None, name: str) -> list[int]:
    """Indices of the levels; by default the last of each stride from FINEST_STRIDE on."""
    if wanted is None:
        last_of_stride = {stride: index for index, stride in enumerate(strides)}
        return [index for stride, index in last_of_stride.items() if stride >= FINEST_STRIDE]
    if not wanted or any(not -len(strides) <= index < len(strides) for index in wanted):
        raise InputError(f"{name}: out_indices: expected some of 0…{len(strides) - 1}, got {list(wanted)}")
    return [index % len(strides) for index in wanted]
