"""Time and memory of the losses, as ratios measured in one run: `python benchmarks/losses.py [--out FILE] [--quick]`.

Contenders take turns, so that whatever else the machine does hits all of them; each figure is the median of its
repeats, forward and backward together. On a machine that others use as well, `--threads 1` is the fairer run: a second
thread that is kept waiting costs the most where operations are shortest. Every contender is compared on the levels it
accepts; one that is not installed is left out. Memory is the growth of the peak, in a process of its own. The run
ends with the bars that the losses are to clear, met or missed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch
from measuring import DEVICE, finish, in_turns, medians, verdict
from torch import Tensor
from torch.nn import functional as F

from kdet.losses import prediction_guided_loss, rank_mimicking_loss, structural_loss

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""Of all levels of student and teacher."""
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
IMAGE_SIZES = {"800x1216": (800, 1216), "512x512": (512, 512)}
CHANNELS = 256
OTHERS = ("kornia", "pytorch-msssim", "torchmetrics", "piq")
PLAIN, SCALED = "structural, normalize=None", "structural, normalize=channel"
RANK_LOOP = "rank mimicking, each object selected by a mask"
RANK_LOOP_BY_IMAGES = f"{RANK_LOOP} over the candidates of its image"
GUIDED_LOOP = "prediction guided, image by image"


def own_losses() -> dict[str, Loss]:
    return {
        "l2": summed(F.mse_loss),
        PLAIN: lambda s, t: structural_loss(s, t, normalize=None),
        SCALED: structural_loss,
        "structural, normalize=sample": lambda s, t: structural_loss(s, t, normalize="sample"),
    }


def summed(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Level by level, for what knows one map."""
    return lambda students, teachers: torch.stack([loss(s, t) for s, t in zip(students, teachers, strict=True)]).sum()


def others_loss(name: str) -> Loss | None:
    """(1 − SSIM) / 2 as another package computes it, 11×11 Gaussian of width 1.5; None where it is not installed."""
    modules = {
        "kornia": "kornia.losses",
        "pytorch-msssim": "pytorch_msssim",
        "torchmetrics": "torchmetrics.functional.image",
    }
    try:
        module = import_module(modules.get(name, name))
    except ImportError:
        return None
    ssim = {
        "kornia": lambda s, t: 1 - 2 * module.ssim_loss(s, t, 11),
        "pytorch-msssim": lambda s, t: module.ssim(s, t, data_range=1.0, win_size=11, win_sigma=1.5),
        "torchmetrics": lambda s, t: module.structural_similarity_index_measure(
            s, t, sigma=1.5, kernel_size=11, data_range=1.0
        ),
        "piq": lambda s, t: module.ssim(s, t, kernel_size=11, kernel_sigma=1.5, data_range=1.0, downsample=False),
    }[name]
    return summed(lambda s, t: (1 - ssim(s, t)) / 2)


def level_sizes(image_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """P3 to P7: strides 8 to 128."""
    return [(-(-image_hw[0] // stride), -(-image_hw[1] // stride)) for stride in (8, 16, 32, 64, 128)]


def make_levels(image: str, batch: int, layout: str) -> tuple[list[Tensor], list[Tensor]]:
    def levels() -> list[Tensor]:
        shapes = [(batch, CHANNELS, *size) for size in level_sizes(IMAGE_SIZES[image])]
        return [torch.rand(shape, device=DEVICE).contiguous(memory_format=LAYOUTS[layout]) for shape in shapes]

    return [level.requires_grad_() for level in levels()], levels()


def step(loss: Loss, students: list[Tensor], teachers: list[Tensor]) -> None:
    for student in students:
        student.grad = None
    loss(students, teachers).backward()


def accepted(loss: Loss, students: list[Tensor], teachers: list[Tensor]) -> int:
    """How many levels, from the largest on, the loss computes."""
    for count, (student, teacher) in enumerate(zip(students, teachers, strict=True)):
        try:
            with torch.no_grad():
                loss([student[:1, :2]], [teacher[:1, :2]])
        except (RuntimeError, ValueError, AssertionError):
            return count
    return len(students)


def feature_times(image: str, batch: int, layout: str, others: dict[str, Loss], repeats: int) -> dict[str, Any]:
    students, teachers = make_levels(image, batch, layout)
    own = own_losses()
    jobs = {name: lambda loss=loss: step(loss, students, teachers) for name, loss in own.items()}
    seconds = medians(in_turns(jobs, repeats))
    against: dict[str, dict[str, float]] = {}
    for name, loss in others.items():
        count = accepted(loss, students, teachers)
        pair = {
            "ours": lambda count=count: step(own[PLAIN], students[:count], teachers[:count]),
            "theirs": lambda loss=loss, count=count: step(loss, students[:count], teachers[:count]),
        }
        both = medians(in_turns(pair, max(2, repeats // 3)))
        against[name] = {"levels": count, "times_slower_than_ours": round(both["theirs"] / both["ours"], 2)}
    return {
        "image": image,
        "batch": batch,
        "layout": layout,
        "milliseconds": {name: round(1e3 * value, 2) for name, value in seconds.items()},
        "ratio_to_l2": {name: round(value / seconds["l2"], 2) for name, value in seconds.items()},
        "others": against,
    }


def rank_mimicking_by_masks(student: Tensor, teacher: Tensor, index: Tensor, num_objects: int) -> Tensor:
    loss = student.new_zeros(())
    for number in range(num_objects):
        mask = index == number
        loss = loss + F.kl_div(student[mask].log_softmax(0), teacher[mask].softmax(0), reduction="sum")
    return loss / num_objects


def rank_mimicking_by_images_and_masks(student: Tensor, teacher: Tensor, index_NP: Tensor, num_objects: int) -> Tensor:
    """The same for objects numbered inside their image."""
    parts = (scores.split(index_NP.shape[1]) for scores in (student, teacher))
    return torch.stack(
        [rank_mimicking_by_masks(s, t, index, num_objects) for s, t, index in zip(*parts, index_NP, strict=True)]
    ).mean()


def prediction_guided_by_images(features: list[tuple[Tensor, Tensor]], logits: list[tuple[Tensor, Tensor]]) -> Tensor:
    losses: list[Tensor] = []
    for (f_s, f_t), (p_s, p_t) in zip(features, logits, strict=True):
        for n in range(len(f_s)):
            product = (f_t[n] - f_s[n]).square().mean(0) * (p_t[n] - p_s[n]).square().mean(0)
            losses.append(product.norm() / product.numel())
    return torch.stack(losses).mean()


def loop_times(repeats: int) -> dict[str, float]:
    """How many times slower the straightforward loops are."""
    num_images, num_objects, positives = 16, 60, 9000
    index_NP = torch.randint(num_objects, (num_images, positives), device=DEVICE)
    index = (index_NP + num_objects * torch.arange(num_images, device=DEVICE)[:, None]).flatten()
    scores = torch.rand(index.numel(), device=DEVICE).requires_grad_(), torch.rand(index.numel(), device=DEVICE)
    f_s, f_t = make_levels("512x512", 4, "channels_last")
    p_s, p_t = [level[:, :80].detach().requires_grad_() for level in f_t], [level[:, 80:160].detach() for level in f_s]
    pairs = list(zip(f_s, f_t, strict=True)), list(zip(p_s, p_t, strict=True))
    num = num_images * num_objects
    jobs = {
        "rank": lambda: rank_mimicking_loss(*scores, index, num).backward(),
        RANK_LOOP: lambda: rank_mimicking_by_masks(*scores, index, num).backward(),
        RANK_LOOP_BY_IMAGES: lambda: rank_mimicking_by_images_and_masks(*scores, index_NP, num_objects).backward(),
        "guided": lambda: prediction_guided_loss(f_s, f_t, p_s, p_t).backward(),
        GUIDED_LOOP: lambda: prediction_guided_by_images(*pairs).backward(),
    }
    seconds = medians(in_turns(jobs, repeats))
    compared = ((RANK_LOOP, "rank"), (RANK_LOOP_BY_IMAGES, "rank"), (GUIDED_LOOP, "guided"))
    return {loop: round(seconds[loop] / seconds[ours], 2) for loop, ours in compared}


def peak_growth_mib(name: str, image: str, batch: int, layout: str) -> float:
    """What one step adds to the peak of this process, or of its GPU memory. A step on tiny maps has loaded all code."""
    loss = own_losses().get(name) or others_loss(name)
    assert loss is not None, f"{name} is not installed"
    step(loss, [torch.rand(1, 16, 16, 16, device=DEVICE, requires_grad=True)], [torch.rand(1, 16, 16, 16).to(DEVICE)])
    students, teachers = make_levels(image, batch, layout)
    count = accepted(loss, students, teachers)
    before = _held_kib(start_over=True)
    loss(students[:count], teachers[:count]).backward()
    finish()
    return (_held_kib(peak=True) - before) / 1024


def _held_kib(*, peak: bool = False, start_over: bool = False) -> float:
    """Memory in use, or the largest since the count was started over."""
    if DEVICE.type == "cuda":
        if start_over:
            torch.cuda.reset_peak_memory_stats()
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 1024
    if start_over:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM" if peak else "VmRSS")).split()[1])


def peaks(others: dict[str, Loss], image: str, batch: int) -> dict[str, dict[str, float]]:
    """Peak growth in MiB by layout and contender; of a process on Linux only."""
    if DEVICE.type == "cpu" and not Path("/proc/self/clear_refs").exists():
        return {}
    result: dict[str, dict[str, float]] = {}
    for layout in LAYOUTS:
        result[layout] = {}
        for name in [*own_losses(), *others]:
            result[layout][name] = round(_peak(name, image, batch, layout), 1)
    return result


def _peak(name: str, image: str, batch: int, layout: str) -> float:
    """In a process of its own: what one has had, its peak keeps. A GPU's is started over."""
    if DEVICE.type == "cuda":
        return peak_growth_mib(name, image, batch, layout)
    command = [sys.executable, __file__, "--peak", name, image, str(batch), layout]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def bars(result: dict[str, Any]) -> Iterator[tuple[str, float, str, float]]:
    """What is measured, its value, and the limit that it must not pass."""
    for row in result["features"]:
        where = f"{row['image']}, batch {row['batch']}, {row['layout']}"
        ratios = row["ratio_to_l2"]
        yield f"{where}: {PLAIN} / L2", ratios[PLAIN], "<=", 3 if row["layout"] == "channels_last" else 5
        yield f"{where}: {SCALED} / L2", ratios[SCALED], "<=", 5
        for name, other in row["others"].items():
            least = 5 if name == "kornia" else 1
            yield f"{where}: {name} / {PLAIN}", other["times_slower_than_ours"], ">=", least
    for where, layouts in result["peak_extra_mib"].items():
        for layout, growth in layouts.items():
            if "kornia" in growth:
                yield f"peak memory, {where}, {layout}: {PLAIN} / kornia", growth[PLAIN] / growth["kornia"], "<=", 0.25
    loops = result["times_slower_than_ours_as_a_loop"]
    yield f"{RANK_LOOP} / ours", loops[RANK_LOOP], ">=", 50
    yield f"{GUIDED_LOOP} / ours", loops[GUIDED_LOOP], ">=", 1


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    avx512 = cpuinfo.exists() and "avx512f" in cpuinfo.read_text()
    return f"{os.cpu_count()}-core {platform.machine()}" + (" with AVX-512" if avx512 else "")


def versions(others: dict[str, Loss]) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in ("torch", *others)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--quick", action="store_true", help="batch 1 and few repeats")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak", nargs=4, metavar=("LOSS", "IMAGE", "BATCH", "LAYOUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    if options.peak:
        name, image, batch, layout = options.peak
        print(peak_growth_mib(name, image, int(batch), layout))
        return
    others = {name: loss for name in OTHERS if (loss := others_loss(name))}
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "versions": versions(others),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU",
    }
    print(json.dumps(result, indent=1))
    batches = (1,) if options.quick else (1, 4)
    rows: list[dict[str, Any]] = []
    for batch in batches:
        for image in IMAGE_SIZES:
            for layout in LAYOUTS:
                row = feature_times(image, batch, layout, others, repeats=5 if options.quick or batch > 1 else 15)
                print(json.dumps(row), flush=True)
                rows.append(row)
    result["features"] = rows
    result["times_slower_than_ours_as_a_loop"] = loop_times(repeats=3 if options.quick else 5)
    result["peak_extra_mib"] = {
        f"{image}, batch {batch}": peaks(others, image, batch) for batch in batches for image in IMAGE_SIZES
    }
    print(json.dumps({key: result[key] for key in ("times_slower_than_ours_as_a_loop", "peak_extra_mib")}))
    result["bars"] = [verdict(*bar) for bar in bars(result)]
    print("\n".join(result["bars"]))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
