"""A random walk over all commands: what people really have as their inputs, whole or broken, and any of their "
"options."""

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from cli_cases import Ended, in_this_process

from fakes import tiny_recipe, write_yaml
from kdet.detectors import read_weights

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
FORMATS = ("coco", "voc", "yolo", "csv")
SPLITS = ("train", "val", "test", "Train", "default", "nowhere")
_DAMAGE = (*("bytes", "digits", "words") * 2, "end", "gone", "empty", "folder", "swap")
_ADVICE = (
    ";",
    "expected",
    "--",
    "cannot be",
    "no such",
    "not in",
    "name ",
    "give ",
    "should be",
    "not given",
    "did you mean",
    "known are",
    "choose",
    "Try '",
)
"""A message that says what to do has one of these in it."""


def prepared(folder: Path) -> Path:
    """Inputs of every kind: the cases, one data set in each format, recipes, runs and weights files."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = folder / "inputs"
    if CASES.is_dir():
        shutil.copytree(CASES, inputs, copy_function=shutil.copyfile)
        for file in inputs.rglob("*"):
            if file.suffix in (".yaml", ".txt", ".json"):
                file.write_text(file.read_text("utf-8").replace("@HERE@", str(inputs)), "utf-8")
    for form in FORMATS:
        sizes = [part for key in ("images=4", "val_images=2", "image_size=64") for part in ("-o", key)]
        _done("data", "shapes", inputs / form, *sizes, "--to", form, folder=folder)
    data = {"format": "coco", "train": "inputs/coco", "val": "inputs/coco", "image_size": 64}
    recipe = {**tiny_recipe(train={"epochs": 1}), "data": data}
    write_yaml(folder / "alone.yaml", recipe)
    _done("train", "alone.yaml", "--run", "runs/alone", folder=folder)
    write_yaml(folder / "taught.yaml", recipe | {"teacher": {"run": "runs/alone"}, "distill": [{"method": "l2"}]})
    _weights(folder)
    return folder


def _weights(folder: Path) -> None:
    """The run's weights as others would keep them, and broken."""
    state = read_weights(folder / "runs/alone/student.safetensors").state
    (folder / "weights").mkdir()
    torch.save(state, folder / "weights" / "bare.pt")
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, folder / "weights" / "wrapped.pth")
    name = next(name for name in state if name.endswith("bias"))
    torch.save(state | {name: torch.full_like(state[name], torch.nan)}, folder / "weights" / "nan.pt")
    torch.save({"model": torch.nn.Linear(2, 2)}, folder / "weights" / "whole-model.pt")


def _done(*arguments: str | Path, folder: Path) -> None:
    ended = in_this_process(*arguments, folder=folder)
    assert ended.status == 0, ended.err


@dataclass
class Walk:
    """Commands drawn by chance, in a prepared folder."""

    folder: Path
    chance: random.Random
    commands: "Commands"
    number: int = 0
    words: list[str | Path] = field(default_factory=list[str | Path])
    """Of the last command."""

    def step(self) -> tuple[list[str | Path], Ended]:
        """Draw one command and do it."""
        self.number += 1
        self.words = self.commands[self.chance.choice(list(self.commands))](self)
        return self.words, in_this_process(*self.words, folder=self.folder)

    def new(self) -> Path:
        """A path where nothing is yet; now and then one that is taken."""
        return Path("inputs") if self.chance.random() < 0.03 else Path(f"new/{self.number}")

    def maybe(self, *words: str | Path, often: float = 0.3) -> list[str | Path]:
        return list(words) if self.chance.random() < often else []

    def data(self) -> Path:
        """A data set: its folder, or a file in it; one in two is broken."""
        inputs = self.folder / "inputs"
        every = sorted(path for path in inputs.iterdir() if path.is_dir())
        # One in three is a data set of the models' own classes, so that some commands come to their end.
        base = self.chance.choice(every if self.chance.random() < 0.67 else [inputs / name for name in FORMATS])
        if self.chance.random() < 0.5:
            base = self._broken(base)
        files = sorted(path for path in base.rglob("*") if path.suffix in (".json", ".yaml", ".csv", ".txt", ".xml"))
        chosen = self.chance.choice(files) if files and self.chance.random() < 0.4 else base
        return chosen.relative_to(self.folder)

    def model(self) -> Path:
        """A run or a weights file, or what is none."""
        places = ("runs/*", "runs/*/*.safetensors", "weights/*")
        found = sorted(path for place in places for path in self.folder.glob(place))
        chosen = self.chance.choice(found)
        if self.chance.random() < 0.3:
            chosen = self._broken(chosen) if chosen.is_dir() else self._broken(chosen.parent) / chosen.name
        return chosen.relative_to(self.folder) if self.chance.random() < 0.95 else self.data()

    def _broken(self, base: Path) -> Path:
        """A copy in which one file is damaged, gone, empty, a folder, or another's."""
        copy = self.folder / "broken" / str(self.number) / base.name
        shutil.copytree(base, copy, dirs_exist_ok=True)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        file = self.chance.choice(files)
        content = bytearray(file.read_bytes())
        match self.chance.choice(_DAMAGE):
            case "bytes":
                for _ in range(self.chance.randint(1, 8)):
                    if content:
                        content[self.chance.randrange(len(content))] = self.chance.randrange(256)
                file.write_bytes(content)
            case "digits":
                places = [i for i, value in enumerate(content) if chr(value) in "0123456789"]
                for i in self.chance.sample(places, min(len(places), 4)):
                    content[i] = ord(self.chance.choice("0123456789.-e"))
                file.write_bytes(content)
            case "words":
                odd = self.chance.choice([b"null", b"NaN", b'""', b"[]", b"{}", b"true", b"1e999", b"../..", b"\0"])
                place = self.chance.randrange(len(content) + 1)
                file.write_bytes(bytes(content[:place]) + odd + bytes(content[place:]))
            case "end":
                file.write_bytes(content[: self.chance.randrange(len(content) + 1)])
            case "gone":
                file.unlink()
            case "empty":
                file.write_bytes(b"")
            case "folder":
                file.unlink()
                file.mkdir()
            case _:
                file.write_bytes(self.chance.choice(files).read_bytes())
        return copy


def fault(words: list[str | Path], ended: Ended) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    lines = ended.err.splitlines()
    if ended.status == 0:
        return "traceback" if "Traceback" in ended.err + ended.out else ""
    if ended.status not in (1, 2):
        return f"status {ended.status}"
    if words[0] == "check" and ended.status == 1 and "Traceback" not in ended.err + ended.out:
        return ""  # it ends with its report
    last = lines[-1] if lines else ""
    if not last.startswith("kdet: ") or not last.isprintable():
        return "no line that can be read"
    if "Traceback" in ended.err or 'File "' in ended.err:
        return "traceback"
    return "" if any(word in last for word in _ADVICE) else "does not say what to do"


def _read(walk: Walk) -> list[str | Path]:
    """Options that all commands share which read a data set."""
    pick = walk.chance.choice
    return [
        *walk.maybe("--format", pick(FORMATS), often=0.2),
        *walk.maybe("--images", walk.data() if pick([0, 1]) else Path("inputs"), often=0.15),
        *walk.maybe("--on-bad-box", pick(["fix", "clip", "drop", "error", "mend"])),
    ]


def _inspect(walk: Walk) -> list[str | Path]:
    pick = walk.chance.choice
    pixel = walk.maybe("--first-pixel", pick(["auto", "0", "1", "2"]), often=0.1)
    flags = [word for word in ("--decode", "--strict", "--json") if pick([0, 1])]
    split = walk.maybe("--split", pick(SPLITS), often=0.5)
    return ["data", "inspect", walk.data(), *_read(walk), *split, *pixel, *flags]


def _convert(walk: Walk) -> list[str | Path]:
    pick = walk.chance.choice
    words = ["data", "convert", walk.data(), walk.new(), "--to", pick([*FORMATS, "shapes", "tfrecord"])]
    words += _read(walk) + walk.maybe("--split", pick(SPLITS)) + walk.maybe("--val", walk.data())
    return words + walk.maybe("--split-off", pick(["0.5", "0.2", "0", "1", "x"])) + walk.maybe("--strict")


def _settings(walk: Walk) -> list[str | Path]:
    """A recipe that reads any data, for one step."""
    pick = walk.chance.choice
    words: list[str | Path] = [pick(["alone.yaml", "taught.yaml"]), "-o", "train.max_steps=1"]
    for key in ("train", "val"):
        words += walk.maybe("-o", f"data.{key}={walk.data()}", often=0.4)
    words += walk.maybe("-o", f"data.format={pick(FORMATS)}", often=0.4)
    odd = (
        *("train.batch_size=1", "train.lr=nan", "train.lr=1e30", "train.optimizer=sgd", "student.norm=batch"),
        *("data.image_size=32", "data.labels=0.3", "data.hold_out=0.5", "data.on_bad_box=clip", "train.ema=0.9"),
        *("student.detector=ssdlite", "student.detector=faster_rcnn", "distill=[{method: structural, weight: auto}]"),
        *("teacher.run=runs/alone", "data.val=split", "data.split_off=0.5", "student.inherit=all", "teacher=null"),
        *("distill=[{method: rm}]", "distill=[{method: crosskd}]", "teacher.class_map={a: b}", "teacher.classes=[x]"),
    )
    for _ in range(pick([0, 0, 1, 1, 2])):
        words += ["-o", pick(odd)]
    model = f"{pick(['student', 'teacher'])}.weights={walk.model()}"
    return words + walk.maybe("-o", model, often=0.2)


def _train(walk: Walk) -> list[str | Path]:
    runs = sorted((walk.folder / "runs").iterdir())
    again = walk.chance.random() < 0.25
    run = walk.chance.choice(runs).relative_to(walk.folder) if again else Path(f"runs/{walk.number}")
    resume = ["--resume"] if again or walk.chance.random() < 0.05 else []
    command = walk.chance.choice(["train", "distill"])
    return [command, *_settings(walk), "--run", run, *resume, *walk.maybe("--strict"), *walk.maybe("--json")]


def _check(walk: Walk) -> list[str | Path]:
    return ["check", *_settings(walk), *walk.maybe("--strict"), *walk.maybe("--json")]


def _evaluate(walk: Walk) -> list[str | Path]:
    split = walk.maybe("--split", walk.chance.choice(SPLITS))
    write = walk.maybe("--predictions", walk.new())
    return ["evaluate", walk.model(), "--data", walk.data(), *_read(walk), *split, *write, *walk.maybe("--json")]


def _predict(walk: Walk) -> list[str | Path]:
    kinds = walk.maybe("--as", walk.chance.choice(["coco", "yolo", "labelstudio", "cvat"]))
    return ["predict", walk.model(), walk.data(), "--out", walk.new(), *kinds, *walk.maybe("--score", "0")]


def _label(walk: Walk) -> list[str | Path]:
    score = walk.maybe("--score", walk.chance.choice(["auto", "0", "0.5", "2"]))
    to = walk.chance.choice(["coco", "yolo", "voc"])
    prompt = walk.maybe("--prompt", "a: a")
    return ["label", walk.model(), walk.data(), "--to", to, "--out", walk.new(), *score, *prompt]


def _report(walk: Walk) -> list[str | Path]:
    runs: list[str | Path] = [walk.model() for _ in range(walk.chance.choice([1, 1, 2]))]
    return ["report", *runs, "--out", walk.new(), *walk.maybe("--speed", walk.data(), often=0.1)]


def _shapes(walk: Walk) -> list[str | Path]:
    odd = ("images=0", "images=2", "image_size=8", "classes=99", "texture=x", "nothing=1", "scale=[0.9, 0.1]")
    to = walk.maybe("--to", walk.chance.choice([*FORMATS, "x"]))
    return ["data", "shapes", walk.new(), "-o", "images=2", "-o", walk.chance.choice(odd), *to]


def _speed(walk: Walk) -> list[str | Path]:
    size = walk.maybe("--image-size", walk.chance.choice(["64", "0", "x"]))
    return ["speed", walk.model(), "--seconds", "0.01", "--no-memory", "--batch-size", "1", *size]


def _export(walk: Walk) -> list[str | Path]:
    to = walk.chance.choice(["onnx", "pt2", "openvino", "litert", "tflite"])
    more = [*walk.maybe("--data", walk.data(), often=0.6), *walk.maybe("--int8")]
    return ["export", walk.model(), "--to", to, "--out", walk.new(), "--check-images", "2", *more]


Commands = Mapping[str, Callable[[Walk], list[str | Path]]]
READ: Commands = {"inspect": _inspect, "convert": _convert, "shapes": _shapes}
QUICK: Commands = {**READ, "report": _report, "predict": _predict, "evaluate": _evaluate, "label": _label}
ALL: Commands = {**QUICK, "train": _train, "check": _check, "speed": _speed, "export": _export}
