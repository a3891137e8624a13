"""The run folder: names of its files, how it begins, and how weights lie in it."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from kdet.detectors import FACTORY, plain
from kdet.errors import InputError
from kdet.files import parse_yaml, read_text
from kdet.tensor_file import save_tensors
from kdet.train.recipe.file import write_recipe
from kdet.train.recipe.schema import Recipe
from kdet.types import Detector

RECIPE = "recipe.yaml"
ENVIRONMENT = "environment.json"
LOG = "log.jsonl"
BOARD = "tensorboard"
METRICS = "metrics.json"
TEACHER = "teacher.json"
TEACHER_PREDICTIONS = "teacher-predictions.json"
TEACHER_CURVES = "teacher-curves.json"
PREDICTIONS = "predictions.json"
CURVES = "curves.json"
MAPS = "maps"
"""A folder; what a page draws beside the numbers."""
UNLABELLED = "unlabelled.json"
"""What the teacher found on the images without labels."""
BEST = "student.safetensors"
LAST = "student-last.safetensors"
RESUME = "last"
SOURCE = "student_model"
"""Loads the weights files where kdet is not installed."""
CONFIG = "config.json"
"""File in place of SOURCE where the student is transformers': its own, which names BEST as the weights."""

_CACHES = shutil.ignore_patterns("__pycache__")


def begin(folder: Path, recipe: Recipe, *, resume: bool) -> bool:
    """Make the run folder and write what is known before the first step.

    Returns:
        Whether there is a state to go on from; a run that was killed before its first begins anew in its folder.

    Raises:
        InputError: it already holds a run, or there is nothing to resume, or it cannot be written.
    """
    holds_run = any((folder / name).exists() for name in (RECIPE, f"{RECIPE}.new"))
    if resume and not holds_run:
        raise InputError(f"{folder}: no run to resume; leave --resume out to start one")
    if resume and saved_state(folder):
        return True
    if not resume and (holds_run or (folder.exists() and any(folder.iterdir()))):
        kind = "already holds a run" if holds_run else "is not empty"
        raise InputError(f"{folder}: {kind}; continue it with --resume, or name another folder with --run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG).unlink(missing_ok=True)
        shutil.rmtree(folder / BOARD, ignore_errors=True)
        rewrite_recipe(recipe, folder)
        if recipe.student.detector not in (
            "hf",
            "libreyolo",
            FACTORY,
        ):  # those are loaded by the library, or the user's code
            write_source(folder)
        write_json(folder / ENVIRONMENT, environment(recipe.train.seed))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); name another folder with --run") from None
    return False


def rewrite_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the recipe of a run; a reader sees the old one or the new one."""
    write_recipe(recipe, folder / f"{RECIPE}.new")
    (folder / f"{RECIPE}.new").replace(folder / RECIPE)


def as_begun(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe of a run that goes on: one from before there was `data.canvas` stays on `pad`."""
    text = read_text(folder / RECIPE)
    begun = None if text is None else parse_yaml(text, str(folder / RECIPE), yaml.SafeLoader)
    if not isinstance(begun, dict) or "canvas" in begun.get("data", {}):
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"canvas": "pad"})})


def saved_state(folder: Path) -> bool:
    """Whether a run has a state to resume from; `.old` where it was killed between two renames."""
    return any((folder / name).exists() for name in (RESUME, f"{RESUME}.old"))


def write_source(folder: Path) -> None:
    """What loads a weights file where kdet is not installed: a copy of a package that needs nothing of it."""
    shutil.copytree(Path(plain.__file__).parent, folder / SOURCE, ignore=_CACHES, dirs_exist_ok=True)


def environment(seed: int) -> dict[str, Any]:
    """Return where and with what a run was made."""
    packages = ["kdet", "torch", "torchvision", "accelerate", "faster-coco-eval", "numpy"]
    packages += ["transformers"] if find_spec("transformers") else []
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["kdet", *sys.argv[1:]]),
        "commit": _commit(),
        "seed": seed,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "packages": {name: _version(name) for name in packages},
    }


def save_student(detector: Detector, state: Mapping[str, Tensor], path: Path) -> None:
    """The student alone, under the library's key names, with what rebuilds it in the file's header; atomic."""
    about = {"build": detector.build_arguments, "class_names": detector.class_names, "family": detector.family}
    about |= {"canvas": detector.canvas}
    new = path.with_suffix(".new")
    save_tensors(state, new, metadata={"kdet": json.dumps(about), "format": "pt"})
    if config := (detector.build_arguments or {}).get("config"):
        write_json(path.with_name(CONFIG), {**config, "transformers_weights": BEST})
    sync(new)
    new.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    sync(new)
    new.replace(path)


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:  # run from a source tree
        return "source tree"


def _commit() -> str | None:
    """Commit of the source tree that kdet runs from; None for an installed wheel."""
    try:
        source = Path(__file__).parent
        found = subprocess.run(
            ["git", "-C", source, "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
