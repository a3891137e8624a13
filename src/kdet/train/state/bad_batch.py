"""A batch on which the numbers broke, kept with the weights that it met, so that the step can be done again."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdet.errors import InputError
from kdet.tensor_file import save_tensors
from kdet.train.state.run_folder import write_json
from kdet.types import Batch, Target

BAD_BATCH = "bad-batch"
_TENSORS, _ABOUT, _WEIGHTS = "batch.safetensors", "batch.json", "trainables.safetensors"


@dataclass(frozen=True, kw_only=True)
class BadBatch:
    """What is kept of a step that broke."""

    batch: Batch
    weights: dict[str, Tensor]
    """All that is trained, as of `Distiller.state_dict`."""
    class_names: tuple[str, ...]
    """Class names of the data."""
    step: int


def keep(folder: Path, batch: Batch, state: Mapping[str, Tensor], class_names: tuple[str, ...], step: int) -> None:
    """Write a batch and the weights of before its step into a folder; an older one there is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tensors = {"images": batch.images}
    if batch.teacher_images is not None:
        tensors["teacher_images"] = batch.teacher_images
    for i, target in enumerate(batch.targets or []):
        tensors |= {f"boxes.{i}": target["boxes"], f"labels.{i}": target["labels"]}
    save_tensors(tensors, folder / _TENSORS)
    save_tensors(state, folder / _WEIGHTS)
    about = {
        "step": step,
        "class_names": class_names,
        "image_ids": batch.image_ids,
        "sizes_hw": batch.sizes_hw,
        "original_sizes_hw": batch.original_sizes_hw,
    }
    write_json(folder / _ABOUT, about)


def read(folder: Path) -> BadBatch:
    """Read what `keep` wrote.

    Raises:
        InputError: it is not there, or damaged.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS)
        count = len(about["image_ids"])
        batch = Batch(
            images=tensors["images"],
            sizes_hw=[(h, w) for h, w in about["sizes_hw"]],
            original_sizes_hw=[(h, w) for h, w in about["original_sizes_hw"]],
            image_ids=about["image_ids"],
            targets=[Target(boxes=tensors[f"boxes.{i}"], labels=tensors[f"labels.{i}"]) for i in range(count)],
            teacher_images=tensors.get("teacher_images"),
        )
        weights = load_file(folder / _WEIGHTS)
        return BadBatch(batch=batch, weights=weights, class_names=tuple(about["class_names"]), step=about["step"])
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or folder}: no such file; name the folder {BAD_BATCH} of a run") from None
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise InputError(
            f"{folder}: damaged, or not the folder {BAD_BATCH} of a run ({error}); name that folder"
        ) from None


def restore(kept: BadBatch, module: nn.Module, device: torch.device) -> Batch:
    """Put the weights back; returns the batch on the device.

    Raises:
        InputError: they belong to another recipe.
    """
    try:
        module.load_state_dict(kept.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the kept weights do not fit this recipe ({reason}); give the recipe.yaml of that run"
        ) from None
    return kept.batch.to(device)
