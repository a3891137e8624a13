"""What a step of distillation costs, beside its parts and beside torchdistill: RetinaNet R50 → R18, random weights.

    python benchmarks/step.py --out benchmarks/results/step-cpu.json
    python benchmarks/step.py --sizes 512x512 --variants

Forward, backward and optimizer. Each comparison has a few processes of its own, in which its jobs take turns; figures
are medians, a bar's is that of each turn's own ratio, so that a slow spell of the machine hits both sides. The parts
are the student's own step, the teacher's backbone and neck, and the loss alone on maps of the step's shapes: a step
should cost little more than their sum. Data is what the loader takes for such a batch, without workers. torchdistill
gets the same teacher, student, optimizer, images and plain L2 on the same five levels, and that both compute the same
loss is checked first; it is left out where it is not installed. The run ends with the bars, met or missed.
"""

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from measuring import DEVICE, in_turns, medians, verdict, whereabouts
from torch import Tensor, nn
from torch.nn import functional as F

import kdet
from data import jpegs
from kdet.data import Augmentation, DetectionDataset, EpochSampler, FileSource, Pipeline, make_loader
from kdet.data.formats.coco import reader as coco
from kdet.types import Batch, Detector, Need, Target

SIZES = {"512x512": (512, 512), "800x1216": (800, 1216)}
VARIANTS = ("contiguous weights", "bf16 teacher", "compiled")
"""Maps are channels-last in each, as kdet always has them: weights that are not are reordered in every step."""
CLASSES = [f"class {number}" for number in range(80)]
OBJECTS = 7
SCALE = 1e-3
"""Of every method's loss: with random weights nothing is to blow up."""
METHODS = {"l2": lambda: kdet.methods.l2(SCALE), "structural": lambda: kdet.methods.structural(SCALE)}


def detector(backbone: str, size: tuple[int, int]) -> Detector:
    """RetinaNet as torchvision builds it, random weights, 256-channel FPN, its own resizing without effect."""
    built = kdet.build("retinanet", backbone=backbone, classes=CLASSES, image_size=(min(size), max(size)))
    built.model.to(DEVICE)  # pyright: ignore[reportCallIssue]
    return built


def pair(size: tuple[int, int]) -> tuple[Detector, Detector]:
    """Teacher and student, the same ones every time."""
    torch.manual_seed(0)
    return detector("resnet50", size), detector("resnet18", size)


def images_and_targets(size: tuple[int, int], count: int) -> tuple[list[Tensor], list[Target]]:
    """Noise with boxes of 16 to 256 pixels."""
    height, width = size
    images = [torch.rand(3, height, width).to(DEVICE) for _ in range(count)]
    targets: list[Target] = []
    for _ in range(count):
        wh = torch.rand(OBJECTS, 2) * 240 + 16
        xy = torch.rand(OBJECTS, 2) * (torch.tensor([width, height]) - wh)
        labels = torch.randint(1, 81, (OBJECTS,))
        targets.append(Target(boxes=torch.cat([xy, xy + wh], 1).to(DEVICE), labels=labels.to(DEVICE)))
    return images, targets


def optimizer_of(module: nn.Module) -> torch.optim.Optimizer:
    """The papers', too slow to change anything here."""
    return torch.optim.SGD(module.parameters(), lr=1e-6, momentum=0.9)


def step_of(distiller: kdet.Distiller, batch: Batch) -> Callable[[], object]:
    """A whole step as kdet takes it."""
    optimizer = optimizer_of(distiller)

    def step() -> None:
        distiller(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def loss_of(distiller: kdet.Distiller, batch: Batch) -> Callable[[], object]:
    """The loss of the method alone, forward and backward, on maps that were seen before."""
    assert distiller.criterion is not None
    with torch.no_grad():
        seen, (context,) = distiller.observe_pair(batch, only=frozenset({Need.FEATURES}))
    maps = [level.requires_grad_() for level in seen.features or []]

    def loss() -> None:
        assert distiller.criterion is not None
        sum(value.sum() for value in distiller.criterion.raw([context]).values()).backward()  # pyright: ignore
        for level in maps:
            level.grad = None

    return loss


class LevelsL2(nn.Module):
    """torchdistill's place for a loss of one's own: mean of squares of each level, summed, as `kdet.methods.l2`."""

    def forward(self, student_io: Any, teacher_io: Any, targets: Any) -> Tensor:
        """The hooks' maps of both models."""
        levels = zip(student_io["backbone"]["output"].values(), teacher_io["backbone"]["output"].values(), strict=True)
        return torch.stack([F.mse_loss(student, teacher) for student, teacher in levels]).sum()


def torchdistill_box(teacher: nn.Module, student: nn.Module) -> Any:
    """Its training box around copies of the two models."""
    from torchdistill.core.distillation import get_distillation_box  # pyright: ignore

    teacher = copy.deepcopy(teacher).eval()  # its box trains a teacher that nobody put to eval
    hook = {"forward_hook": {"input": [], "output": ["backbone"]}}
    config = {
        "num_epochs": 1,
        "teacher": hook | {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": hook | {"forward_proc": "forward_batch_target"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 1e-6, "momentum": 0.9}},
        "criterion": {
            "key": "WeightedSumLoss",
            "func2extract_model_loss": "extract_model_loss_dict",
            "kwargs": {
                "model_term": {"weight": 1.0},
                "sub_terms": {"l2": {"criterion": LevelsL2(), "weight": SCALE}},
            },
        },
    }
    box = get_distillation_box(teacher, copy.deepcopy(student), {}, config, DEVICE, [], False, 1.0)
    box.pre_epoch_process(epoch=0)
    return box


def torchdistill_step(box: Any, images: list[Tensor], targets: list[Target]) -> Callable[[], object]:
    """A whole step as it takes it."""
    return lambda: box.post_forward_process(box.forward_process(images, targets))


def seconds_of_data(size: tuple[int, int], count: int, repeats: int) -> float:
    """For one batch: read, decode, flip, resize, pad."""
    with tempfile.TemporaryDirectory() as folder:
        file = jpegs(Path(folder), count * 8)
        dataset = DetectionDataset(
            FileSource(coco.read(file)), Pipeline((min(size), max(size)), Augmentation(flip=0.5))
        )
        loader = make_loader(dataset, EpochSampler(len(dataset), batch_size=count), workers=0)
        return medians(in_turns({"data": lambda: list(loader)}, repeats))["data"] / 8


def jobs_of(comparison: str, size: str, count: int) -> dict[str, Callable[[], object]]:
    """What takes turns in the process of one comparison."""
    teacher, student = pair(SIZES[size])
    images, targets = images_and_targets(SIZES[size], count)
    batch = student.batch(images, targets)
    if comparison in VARIANTS:
        plain, other = distiller_of("structural", teacher, student), variant(comparison, *pair(SIZES[size]))
        return {"structural step": step_of(plain, batch), comparison: step_of(other, batch)}
    if comparison == "torchdistill":
        distiller, box = distiller_of("l2", teacher, student), torchdistill_box(teacher.model, student.model)
        with torch.no_grad():
            theirs, ours = box.forward_process(images, targets), distiller(batch).total
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=0)
        return {"l2 step": step_of(distiller, batch), "torchdistill's l2 step": torchdistill_step(box, images, targets)}
    distiller = distiller_of(comparison, teacher, student)
    frozen = distiller.paired_teachers[0].teacher
    return {
        "student's step": step_of(kdet.Distiller(student).train(), batch),
        "teacher": lambda: frozen.observe(batch, frozenset({Need.FEATURES})),
        f"{comparison} alone": loss_of(distiller, batch),
        f"{comparison} step": step_of(distiller, batch),
    }


def distiller_of(method: str, teacher: Detector, student: Detector) -> kdet.Distiller:
    """Ready for a step."""
    return kdet.Distiller(student, teacher, METHODS[method]()).train()


def variant(name: str, teacher: Detector, student: Detector) -> kdet.Distiller:
    """The structural step in another way."""
    for one in (teacher, student):
        if name == "contiguous weights":
            one.model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        if name == "compiled":
            one.model.backbone.compile()  # pyright: ignore
    distiller = distiller_of("structural", teacher, student)
    if name == "bf16 teacher":
        frozen = distiller.paired_teachers[0].teacher
        frozen.observe = torch.autocast(DEVICE.type, torch.bfloat16)(frozen.observe)
    return distiller


def turns_of(comparison: str, size: str, count: int, repeats: int, threads: int) -> dict[str, list[float]]:
    """Seconds of each turn of each job."""
    torch.set_num_threads(threads)
    turns = in_turns(jobs_of(comparison, size, count), repeats)
    return {job: [round(value, 4) for value in values] for job, values in turns.items()}


def measure(size: str, comparisons: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """All comparisons of one size. Each has processes of its own, as a training has one: what the jobs of another keep
    would be missed by the largest step first, and one process has better luck with its memory than the next.
    """
    turns: dict[str, dict[str, list[float]]] = {comparison: {} for comparison in comparisons}
    for _ in range(options.processes):
        for comparison, jobs in turns.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                once = pool.submit(turns_of, comparison, size, options.batch, options.repeats, options.threads).result()
            for job, seconds in once.items():
                jobs.setdefault(job, []).extend(seconds)
            print(size, comparison, once, flush=True)
    data = round(seconds_of_data(SIZES[size], options.batch, options.repeats), 4)
    return {"size": size, "batch": options.batch, "data": data, "turns": turns}


def bars(row: dict[str, Any]) -> Iterator[tuple[str, float, str, float]]:
    """What is measured, its value, and the limit that it must not pass."""
    where = f"{row['size']}, batch {row['batch']}"
    for name in METHODS:
        value = ratio(row["turns"][name], f"{name} step", "student's step", "teacher", f"{name} alone")
        yield f"{where}: {name} step / its parts", value, "<=", 1.05
    value = ratio(row["turns"]["structural"], "structural alone", "structural step")
    yield f"{where}: structural loss / its step", value, "<=", 0.10
    if "torchdistill" in row["turns"]:
        value = ratio(row["turns"]["torchdistill"], "torchdistill's l2 step", "l2 step")
        yield f"{where}: images/s of l2, kdet / torchdistill", value, ">=", 1.15


def ratio(turns: dict[str, list[float]], over: str, *under: str) -> float:
    """Median of each turn's own."""
    each = zip(turns[over], zip(*(turns[name] for name in under), strict=True), strict=True)
    return statistics.median(one / sum(others) for one, others in each)


def shares(row: dict[str, Any]) -> dict[str, float]:
    """Of a structural step with its data, in per cent."""
    seconds = medians(row["turns"]["structural"]) | {"data": row["data"]}
    parts = {name: seconds[name] for name in ("data", "teacher", "student's step", "structural alone")}
    return {name: round(100 * value / sum(parts.values()), 1) for name, value in parts.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--batch", type=int, default=2, help="images of a step")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=VARIANTS[:-1], help="compiled needs g++")
    parser.add_argument("--processes", type=int, default=3, help="of each comparison")
    parser.add_argument("--repeats", type=int, default=3, help="turns in a process, after one that warms up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    comparisons = [*METHODS, *(["torchdistill"] if find_spec("torchdistill") else []), *options.variants]
    about = whereabouts()  # now: the commit may be another when it ends
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        row = measure(size, comparisons, options)
        row |= {"shares_in_percent": shares(row), "bars": [verdict(*bar) for bar in bars(row)]}
        rows.append(row)
        for comparison, jobs in row["turns"].items():
            print(comparison, {job: round(value, 4) for job, value in medians(jobs).items()})
        print("\n".join([json.dumps(row["shares_in_percent"]), *row["bars"]]), flush=True)
    if options.out:
        content = {"threads": options.threads, "rows": rows, "environment": about}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
