"""Weights from files and from torchvision's enums into a built model. Nothing is unpickled."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_weight

from kdet import files
from kdet.detectors.unwrapping import HARMLESS, said_by_torch, unwrapped, without_prefix
from kdet.errors import InputError
from kdet.files import parse_json
from kdet.ops.canvas import CANVASES
from kdet.types import Canvas

CLASS_LAYERS = (
    "head.classification_head.cls_logits",
    "head.classification_head.module_list",
    "roi_heads.box_predictor",
    *(f"roi_heads.stages.{stage}.box_predictor.cls_score" for stage in range(3)),
    *("class_embed", "class_labels_classifier", "model.decoder.class_embed", "model.enc_score_head"),
    *("model.enc_out_class_embed", "model.denoising_class_embed"),
    *("head.cls_preds", "head.rtm_cls"),
)
"""Layers that depend on the classes: torchvision's and our detectors', then transformers' and libreyolo's."""
_YOLO_CLASS_LAYER = re.compile(r"(model\.\d+|head)\.(one2one_)?cv3\.\d+\.2\.")
"""The last convolution of a YOLO head's class branch, per level."""


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """A state dict with what its file says about it."""

    origin: str
    state: dict[str, Tensor]
    class_names: tuple[str, ...] | None = None
    """Names by column, background included; None where the file does not say."""
    build: dict[str, Any] | None = None
    """Arguments that rebuild the architecture, in files that kdet wrote; None for a module that the user brought."""
    said: tuple[str, ...] = ()
    """What was taken off to find the weights, for the user to read."""
    canvas: Canvas = "pad"
    """Canvas on which it was trained; older files of kdet do not say, and were trained on this one."""


def read_weights(path: Path) -> StoredWeights:
    """Read a .safetensors file or a torch file of tensors.

    Raises:
        InputError: missing, damaged, or a torch file that holds more than tensors.
    """
    if not files.is_file(path):
        raise InputError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    state, said = unwrapped(path, load_torch(path))
    return StoredWeights(origin=str(path), state=_plain(path, state), said=said)


def load_torch(path: Path) -> Any:
    """Load what a torch file holds: tensors in plain containers, nothing else.

    Raises:
        InputError: damaged, other objects in it, or compressed, as torch never does and as could fill the memory.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.file_size != entry.compress_size for entry in archive.infolist()):
                    raise InputError(f"{path}: not a file that torch wrote (compressed); save it anew with torch.save")
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # its reader stumbles over broken bytes in every way there is
        raise InputError(
            f"{path}: not a file of plain tensors ({said_by_torch(error)}); "
            "save the model's state_dict() with torch.save or safetensors, and name that file"
        ) from None


def _plain(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, if every tensor is an array of real numbers."""
    for name, tensor in state.items():
        odd = tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta
        if odd or tensor.is_nested:
            raise InputError(
                f"{path}: {name!r} is no plain array of real numbers ({tensor.dtype}, {tensor.layout}, "
                f"{tensor.device}); convert it, and save the state_dict() anew"
            )
        # Tables in buffers may be infinite where they say "never"; nothing is NaN on purpose.
        broken = ~tensor.isfinite() if name.endswith((".weight", ".bias")) else tensor.isnan()
        if tensor.is_floating_point() and bool(broken.any()):
            raise InputError(
                f"{path}: {name!r} is not finite, so its model finds nothing; take weights from before it broke"
            )
    return state


def _read_safetensors(path: Path) -> StoredWeights:
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
        state = _plain(path, load_file(path))
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(f"{path}: not a readable safetensors file ({error}); copy or save it anew") from None
    if "kdet" not in metadata:
        state, said = unwrapped(path, state)
        return StoredWeights(origin=str(path), state=state, said=said)
    about = parse_json(metadata["kdet"], f"{path}: its header")
    names: Any = about.get("class_names") if isinstance(about, dict) else None
    build: Any = about.get("build") if isinstance(about, dict) else None
    canvas: Any = about.get("canvas", "pad") if isinstance(about, dict) else None
    named = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not named or not (build is None or isinstance(build, dict)) or canvas not in CANVASES:
        raise InputError(
            f"{path}: its header is none that kdet wrote (class_names, build, canvas); name an intact file"
        )
    return StoredWeights(origin=str(path), state=state, class_names=tuple(names), build=build or None, canvas=canvas)


def is_file(weights: str) -> bool:
    """Whether a file is meant, and not torchvision's weights by name."""
    return files.exists(Path(weights)) or weights.endswith((".pth", ".pt", ".safetensors"))


def classes_in_weights(weights: str) -> tuple[str, ...] | None:
    """Return the class names by column that weights come with; None where they do not say.

    Raises:
        InputError: no such weights.
    """
    if is_file(weights):
        return read_weights(Path(weights)).class_names
    return tuple(library_weights(weights).meta["categories"])


def library_weights(name: str) -> WeightsEnum:
    """Return torchvision's weights by name, such as `RetinaNet_ResNet50_FPN_Weights.COCO_V1`.

    Raises:
        InputError: torchvision has no such weights.
    """
    try:
        return get_weight(name)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(
            f"weights {name!r}: neither a file nor weights of torchvision; expected a path or a name such as "
            "RetinaNet_ResNet50_FPN_Weights.COCO_V1"
        ) from None


def download(weights: WeightsEnum) -> dict[str, Tensor]:
    """Download the enum's state dict, unless torch's cache has it.

    Raises:
        InputError: it could not be fetched.
    """
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise InputError(
            f"{weights}: could not be downloaded ({error}); "
            f"fetch {weights.url} on another machine and name the file, or put it into torch's hub cache"
        ) from None


def is_class_layer(name: str) -> bool:
    """Whether a tensor of this name depends on the class list."""
    return name.startswith(CLASS_LAYERS) or _YOLO_CLASS_LAYER.match(name) is not None


def load(model: nn.Module, weights: StoredWeights, class_names: tuple[str, ...]) -> list[str]:
    """Load weights into a model; the class layer is left fresh where the class lists differ.

    Returns:
        The names of the tensors that were left as built.

    Raises:
        InputError: the file belongs to another architecture.
    """
    own = model.state_dict()
    weights = named_as(weights, own)
    fresh = check(model, weights, class_names)
    model.load_state_dict({k: v for k, v in weights.state.items() if k in own and k not in fresh}, strict=False)
    return fresh


def check(model: nn.Module, weights: StoredWeights, class_names: tuple[str, ...]) -> list[str]:
    """Return what `load` would leave as built; the model may be without memory, on the device `meta`.

    Raises:
        InputError: as there.
    """
    own = model.state_dict()
    weights = named_as(weights, own)
    other_classes = weights.class_names is not None and weights.class_names != class_names
    fresh = [key for key in own if is_class_layer(key) and (other_classes or _differs(weights.state, own, key))]
    wanted = [key for key in own if key not in fresh and not key.endswith("num_batches_tracked")]
    wrong = [key for key in wanted if _differs(weights.state, own, key)]
    unknown = [key for key in weights.state if key not in own and not key.endswith("num_batches_tracked")]
    if wrong or unknown:
        raise InputError(
            f"{weights.origin}: made for another architecture; "
            f"{_first_difference(weights.state, own, wrong, unknown)}; "
            "build the detector as it was when they were saved (detector, backbone, width, fpn_channels …), or name "
            "another file"
        )
    return fresh


def require_finite(model: nn.Module, origin: str) -> None:
    """Refuse a built model with a number that is none, wherever its weights come from.

    Raises:
        InputError: names the first such tensor.
    """
    tables = ((name, value.isnan()) for name, value in model.named_buffers() if value.is_floating_point())
    learned = ((name, ~value.isfinite()) for name, value in model.named_parameters())
    for name, broken in (*learned, *tables):
        if bool(broken.any()):
            raise InputError(
                f"{origin}: {name!r} is not finite, so its model finds nothing; take weights from before it broke"
            )


def named_as(weights: StoredWeights, own: Mapping[str, Tensor]) -> StoredWeights:
    """Return the weights under a model's own names, if all that keeps them from these is the same words before each."""
    state, word = without_prefix(weights.state, list(own))
    if not word:
        return weights
    left = len(weights.state) - len(state)
    beside = f", and {left} tensors beside it are left out" if left else ""
    return replace(weights, state=state, said=(*weights.said, f"what its {word!r} holds is taken{beside}"))


def _differs(state: Mapping[str, Tensor], own: Mapping[str, Tensor], key: str) -> bool:
    return key not in state or state[key].shape != own[key].shape


def _first_difference(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], wrong: list[str], unknown: list[str]
) -> str:
    if wrong and wrong[0] in state:
        key = wrong[0]
        return f"expected {key} of shape {tuple(own[key].shape)}, got {tuple(state[key].shape)}"
    if wrong:
        return f"expected a tensor {wrong[0]}, the file has none ({len(wrong)} missing)"
    return f"the model has no {unknown[0]} ({len(unknown)} such tensors)"
