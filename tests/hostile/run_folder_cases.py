"""Run folders with anything in their files. Name → which file, what is in it, words of the message."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkpoint_cases import Payload, torch_bytes
from hostile_cases import Words, pipe, put
from PIL import Image
from safetensors.torch import save

STEP: dict[str, Any] = {"kind": "step", "step": 1, "epoch": 0, "lr": 0.01, "total": 1.0, "parts": {"task/box": 1.0}}
LOOK: dict[str, Any] = {"kind": "eval", "step": 1, "epoch": 0, "metrics": {"AP": 0.5}}
MAPS: dict[str, Any] = {
    "compared_with": "teacher",
    "pictures": [
        {
            "name": "a",
            "file": "a.png",
            "image_id": 1,
            "width": 8,
            "height": 8,
            "difference": 0.5,
            "truth": [],
            "levels": [],
        }
    ],
}
PREDICTIONS: dict[str, Any] = {"classes": ["cat"], "image_ids": [1], "results": []}


def run_folder(folder: Path) -> Path:
    """A small finished run with one picture."""
    files = {"metrics": {"AP": 0.5}, "predictions": PREDICTIONS, "maps/maps": MAPS, "environment": {"cores": 2}}
    put(folder / "recipe.yaml", "student: {detector: retinanet}\n")
    put(folder / "log.jsonl", f"{json.dumps(STEP)}\n{json.dumps(LOOK)}\n")
    for name, content in files.items():
        put(folder / f"{name}.json", json.dumps(content))
    Image.new("RGB", (8, 8)).save(folder / "maps" / "a.png")
    return folder


def step(**values: Any) -> str:
    """A log of one step with other values."""
    return json.dumps(STEP | values) + "\n"


def look(**values: Any) -> str:
    """A log of one evaluation with other values."""
    return json.dumps(LOOK | values) + "\n"


def picture(**values: Any) -> str:
    """maps.json with other values for its picture."""
    return json.dumps(MAPS | {"pictures": [MAPS["pictures"][0] | values]})


def result(**values: Any) -> str:
    """predictions.json with one detection."""
    one = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "score": 0.9} | values
    return json.dumps(PREDICTIONS | {"results": [one]})


GARBLES = "lacks or garbles"
_LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))

TEXTS: dict[str, tuple[str, str | bytes, Words]] = {
    # log
    "log of 0 lines that count": ("log.jsonl", "hello\n", "not a run's log"),
    "log no UTF-8": ("log.jsonl", b"\xff\xfe", "UTF-8"),
    "log of a pickle": ("log.jsonl", b"\x80\x04.", "UTF-8"),
    "log of lists": ("log.jsonl", "[1]\n[2]\n", "not a run's log"),
    "log 100,000 deep": ("log.jsonl", "[" * 100_000 + "\n", "not a run's log"),
    "log of 5,000 digits": ("log.jsonl", '{"kind": ' + "9" * 5000 + "}\n", "not a run's log"),
    "step a word": ("log.jsonl", step(step="one"), GARBLES),
    "step null": ("log.jsonl", step(step=None), GARBLES),
    "step infinite": ("log.jsonl", step(step=float("inf")), GARBLES),
    "step no number": ("log.jsonl", step(step=float("nan")), GARBLES),
    "step of 400 digits": ("log.jsonl", step(step=10**400), GARBLES),
    "epoch a list": ("log.jsonl", step(epoch=[1]), GARBLES),
    "lr an object": ("log.jsonl", step(lr={}), GARBLES),
    "total of 400 digits": ("log.jsonl", step(total=10**400), GARBLES),
    "no parts": ("log.jsonl", step(parts=None), GARBLES),
    "parts a list": ("log.jsonl", step(parts=[1]), GARBLES),
    "parts of words": ("log.jsonl", step(parts={"a": "b"}), GARBLES),
    "pulls a number": ("log.jsonl", step(gradients=1), GARBLES),
    "pulls of numbers": ("log.jsonl", step(gradients={"a": 1}), GARBLES),
    "weights null": ("log.jsonl", step(weights=None), GARBLES),
    "look without metrics": ("log.jsonl", look(metrics=None), GARBLES),
    "look of a word": ("log.jsonl", look(metrics="good"), GARBLES),
    "look at step infinite": ("log.jsonl", look(step=float("inf")), GARBLES),
    # recipe
    "recipe a list": ("recipe.yaml", "- 1\n", "expected keys and values"),
    "recipe no YAML": ("recipe.yaml", "a: [\n", "recipe.yaml:"),
    "recipe of an object": ("recipe.yaml", "a: !!python/object/apply:os.getpid []\n", "recipe.yaml:1"),
    "recipe of laughs": ("recipe.yaml", _LAUGHS + "student: {detector: *a11}\n", "aliases multiply"),
    "recipe that stumbles": ("recipe.yaml", "a: !!bool maybe\n", "recipe.yaml"),
    "recipe 1,000 deep": ("recipe.yaml", "[" * 1000, "nested far too deep"),
    "recipe larger than any": ("recipe.yaml", "# " + "x" * 2_000_000, "larger than"),
    # JSON
    "metrics cut": ("metrics.json", '{"AP": 0.', "not JSON (line 1"),
    "metrics 0 bytes": ("metrics.json", "", "not JSON"),
    "metrics a list": ("metrics.json", "[0.5]", "expected a JSON object"),
    "metrics a number": ("metrics.json", "NaN", "expected a JSON object"),
    "metrics 100,000 deep": ("metrics.json", '{"a":' * 100_000, "nested far too deep"),
    "metrics of 5,000 digits": ("metrics.json", '{"AP": ' + "9" * 5000 + "}", "not JSON"),
    "metrics no UTF-8": ("metrics.json", b"\xff", "UTF-8"),
    "teacher a word": ("teacher.json", '"good"', "expected a JSON object"),
    "curves null": ("curves.json", "null", "expected a JSON object"),
    "environment a list": ("environment.json", "[]", "expected a JSON object"),
    # pictures
    "maps empty": ("maps/maps.json", "{}", GARBLES),
    "maps of numbers": ("maps/maps.json", json.dumps(MAPS | {"pictures": [1]}), GARBLES),
    "maps a word": ("maps/maps.json", json.dumps(MAPS | {"pictures": "all"}), GARBLES),
    "picture above": ("maps/maps.json", picture(file="../../secret.png"), "not an image that can be shown"),
    "picture absolute": ("maps/maps.json", picture(file="/etc/passwd"), "not an image that can be shown"),
    "picture the folder above": ("maps/maps.json", picture(file=".."), "not a plain file"),
    "picture with NUL": ("maps/maps.json", picture(file="a\0.png"), "cannot be read"),
    "picture of 5,000 letters": ("maps/maps.json", picture(file="a" * 5000), "cannot be read"),
    "picture of no width": ("maps/maps.json", picture(width=0), GARBLES),
    "picture without a size": ("maps/maps.json", picture(width=None), GARBLES),
    "picture of an id infinite": ("maps/maps.json", picture(image_id=float("inf")), GARBLES),
    "truth of a class of nobody": (
        "maps/maps.json",
        picture(truth=[{"class": "dog", "box_xyxy": [1, 1, 2, 2]}]),
        GARBLES,
    ),
    "truth of three": ("maps/maps.json", picture(truth=[{"class": "cat", "box_xyxy": [1, 1, 2]}]), GARBLES),
    "truth no number": (
        "maps/maps.json",
        picture(truth=[{"class": "cat", "box_xyxy": [float("nan"), 1, 2, 2]}]),
        GARBLES,
    ),
    "levels a number": ("maps/maps.json", picture(levels=5), GARBLES),
    "levels of words": ("maps/maps.json", picture(levels=["P3"]), GARBLES),
    "picture 0 bytes": ("maps/a.png", b"", "not an image that can be shown"),
    "picture an SVG": ("maps/a.png", "<svg onload='alert(1)'/>", "not an image that can be shown"),
    "detection of a class of nobody": ("predictions.json", result(category_id=9), GARBLES),
    "detection of three": ("predictions.json", result(bbox=[1, 1, 4]), GARBLES),
    "detection of a word": ("predictions.json", result(score="high"), GARBLES),
    "detections a number": ("predictions.json", json.dumps(PREDICTIONS | {"results": 5}), GARBLES),
}

PLACES: dict[str, tuple[Callable[[Path], object], Words]] = {
    "a pipe for a log": (lambda folder: pipe(folder / "log.jsonl"), "not a plain file"),
    "a pipe for metrics": (lambda folder: pipe(folder / "metrics.json"), "not a plain file"),
    "a pipe for a picture": (lambda folder: pipe(folder / "maps" / "a.png"), "not a plain file"),
    "a folder for curves": (lambda folder: (folder / "curves.json").mkdir(), "not a plain file"),
    "a device for curves": (lambda folder: (folder / "curves.json").symlink_to("/dev/zero"), "not a plain file"),
    "a link to itself": (lambda folder: (folder / "curves.json").symlink_to("curves.json"), "cannot be read"),
}

HARMLESS: dict[str, tuple[str, str]] = {
    "AP of 400 digits": ("metrics.json", '{"AP": ' + "9" * 400 + "}"),
    "AP a word": ("metrics.json", '{"AP": "good", "per_class": [1], "best": 5}'),
    "AP no number": ("metrics.json", '{"AP": NaN, "AP50": Infinity}'),
    "distill a number": ("recipe.yaml", "student: 5\ndistill: 7\n"),
    "distill of words": ("recipe.yaml", "student: {width: [1]}\ndistill: [structural]\n"),
    "environment 500 deep": ("environment.json", '{"a":' * 400 + "1" + "}" * 400),
    "environment of scripts": ("environment.json", '{"<script>": "</script><script>alert(1)</script>"}'),
    "total no number": ("log.jsonl", step(total=float("nan")) + step(step=2, total=float("inf"))),
    "step negative": ("log.jsonl", step(step=-5)),
    "rate a word": ("log.jsonl", step(images_per_second="fast")),
    "curves of words": ("curves.json", '{"recall": ["a"], "precision": {"50": "x"}, "per_class": {"a": 1, "b": []}}'),
    "detection infinite": ("predictions.json", result(bbox=[1, 1, float("inf"), 4])),
    "log with a broken line": ("log.jsonl", step() + '{"kind": "st\n'),
}


def state_of(folder: Path) -> dict[str, tuple[Callable[[Path], object], Words]]:
    """What may be wrong with the state that a run resumes from, given its folder."""
    counters = folder / "counters.json"
    good: dict[str, Any] = json.loads(counters.read_text())

    def counted(**values: Any) -> Callable[[Path], object]:
        return lambda sign: put(counters, json.dumps(good | values))

    def swap(name: str, content: bytes) -> Callable[[Path], object]:
        return lambda sign: put(folder / name, content)

    damaged = "damaged or does not fit"
    return {
        "weights 0 bytes": (swap("trainables.safetensors", b""), damaged),
        "weights of another": (swap("trainables.safetensors", save({"other": torch.zeros(2)})), damaged),
        "weights cut": (swap("trainables.safetensors", (folder / "trainables.safetensors").read_bytes()[:-9]), damaged),
        "weights gone": (lambda sign: (folder / "trainables.safetensors").unlink(), "saved no state yet"),
        "optimizer 0 bytes": (swap("optimizer.pt", b""), damaged),
        "optimizer cut": (swap("optimizer.pt", (folder / "optimizer.pt").read_bytes()[:500]), damaged),
        "optimizer a list": (swap("optimizer.pt", torch_bytes([1])), damaged),
        "optimizer of nothing": (swap("optimizer.pt", torch_bytes({})), damaged),
        "optimizer with a payload": (
            lambda sign: put(folder / "optimizer.pt", torch_bytes({"state": Payload(sign), "param_groups": []})),
            damaged,
        ),
        "counters 0 bytes": (swap("counters.json", b""), damaged),
        "counters a list": (swap("counters.json", b"[1]"), damaged),
        "counters 100,000 deep": (swap("counters.json", b"[" * 100_000), damaged),
        "counters of nobody": (counted(stepp=1), damaged),
        "step a word": (counted(step="many"), damaged),
        "step negative": (counted(step=-1), damaged),
        "epoch a half": (counted(epoch=0.5), damaged),
        "batch of 400 digits": (counted(batch=10**400), damaged),
        "best AP no number": (counted(best_ap=float("nan")), damaged),
        "best AP a word": (counted(best_ap="good"), damaged),
        "seconds infinite": (counted(seconds=float("inf")), damaged),
    }
